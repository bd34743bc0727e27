-- Every session of an account ends, but perhaps one, and the event of it is appended (I3, I5).
-- KEYS  1 the account's sessions  2 its bucket's events
-- ARGV  1 id of the session to keep, or ''  2 reason  3 now, ms  4 account id
--       5 trim  6 retention, ms  7 new epoch, or ''  8 until when sign-ins checked against an older one are refused, ms
--       9 '1' to do nothing unless the session to keep lives
-- Gives the number of live sessions ended, or -1 where nothing was done.

local key, now = KEYS[1], tonumber(ARGV[3])
local ids, ended, kept, lives, fence = {}, 0, false, false, false
local fields = redis.call('HGETALL', key)
for i = 1, #fields, 2 do
  if fields[i] == ARGV[1] then
    kept, lives = true, is_live(fields[i + 1], now)
  elseif fields[i] == 'f' then
    fence = fields[i + 1]
  elseif is_session(fields[i]) then
    if is_live(fields[i + 1], now) then ended = ended + 1 end
    ids[#ids + 1] = fields[i]
  end
end
if ARGV[9] == '1' and not lives then return -1 end
if not kept then
  redis.call('DEL', key)
elseif #ids > 0 then
  remove_sessions(key, ids)
else
  -- Nothing to remove; but the event must not be the first write (see append_event).
  redis.call('HDEL', key, '')
end
append_event(KEYS[2], ARGV[4], ARGV[1] == '' and 'all' or 'all but ' .. uuid(ARGV[1]), ARGV[2], now, ARGV[5],
  tonumber(ARGV[6]))

-- A fence only ever grows: neither ending sessions without one nor a command that comes late takes it away.
local epoch, till = tonumber(ARGV[7]) or 0, ARGV[7] == '' and 0 or tonumber(ARGV[8])
if fence then
  local known_epoch, known_till = struct.unpack('>I4I6', fence)
  if now < known_till then epoch, till = math.max(epoch, known_epoch), math.max(till, known_till) end
end
if now < till then
  redis.call('HSET', key, 'f', struct.pack('>I4I6', epoch, till))
  keep(key, till - now)
end
return ended
