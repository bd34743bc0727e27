-- The fast path of rotate.lua, which follows it with lib.lua: same KEYS, ARGV and results. Handles the current token of a
-- session whose last use is longer ago than the grace window and has the same origin, and whose key's TTL suffices. Leaves
-- every other case to rotate.lua, which would do the same in this one (tests/it/store/rotate_paths.rs).

local answers, all = {}, true

local function rotate_current()
  local call, sub, unpack, pack = redis.call, string.sub, struct.unpack, struct.pack
  local keys, presentations = KEYS, ARGV
  for i = 1, #keys / 3 do
    local answer, key, presentation = false, keys[3 * i - 2], presentations[i + 1]
    local id = sub(presentation, 17, 32)
    local found = call('HMGET', key, id, 'r', 'v', id .. '\4')
    local record, last_use, origin = found[1], found[4], sub(presentation, 63)
    if last_use and (last_use == origin or sub(last_use, 1, #origin) == origin) and record and #record >= RECORD_BYTES then
      local version, flags, generation, created, used, idle_ends, ends, kept = unpack(RECORD, record)
      local presented, now, grace, idle, bearer = unpack('>I4I6I6I6B', presentation, 33)
      if version == 1 and flags % 4 >= 2 and generation == presented and generation < 4294967295 and now - used >= grace
        and (bearer == 0 or bearer == 1 and flags % 2 == 0) and now < idle_ends and now < ends and (now + idle <= kept or ends <= kept) and now >= used then
        record = pack(RECORD, version, flags, generation + 1, created, now, now + idle, ends, kept)
        call('HSET', key, id, record)
        answer = record
        if found[2] or found[3] or last_use ~= origin then
          answer = { 'rotated', record, found[2], found[3], last_use ~= origin and last_use or nil }
        end
      else
        all = false
      end
    else
      all = false
    end
    answers[i] = answer
  end
end

-- An error recurs in rotate.lua, and is reported there.
if pcall(rotate_current) and all then return answers end
