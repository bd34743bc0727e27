-- Presents refresh tokens (I1, I2, I4). rotate_fast.lua, which runs before it, has handled the common case.
-- ARGV  of each, in one: account id, session id, generation presented (u32); now, grace, idle timeout (u48, ms); 1 if tokens
--       that travel in a cookie are not accepted here, 2 if only those of a client's sessions are, or 0 (u8); retry window (u48, ms);
--       limit of counted repeats (u8); with 2, the client's id (its length as u8, and the text); the origin of the request: its tag (8 bytes), its address and the length of that (last_use.rs)
-- Returns for each {'rotated' | 'repeated' | 'counted', record, roles or false, version of the claims or false, last use
-- or false if it is only an origin, and of a session with a client grant its details}, {'reused' | 'second_holder', id of the event},
-- {'expired' | 'gone'}, or the record alone of a session that was rotated and has nothing else.

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

-- Counted repeats of an earlier generation, as bits of one that is current now or from now on.
local function shifted(counted, advanced)
  if advanced < 0 or advanced > 7 then return 0 end
  return counted * 2 ^ advanced % 256
end

local function low_bits(count)
  return 2 ^ math.min(count, 8) - 1
end

-- Whether a superseded token is answered with the current one: within grace, or, if it was within grace when the current token
-- was issued, within the retry window of that moment. Its holder may have received none of the tokens since.
local function is_repeat(session, presented, now, grace, retry)
  local elapsed, oldest = now - session.used, session.generation
  for _, run in ipairs(runs_of(session)) do
    oldest = oldest - run.count
    if presented >= oldest then
      return grace > 0 and elapsed + run.age < grace or retry > 0 and elapsed <= retry
    end
  end
  return false
end

local function rotate(key, presentation)
  local id = string.sub(presentation, 17, 32)
  local found = redis.call('HMGET', key, id, 'r', 'v', id .. '\4')
  if not found[1] then return { 'gone' } end

  local session = read_record(found[1])
  local presented, now, grace, idle, accepted, retry, limit, rest = struct.unpack('>I4I6I6I6BI6B', presentation, 33)
  if accepted > 0 and session.flags % 2 == 1 then return { 'gone' } end
  local client, details, browser, theirs
  if accepted == 2 then client, rest = struct.unpack('Bc0', presentation, rest) end
  if session.version ~= 1 then
    local parts
    browser = found[4] and parent_of(found[4]) or ''
    if browser == '' then
      parts = redis.call('HMGET', key, id .. '\1', id .. '\2', id .. '\3')
    else
      parts = redis.call('HMGET', key, id .. '\1', id .. '\2', id .. '\3', browser)
    end
    details = (parts[1] or '') .. (parts[2] or '') .. (parts[3] or '')
    -- The details of a client's session begin with the client's id.
    if client ~= string.sub(details, 2, 1 + (string.byte(details) or 0)) then return { 'gone' } end
    -- An app's session ends with the browser's session that it belongs to.
    if browser ~= '' then
      if not parts[4] then return { 'expired' } end
      local read, parent = pcall(read_record, parts[4])
      if read then
        if now >= parent.idle_ends or now >= parent.ends then return { 'expired' } end
        theirs = parent
      end
    end
  elseif client then
    return { 'gone' }
  end
  if now >= session.idle_ends or now >= session.ends then return { 'expired' } end
  local origin = string.sub(presentation, rest)
  local last_use = has_last_use(session) and found[4]

  local function grant(outcome, record)
    local more = last_use and #last_use > 9 + string.byte(last_use, 9) and last_use or nil
    if outcome == 'rotated' and not (found[2] or found[3] or more or details) then return record end
    if details and not more then more = false end
    return { outcome, record, found[2], found[3], more, details }
  end

  if presented < session.generation then
    local outcome = 'reused'
    if is_repeat(session, presented, now, grace, retry) then
      -- A session of 0.1 that was not refreshed since has no origin to compare.
      if not last_use or string.sub(last_use, 1, 8) == string.sub(origin, 1, 8) then return grant('repeated', found[1]) end
      -- The holder lacked every generation after the presented one. A single repeat never ends the session, since the
      -- presented generation must have been counted before.
      local lacked = session.generation - presented
      local used_by, at, counted, authentication = read_last_use(last_use)
      counted = bit.bor(shifted(counted, session.generation - at), low_bits(lacked))
      local run = low_bits(math.max(limit, lacked + 1))
      if bit.band(counted, run) ~= run then
        last_use = write_last_use(used_by, session.generation, counted, authentication)
        redis.call('HSET', key, id .. '\4', last_use)
        return grant('counted', found[1])
      end
      outcome = 'second_holder'
    end
    remove_sessions(key, { id })
    return { outcome, append_event(event_of(uuid(id), 'reuse', now)) }
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
  local used_by, at, counted, authentication = '', 0, 0, ''
  if last_use then
    used_by, at, counted, authentication = read_last_use(last_use)
  elseif not has_last_use(session) then
    session.flags = session.flags + 2
  end
  local record
  if theirs and theirs.idle_ends < session.idle_ends then
    -- An app in use keeps its browser's session.
    theirs.idle_ends, theirs.kept = session.idle_ends, math.max(theirs.kept, session.kept)
    if used_by ~= origin then
      last_use = write_last_use(origin, session.generation, shifted(counted, session.generation - at), authentication)
    end
    record = write_record(session)
    redis.call('HSET', key, id, record, id .. '\4', last_use, browser, write_record(theirs))
  elseif used_by == origin then
    record = write_record(session)
    redis.call('HSET', key, id, record)
  else
    last_use = write_last_use(origin, session.generation, shifted(counted, session.generation - at), authentication)
    record = write_record(session)
    redis.call('HSET', key, id, record, id .. '\4', last_use)
  end
  return grant('rotated', record)
end

return each(1, rotate, answers)
