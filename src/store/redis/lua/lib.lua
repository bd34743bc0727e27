-- Stands before every other script here: the record of a session, and how a session is ended.
-- The fields of a session hash are described in record.rs, the keys in key.rs.
--
-- Of every script, KEYS are the hash of an account's sessions, the bucket's events and the id of the last of them. ARGV begins
-- with: 1 how long events are kept, ms; 'MINID' (Redis 6.2 and newer) or 'MAXLEN', how they are trimmed; the channel where
-- they are told: in one, since most scripts append none  2 account id, or ''. What follows from 3 on is the script's own.
-- A script that takes several operations is given these KEYS for each of them, and for each its own after ARGV 1: the first
-- begins with the account id (see each).

local STREAM, POSITION, ACCOUNT = KEYS[#KEYS - 1], KEYS[#KEYS], ARGV[2]

local VERSION = 1
-- Most accounts have no more fields than so many.
local FEW = 16

local function read_record(record)
  if string.byte(record, 1) ~= VERSION then
    error('latchkey: a session record of version ' .. (string.byte(record, 1) or '?') .. ', written by a newer release')
  end
  local _, flags, generation, created, used, idle_ends, ends, kept, rest = struct.unpack('>BBI4I6I6I6I6I6', record)
  return { flags = flags, generation = generation, created = created, used = used,
    idle_ends = idle_ends, ends = ends, kept = kept, history = string.sub(record, rest) }
end

local function write_record(r)
  return struct.pack('>BBI4I6I6I6I6I6', VERSION, r.flags, r.generation, r.created, r.used, r.idle_ends, r.ends, r.kept)
    .. r.history
end

-- Whether a record's session is not over by the clock. One that can't be read, since a newer release wrote it or since it
-- is damaged, lives as far as can be known: it can be ended all the same.
local function is_live(record, now)
  local read, session = pcall(read_record, record)
  return not read or (now < session.idle_ends and now < session.ends)
end

local function is_session(field)
  return #field == 16
end

-- An id's fields: the record, and the parts that details may have.
local function fields_of(id)
  return id, id .. '\1', id .. '\2', id .. '\3', id .. '\4'
end

-- Removes sessions and their details, and the key with the last of them: roles and a count alone are not worth one. Gives
-- whether there was any of it.
local function remove_sessions(key, ids)
  local removed = 0
  for _, id in ipairs(ids) do removed = removed + redis.call('HDEL', key, fields_of(id)) end
  if removed == 0 then return false end
  local rest = redis.call('HLEN', key)
  if rest == 1 or rest == 2 then
    local found = redis.call('HMGET', key, 'r', 'c')
    if (found[1] and 1 or 0) + (found[2] and 1 or 0) == rest then redis.call('DEL', key) end
  end
  return true
end

-- Keeps a key for at least `ttl` milliseconds more.
local function keep(key, ttl)
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl) end
end

-- An id's 16 bytes as a UUID's text.
local function uuid(id)
  return string.format('%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x', string.byte(id, 1, 16))
end

-- How long events are kept, ms; how they are trimmed; where they are told. Read when the first one is appended.
local retention, trim, channel
-- A while of Redis' clock is ten seconds, or less: the largest power of ten, in ms, that is no more than a sixteenth of the
-- retention. So the first digits of an event's id tell in which it was appended: it has 13 of them until the year 2286. Not
-- more than ten seconds, for XTRIM takes away no more than 10,000 entries at a time.
local a_while, digits_of_a_while

local function read_how_events_are_kept()
  retention, trim, channel = string.match(ARGV[1], '^(%d+) (%a+) (.*)$')
  retention = tonumber(retention)
  local zeros = math.min(4, math.floor(math.log10(math.max(retention / 16, 1))))
  a_while, digits_of_a_while = 10 ^ zeros, 13 - zeros
end

-- The text of an event, as entry.rs reads it: `session` is a UUID's text, 'all', 'all but ' and one, or 'key ' and a signing
-- key's id.
local function event_of(session, reason, now)
  return table.concat({ ACCOUNT == '' and '' or uuid(ACCOUNT), session, reason, string.format('%.0f', now) }, '\n')
end

-- What was appended and not told yet.
local told = {}

-- Appends a revocation, which `tell` then tells. It comes after the removal, never before it: a Redis that is out of memory
-- refuses the first write of a script only if it needs memory, so that sessions can be ended even then.
-- The message names the event before it, so that whoever missed one knows, and the node that waits for acknowledgements
-- (`from`, or nothing; the folder revocation_log). Gives the event's id.
--
-- The first event of each while has the stream trimmed, and both keys kept for a while longer than needed: so most events
-- needn't touch that.
local function append_event(event, from)
  if not retention then read_how_events_are_kept() end
  local id, before
  if trim == 'MINID' then
    id = redis.call('XADD', STREAM, '*', 'e', event)
    before = redis.call('SET', POSITION, id, 'KEEPTTL', 'GET')
  else
    -- a Redis before 6.2, which knows neither
    before = redis.call('GET', POSITION)
    id = redis.call('XADD', STREAM, trim, '~', '10000', '*', 'e', event)
    redis.call('SET', POSITION, id, 'KEEPTTL')
  end
  if not before or string.sub(before, 1, digits_of_a_while) ~= string.sub(id, 1, digits_of_a_while) then
    if trim == 'MINID' then
      local bound = tonumber(string.match(id, '^%d+')) - retention
      redis.call('XTRIM', STREAM, trim, '~', string.format('%.0f', math.max(0, bound)))
    end
    -- both, so that they end together
    redis.call('PEXPIRE', STREAM, retention + a_while)
    redis.call('PEXPIRE', POSITION, retention + a_while)
  end
  told[#told + 1] = id .. '\n' .. (before or '') .. '\n' .. event .. '\n' .. (from or '')
  return id
end

-- Tells those who listen what was appended.
local function tell()
  -- pcall: a user who may not publish loses speed, not the revocation
  if #told > 0 then redis.pcall('PUBLISH', channel, table.concat(told, '\n')) end
end

-- Does those operations that have no answer yet: `operation` is called with the key of the sessions and `width` arguments.
-- What goes wrong with one is its own answer: {'error', why}.
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
  tell()
  return answers
end
