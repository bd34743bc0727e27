-- Rotates a session in the cheapest possible way. A session's record has three fields: its generation (u32), the time of its last
-- use (u48, ms) and the time of its end (u48, ms). Returns the former record, or false if the session has ended or the
-- presented generation is not the current one.
-- KEYS 1 session  ARGV 1 generation presented  2 now (ms)  3 idle timeout (ms)
local presented, now, idle_timeout = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
-- reads the record and extends the idle timeout in one command: so the timeout is extended even if the request is refused below
local record = redis.call('GETEX', KEYS[1], 'PX', idle_timeout)
if not record then return false end
local generation, _last_use, ends = struct.unpack('>I4I6I6', record)
if generation ~= presented or now >= ends then return false end
-- overwrites the first two fields: the time of the end stays, and so does the key's TTL
redis.call('SETRANGE', KEYS[1], 0, struct.pack('>I4I6', generation + 1, now))
return record
