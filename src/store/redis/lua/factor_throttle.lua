-- Admits or delays the check of a second factor's code. Counts the check as a failure in advance, so that concurrent attempts are
-- limited; factor_refund.lua refunds it.
-- The key is a hash of buckets: 's' for unrecognized devices and addresses, and one per recognized device and address. A bucket
-- holds 'failures, no check before, forgotten at' (times in ms).
-- KEYS  1 the throttle of an account's kind of factor
-- ARGV  1 now  2 bucket  3 failures without delay  4 first delay  5 longest delay  6 lifetime of failures (times in ms)
-- Returns the delay in ms. If it is not 0, the check is not admitted and nothing changes.

local now, lifetime = tonumber(ARGV[1]), tonumber(ARGV[6])
local found = redis.call('HGET', KEYS[1], ARGV[2])
local failures, not_before, forgotten_at = string.match(found or '', '^(%d+) (%d+) (%d+)$')
-- a bucket that does not exist has no failures
failures, not_before, forgotten_at = tonumber(failures or 0), tonumber(not_before or 0), tonumber(forgotten_at or 0)
if now >= forgotten_at then failures, not_before = 0, 0 end
if now < not_before then return not_before - now end
failures = failures + 1
local delayed_failures = failures - tonumber(ARGV[3])
-- The delay doubles with each failure. The cap of the exponent changes no delay: 2 ^ 30 first delays, of at least 1 s each, are 34 years,
-- and the longest delay is at most a week (config/limits.rs). It keeps the power finite: 2 ^ 1024 is not.
if delayed_failures > 0 then
  local delay = tonumber(ARGV[4]) * 2 ^ math.min(delayed_failures - 1, 30)
  not_before = now + math.min(tonumber(ARGV[5]), delay)
end
redis.call('HSET', KEYS[1], ARGV[2], string.format('%.0f %.0f %.0f', failures, not_before, now + lifetime))
-- the key lives as long as the bucket that is forgotten last
if redis.call('PTTL', KEYS[1]) < lifetime then redis.call('PEXPIRE', KEYS[1], ARGV[6]) end
return 0
