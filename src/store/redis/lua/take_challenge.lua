-- Consumes a challenge, unless it has changed since it was read.
-- KEYS  1 the challenge
-- ARGV  1 the challenge's value when it was read
-- Returns 1, or 0 if another request has consumed it or it has expired.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
return 1
