-- Admits or delays the check of a second factor's code. Counts it as a failure in advance, so that concurrent attempts are limited
-- too; factor_refund.lua takes it back.
-- The key is a hash of buckets: 's' for unrecognized devices and addresses, and one per recognized device and address. A bucket
-- holds 'failures, not before, forgotten at' (times in ms).
-- KEYS  1 the throttle of an account's kind of factor
-- ARGV  1 now  2 bucket  3 failures without delay  4 first delay  5 longest delay  6 lifetime of failures (times in ms)
-- Returns the delay; with another one than 0, changes nothing.

local now, keep = tonumber(ARGV[1]), tonumber(ARGV[6])
local failures, start, over = string.match(redis.call('HGET', KEYS[1], ARGV[2]) or '', '^(%d+) (%d+) (%d+)$')
failures, start, over = tonumber(failures or 0), tonumber(start or 0), tonumber(over or 0)
if now >= over then failures, start = 0, 0 end
if now < start then return start - now end
failures = failures + 1
local above = failures - tonumber(ARGV[3])
if above > 0 then start = now + math.min(tonumber(ARGV[5]), tonumber(ARGV[4]) * 2 ^ math.min(above - 1, 30)) end
redis.call('HSET', KEYS[1], ARGV[2], string.format('%.0f %.0f %.0f', failures, start, now + keep))
if redis.call('PTTL', KEYS[1]) < keep then redis.call('PEXPIRE', KEYS[1], ARGV[6]) end
return 0
