-- Ends every session of an account, except one if given, and appends the event (I3, I5).
-- ARGV  3 id of the session to keep, or ''  4 reason  5 now, ms  6 new epoch, or ''
--       7 end of the fence: until then sign-ins checked against an older epoch are refused, ms
--       8 '1' to do nothing unless the session to keep is live  9 the node that waits for acknowledgements, or ''
-- Returns the number of live sessions ended, or -1 where nothing was done.

local key, now = KEYS[1], tonumber(ARGV[5])
local ids, recent, ended, kept, kept_is_live, fence = {}, {}, 0, false, false, false
local second = now - now % 1000
local fields = redis.call('HGETALL', key)
for i = 1, #fields, 2 do
  if fields[i] == ARGV[3] then
    kept, kept_is_live = true, is_live(fields[i + 1], now)
  elseif fields[i] == 'f' then
    fence = fields[i + 1]
  elseif is_session(fields[i]) then
    if is_live(fields[i + 1], now) then ended = ended + 1 end
    ids[#ids + 1] = fields[i]
    local read, session = pcall(read_record, fields[i + 1])
    if read and session.created >= second then recent[#recent + 1] = fields[i] end
  end
end
if ARGV[8] == '1' and not kept_is_live then return -1 end
if not kept then
  redis.call('DEL', key)
elseif #ids > 0 then
  remove_sessions(key, ids)
else
  -- Nothing to remove; but the event must not be the first write (see append_event).
  redis.call('HDEL', key, '')
end
-- Sessions of the current second have the same `auth_time` as later ones: each gets an event of its own.
for _, id in ipairs(recent) do append_event(event_of(uuid(id), ARGV[4], now)) end
-- The last event: acknowledging it acknowledges those before.
append_event(event_of(ARGV[3] == '' and 'all' or 'all but ' .. uuid(ARGV[3]), ARGV[4], now), ARGV[9])
publish()

-- A fence only grows: neither a call without one nor a late call shortens it.
local epoch, till = tonumber(ARGV[6]) or 0, ARGV[6] == '' and 0 or tonumber(ARGV[7])
if fence then
  local known_epoch, known_till = struct.unpack('>I4I6', fence)
  if now < known_till then epoch, till = math.max(epoch, known_epoch), math.max(till, known_till) end
end
if now < till then
  redis.call('HSET', key, 'f', struct.pack('>I4I6', epoch, till))
  keep(key, till - now)
end
return ended
