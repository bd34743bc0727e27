-- One session ends, and the event of it is appended (I3).
-- KEYS  1 the account's sessions  2 its bucket's events
-- ARGV  1 session id  2 reason  3 now, ms  4 account id  5 trim  6 retention, ms
-- Gives 1, or 0 if there was no such session.

if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
remove_sessions(KEYS[1], { ARGV[1] })
append_event(KEYS[2], ARGV[4], uuid(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[5], tonumber(ARGV[6]))
return 1
