-- Ends every session of an account, except one if given, and appends the event (I3, I5). Or replaces one: that session ends
-- as well, and a new session takes over its transport and its details.
-- ARGV  3 id of the session to keep, or ''  4 reason  5 now, ms  6 new epoch, or ''
--       7 end of the fence: until then sign-ins checked against an older epoch are refused, ms
--       8 the node that waits for acknowledgements, or ''
--       To replace a session also:  9 its id  10 the record of the new session ARGV[3]  11 ttl of the key, ms  12 roles or ''
--       13 '1' if sessions whose tokens travel in a cookie are not accepted here  14 version of the claims
--       15 the authentication of the new session (last_use.rs), or '' for that of the replaced one
-- Returns the number of live sessions ended. With a replacement: {their number without the replaced session, the new record,
-- version of the claims or false, last use or false, details}; 'gone' or 'cookie', without any change, if the session to replace has ended or is not accepted.

local key, now = KEYS[1], tonumber(ARGV[5])
local ids, recent, ended, kept, fence, replaced, claims = {}, {}, 0, false, false, false, false
-- The fields of the replaced session under the new id, and the positions of the values by the number of the part.
local details, parts = {}, {}
local second = now - now % 1000
local fields = redis.call('HGETALL', key)
for i = 1, #fields, 2 do
  if fields[i] == ARGV[3] then
    kept = true
  elseif fields[i] == 'f' then
    fence = fields[i + 1]
  elseif fields[i] == 'v' then
    claims = fields[i + 1]
  elseif is_session(fields[i]) then
    if fields[i] == ARGV[9] then
      replaced = is_live(fields[i + 1], now) and read_record(fields[i + 1])
    elseif is_live(fields[i + 1], now) then
      ended = ended + 1
    end
    ids[#ids + 1] = fields[i]
    local read, session = pcall(read_record, fields[i + 1])
    if read and session.created >= second then recent[#recent + 1] = fields[i] end
  elseif ARGV[9] and #fields[i] == 17 and string.sub(fields[i], 1, 16) == ARGV[9] then
    details[#details + 1] = ARGV[3] .. string.sub(fields[i], 17)
    details[#details + 1] = fields[i + 1]
    parts[string.byte(fields[i], 17)] = #details
  end
end
local record, last_use, text
if ARGV[9] then
  if not replaced then return 'gone' end
  if ARGV[13] == '1' and replaced.flags % 2 == 1 then return 'cookie' end
  record = read_record(ARGV[10])
  record.version, record.flags = replaced.version, replaced.flags
  -- Without the counted repeats: they belong to the tokens of the replaced session.
  if parts[4] and has_last_use(replaced) then
    local origin, _, _, authentication = read_last_use(details[parts[4]])
    if ARGV[15] ~= '' then
      -- Without the former step-up, which is 9 bytes after the sign-in alone (9) or the sign-in and the parent (25).
      if #authentication == 18 or #authentication == 34 then authentication = string.sub(authentication, 1, #authentication - 9) end
      if record.flags % 16 >= 8 then record.flags = record.flags - 8 end
      authentication = ARGV[15] .. string.sub(authentication, #ARGV[15] + 1)
    end
    last_use = write_last_use(origin, 0, 0, authentication)
    details[parts[4]] = last_use
  end
  text = ''
  for part = 1, 3 do text = text .. (parts[part] and details[parts[part]] or '') end
  record = write_record(record)
end
if not kept then
  redis.call('DEL', key)
elseif #ids > 0 then
  remove_sessions(key, ids)
else
  -- Nothing to remove; but the event must not be the first write (see append_event).
  redis.call('HDEL', key, '')
end
-- Sessions of the current second have the same `session_start` as later ones: each gets an event of its own.
for _, id in ipairs(recent) do append_event(event_of(uuid(id), ARGV[4], now)) end
-- The last event: acknowledging it acknowledges those before.
append_event(event_of(ARGV[3] == '' and 'all' or 'all but ' .. uuid(ARGV[3]), ARGV[4], now), ARGV[8])
publish()

if record then
  local version, known = tonumber(ARGV[14]), read_claims(claims)
  if version > known then claims = write_claims(version, 0) end
  if ARGV[12] ~= '' then
    details[#details + 1] = 'r'
    details[#details + 1] = ARGV[12]
  end
  redis.call('HSET', key, ARGV[3], record, unpack(details))
  keep(key, tonumber(ARGV[11]))
end

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
-- The key may have been deleted above: a version outlives it for as long as there are sessions or a fence.
if claims and (record or now < till) then redis.call('HSET', key, 'v', claims) end
return record and { ended, record, claims, last_use or false, text } or ended
