-- One session ends, and the event of it is appended (I3).
-- ARGV  3 session id  4 reason  5 now, ms  6 who waits for the others to hear of it, or ''
-- Gives 1, or 0 if there was no such session.

if remove_sessions(KEYS[1], { ARGV[3] }) == 0 then return 0 end
append_event(uuid(ARGV[3]), ARGV[4], tonumber(ARGV[5]), ARGV[6])
return 1
