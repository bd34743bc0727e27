-- One session ends, and the event of it is appended (I3).
-- ARGV  5 session id  6 reason  7 now, ms  8 who waits for the others to hear of it, or ''
-- Gives 1, or 0 if there was no such session.

if redis.call('HEXISTS', KEYS[1], ARGV[5]) == 0 then return 0 end
remove_sessions(KEYS[1], { ARGV[5] })
append_event(uuid(ARGV[5]), ARGV[6], tonumber(ARGV[7]), ARGV[8])
return 1
