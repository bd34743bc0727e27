-- Ends every session of an account, except one if given, and appends the event (I3: revoked stays revoked; I5: a change of credentials
-- ends all sessions). With a replacement, all sessions end, and a new session takes over the transport and the details of one of them.
-- lib.lua describes KEYS and ARGV 1 and 2.
-- ARGV  3 id of the session to keep, or ''  4 reason  5 now, ms  6 new epoch, or ''
--       7 end of the fence: until then sign-ins checked against an older epoch are refused, ms
--       8 the node that waits for acknowledgements, or ''
--       With a replacement, ARGV 3 is the id of the new session, followed by:
--       9 id of the session to replace  10 the record of the new session  11 ttl of the key, ms  12 roles or ''
--       13 '1' if sessions whose tokens travel in a cookie are not accepted here  14 version of the claims
--       15 the authentication of the new session (last_use.rs), or '' for that of the replaced one
-- Returns the number of live sessions that ended. With a replacement, returns {that number without the replaced session, the new
-- record, version of the claims or false, last use or false, details}. Returns 'gone' if the session to replace has ended, and 'cookie'
-- if it is not accepted; neither changes anything.

local key, now = KEYS[1], tonumber(ARGV[5])
-- The ids of the sessions that end; of these, the ids of those that began in this second or later; the number of live
-- sessions that end, without the one to replace.
local ids, begun_this_second, ended = {}, {}, 0
-- What the hash has, or false: the session to keep, the fence, the live record of the session to replace, and the field 'v'.
local has_kept, fence, replaced, claims_stamp = false, false, false, false
-- The fields and values of the parts of the replaced session (1 to 3: its details, 4: its last use), under the new id; for each number of
-- a part, the index of its value in `new_fields`.
local new_fields, part_positions = {}, {}
local second_start = now - now % 1000
local fields = redis.call('HGETALL', key)
for i = 1, #fields, 2 do
  if fields[i] == ARGV[3] then
    has_kept = true
  elseif fields[i] == 'f' then
    fence = fields[i + 1]
  elseif fields[i] == 'v' then
    claims_stamp = fields[i + 1]
  elseif is_session(fields[i]) then
    if fields[i] == ARGV[9] then
      replaced = is_live(fields[i + 1], now) and read_record(fields[i + 1])
    elseif is_live(fields[i + 1], now) then
      ended = ended + 1
    end
    ids[#ids + 1] = fields[i]
    -- An unreadable record, such as one of a newer release, hides when its session began.
    local is_readable, session = pcall(read_record, fields[i + 1])
    if is_readable and session.created_at >= second_start then begun_this_second[#begun_this_second + 1] = fields[i] end
  -- The field of a part of a session: the session's id and the number of the part (1 byte).
  elseif ARGV[9] and #fields[i] == 17 and string.sub(fields[i], 1, 16) == ARGV[9] then
    new_fields[#new_fields + 1] = ARGV[3] .. string.sub(fields[i], 17)
    new_fields[#new_fields + 1] = fields[i + 1]
    part_positions[string.byte(fields[i], 17)] = #new_fields
  end
end
local record, last_use, details
if ARGV[9] then
  if not replaced then return 'gone' end
  -- Bit 0 of the flags: the session's refresh token travels in a cookie.
  if ARGV[13] == '1' and replaced.flags % 2 == 1 then return 'cookie' end
  record = read_record(ARGV[10])
  record.version, record.flags = replaced.version, replaced.flags
  -- The new session has no counted repeats: they belong to the tokens of the replaced session.
  if part_positions[4] and has_last_use(replaced) then
    local origin, _, _, authentication = read_last_use(new_fields[part_positions[4]])
    if ARGV[15] ~= '' then
      -- Removes the former step-up: 9 bytes, after the sign-in alone (9) or the sign-in and the parent (25); and its flag, bit 3.
      if #authentication == 18 or #authentication == 34 then authentication = string.sub(authentication, 1, #authentication - 9) end
      if record.flags % 16 >= 8 then record.flags = record.flags - 8 end
      -- The new authentication of the sign-in replaces the former one; the parent after it stays.
      authentication = ARGV[15] .. string.sub(authentication, #ARGV[15] + 1)
    end
    last_use = write_last_use(origin, 0, 0, authentication)
    new_fields[part_positions[4]] = last_use
  end
  details = ''
  for part = 1, 3 do details = details .. (part_positions[part] and new_fields[part_positions[part]] or '') end
  record = write_record(record)
end
if not has_kept then
  redis.call('DEL', key)
elseif #ids > 0 then
  remove_sessions(key, ids)
else
  -- There is nothing to remove, but appending must not be the first write (see append_event).
  redis.call('HDEL', key, '')
end
-- The event for all sessions ends those that began before this second. A session of this second gets an event of its own, since its
-- `session_start`, in seconds, does not distinguish it from later sessions.
for _, id in ipairs(begun_this_second) do append_event(event_of(uuid(id), ARGV[4], now)) end
-- Only the last event asks for acknowledgements: a node that acknowledges it has applied the others.
append_event(event_of(ARGV[3] == '' and 'all' or 'all but ' .. uuid(ARGV[3]), ARGV[4], now), ARGV[8])
publish()

if record then
  local version, former_version = tonumber(ARGV[14]), read_claims(claims_stamp)
  if version > former_version then claims_stamp = write_claims(version, 0) end
  if ARGV[12] ~= '' then
    new_fields[#new_fields + 1] = 'r'
    new_fields[#new_fields + 1] = ARGV[12]
  end
  redis.call('HSET', key, ARGV[3], record, unpack(new_fields))
  extend_ttl(key, tonumber(ARGV[11]))
end

-- A fence that is in effect is never shortened: neither by a call without a fence nor by one that arrives late.
local epoch = tonumber(ARGV[6]) or 0
local fence_until = ARGV[6] == '' and 0 or tonumber(ARGV[7])
if fence then
  local former_epoch, former_until = struct.unpack('>I4I6', fence)
  if now < former_until then epoch, fence_until = math.max(epoch, former_epoch), math.max(fence_until, former_until) end
end
if now < fence_until then
  redis.call('HSET', key, 'f', struct.pack('>I4I6', epoch, fence_until))
  extend_ttl(key, fence_until - now)
end
-- The key may have been deleted above. The version of the claims is stored again while there are sessions or a fence.
if claims_stamp and (record or now < fence_until) then redis.call('HSET', key, 'v', claims_stamp) end
return record and { ended, record, claims_stamp, last_use or false, details } or ended
