-- A session begins; the oldest of the account's end if there would be too many.
-- ARGV  5 session id  6 record  7 roles or ''  8 now  9 most sessions  10 epoch the sign-in was checked against
--       11 ttl of the key (times in ms)  12.. details, in parts
-- Gives 'created', or 'stale' where the account has changed since the sign-in was checked (I5).

local key, now, most = KEYS[1], tonumber(ARGV[8]), tonumber(ARGV[9])
local fence = redis.call('HGET', key, 'f')
if fence then
  local epoch, till = struct.unpack('>I4I6', fence)
  if now < till then
    if tonumber(ARGV[10]) < epoch then return 'stale' end
  else
    redis.call('HDEL', key, 'f')
  end
end

local live, over, roles = {}, {}, false
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
  elseif fields[i] == 'r' then
    roles = true
  end
end
remove_sessions(key, over)

if #live >= most then
  table.sort(live, function(a, b) return a.created < b.created or (a.created == b.created and a.id < b.id) end)
  for i = 1, #live - most + 1 do
    remove_sessions(key, { live[i].id })
    append_event(uuid(live[i].id), 'limit', now)
  end
end

local set = { ARGV[5], ARGV[6] }
for i = 12, #ARGV do
  set[#set + 1] = ARGV[5] .. string.char(i - 11)
  set[#set + 1] = ARGV[i]
end
if ARGV[7] ~= '' then
  set[#set + 1] = 'r'
  set[#set + 1] = ARGV[7]
elseif roles then
  redis.call('HDEL', key, 'r')
end
redis.call('HSET', key, unpack(set))
keep(key, tonumber(ARGV[11]))
return 'created'
