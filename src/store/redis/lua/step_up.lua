-- Records that the user of a session has authenticated again after the sign-in: a step-up (last_use.rs). The session's generation and
-- times stay.
-- ARGV  3 session id  4 now, ms  5 the epoch against which the authentication was checked  6 the authentication (last_use.rs)
--       7 the origin of the request (last_use.rs), for a session of release 0.1 that has not been refreshed since
-- Returns {the record, roles or false, version of the claims or false, the last use, the details}. Returns 'gone' if the session has
-- ended, and 'stale' if the account has changed since the authentication was checked; neither changes anything.

local key, id, now = KEYS[1], ARGV[3], tonumber(ARGV[4])
-- The record, the roles, the version of the claims, the fence (epoch and end), the last use, and the three possible parts of the details.
local found = redis.call('HMGET', key, id, 'r', 'v', 'f', id .. '\4', id .. '\1', id .. '\2', id .. '\3')
if not found[1] then return 'gone' end
local session = read_record(found[1])
if now >= session.idle_ends_at or now >= session.ends_at then return 'gone' end
if found[4] then
  local fence_epoch, fence_until = struct.unpack('>I4I6', found[4])
  if now < fence_until and tonumber(ARGV[5]) < fence_epoch then return 'stale' end
end

local origin, counted_at, counted, authentication = ARGV[7], 0, 0, ''
if has_last_use(session) then
  if found[5] then origin, counted_at, counted, authentication = read_last_use(found[5]) end
else
  -- Sets bit 1 of the flags: part 4 is the last use.
  session.flags = session.flags + 2
end
-- No authentication is stored for a sign-in by password (method bit 1, level 1) at the start of the session.
if authentication == '' then authentication = struct.pack('>I2BI6', 1, 1, session.created_at) end
-- Removes the former step-up: 9 bytes, after the sign-in alone (9) or the sign-in and the parent (25).
if #authentication == 18 or #authentication == 34 then authentication = string.sub(authentication, 1, #authentication - 9) end
local last_use = write_last_use(origin, counted_at, counted, authentication .. ARGV[6])
-- Sets bit 3 of the flags: the last use has a step-up.
if session.flags % 16 < 8 then session.flags = session.flags + 8 end
local record = write_record(session)
redis.call('HSET', key, id, record, id .. '\4', last_use)
local details = ''
-- Only the details of a session with a client grant are needed: its record has a version other than 1.
if session.version ~= 1 then details = (found[6] or '') .. (found[7] or '') .. (found[8] or '') end
return { record, found[2], found[3], last_use, details }
