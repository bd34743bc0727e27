-- Records that the user of a session has authenticated again, beside the sign-in (last_use.rs). Generation and times stay.
-- ARGV  3 session id  4 now, ms  5 the epoch against which the authentication was checked  6 the authentication (last_use.rs)
--       7 the origin of the request (last_use.rs), for a session of 0.1 that was not refreshed since
-- Returns {the record, roles or false, version of the claims or false, the last use, the details}; 'gone' or 'stale', without any
-- change, if the session has ended or the account has changed since the authentication was checked.

local key, id, now = KEYS[1], ARGV[3], tonumber(ARGV[4])
local found = redis.call('HMGET', key, id, 'r', 'v', 'f', id .. '\4', id .. '\1', id .. '\2', id .. '\3')
if not found[1] then return 'gone' end
local session = read_record(found[1])
if now >= session.idle_ends or now >= session.ends then return 'gone' end
if found[4] then
  local epoch, till = struct.unpack('>I4I6', found[4])
  if now < till and tonumber(ARGV[5]) < epoch then return 'stale' end
end

local origin, at, counted, sign_in = ARGV[7], 0, 0, ''
if has_last_use(session) then
  if found[5] then origin, at, counted, sign_in = read_last_use(found[5]) end
else
  session.flags = session.flags + 2
end
-- A password, when the session began.
if sign_in == '' then sign_in = struct.pack('>I2BI6', 1, 1, session.created) end
-- Without the former step-up: 9 bytes, after the sign-in alone (9) or the sign-in and the parent (25).
if #sign_in == 18 or #sign_in == 34 then sign_in = string.sub(sign_in, 1, #sign_in - 9) end
local last_use = write_last_use(origin, at, counted, sign_in .. ARGV[6])
if session.flags % 16 < 8 then session.flags = session.flags + 8 end
local record = write_record(session)
redis.call('HSET', key, id, record, id .. '\4', last_use)
local details = ''
if session.version ~= 1 then details = (found[6] or '') .. (found[7] or '') .. (found[8] or '') end
return { record, found[2], found[3], last_use, details }
