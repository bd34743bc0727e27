-- Presents refresh tokens (I1 one successor, I2 reuse ends the session, I4 two time limits). rotate_fast.lua, which precedes lib.lua
-- and this script, has handled the common case.
-- ARGV  for each operation one text, the presentation:
--       account id, session id (16 bytes each); generation of the presented token (u32)
--       now, grace, idle timeout (u48, ms)
--       accepted sessions (u8), 0: all of the first-party client; 1: of these, the sessions whose tokens don't travel in a cookie;
--       2: the sessions of one other client whose tokens don't travel in a cookie
--       retry window (u48, ms); limit of counted repeats (u8)
--       with 2 as accepted sessions: the client's id (its length as u8, and the text)
--       the origin of the request (last_use.rs): its tag (8 bytes), the length of its address (u8), its address
-- Returns for each operation one of
--       {'rotated' | 'repeated' | 'counted', record, roles or false, version of the claims or false, last use or false if it is only an
--       origin, details}; the details only of a session with a client grant
--       the record alone, of a session that was rotated and has none of the other values
--       {'reused' | 'second_holder', id of the event}
--       {'expired' | 'gone'}

-- The history of a session: runs of superseded generations, newest first. The `age` of a run is the time from its end, when its
-- newest generation was superseded, to `last_used_at` (ms). An empty history stands for one run of one generation: the previous one,
-- superseded when the current one was issued. A session in generation 0 has no previous one, and so no run.
local function runs_of(session)
  if session.history == '' then return session.generation > 0 and { { count = 1, age = 0 } } or {} end
  local runs, position = {}, 1
  while position <= #session.history do
    local count, age, next_position = struct.unpack('>I2I2', session.history, position)
    runs[#runs + 1] = { count = count, age = age }
    position = next_position
  end
  return runs
end

-- Moves the bits of counted repeats to a generation that is `advanced` generations later: bit n stands for the n-th generation before
-- that one (last_use.rs). There are eight bits, so none is left after more than seven generations.
local function shifted(counted, advanced)
  if advanced < 0 or advanced > 7 then return 0 end
  return counted * 2 ^ advanced % 256
end

-- A number whose lowest `count` bits are set, at most 8.
local function low_bits(count)
  return 2 ^ math.min(count, 8) - 1
end

-- Whether a superseded token is answered with the current one. That is the case within the grace window after the token was superseded.
-- It is also the case within the retry window after the current token was issued, for a token that was within grace at that time: its
-- holder may have received none of the tokens since. The history holds only tokens that were within grace at that time.
local function is_repeat(session, presented, now, grace, retry_window)
  local elapsed, oldest = now - session.last_used_at, session.generation
  for _, run in ipairs(runs_of(session)) do
    oldest = oldest - run.count
    if presented >= oldest then
      return grace > 0 and elapsed + run.age < grace or retry_window > 0 and elapsed <= retry_window
    end
  end
  return false
end

local function rotate(key, presentation)
  local id = string.sub(presentation, 17, 32)
  -- `found`: 1 the record, 2 the account's roles, 3 the version of its claims, 4 part 4 of the session's fields: the last use (record.rs).
  local found = redis.call('HMGET', key, id, 'r', 'v', id .. '\4')
  if not found[1] then return { 'gone' } end

  local session = read_record(found[1])
  local presented, now, grace, idle, accepted, retry_window, limit, rest = struct.unpack('>I4I6I6I6BI6B', presentation, 33)
  -- `rest` is the position of the part of the presentation that is not read yet.
  -- Bit 0 of the flags: the tokens travel in a cookie.
  if accepted > 0 and session.flags % 2 == 1 then return { 'gone' } end
  -- `browser` is the id of the browser's session that an app's session belongs to, '' for none; `parent` is its record.
  local client, details, browser, parent
  -- 'Bc0' is a text with its length before it.
  if accepted == 2 then client, rest = struct.unpack('Bc0', presentation, rest) end
  -- A record of version 1 belongs to the first-party client, and has no client grant.
  if session.version ~= 1 then
    local parts
    browser = found[4] and parent_of(found[4]) or ''
    if browser == '' then
      parts = redis.call('HMGET', key, id .. '\1', id .. '\2', id .. '\3')
    else
      parts = redis.call('HMGET', key, id .. '\1', id .. '\2', id .. '\3', browser)
    end
    details = (parts[1] or '') .. (parts[2] or '') .. (parts[3] or '')
    -- The details of a client's session begin with the client's id. `client` is nil if only first-party sessions are accepted.
    if client ~= string.sub(details, 2, 1 + (string.byte(details) or 0)) then return { 'gone' } end
    -- An app's session ends with the browser's session that it belongs to.
    if browser ~= '' then
      if not parts[4] then return { 'expired' } end
      -- A newer release may have written the browser's session. Its times are then unknown, and not checked.
      local is_readable, browser_session = pcall(read_record, parts[4])
      if is_readable then
        if now >= browser_session.idle_ends_at or now >= browser_session.ends_at then return { 'expired' } end
        parent = browser_session
      end
    end
  elseif client then
    return { 'gone' }
  end
  if now >= session.idle_ends_at or now >= session.ends_at then return { 'expired' } end
  local origin = string.sub(presentation, rest)
  local last_use = has_last_use(session) and found[4]

  -- The answer with a session's current grant.
  local function grant(outcome, record)
    -- The caller needs the last use only if it has more than an origin: a tag (8 bytes), the length of the address (u8), the address.
    local longer_last_use = last_use and #last_use > 9 + string.byte(last_use, 9) and last_use or nil
    if outcome == 'rotated' and not (found[2] or found[3] or longer_last_use or details) then return record end
    -- Redis ends an array at its first nil, which would omit the details. So false stands for a missing last use.
    if details and not longer_last_use then longer_last_use = false end
    return { outcome, record, found[2], found[3], longer_last_use, details }
  end

  if presented < session.generation then
    local outcome = 'reused'
    if is_repeat(session, presented, now, grace, retry_window) then
      -- A repeat with the tag of the last use is not counted. A session of release 0.1 that has not been refreshed since has no tag.
      if not last_use or string.sub(last_use, 1, 8) == string.sub(origin, 1, 8) then return grant('repeated', found[1]) end
      -- The holder lacked every generation after the presented one: their bits are set. The session ends once the bits of the last
      -- `limit` generations and of all those since the presented one are set, the presented one included. A single repeat does not set the
      -- bit of the presented generation, so it does not end the session. The exception is a token eight or more generations behind: only
      -- eight bits exist, and the repeat sets all of them.
      local lacked = session.generation - presented
      local last_origin, counted_at, counted, authentication = read_last_use(last_use)
      counted = bit.bor(shifted(counted, session.generation - counted_at), low_bits(lacked))
      local ending_bits = low_bits(math.max(limit, lacked + 1))
      if bit.band(counted, ending_bits) ~= ending_bits then
        last_use = write_last_use(last_origin, session.generation, counted, authentication)
        redis.call('HSET', key, id .. '\4', last_use)
        return grant('counted', found[1])
      end
      outcome = 'second_holder'
    end
    remove_sessions(key, { id })
    return { outcome, append_event(event_of(uuid(id), 'reuse', now)) }
  end

  -- The token is of the current generation, or of a later one that a Redis which lost writes has forgotten. The session continues from
  -- the presented generation, and every generation from the stored one to the presented one is superseded now.
  -- A generation is a u32: the last one has no successor.
  if presented >= 4294967295 then return { 'expired' } end
  local elapsed = math.max(0, now - session.last_used_at)
  local superseded = presented + 1 - session.generation
  local history = ''
  if elapsed < grace or superseded > 1 then
    -- The count of a run is a u16.
    local runs = { { count = math.min(65535, superseded), age = 0 } }
    for _, run in ipairs(runs_of(session)) do
      if run.age + elapsed < grace then runs[#runs + 1] = { count = run.count, age = run.age + elapsed } end
    end
    -- At most seven runs are kept. Of eight within the window, two lie in the same sixth of the window. They are merged, with the later
    -- of their times: grace is never shortened, and extended by at most a sixth.
    if #runs > 7 then
      local sixth = math.ceil(grace / 6)
      -- The time of the age 0: the new `last_used_at`, which is set below.
      local superseded_at = math.max(now, math.min(session.last_used_at, now + grace))
      for i = 1, #runs - 1 do
        if math.floor((superseded_at - runs[i].age) / sixth) == math.floor((superseded_at - runs[i + 1].age) / sixth) then
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
  -- The time never decreases, so that a slow clock shortens no grace. It is at most one grace window ahead of `now`, so that an earlier
  -- request with a fast clock does not extend the grace of superseded tokens.
  session.last_used_at = math.max(now, math.min(session.last_used_at, now + grace))
  session.idle_ends_at = now + idle
  session.history = history
  local expires = math.min(session.idle_ends_at, session.ends_at)
  if expires > session.kept_until then
    -- Longer than needed, so that most rotations leave the TTL unchanged.
    session.kept_until = expires + math.floor(idle / 16)
    extend_ttl(key, session.kept_until - now)
  end
  local last_origin, counted_at, counted, authentication = '', 0, 0, ''
  if last_use then
    last_origin, counted_at, counted, authentication = read_last_use(last_use)
  elseif not has_last_use(session) then
    -- Bit 1 of the flags: part 4 is the last use.
    session.flags = session.flags + 2
  end
  local record
  if parent and parent.idle_ends_at < session.idle_ends_at then
    -- A refresh of an app's session extends the idle timeout of its browser's session.
    parent.idle_ends_at, parent.kept_until = session.idle_ends_at, math.max(parent.kept_until, session.kept_until)
    if last_origin ~= origin then
      last_use = write_last_use(origin, session.generation, shifted(counted, session.generation - counted_at), authentication)
    end
    record = write_record(session)
    redis.call('HSET', key, id, record, id .. '\4', last_use, browser, write_record(parent))
  elseif last_origin == origin then
    -- The last use stays as it is.
    record = write_record(session)
    redis.call('HSET', key, id, record)
  else
    last_use = write_last_use(origin, session.generation, shifted(counted, session.generation - counted_at), authentication)
    record = write_record(session)
    redis.call('HSET', key, id, record, id .. '\4', last_use)
  end
  return grant('rotated', record)
end

-- `answers` has the answers of rotate_fast.lua.
return run_batch(1, rotate, answers)
