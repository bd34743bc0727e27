-- Consumes a challenge if it still has the value that was read.
-- KEYS  1 the challenge
-- ARGV  1 the value that was read
-- Returns 1; or 0 if the challenge has another value, was consumed or has expired.

-- GET returns false for a missing key, which equals no value.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
return 1
