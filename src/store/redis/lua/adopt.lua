-- When a browser's user has signed in again, moves the sessions beneath the browser's former session to its new session, and ends the
-- former session. If the new session is not live, ends the former session and those beneath it.
-- ARGV  1, 2 lib.lua  3 id of the former session  4 id of the new session  5 reason  6 now, ms
--       7 the node that waits for acknowledgements, or ''
-- Returns the ids of the ended sessions. If the former session had ended before, returns the id of the bucket's last event ('' for none).

local key, former, new, now = KEYS[1], ARGV[3], ARGV[4], tonumber(ARGV[6])
local fields = redis.call('HGETALL', key) -- each field is followed by its value
local former_exists, new_is_live = false, false
local ended = { former }
for i = 1, #fields, 2 do
  if fields[i] == former then former_exists = true end
  if fields[i] == new then new_is_live = is_live(fields[i + 1], now) end
end
if not former_exists then return redis.call('GET', POSITION) or '' end
if new_is_live then
  for i = 1, #fields, 2 do
    -- A field of 17 bytes is a session's id and the number of a part; part 4 is the last use, which names the parent.
    if #fields[i] == 17 and string.byte(fields[i], 17) == 4 and parent_of(fields[i + 1]) == former then
      local origin, counted_at, counted, authentication = read_last_use(fields[i + 1])
      redis.call('HSET', key, fields[i],
        write_last_use(origin, counted_at, counted, with_parent(authentication, new)))
    end
  end
else
  local is_browser_session = true
  ended = with_children(fields, former, is_browser_session)
end
remove_sessions(key, ended)
-- The former session, ended[1], comes last. Only the last event asks for acknowledgements: a node that acknowledges it has applied the
-- others.
for i = #ended, 1, -1 do append_event(event_of(uuid(ended[i]), ARGV[5], now), i == 1 and ARGV[7] or nil) end
publish()
return ended
