-- Stands before every other script here: the record of a session, and how a session is ended.
-- The fields of a session hash are described in record.rs.

local VERSION = 1
local DETAIL_FIELDS = 4

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

-- Removes sessions and their details.
local function remove_sessions(key, ids)
  if #ids == 0 then return end
  -- some at a time: a call takes a few thousand arguments at most
  for first = 1, #ids, 200 do
    local fields = {}
    for i = first, math.min(first + 199, #ids) do
      fields[#fields + 1] = ids[i]
      for part = 1, DETAIL_FIELDS do fields[#fields + 1] = ids[i] .. string.char(part) end
    end
    redis.call('HDEL', key, unpack(fields))
  end
  -- the roles alone are not worth a key
  if redis.call('HLEN', key) == 1 and redis.call('HEXISTS', key, 'r') == 1 then redis.call('DEL', key) end
end

-- Keeps a key for at least `ttl` milliseconds more.
local function keep(key, ttl)
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl) end
end

-- An id's 16 bytes as a UUID's text.
local function uuid(id)
  local hex = string.gsub(id, '.', function(c) return string.format('%02x', string.byte(c)) end)
  return string.format('%s-%s-%s-%s-%s', string.sub(hex, 1, 8), string.sub(hex, 9, 12), string.sub(hex, 13, 16),
    string.sub(hex, 17, 20), string.sub(hex, 21, 32))
end

-- Appends a revocation. It comes after the removal, never before it: a Redis that is out of memory refuses the first
-- write of a script only if it needs memory, so that sessions can be ended even then.
-- `trim` is 'MINID' (Redis 6.2 and newer) or 'MAXLEN'; `retention` milliseconds.
-- `session` is a UUID's text, 'all', or 'all but ' and one.
local function append_event(stream, account, session, reason, now, trim, retention)
  local bound = '10000'
  if trim == 'MINID' then
    local time = redis.call('TIME')
    bound = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) - retention)
  end
  redis.call('XADD', stream, trim, '~', bound, '*',
    'account', uuid(account), 'session', session, 'reason', reason, 'at', string.format('%.0f', now))
  redis.call('PEXPIRE', stream, retention)
end
