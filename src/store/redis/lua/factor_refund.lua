-- Refunds an attempt at a second factor's code. A success on a recognized device or address removes its bucket. In the bucket of
-- unrecognized devices and addresses ('s'), a success refunds only the attempt itself, so that the sign-ins of the account's owner give
-- an attacker no further attempts.
-- KEYS  1 the throttle of an account's kind of factor. factor_throttle.lua describes its fields
-- ARGV  1 bucket  2 '1' after a success, '0' if the code was not checked
-- Returns 1, or 0 if the throttle has no such bucket.

local bucket, succeeded = ARGV[1], ARGV[2] == '1'
if succeeded and bucket ~= 's' then return redis.call('HDEL', KEYS[1], bucket) end
-- An admitted attempt finds no delay, so it set the delay itself, if any: a refund ends the delay.
local failures, _, forgotten_at = string.match(redis.call('HGET', KEYS[1], bucket) or '', '^(%d+) (%d+) (%d+)$')
if not failures then return 0 end
redis.call('HSET', KEYS[1], bucket, string.format('%.0f 0 %s', math.max(0, tonumber(failures) - 1), forgotten_at))
return 1
