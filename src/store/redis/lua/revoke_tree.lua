-- Ends one session and, if it is a browser's, the sessions beneath it, and appends an event for each (I3: revoked stays revoked).
-- ARGV  3 session id  4 reason  5 now, ms  6 the node that waits for acknowledgements, or ''
-- Returns the ids of the ended sessions. If there was no such session, returns the id of the bucket's last event ('' for none).

local key, id, now = KEYS[1], ARGV[3], tonumber(ARGV[5])
local record = redis.call('HGET', key, id)
if not record then return redis.call('GET', POSITION) or '' end
-- A session whose record is unreadable (damaged, or of a newer release) ends without the sessions beneath it.
local is_readable, session = pcall(read_record, record)
local ids = { id }
if is_readable and is_browser(session) then
  local is_browser_session = true
  ids = with_children(redis.call('HGETALL', key), id, is_browser_session)
end
remove_sessions(key, ids)
-- The event of the session itself comes last. It alone asks for acknowledgements: a node that acknowledges it has applied the
-- others.
for i = #ids, 1, -1 do
  local waiting_node = i == 1 and ARGV[6] or nil
  append_event(event_of(uuid(ids[i]), ARGV[4], now), waiting_node)
end
publish()
return ids
