-- Refunds an attempt whose password was not checked or was right: removes the failure counted for it, and the delay after it.
-- A bucket holds 'failures, not before, forgotten at, trusted until' (times in ms). 0 in 'not before' means no delay. The other
-- times stay as they are.
-- KEYS  1 the account's throttle (login_throttle.lua)
-- ARGV  1 the bucket in which the attempt was counted
-- Returns 1, or 0 if there is no such bucket.

local found = redis.call('HGET', KEYS[1], ARGV[1])
local failures, _, forgotten_at, trusted_until = string.match(found or '', '^(%d+) (%d+) (%d+) (%d+)$')
if not failures then return 0 end
redis.call('HSET', KEYS[1], ARGV[1],
  string.format('%.0f 0 %s %s', math.max(0, tonumber(failures) - 1), forgotten_at, trusted_until))
return 1
