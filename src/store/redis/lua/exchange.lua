-- Exchanges an authorization code for a session (RFC 6749, section 4.1.3), or ends the session that the code was exchanged for before
-- (section 4.1.2). create_session.lua stands before this script.
-- KEYS  1 the account's session hash  2 the code (authorizations.rs)  3, 4 the bucket's event stream and its position
-- ARGV  3 binding (32 bytes)  4 id of the new session  5 now, ms  6 ttl of the key, ms  7 maximum number of sessions
--       8 the record  9 the origin of the request (last_use.rs)  10 how long the used code is kept, ms
-- Returns {'created', answer of create, payload, roles or false, version of the claims or false, last use, details, record},
-- {'reused'}, {'reused', id of the ended session, id of the event} or {'invalid'}, without any change.

local key, code, binding, id, now = KEYS[1], KEYS[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local value = redis.call('GET', code)
if not value or string.sub(value, 2, 33) ~= binding then return { 'invalid' } end

if string.sub(value, 1, 1) == 'U' then
  local issued = string.sub(value, 34, 49)
  if not remove_sessions(key, { issued }) then return { 'reused' } end
  local event = append_event(event_of(uuid(issued), 'reuse', now))
  publish()
  return { 'reused', issued, event }
end

local browser, offline, expires, at = struct.unpack('>c16BI6', value, 34)
if now >= expires then return { 'invalid' } end
local found = redis.call('HMGET', key, browser, browser .. '\4', 'r', 'v')
local parent = found[1] and is_live(found[1], now) and read_record(found[1])
if not parent or not is_browser(parent) then return { 'invalid' } end

local details = {}
for part = 1, 3 do
  local length = string.byte(value, at)
  details[part] = string.sub(value, at + 1, at + length)
  at = at + 1 + length
end

-- The authentication of the browser's session as it is now: a password when it began, unless its last use says otherwise.
local authentication = ''
if found[2] and has_last_use(parent) then
  local _, _, _, theirs = read_last_use(found[2])
  authentication = theirs
end
if authentication == '' then authentication = struct.pack('>I2BI6', 1, 1, parent.created) end
-- The browser's session belongs to none: the place of its parent's id is empty or absent.
local last_use = write_last_use(ARGV[9], 0, 0, child_authentication(authentication, offline == 1 and '' or browser))

-- Bit 3 of the flags: there is a step-up (record.rs).
local record = ARGV[8]
if #authentication == 18 then
  record = string.sub(record, 1, 1) .. string.char(string.byte(record, 2) + 8) .. string.sub(record, 3)
end

-- Without `offline_access`, the new session expires with the browser session at the latest, since the expiry of a browser session does
-- not end the sessions beneath it, and extends the idle timeout of the browser session to its own end. With `offline_access`, it
-- expires with the browser session only if that one was shortened because the account must set up a second factor.
local new_record = read_record(record)
if offline == 0 or parent.ends - parent.created < new_record.ends - new_record.created then
  new_record.ends = math.min(new_record.ends, parent.ends)
  record = write_record(new_record)
end
if offline == 0 and parent.idle_ends < new_record.idle_ends then
  parent.idle_ends, parent.kept = new_record.idle_ends, math.max(parent.kept, new_record.kept)
  redis.call('HSET', key, browser, write_record(parent))
end

-- A browser's session and one app always fit.
local most = math.max(2, tonumber(ARGV[7]))

local version = read_claims(found[4])
local new = ACCOUNT .. id .. struct.pack('>I6I6I4I4I4', now, tonumber(ARGV[6]), most, 4294967295, version) .. record
browsers_session = browser
local created = create(key, new, found[3] or '', details[1], details[2], details[3], last_use)
redis.call('SET', code, 'U' .. binding .. id, 'PX', ARGV[10])
publish()
return { 'created', created, string.sub(value, at), found[3], found[4], last_use, table.concat(details), record }
