-- Rotates a refresh token, for the FastAPI and the Fastify reference. A presented token that was superseded within the grace window
-- is rotated, too; any other token that is not the current one ends the session. All times are in ms.
-- KEYS 1 session  ARGV 1 hash of the presented token  2 hash of the next token  3 now  4 grace window  5 idle timeout
-- session  1 user  2 hash of the current token  3 hash of the previous token  4 last rotation  5 creation  6 end of the lifetime
-- Returns what happened, and for a rotation also the user and the time of creation.
local session = redis.call('HMGET', KEYS[1], 'user', 'current', 'previous', 'used', 'created', 'ends')
if not session[1] then return { 'gone' } end
local now = tonumber(ARGV[3])
if now >= tonumber(session[6]) then
  redis.call('DEL', KEYS[1])
  return { 'gone' }
end
if session[2] ~= ARGV[1] and not (session[3] == ARGV[1] and now - tonumber(session[4]) < tonumber(ARGV[4])) then
  redis.call('DEL', KEYS[1])
  return { 'reused' }
end
redis.call('HSET', KEYS[1], 'current', ARGV[2], 'previous', session[2], 'used', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return { 'rotated', session[1], session[5] }
