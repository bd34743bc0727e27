-- Shared by all session scripts: reading and writing records, ending sessions, appending events.
-- record.rs describes the fields of a session hash and defines VERSION, RECORD and RECORD_BYTES, key.rs the keys.
--
-- KEYS  an account's session hash, its bucket's event stream, and the id of that stream's last entry
-- ARGV  1 retention of events (ms), 'MINID' (Redis 6.2 and newer) or 'MAXLEN', and the channel, in one: most calls append
--       no event  2 account id, or ''  3 and following: the script's own
-- A batched script gets these KEYS for each operation, and each operation's arguments after ARGV 1; the first of them begins
-- with the account id (see each).

local STREAM, POSITION, ACCOUNT = KEYS[#KEYS - 1], KEYS[#KEYS], ARGV[2]

-- Accounts with fewer fields have no session count.
local FEW = 16

local function read_record(record)
  local version = string.byte(record, 1)
  if version ~= 1 and version ~= VERSION then
    error('latchkey: a session record of version ' .. (version or '?') .. ', written by a newer release')
  end
  local _, flags, generation, created, used, idle_ends, ends, kept, rest = struct.unpack(RECORD, record)
  return { version = version, flags = flags, generation = generation, created = created, used = used,
    idle_ends = idle_ends, ends = ends, kept = kept, history = string.sub(record, rest) }
end

local function write_record(r)
  return struct.pack(RECORD, r.version, r.flags, r.generation, r.created, r.used, r.idle_ends, r.ends, r.kept)
    .. r.history
end

-- Whether a record's session has not expired. An unreadable record (damaged, or of a newer release) counts as live: it can
-- still be revoked.
local function is_live(record, now)
  local read, session = pcall(read_record, record)
  return not read or (now < session.idle_ends and now < session.ends)
end

-- Whether part 4 of a session's fields is its last use (last_use.rs). Release 0.1 stored the end of the details there.
local function has_last_use(session)
  return session.flags % 4 >= 2
end

-- The parts of a last use: the origin, the generation and the bits of the counted repeats, and the authentication.
local function read_last_use(last_use)
  local length = 9 + string.byte(last_use, 9)
  local at, counted = 0, 0
  if #last_use > length then at, counted = struct.unpack('>I4B', last_use, length + 1) end
  return string.sub(last_use, 1, length), at, counted, string.sub(last_use, length + 6)
end

local function write_last_use(origin, at, counted, authentication)
  if counted == 0 and authentication == '' then return origin end
  return origin .. struct.pack('>I4B', at, counted) .. authentication
end

-- The session that the one with this last use belongs to; '' if it belongs to none. Its 16 bytes follow the origin (9 bytes and the
-- address), 5 bytes of counted repeats and the 9 bytes of the authentication. Without it, a step-up of 9 bytes stands there.
local function parent_of(last_use)
  -- Release 0.1 stored the end of the details there, which may be shorter.
  local address = string.byte(last_use, 9) or 0
  return #last_use >= 39 + address and string.sub(last_use, 24 + address, 39 + address) or ''
end

local function is_session(field)
  return #field == 16
end

-- The fields of a session: the record, the possible parts of the details, and the last use.
local function fields_of(id)
  return id, id .. '\1', id .. '\2', id .. '\3', id .. '\4'
end

-- Removes sessions with their details, and the key with the last session: roles, their version and a count alone need no key.
-- Returns whether anything was removed.
local function remove_sessions(key, ids)
  local removed = 0
  for _, id in ipairs(ids) do removed = removed + redis.call('HDEL', key, fields_of(id)) end
  if removed == 0 then return false end
  local rest = redis.call('HLEN', key)
  if rest >= 1 and rest <= 3 then
    local found = redis.call('HMGET', key, 'r', 'c', 'v')
    if (found[1] and 1 or 0) + (found[2] and 1 or 0) + (found[3] and 1 or 0) == rest then redis.call('DEL', key) end
  end
  return true
end

-- Extends a key's TTL to at least `ttl` milliseconds.
local function keep(key, ttl)
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl) end
end

-- The text of a UUID, from its 16 bytes.
local function uuid(id)
  return string.format('%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x', string.byte(id, 1, 16))
end

