-- Rotates a session in the cheapest possible way. Its record is a generation (u32), when it was last used (u48, ms) and when it
-- ends (u48, ms). Returns the record, or false if the session has ended or the generation is not the current one.
-- KEYS 1 session  ARGV 1 generation presented  2 now (ms)  3 idle timeout (ms)
local record = redis.call('GETEX', KEYS[1], 'PX', ARGV[3])
if not record then return false end
local generation, used, ends = struct.unpack('>I4I6I6', record)
if generation ~= tonumber(ARGV[1]) or tonumber(ARGV[2]) >= ends then return false end
redis.call('SETRANGE', KEYS[1], 0, struct.pack('>I4I6', generation + 1, tonumber(ARGV[2])))
return record
