-- Exchanges an authorization code for a session (RFC 6749, section 4.1.3). A second use of the code ends the session that the first
-- use created (section 4.1.2). create_session.lua precedes this script.
-- KEYS  1 the account's session hash  2 the code, whose value authorizations.rs describes  3, 4 the bucket's event stream and its position
-- ARGV  1, 2 lib.lua  3 binding to the client, the redirect URI and the PKCE challenge (32 bytes)  4 id of the new session  5 now, ms
--       6 ttl of the session hash, ms  7 maximum number of sessions  8 the record  9 the origin of the request (last_use.rs)
--       10 how long the used code is kept, ms
-- Returns {'created', answer of create, payload, roles or false, version of the claims or false, last use, details, record},
-- {'reused', id of the ended session, id of the event}, {'reused'} if that session had ended before, or {'invalid'}.

local key, code, binding, id, now = KEYS[1], KEYS[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local value = redis.call('GET', code)
-- bytes 2 to 33: the binding
if not value or string.sub(value, 2, 33) ~= binding then return { 'invalid' } end

-- A used code (`U`) names the session that it was exchanged for.
if string.sub(value, 1, 1) == 'U' then
  local first_session = string.sub(value, 34, 49)
  if not remove_sessions(key, { first_session }) then return { 'reused' } end
  local event = append_event(event_of(uuid(first_session), 'reuse', now))
  publish()
  return { 'reused', first_session, event }
end

-- the browser's session, 1 for `offline_access`, the expiry (ms), and where the details begin
local browser, offline, expires, position = struct.unpack('>c16BI6', value, 34)
if now >= expires then return { 'invalid' } end
-- the record and the last use of the browser's session, the account's roles, the version of its claims
local found = redis.call('HMGET', key, browser, browser .. '\4', 'r', 'v')
local parent = found[1] and is_live(found[1], now) and read_record(found[1])
if not parent or not is_browser(parent) then return { 'invalid' } end

-- three parts, each after its length (1 byte); the payload follows (authorizations.rs)
local details = {}
for part = 1, 3 do
  local length = string.byte(value, position)
  details[part] = string.sub(value, position + 1, position + length)
  position = position + 1 + length
end

-- The current authentication of the browser's session. If none is stored, the session began with a sign-in by password (method bit 1,
-- level 1).
local authentication = ''
if found[2] and has_last_use(parent) then authentication = select(4, read_last_use(found[2])) end
if authentication == '' then authentication = struct.pack('>I2BI6', 1, 1, parent.created_at) end
-- The new session is beneath the browser's session, unless the client has `offline_access`.
local last_use = write_last_use(ARGV[9], 0, 0, with_parent(authentication, offline == 1 and '' or browser))

-- A browser's session has no parent, so its authentication of 18 bytes is a sign-in (9) and a step-up (9). Sets bit 3 of the flags, the
-- second byte of the record: the last use has a step-up (record.rs).
local record = ARGV[8]
if #authentication == 18 then
  record = string.sub(record, 1, 1) .. string.char(string.byte(record, 2) + 8) .. string.sub(record, 3)
end

-- Without `offline_access`, the new session expires with the browser's session at the latest, since the expiry of a browser's session
-- does not end the sessions beneath it. The new session also extends the idle timeout of the browser's session to its own.
-- With `offline_access`, this expiry applies only if the browser's session has the shorter lifetime of an account that must set up a
-- second factor.
local new_record = read_record(record)
if offline == 0 or parent.ends_at - parent.created_at < new_record.ends_at - new_record.created_at then
  new_record.ends_at = math.min(new_record.ends_at, parent.ends_at)
  record = write_record(new_record)
end
if offline == 0 and parent.idle_ends_at < new_record.idle_ends_at then
  parent.idle_ends_at, parent.kept_until = new_record.idle_ends_at, math.max(parent.kept_until, new_record.kept_until)
  redis.call('HSET', key, browser, write_record(parent))
end

-- At least 2, so that the browser's session and the new session beneath it always fit.
local max_sessions = math.max(2, tonumber(ARGV[7]))

local version = read_claims(found[4])
-- The code has no epoch, so `create` gets the highest one, which no fence refuses. No fence is needed here: when revoke_all.lua sets one,
-- it also ends the browser's session, which was checked above. The fence of set_claims.lua keeps sign-ins from storing former claims, and
-- this script stores the claims and the version that it has just read.
local new = ACCOUNT .. id .. struct.pack('>I6I6I4I4I4', now, tonumber(ARGV[6]), max_sessions, 4294967295, version) .. record
-- `create` (create_session.lua) keeps the parent when it ends surplus sessions.
parent_id = browser
local created = create(key, new, found[3] or '', details[1], details[2], details[3], last_use)
redis.call('SET', code, 'U' .. binding .. id, 'PX', ARGV[10])
publish()
return { 'created', created, string.sub(value, position), found[3], found[4], last_use, table.concat(details), record }
