-- Shared by all session scripts: reading and writing records, ending sessions, appending events.
-- record.rs describes the fields of a session hash. It defines VERSION, RECORD (the format of a record for struct.unpack) and
-- RECORD_BYTES. key.rs describes the keys. Besides the sessions, a session hash has the fields 'r' (roles and other claims), 'f' (fence
-- against outdated sign-ins), 'v' (version of the claims) and 'c' (session count).
--
-- KEYS  1 an account's session hash  2 the event stream of the account's bucket  3 the position: the id of that stream's last entry
-- ARGV  1 one text of three words: the retention of events (ms), 'MINID' (Redis 6.2 and newer) or 'MAXLEN', and the channel. It is
--       parsed only when an event is appended, since most calls append none
--       2 account id, or ''  3 and following: arguments that each script describes
-- A batched script runs several operations (see run_batch). It gets these KEYS for each operation, and after ARGV 1 the arguments of each
-- operation; the first argument of an operation begins with the account id.

-- Counted from the end, because some scripts have further keys between the session hash and the stream.
local STREAM, POSITION, ACCOUNT = KEYS[#KEYS - 1], KEYS[#KEYS], ARGV[2]

-- Session hashes with fewer fields have no session count (field 'c'): reading all their sessions is cheap.
local MIN_COUNTED_FIELDS = 16

local function read_record(record)
  local version = string.byte(record, 1)
  if version ~= 1 and version ~= VERSION then
    error('latchkey: a session record of version ' .. (version or '?') .. ', written by a newer release')
  end
  local _, flags, generation, created_at, last_used_at, idle_ends_at, ends_at, kept_until, rest = struct.unpack(RECORD, record)
  return { version = version, flags = flags, generation = generation, created_at = created_at, last_used_at = last_used_at,
    idle_ends_at = idle_ends_at, ends_at = ends_at, kept_until = kept_until, history = string.sub(record, rest) }
end

local function write_record(session)
  return struct.pack(RECORD, session.version, session.flags, session.generation, session.created_at, session.last_used_at,
    session.idle_ends_at, session.ends_at, session.kept_until) .. session.history
end

-- Whether a record's session has not expired. An unreadable record (damaged, or of a newer release) counts as live: it can
-- still be revoked.
local function is_live(record, now)
  local is_readable, session = pcall(read_record, record)
  return not is_readable or (now < session.idle_ends_at and now < session.ends_at)
end

-- Whether part 4 of a session's fields is its last use (last_use.rs): bit 1 of the flags. Release 0.1 stored the end of the
-- details in part 4.
local function has_last_use(session)
  return session.flags % 4 >= 2
end

-- Splits a last use. Returns the origin, the generation of bit 0 of the counted repeats (4 bytes), their bits (1 byte), and the rest:
-- the authentication of the sign-in, the parent and the step-up, as far as they are present.
local function read_last_use(last_use)
  -- The origin is a tag (8 bytes), the length of the address (1 byte) and the address.
  local origin_length = 9 + string.byte(last_use, 9)
  local counted_at, counted = 0, 0
  if #last_use > origin_length then counted_at, counted = struct.unpack('>I4B', last_use, origin_length + 1) end
  return string.sub(last_use, 1, origin_length), counted_at, counted, string.sub(last_use, origin_length + 6)
end

-- The reverse of read_last_use. Omits empty parts at the end.
local function write_last_use(origin, counted_at, counted, authentication)
  if counted == 0 and authentication == '' then return origin end
  return origin .. struct.pack('>I4B', counted_at, counted) .. authentication
end

-- The id of the parent of the session with this last use; '' if the session has no parent. The 16 bytes of the id follow the
-- origin (9 bytes and the address), the counted repeats (5 bytes) and the authentication (9 bytes). Without a parent, only
-- the 9 bytes of a step-up can be in that place.
local function parent_of(last_use)
  -- Part 4 of a session of release 0.1 is the end of the details, which may be shorter.
  local address_length = string.byte(last_use, 9) or 0
  return #last_use >= 39 + address_length and string.sub(last_use, 24 + address_length, 39 + address_length) or ''
end

-- Whether a field of the hash holds a session's record: its name is the session id.
local function is_session(field)
  return #field == 16
end

-- The fields of a session: the record, the three possible parts of the details, and the last use.
local function fields_of(id)
  return id, id .. '\1', id .. '\2', id .. '\3', id .. '\4'
end

-- Removes sessions with their details. Removes the key too if only the roles ('r'), the version of the claims ('v') and the
-- session count ('c') remain. Returns whether a session was removed.
local function remove_sessions(key, ids)
  local removed = 0
  for _, id in ipairs(ids) do removed = removed + redis.call('HDEL', key, fields_of(id)) end
  if removed == 0 then return false end
  local remaining = redis.call('HLEN', key)
  if remaining >= 1 and remaining <= 3 then
    local found = redis.call('HMGET', key, 'r', 'c', 'v')
    -- If all three counts add up to `remaining`, no other field remains.
    if (found[1] and 1 or 0) + (found[2] and 1 or 0) + (found[3] and 1 or 0) == remaining then redis.call('DEL', key) end
  end
  return true
end

-- Extends a key's TTL to at least `ttl` milliseconds.
local function extend_ttl(key, ttl)
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl) end
end

