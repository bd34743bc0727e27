-- Uses the challenge of a passkey ceremony up, if it was issued for this (I11).
-- KEYS  1 the challenge, a string (passkey_challenges.rs)
-- ARGV  1 what it must have been issued for: the first bytes of the string
-- Returns the state of the ceremony, or false if there is no such challenge, or if it was issued for something else.

local value = redis.call('GET', KEYS[1])
if not value or string.sub(value, 1, #ARGV[1]) ~= ARGV[1] then return false end
redis.call('DEL', KEYS[1])
return string.sub(value, #ARGV[1] + 1)
