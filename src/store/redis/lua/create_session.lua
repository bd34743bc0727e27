-- Creates a session, and ends the oldest sessions of the account if there would be too many. Shared by create.lua and exchange.lua;
-- create.lua describes the arguments and the result.

-- The parent of the new session: the browser's session to which an app's session belongs. exchange.lua sets it.
local parent_id

local function create(key, new, roles, ...)
  local id = string.sub(new, 17, 32)
  local now, ttl, max_sessions, epoch, version, rest = struct.unpack('>I6I6I4I4I4', new, 33)
  local record = string.sub(new, rest)
  -- The fence (an epoch and its end), the session count, the roles and the version of the claims (record.rs).
  local found = redis.call('HMGET', key, 'f', 'c', 'r', 'v')
  local fence, count, former_roles, former_claims = found[1], found[2], found[3], found[4]
  if fence then
    local fence_epoch, fence_until = struct.unpack('>I4I6', fence)
    if now < fence_until then
      if epoch < fence_epoch then return 'stale' end
    else
      redis.call('HDEL', key, 'f')
    end
  end

  local former_version = read_claims(former_claims)
  if version < former_version then return 'stale' end

  local last_event
  local evicted = {}
  -- An upper bound of the number of sessions, and the number at which to search for expired ones. A hash with many fields stores
  -- both (field 'c'), so that not every creation reads all its sessions.
  local sessions, search_at = redis.call('HLEN', key), MIN_COUNTED_FIELDS
  local needs_count = sessions >= MIN_COUNTED_FIELDS
  if count then sessions, search_at = struct.unpack('>I2I2', count) end

  local may_exceed_limit = sessions >= max_sessions
  local is_search_due = needs_count and (not count or sessions >= search_at)
  if may_exceed_limit or is_search_due then
    local live, expired = {}, {}
    local fields = redis.call('HGETALL', key)
    for i = 1, #fields, 2 do
      if is_session(fields[i]) then
        if is_live(fields[i + 1], now) then
          -- The parent of the new session counts as the newest session, and a session with an unreadable record as the second newest:
          -- they are ended last. No time in milliseconds reaches 2 ^ 53.
          local is_readable, session = pcall(read_record, fields[i + 1])
          local created = is_readable and session.created_at or 2 ^ 53
          if fields[i] == parent_id then created = math.huge end
          live[#live + 1] = { id = fields[i], created = created,
            is_browser = is_readable and is_browser(session) }
        else
          expired[#expired + 1] = fields[i]
        end
      end
    end
    if #expired > 0 then remove_sessions(key, expired) end

    local surplus = math.max(0, #live - max_sessions + 1)
    if surplus > 0 then
      table.sort(live, function(a, b) return a.created < b.created or (a.created == b.created and a.id < b.id) end)
      local is_ended = {}
      for i = 1, surplus do
        for _, id_to_end in ipairs(with_children(fields, live[i].id, live[i].is_browser)) do
          -- An app's session may have ended with its browser's session already.
          if not is_ended[id_to_end] and remove_sessions(key, { id_to_end }) then
            is_ended[id_to_end] = true
            last_event = append_event(event_of(uuid(id_to_end), 'limit', now))
            evicted[#evicted + 1] = id_to_end
          end
        end
      end
    end
    -- The next search is due when the number of sessions has doubled: on average, each creation reads one session.
    sessions = #live - #evicted
    search_at = math.max(2 * sessions, MIN_COUNTED_FIELDS)
  end

  -- The further arguments are the parts of the session: 1 to 3 the details, 4 the last use.
  local new_fields = { id, record }
  for part = 1, select('#', ...) do
    local text = select(part, ...)
    if text ~= '' then
      new_fields[#new_fields + 1] = id .. string.char(part)
      new_fields[#new_fields + 1] = text
    end
  end
  if roles ~= '' then
    new_fields[#new_fields + 1] = 'r'
    new_fields[#new_fields + 1] = roles
  elseif former_roles then
    redis.call('HDEL', key, 'r')
  end
  if version > former_version then
    -- The time 0 stands for a version that came with a sign-in and replaces none.
    new_fields[#new_fields + 1] = 'v'
    new_fields[#new_fields + 1] = write_claims(version, former_claims and now or 0)
  end
  if count or needs_count then
    new_fields[#new_fields + 1] = 'c'
    new_fields[#new_fields + 1] = struct.pack('>I2I2', sessions + 1, search_at)
  end
  redis.call('HSET', key, unpack(new_fields))
  extend_ttl(key, ttl)
  return last_event and { 'created', last_event, unpack(evicted) } or 'created'
end
