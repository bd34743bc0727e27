-- Ends a session if the refresh token is the current one, for the FastAPI and the Fastify reference. Returns 1 if it did, otherwise 0.
-- KEYS 1 session  ARGV 1 hash of the refresh token  2 key of an account's set of session ids, without the account id  3 session id
local session = redis.call('HMGET', KEYS[1], 'user', 'current')
local account, current = session[1], session[2]
-- `current` is false if the session does not exist.
if current ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SREM', ARGV[2] .. account, ARGV[3])
return 1
