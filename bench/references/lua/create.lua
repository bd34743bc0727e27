-- Creates a session, for the FastAPI and the Fastify reference. All times are in ms.
-- KEYS 1 session  2 set of the account's session ids
-- ARGV 1 account id  2 hash of the refresh token  3 now  4 end of the session's lifetime  5 idle timeout  6 session id
redis.call('HSET', KEYS[1], 'user', ARGV[1], 'current', ARGV[2], 'created', ARGV[3], 'used', ARGV[3], 'ends', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('SADD', KEYS[2], ARGV[6])
-- The newest session has the latest end, and no refresh extends the set.
redis.call('PEXPIREAT', KEYS[2], ARGV[4])
return 1
