-- Rotates a session in the cheapest possible way. A session's record has three fields: its generation (u32), the time of its last
-- use (u48, ms) and the time of its end (u48, ms). Returns the record as it was before, or false if the session has ended or the
-- presented generation is not the current one.
-- KEYS 1 session  ARGV 1 generation presented  2 now (ms)  3 idle timeout (ms)
-- one command reads the record and extends the idle timeout, even if the request is refused below: that is cheaper than two
local record = redis.call('GETEX', KEYS[1], 'PX', ARGV[3])
if not record then return false end
local generation, _, ends = struct.unpack('>I4I6I6', record)
if generation ~= tonumber(ARGV[1]) or tonumber(ARGV[2]) >= ends then return false end
redis.call('SETRANGE', KEYS[1], 0, struct.pack('>I4I6', generation + 1, tonumber(ARGV[2])))
return record
