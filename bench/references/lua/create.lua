-- Creates a session, for the FastAPI and the Fastify reference.
-- KEYS 1 session  2 the account's sessions  ARGV 1 account  2 hash of the refresh token  3 now  4 end  5 idle timeout (times in ms)  6 session id
redis.call('HSET', KEYS[1], 'user', ARGV[1], 'current', ARGV[2], 'created', ARGV[3], 'used', ARGV[3], 'ends', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('SADD', KEYS[2], ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return 1
