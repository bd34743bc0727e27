-- Extends the idle timeout of a browser's session, which has no tokens that could be refreshed.
-- KEYS  1 the account's session hash
-- ARGV  1, 2 lib.lua  3 session id  4 now, ms  5 idle timeout, ms  6 the origin of the request (last_use.rs)
-- Returns 1, or 0 if the session has ended.

local key, id, now, idle = KEYS[1], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local found = redis.call('HMGET', key, id, id .. '\4')
if not found[1] or not is_live(found[1], now) then return 0 end
local session = read_record(found[1])
session.last_used_at = math.max(now, session.last_used_at)
session.idle_ends_at = math.max(session.idle_ends_at, now + idle)
local expires = math.min(session.idle_ends_at, session.ends_at)
if expires > session.kept_until then
  -- Longer than needed, so that most calls leave the TTL unchanged.
  session.kept_until = expires + math.floor(idle / 16)
  extend_ttl(key, session.kept_until - now)
end
local _, counted_at, counted, authentication = '', 0, 0, ''
if found[2] and has_last_use(session) then _, counted_at, counted, authentication = read_last_use(found[2]) end
-- Bit 1 of the flags: part 4 is the last use.
if not has_last_use(session) then session.flags = session.flags + 2 end
redis.call('HSET', key, id, write_record(session), id .. '\4', write_last_use(ARGV[6], counted_at, counted, authentication))
return 1
