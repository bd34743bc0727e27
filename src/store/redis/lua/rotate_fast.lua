-- The fast path of rotate.lua. It precedes lib.lua and rotate.lua in one script, and has the same KEYS, ARGV and results.
-- It handles the current token of a session, if the last use was before the grace window and had the same origin, and if the TTL of
-- the key suffices. rotate.lua handles every other case, and would do the same in this one (tests/it/store/rotate_paths.rs).

-- The answers of the handled operations; false for each that is left to rotate.lua.
local answers, all_handled = {}, true

local function rotate_current()
  local call, sub, unpack, pack = redis.call, string.sub, struct.unpack, struct.pack
  -- An operation has three keys, of which the first is the session hash, and one argument after ARGV 1: the presentation.
  local keys, presentations = KEYS, ARGV
  for i = 1, #keys / 3 do
    local answer, key, presentation = false, keys[3 * i - 2], presentations[i + 1]
    -- rotate.lua describes the bytes of a presentation. Byte 63 begins the origin if no client id precedes it.
    local id = sub(presentation, 17, 32)
    -- The record, the account's roles and version of the claims, and part 4 of the session's fields: the last use (record.rs).
    local found = call('HMGET', key, id, 'r', 'v', id .. '\4')
    -- The last use begins with its origin (last_use.rs), which must be the origin of this request.
    -- Usually it is only an origin, and the first comparison saves the copy by `sub`.
    local record, last_use, origin = found[1], found[4], sub(presentation, 63)
    if last_use and (last_use == origin or sub(last_use, 1, #origin) == origin) and record and #record >= RECORD_BYTES then
      local version, flags, generation, created_at, last_used_at, idle_ends_at, ends_at, kept_until = unpack(RECORD, record)
      local presented, now, grace, idle, accepted = unpack('>I4I6I6I6B', presentation, 33)
      -- Flags: bit 0, the token travels in a cookie; bit 1, part 4 is the last use. Accepted sessions: 0, all; 1, those without a cookie.
      -- 4294967295 is the largest generation, which has no successor.
      if version == 1 and flags % 4 >= 2 and generation == presented and generation < 4294967295 and now - last_used_at >= grace
        and (accepted == 0 or accepted == 1 and flags % 2 == 0) and now < idle_ends_at and now < ends_at
        and (now + idle <= kept_until or ends_at <= kept_until) and now >= last_used_at then
        record = pack(RECORD, version, flags, generation + 1, created_at, now, now + idle, ends_at, kept_until)
        call('HSET', key, id, record)
        -- The record alone is the answer if the account has no roles and no version, and the last use is an origin only.
        answer = record
        if found[2] or found[3] or last_use ~= origin then
          answer = { 'rotated', record, found[2], found[3], last_use ~= origin and last_use or nil }
        end
      else
        all_handled = false
      end
    else
      all_handled = false
    end
    answers[i] = answer
  end
end

-- An operation that raises an error here raises it again in rotate.lua, which reports it.
if pcall(rotate_current) and all_handled then return answers end
