-- Stands before every other script here: the record of a session, and how a session is ended.
-- The fields of a session hash are described in record.rs, the keys in key.rs.
--
-- Of every script, KEYS are the hash of an account's sessions, the bucket's events and the id of the last of them. ARGV begins
-- with: 1 how long events are kept, ms; 'MINID' (Redis 6.2 and newer) or 'MAXLEN', how they are trimmed; the channel where
-- they are told: in one, since most scripts append none  2 account id, or ''. What follows from 3 on is the script's own.
-- A script that takes several operations is given these KEYS and what follows ARGV 1 for each of them (see each).

local STREAM, POSITION, ACCOUNT = KEYS[#KEYS - 1], KEYS[#KEYS], ARGV[2]

local VERSION = 1
local DETAIL_FIELDS = 4
-- Most accounts have no more fields than so many, and so few are read nearly as fast as they are counted.
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

-- Removes sessions and their details, and the key with the last of them: roles and a count alone are not worth one. Gives
-- whether there was any of it.
local function remove_sessions(key, ids)
  local size = redis.call('HLEN', key)
  if size <= FEW then
    -- what else is there is soon seen, and a key is removed faster than fields
    local removing, removed, left = {}, false, false
    for _, id in ipairs(ids) do removing[id] = true end
    for _, field in ipairs(redis.call('HKEYS', key)) do
      if removing[string.sub(field, 1, 16)] then
        removed = true
      elseif field ~= 'r' and field ~= 'c' then
        left = true
      end
    end
    if not removed then return false end
    if not left then
      redis.call('DEL', key)
      return true
    end
  end

  local removed = 0
  -- some at a time: a call takes a few thousand arguments at most
  for first = 1, #ids, 200 do
    local fields = {}
    for i = first, math.min(first + 199, #ids) do
      fields[#fields + 1] = ids[i]
      for part = 1, DETAIL_FIELDS do fields[#fields + 1] = ids[i] .. string.char(part) end
    end
    removed = removed + redis.call('HDEL', key, unpack(fields))
  end
  local rest = size - removed
  if size > FEW and (rest == 1 or rest == 2) then
    local found = redis.call('HMGET', key, 'r', 'c')
    if (found[1] and 1 or 0) + (found[2] and 1 or 0) == rest then redis.call('DEL', key) end
  end
  return removed > 0
end

-- Keeps a key for at least `ttl` milliseconds more.
local function keep(key, ttl)
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl) end
end

-- An id's 16 bytes as a UUID's text.
local function uuid(id)
  return string.format('%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x', string.byte(id, 1, 16))
end

-- How long, ms; how they are trimmed; where they are told.
local function how_events_are_kept()
  local retention, trim, channel = string.match(ARGV[1], '^(%d+) (%a+) (.*)$')
  return tonumber(retention), trim, channel
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
-- What is told names the event before it, so that whoever missed one knows, and who waits for the others to hear it
-- (`from`, or nothing; the folder following).
local function append_event(event, from)
  local retention, trim = how_events_are_kept()
  local before, bound = redis.call('GET', POSITION), '10000'
  if trim == 'MINID' then
    -- ids begin with Redis' time, and the last event's is early enough
    bound = string.format('%.0f', math.max(0, (tonumber(string.match(before or '', '^%d+')) or 0) - retention))
  end
  local id = redis.call('XADD', STREAM, trim, '~', bound, '*', 'e', event)
  if before and redis.call('PTTL', STREAM) >= retention then
    redis.call('SET', POSITION, id, 'KEEPTTL')
  else
    -- A little longer than needed, so that most events needn't touch it. Both of them, so that they end together.
    local ttl = retention + math.floor(retention / 16)
    redis.call('PEXPIRE', STREAM, ttl)
    redis.call('SET', POSITION, id, 'PX', ttl)
  end
  told[#told + 1] = table.concat({ id, before or '', event, from or '' }, '\n')
end

-- Tells those who listen what was appended.
local function tell()
  if #told == 0 then return end
  local _, _, channel = how_events_are_kept()
  -- pcall: a user who may not publish loses speed, not the revocation
  redis.pcall('PUBLISH', channel, table.concat(told, '\n'))
end

-- Does those operations that have no answer yet: `operation` is called with the key of the sessions and `width` - 1 arguments.
-- What goes wrong with one is its own answer: {'error', why}.
local function each(width, operation, answers)
  for i = 1, #KEYS / 3 do
    if not answers[i] then
      local at = width * (i - 1) + 2
      STREAM, POSITION, ACCOUNT = KEYS[3 * i - 1], KEYS[3 * i], ARGV[at]
      local done, answer = pcall(operation, KEYS[3 * i - 2], unpack(ARGV, at + 1, at + width - 1))
      if not done then answer = { 'error', type(answer) == 'table' and answer.err or tostring(answer) } end
      answers[i] = answer
    end
  end
  tell()
  return answers
end
