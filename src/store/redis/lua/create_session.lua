-- Creates a session, and ends an account's oldest if there would be too many. Shared by create.lua and exchange.lua; the arguments and
-- the result are described in create.lua.

-- The browser's session to which the new session will belong, if it is an app's.
local browsers_session

local function create(key, new, roles, ...)
  local id = string.sub(new, 17, 32)
  local now, ttl, most, epoch, version, rest = struct.unpack('>I6I6I4I4I4', new, 33)
  local record = string.sub(new, rest)
  local found = redis.call('HMGET', key, 'f', 'c', 'r', 'v')
  local fence, count, former_roles = found[1], found[2], found[3]
  if fence then
    local fence_epoch, till = struct.unpack('>I4I6', fence)
    if now < till then
      if epoch < fence_epoch then return 'stale' end
    else
      redis.call('HDEL', key, 'f')
    end
  end

  local former_version = read_claims(found[4])
  if version < former_version then return 'stale' end

  -- An upper bound of the number of sessions, and the number at which to search for expired ones. An account with more than
  -- a few fields has a count, so that its sessions needn't be read each time.
  local last_event
  local evicted = {}
  local sessions, look_at = redis.call('HLEN', key), FEW
  local counted = sessions >= FEW
  if count then sessions, look_at = struct.unpack('>I2I2', count) end

  if sessions >= most or counted and (not count or sessions >= look_at) then
    local live, over = {}, {}
    local fields = redis.call('HGETALL', key)
    for i = 1, #fields, 2 do
      if is_session(fields[i]) then
        if is_live(fields[i + 1], now) then
          -- The browser's session to which the new one will belong counts as the newest, and then an unreadable record: they are the
          -- last to be ended.
          local read, session = pcall(read_record, fields[i + 1])
          local created = read and session.created or 2 ^ 53
          if fields[i] == browsers_session then created = math.huge end
          live[#live + 1] = { id = fields[i], created = created,
            is_browser = read and is_browser(session) }
        else
          over[#over + 1] = fields[i]
        end
      end
    end
    if #over > 0 then remove_sessions(key, over) end

    local ended = math.max(0, #live - most + 1)
    if ended > 0 then
      table.sort(live, function(a, b) return a.created < b.created or (a.created == b.created and a.id < b.id) end)
      local gone = {}
      for i = 1, ended do
        for _, over_id in ipairs(with_children(fields, live[i].id, live[i].is_browser)) do
          -- A session that ended with its browser's is not ended a second time.
          if not gone[over_id] and remove_sessions(key, { over_id }) then
            gone[over_id] = true
            last_event = append_event(event_of(uuid(over_id), 'limit', now))
            evicted[#evicted + 1] = over_id
          end
        end
      end
      ended = #evicted
    end
    -- The next search is due at twice as many: amortized, each creation reads one session.
    sessions = #live - ended
    look_at = math.max(2 * sessions, FEW)
  end

  local set = { id, record }
  for part = 1, select('#', ...) do
    local text = select(part, ...)
    if text ~= '' then
      set[#set + 1] = id .. string.char(part)
      set[#set + 1] = text
    end
  end
  if roles ~= '' then
    set[#set + 1] = 'r'
    set[#set + 1] = roles
  elseif former_roles then
    redis.call('HDEL', key, 'r')
  end
  if version > former_version then
    set[#set + 1] = 'v'
    set[#set + 1] = write_claims(version, found[4] and now or 0)
  end
  if count or counted then
    set[#set + 1] = 'c'
    set[#set + 1] = struct.pack('>I2I2', sessions + 1, look_at)
  end
  redis.call('HSET', key, unpack(set))
  keep(key, ttl)
  return last_event and { 'created', last_event, unpack(evicted) } or 'created'
end
