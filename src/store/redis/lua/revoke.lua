-- Ends one session per operation, and appends its event (I3).
-- ARGV  of each: 1 in one: account id, session id, and the node that waits for acknowledgements, if any  2 the event
-- Returns for each 1 or, if there was no such session, the id of the bucket's last event ('' for none): that event or an
-- earlier one ended it.

local function revoke(key, which, event)
  local id, from = string.sub(which, 17, 32), string.sub(which, 33)
  if not remove_sessions(key, { id }) then return redis.call('GET', POSITION) or '' end
  append_event(event, from)
  return 1
end

return each(2, revoke, {})
