-- Moves the sessions beneath a browser session to the session that replaces it after the user has authenticated again, and ends the
-- former session.
-- ARGV  3 id of the former session  4 id of the new session  5 reason  6 now, ms  7 the node that waits for acknowledgements, or ''
-- Returns 1, or the id of the bucket's last event ('' for none) if the former session had ended. Moves nothing unless the new one is live.

local key, former, new, now = KEYS[1], ARGV[3], ARGV[4], tonumber(ARGV[6])
local fields = redis.call('HGETALL', key)
local is_there, is_new = false, false
for i = 1, #fields, 2 do
  if fields[i] == former then is_there = true end
  if fields[i] == new then is_new = is_live(fields[i + 1], now) end
end
if not is_there then return redis.call('GET', POSITION) or '' end
if is_new then
  for i = 1, #fields, 2 do
    if #fields[i] == 17 and string.byte(fields[i], 17) == 4 and parent_of(fields[i + 1]) == former then
      local origin, at, counted, authentication = read_last_use(fields[i + 1])
      redis.call('HSET', key, fields[i], write_last_use(origin, at, counted, child_authentication(authentication, new)))
    end
  end
  remove_sessions(key, { former })
  append_event(event_of(uuid(former), ARGV[5], now), ARGV[7])
else
  local ids = with_children(fields, former, true)
  remove_sessions(key, ids)
  for i = #ids, 1, -1 do append_event(event_of(uuid(ids[i]), ARGV[5], now), i == 1 and ARGV[7] or nil) end
end
publish()
return 1
