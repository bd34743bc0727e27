-- Rotates a session's refresh token, for the FastAPI and the Fastify reference. Accepts the current token, and within the grace
-- window after a rotation also the previous one. Any other token ends the session. All times are in ms.
-- KEYS 1 session  ARGV 1 hash of the presented token  2 hash of the next token  3 now  4 grace window  5 idle timeout
-- Returns 'gone' (ended or expired), 'reused' (ended by this call), or 'rotated' with the account id and the session's time of creation.
-- `current` and `previous` are hashes of tokens; `used` is the time of the last rotation, `ends` the end of the session's lifetime.
local user, current, previous, used, created, ends =
  unpack(redis.call('HMGET', KEYS[1], 'user', 'current', 'previous', 'used', 'created', 'ends'))
if not user then return { 'gone' } end
local now = tonumber(ARGV[3])
if now >= tonumber(ends) then
  redis.call('DEL', KEYS[1])
  return { 'gone' }
end
local in_grace = previous == ARGV[1] and now - tonumber(used) < tonumber(ARGV[4])
if current ~= ARGV[1] and not in_grace then
  redis.call('DEL', KEYS[1])
  return { 'reused' }
end
redis.call('HSET', KEYS[1], 'current', ARGV[2], 'previous', current, 'used', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return { 'rotated', user, created }
