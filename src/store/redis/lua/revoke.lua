-- Sessions end, one of each operation, and the events of it are appended (I3).
-- ARGV  of each: 1 in one: account id, session id, and if there is one, who waits for the others to hear of it  2 the event
-- Gives 1 for each, or the id of the bucket's last event ('' if there is none) if there was no such session: what ended it
-- was that event or one before.

local function revoke(key, which, event)
  local id, from = string.sub(which, 17, 32), string.sub(which, 33)
  if not remove_sessions(key, { id }) then return redis.call('GET', POSITION) or '' end
  append_event(event, from)
  return 1
end

return each(2, revoke, {})