-- Retention of events (ms), trim strategy and channel, parsed when the first event is appended.
local retention, trim, channel
-- Housekeeping runs once per interval of Redis' clock: the largest power of ten in ms that is at most a sixteenth of the
-- retention and at most ten seconds, since XTRIM removes no more than 10,000 entries at a time. As a power of ten, it is a
-- prefix of the 13 digits (until the year 2286) of an entry's id.
local interval, interval_digits

local function parse_event_settings()
  retention, trim, channel = string.match(ARGV[1], '^(%d+) (%a+) (.*)$')
  retention = tonumber(retention)
  local zeros = math.min(4, math.floor(math.log10(math.max(retention / 16, 1))))
  interval, interval_digits = 10 ^ zeros, 13 - zeros
end

-- The version of the account's claims (record.rs): its number, and the time when it became current; zeros for none.
local function read_claims(field)
  if not field then return 0, 0 end
  return struct.unpack('>I4I6', field)
end

local function write_claims(version, since)
  return struct.pack('>I4I6', version, since)
end

-- The text of an event (read by event_entry.rs): `session` is a UUID, 'all', 'all but UUID', 'key ' and the id of a signing
-- key, or the UUID of a version of claims.
-- A reason that release 0.1 can't read is written as `reason_in_event` in event_entry.rs describes.
local function event_of(session, reason, now)
  local at = string.format('%.0f', now)
  if reason == 'factors_changed' then reason, at = 'revoked', '0' .. at
  elseif reason == 'factor_required' then reason, at = 'revoked', '00' .. at end
  return table.concat({ ACCOUNT == '' and '' or uuid(ACCOUNT), session, reason, at }, '\n')
end

-- Appended events that are not published yet.
local unpublished = {}

-- Appends a revocation, to be published by `publish`. Must follow the removal: a Redis that is out of memory refuses a script
-- only if its first write needs memory, so that sessions can be ended even then.
-- The message names the event before it, so that subscribers detect gaps, and the node that waits for acknowledgements
-- (`from`, or nothing; see revocation_log/). Returns the event's id.
--
-- The first event of each interval trims the stream, and extends both keys' TTL by an interval more than needed.
local function append_event(event, from)
  if not retention then parse_event_settings() end
  local id, before
  if trim == 'MINID' then
    id = redis.call('XADD', STREAM, '*', 'e', event)
    before = redis.call('SET', POSITION, id, 'KEEPTTL', 'GET')
  else
    -- Redis before 6.2 supports neither MINID nor SET … GET.
    before = redis.call('GET', POSITION)
    id = redis.call('XADD', STREAM, trim, '~', '10000', '*', 'e', event)
    redis.call('SET', POSITION, id, 'KEEPTTL')
  end
  if not before or string.sub(before, 1, interval_digits) ~= string.sub(id, 1, interval_digits) then
    if trim == 'MINID' then
      local bound = tonumber(string.match(id, '^%d+')) - retention
      redis.call('XTRIM', STREAM, trim, '~', string.format('%.0f', math.max(0, bound)))
    end
    -- Both keys expire together.
    redis.call('PEXPIRE', STREAM, retention + interval)
    redis.call('PEXPIRE', POSITION, retention + interval)
  end
  unpublished[#unpublished + 1] = id .. '\n' .. (before or '') .. '\n' .. event .. '\n' .. (from or '')
  return id
end

-- Publishes the appended events.
local function publish()
  -- pcall: without the right to publish, revocations are slower and not lost
  if #unpublished > 0 then redis.pcall('PUBLISH', channel, table.concat(unpublished, '\n')) end
end

-- Runs the operations that have no answer yet: calls `operation` with the session hash and `width` arguments. The answer of a
-- failed operation is {'error', reason}.
local function each(width, operation, answers)
  for i = 1, #KEYS / 3 do
    if not answers[i] then
      local at = width * (i - 1) + 2
      STREAM, POSITION, ACCOUNT = KEYS[3 * i - 1], KEYS[3 * i], string.sub(ARGV[at], 1, 16)
      local done, answer = pcall(operation, KEYS[3 * i - 2], unpack(ARGV, at, at + width - 1))
      if not done then answer = { 'error', type(answer) == 'table' and answer.err or tostring(answer) } end
      answers[i] = answer
    end
  end
  publish()
  return answers
end
