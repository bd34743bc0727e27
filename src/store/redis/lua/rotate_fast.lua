-- The fast path of rotate.lua, which follows it with lib.lua: same KEYS, ARGV and results. Handles the current token of a
-- session whose last use is longer ago than the grace window and whose key's TTL suffices. Leaves every other case to
-- rotate.lua, which would do the same in this one (tests/it/store/rotate_paths.rs).

local function rotate_current(key, presentation)
  local id = string.sub(presentation, 17, 32)
  local found = redis.call('HMGET', key, id, 'r', 'v')
  local record = found[1]
  if not record or #record < RECORD_BYTES then return false end
  local version, flags, generation, created, used, idle_ends, ends, kept = struct.unpack(RECORD, record)
  local presented, now, grace, idle, bearer = struct.unpack('>I4I6I6I6B', presentation, 33)
  if version == VERSION and generation == presented and generation < 4294967295 and now - used >= grace
    and (bearer == 0 or flags % 2 == 0) and now < idle_ends and now < ends and (now + idle <= kept or ends <= kept) and now >= used then
    record = struct.pack(RECORD, version, flags, generation + 1, created, now, now + idle, ends, kept)
    redis.call('HSET', key, id, record)
    return { 'rotated', record, found[2], found[3] }
  end
  return false
end

local answers, all = {}, true
for i = 1, #KEYS / 3 do
  -- An error recurs in rotate.lua, and is reported there.
  local done, answer = pcall(rotate_current, KEYS[3 * i - 2], ARGV[i + 1])
  answers[i] = done and answer
  all = all and answers[i]
end
if all then return answers end
