-- Extends the idle timeout of a browser's session, which has no tokens that could be refreshed.
-- KEYS  1 the account's session hash
-- ARGV  1 and 2: see lib.lua  3 session id  4 now, ms  5 idle timeout, ms  6 the origin of the request (last_use.rs)
-- Returns 1, or 0 if the session has ended.

local key, id, now, idle = KEYS[1], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
-- The session's record and part 4 of its fields (see fields_of).
local found = redis.call('HMGET', key, id, id .. '\4')
local record, part4 = found[1], found[2]
if not record or not is_live(record, now) then return 0 end
local session = read_record(record)
session.last_used_at = math.max(now, session.last_used_at)
session.idle_ends_at = math.max(session.idle_ends_at, now + idle)
local expires = math.min(session.idle_ends_at, session.ends_at)
if expires > session.kept_until then
  -- A sixteenth of the idle timeout longer than needed, so that most calls leave the TTL unchanged.
  session.kept_until = expires + math.floor(idle / 16)
  extend_ttl(key, session.kept_until - now)
end
-- The origin of the last use is replaced. The rest of it stays.
local _, counted_at, counted, authentication = '', 0, 0, ''
if part4 and has_last_use(session) then _, counted_at, counted, authentication = read_last_use(part4) end
-- Sets bit 1 of the flags, which has_last_use reads: part 4 is now the last use.
if not has_last_use(session) then session.flags = session.flags + 2 end
redis.call('HSET', key, id, write_record(session), id .. '\4', write_last_use(ARGV[6], counted_at, counted, authentication))
return 1
