-- Takes back an attempt whose password was not checked.
-- KEYS  1 the account's throttle (login_throttle.lua)
-- ARGV  1 the bucket in which it was counted

local found = redis.call('HGET', KEYS[1], ARGV[1])
local failures, _, over, trusted = string.match(found or '', '^(%d+) (%d+) (%d+) (%d+)$')
if not failures then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f 0 %s %s', math.max(0, tonumber(failures) - 1), over, trusted))
return 1