-- The text of a UUID, from its 16 bytes.
local function uuid(id)
  return string.format('%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x', string.byte(id, 1, 16))
end

-- Retention of events (ms), trim strategy and channel, parsed when the first event is appended.
local retention, trim, channel
-- Streams are trimmed once per interval of Redis' clock. The interval is a power of ten in ms: at most a sixteenth of the
-- retention, and at most ten seconds, since one XTRIM removes at most 10,000 entries. Two entries are of the same interval if the
-- first `interval_digits` digits of their ids are equal: an id begins with its time in ms, which has 13 digits until the year 2286.
local interval, interval_digits

local function parse_event_settings()
  retention, trim, channel = string.match(ARGV[1], '^(%d+) (%a+) (.*)$')
  retention = tonumber(retention)
  local zeros = math.min(4, math.floor(math.log10(math.max(retention / 16, 1))))
  interval, interval_digits = 10 ^ zeros, 13 - zeros
end

-- The version of the account's claims, from the field 'v' (record.rs): its number, and the time when it became current (ms).
-- Zeros for a missing field.
local function read_claims(field)
  if not field then return 0, 0 end
  return struct.unpack('>I4I6', field)
end

local function write_claims(version, current_since)
  return struct.pack('>I4I6', version, current_since)
end

-- The text of an event, which event_entry.rs parses. `session` is a UUID, 'all', 'all but UUID', 'key ' and the id of a signing
-- key, or the UUID that stands for a version of claims (set_claims.lua).
-- `reason_in_event` in event_entry.rs explains how a reason is written that release 0.1 can't read.
local function event_of(session, reason, now)
  local at = string.format('%.0f', now)
  if reason == 'factors_changed' then reason, at = 'revoked', '0' .. at
  elseif reason == 'factor_required' then reason, at = 'revoked', '00' .. at end
  return table.concat({ ACCOUNT == '' and '' or uuid(ACCOUNT), session, reason, at }, '\n')
end

-- Appended events that are not published yet.
local unpublished = {}

-- Appends a revocation to the stream. `publish` publishes it. Returns the event's id.
--
-- The first write of a script must not be this one, but a removal: a Redis that is out of memory refuses a script only if its first
-- write needs memory. So sessions can be ended even then.
--
-- The published message names the event before, so that subscribers detect gaps. `waiting_node`: the node that waits for
-- acknowledgements and its number for the event, or '' or nil (see revocation_log/).
--
-- The first event of each interval trims the stream, and sets the TTL of both keys to one interval more than the retention.
local function append_event(event, waiting_node)
  if not retention then parse_event_settings() end
  local id, previous
  if trim == 'MINID' then
    id = redis.call('XADD', STREAM, '*', 'e', event)
    previous = redis.call('SET', POSITION, id, 'KEEPTTL', 'GET')
  else
    -- Redis before 6.2 supports neither MINID nor SET … GET. The stream then keeps about 10,000 events instead of those of the retention.
    previous = redis.call('GET', POSITION)
    id = redis.call('XADD', STREAM, trim, '~', '10000', '*', 'e', event)
    redis.call('SET', POSITION, id, 'KEEPTTL')
  end
  if not previous or string.sub(previous, 1, interval_digits) ~= string.sub(id, 1, interval_digits) then
    if trim == 'MINID' then
      local oldest_kept = tonumber(string.match(id, '^%d+')) - retention
      redis.call('XTRIM', STREAM, trim, '~', string.format('%.0f', math.max(0, oldest_kept)))
    end
    -- Both keys expire together.
    redis.call('PEXPIRE', STREAM, retention + interval)
    redis.call('PEXPIRE', POSITION, retention + interval)
  end
  unpublished[#unpublished + 1] = id .. '\n' .. (previous or '') .. '\n' .. event .. '\n' .. (waiting_node or '')
  return id
end

-- Publishes the appended events.
local function publish()
  -- pcall: if the Redis user may not publish, revocations reach other nodes later, through the stream.
  if #unpublished > 0 then redis.pcall('PUBLISH', channel, table.concat(unpublished, '\n')) end
end

-- Runs each operation of a batch that has no answer yet, and publishes the events. Calls `operation` with the session hash and the
-- `width` arguments of the operation. The answer of a failed operation is {'error', reason}.
local function run_batch(width, operation, answers)
  for i = 1, #KEYS / 3 do
    if not answers[i] then
      local first = width * (i - 1) + 2
      STREAM, POSITION, ACCOUNT = KEYS[3 * i - 1], KEYS[3 * i], string.sub(ARGV[first], 1, 16)
      local succeeded, answer = pcall(operation, KEYS[3 * i - 2], unpack(ARGV, first, first + width - 1))
      if not succeeded then answer = { 'error', type(answer) == 'table' and answer.err or tostring(answer) } end
      answers[i] = answer
    end
  end
  publish()
  return answers
end
