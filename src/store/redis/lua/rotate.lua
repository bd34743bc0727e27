-- Presents refresh tokens (I1, I2, I4). rotate_fast.lua, which runs before it, has handled the common case.
-- ARGV  of each, in one: account id, session id, generation presented (u32); now, grace, idle timeout (u48, ms); 1 if tokens
--       that travel in a cookie are not accepted here, or 0 (u8)
-- Returns for each {'rotated' | 'repeated', record, roles or false, version of the claims or false}, {'reused', id of the event} or {'expired' | 'gone'}.

-- The history: runs of generations, newest first, each with the time before `used` when it was superseded. An empty history
-- stands for one run of one generation: the previous one, superseded when the current one was issued.
local function runs_of(session)
  if session.history == '' then return session.generation > 0 and { { count = 1, age = 0 } } or {} end
  local runs, position = {}, 1
  while position <= #session.history do
    local count, age, after = struct.unpack('>I2I2', session.history, position)
    runs[#runs + 1] = { count = count, age = age }
    position = after
  end
  return runs
end

local function rotate(key, presentation)
  local id = string.sub(presentation, 17, 32)
  local found = redis.call('HMGET', key, id, 'r', 'v')
  if not found[1] then return { 'gone' } end

  local session = read_record(found[1])
  local presented, now, grace, idle, bearer = struct.unpack('>I4I6I6I6B', presentation, 33)
  if bearer == 1 and session.flags % 2 == 1 then return { 'gone' } end
  if now >= session.idle_ends or now >= session.ends then return { 'expired' } end

  if presented < session.generation then
    local oldest = session.generation
    for _, run in ipairs(runs_of(session)) do
      oldest = oldest - run.count
      if presented >= oldest then
        if now - (session.used - run.age) < grace then return { 'repeated', found[1], found[2], found[3] } end
        break
      end
    end
    remove_sessions(key, { id })
    return { 'reused', append_event(event_of(uuid(id), 'reuse', now)) }
  end

  -- The current generation, or a later one that this service issued and a Redis that lost writes has forgotten: the session
  -- continues from there, and every generation from the stored one on is superseded now.
  if presented >= 4294967295 then return { 'expired' } end
  local elapsed = math.max(0, now - session.used)
  local superseded = presented + 1 - session.generation
  local history = ''
  if elapsed < grace or superseded > 1 then
    local runs = { { count = math.min(65535, superseded), age = 0 } }
    for _, run in ipairs(runs_of(session)) do
      if run.age + elapsed < grace then runs[#runs + 1] = { count = run.count, age = run.age + elapsed } end
    end
    -- At most seven runs are kept. Of eight within the window, two lie in the same sixth of it and are merged as of the later
    -- time: grace is never shortened, and extended by at most a sixth.
    if #runs > 7 then
      local sixth = math.ceil(grace / 6)
      local last = math.max(now, math.min(session.used, now + grace))
      for i = 1, #runs - 1 do
        if math.floor((last - runs[i].age) / sixth) == math.floor((last - runs[i + 1].age) / sixth) then
          runs[i].count = math.min(65535, runs[i].count + runs[i + 1].count)
          table.remove(runs, i + 1)
          break
        end
      end
    end
    if #runs > 1 or superseded > 1 then
      local parts = {}
      for i, run in ipairs(runs) do parts[i] = struct.pack('>I2I2', run.count, run.age) end
      history = table.concat(parts)
    end
  end

  session.generation = presented + 1
  -- Never backwards, so that a slow clock shortens no grace; at most one window ahead, so that a fast clock does not extend
  -- the grace of superseded tokens.
  session.used = math.max(now, math.min(session.used, now + grace))
  session.idle_ends = now + idle
  session.history = history
  local expires = math.min(session.idle_ends, session.ends)
  if expires > session.kept then
    -- Longer than needed, so that most rotations leave the TTL alone.
    session.kept = expires + math.floor(idle / 16)
    keep(key, session.kept - now)
  end
  local record = write_record(session)
  redis.call('HSET', key, id, record)
  return { 'rotated', record, found[2], found[3] }
end

return each(1, rotate, answers)
