-- A session begins; the oldest of the account's end if there would be too many.
-- ARGV  3 session id  4 record  5 roles or ''  6 now  7 most sessions  8 epoch the sign-in was checked against
--       9 ttl of the key (times in ms)  10.. details, in parts
-- Gives 'created', or 'stale' where the account has changed since the sign-in was checked (I5).

local key, now, most = KEYS[1], tonumber(ARGV[6]), tonumber(ARGV[7])
local found = redis.call('HMGET', key, 'f', 'c', 'r')
local fence, count, roles = found[1], found[2], found[3]
if fence then
  local epoch, till = struct.unpack('>I4I6', fence)
  if now < till then
    if tonumber(ARGV[8]) < epoch then return 'stale' end
  else
    redis.call('HDEL', key, 'f')
  end
end

-- How many sessions there are at most, and at how many to look which are over. An account with more than a few fields has
-- a count of its sessions, so that not all have to be read each time.
local sessions, look_at = redis.call('HLEN', key), FEW
local counted = sessions >= FEW
if count then sessions, look_at = struct.unpack('>I2I2', count) end

if sessions >= most or counted and (not count or sessions >= look_at) then
  local live, over = {}, {}
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    if is_session(fields[i]) then
      if is_live(fields[i + 1], now) then
        -- one that can't be read counts as the newest: it is the last to end
        local read, session = pcall(read_record, fields[i + 1])
        live[#live + 1] = { id = fields[i], created = read and session.created or math.huge }
      else
        over[#over + 1] = fields[i]
      end
    end
  end
  if #over > 0 then remove_sessions(key, over) end

  local ended = math.max(0, #live - most + 1)
  if ended > 0 then
    table.sort(live, function(a, b) return a.created < b.created or (a.created == b.created and a.id < b.id) end)
    for i = 1, ended do
      remove_sessions(key, { live[i].id })
      append_event(event_of(uuid(live[i].id), 'limit', now))
    end
    tell()
  end
  -- until there are twice as many: then each session is read once for each that begins
  sessions = #live - ended
  look_at = math.max(2 * sessions, FEW)
end

local set = { ARGV[3], ARGV[4] }
for i = 10, #ARGV do
  set[#set + 1] = ARGV[3] .. string.char(i - 9)
  set[#set + 1] = ARGV[i]
end
if ARGV[5] ~= '' then
  set[#set + 1] = 'r'
  set[#set + 1] = ARGV[5]
elseif roles then
  redis.call('HDEL', key, 'r')
end
if count or counted then
  set[#set + 1] = 'c'
  set[#set + 1] = struct.pack('>I2I2', sessions + 1, look_at)
end
redis.call('HSET', key, unpack(set))
keep(key, tonumber(ARGV[9]))
return 'created'
