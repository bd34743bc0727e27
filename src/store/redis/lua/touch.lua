-- Extends the idle timeout of a session that has no tokens: a browser's.
-- ARGV  3 session id  4 now, ms  5 idle timeout, ms  6 the origin of the request (last_use.rs)
-- Returns 1, or 0 if the session has ended.

local key, id, now, idle = KEYS[1], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local found = redis.call('HMGET', key, id, id .. '\4')
if not found[1] or not is_live(found[1], now) then return 0 end
local session = read_record(found[1])
session.used = math.max(now, session.used)
session.idle_ends = math.max(session.idle_ends, now + idle)
local expires = math.min(session.idle_ends, session.ends)
if expires > session.kept then
  session.kept = expires + math.floor(idle / 16)
  keep(key, session.kept - now)
end
local _, at, counted, authentication = '', 0, 0, ''
if found[2] and has_last_use(session) then _, at, counted, authentication = read_last_use(found[2]) end
if not has_last_use(session) then session.flags = session.flags + 2 end
redis.call('HSET', key, id, write_record(session), id .. '\4', write_last_use(ARGV[6], at, counted, authentication))
return 1
