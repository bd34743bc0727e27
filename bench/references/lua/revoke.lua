-- Ends a session if the refresh token is the current one, for the FastAPI and the Fastify reference.
-- KEYS 1 session  ARGV 1 hash of the refresh token  2 key prefix of an account's set of sessions  3 session id
local session = redis.call('HMGET', KEYS[1], 'user', 'current')
if session[2] ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SREM', ARGV[2] .. session[1], ARGV[3])
return 1
