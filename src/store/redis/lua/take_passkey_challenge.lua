-- Consumes the challenge of a passkey ceremony, if it has the binding in ARGV 1. It works once (I11).
-- KEYS  1 the challenge, a string (passkey_challenges.rs)
-- ARGV  1 the binding: the purpose, the account and the context that the challenge must have been issued for. The stored string
--         begins with the binding of the challenge
-- Returns the state of the ceremony, or false if there is no such challenge, or if it has another binding.

local binding = ARGV[1]
local value = redis.call('GET', KEYS[1])
if not value or string.sub(value, 1, #binding) ~= binding then return false end
redis.call('DEL', KEYS[1])
return string.sub(value, #binding + 1)
