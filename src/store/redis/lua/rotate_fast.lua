-- Stands before the library and rotate.lua, and has the same KEYS, ARGV and result: the usual refresh, without what it
-- doesn't need. That is, the current token of a session which was last used longer ago than the grace window and whose key
-- is kept for long enough. Whatever is otherwise is left to rotate.lua, which would do the same here.

local function usual(key, presentation)
  local id = string.sub(presentation, 17, 32)
  local found = redis.call('HMGET', key, id, 'r')
  local record = found[1]
  if not record or #record < 36 then return false end
  local version, flags, generation, created, used, idle_ends, ends, kept = struct.unpack('>BBI4I6I6I6I6I6', record)
  local presented, now, grace, idle, bearer = struct.unpack('>I4I6I6I6B', presentation, 33)
  if version == 1 and generation == presented and generation < 4294967295 and now - used >= grace
    and (bearer == 0 or flags % 2 == 0) and now < idle_ends and now < ends and (now + idle <= kept or ends <= kept) and now >= used then
    record = struct.pack('>BBI4I6I6I6I6I6', version, flags, generation + 1, created, now, now + idle, ends, kept)
    redis.call('HSET', key, id, record)
    return { 'rotated', record, found[2] }
  end
  return false
end

local answers, all = {}, true
for i = 1, #KEYS / 3 do
  -- what goes wrong here goes wrong there too, and is told there
  local done, answer = pcall(usual, KEYS[3 * i - 2], ARGV[i + 1])
  answers[i] = done and answer
  all = all and answers[i]
end
if all then return answers end
