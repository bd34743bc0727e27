-- Sessions end, one of each operation, and the events of it are appended (I3).
-- ARGV  of each: 1 account id  2 session id  3 the event  4 who waits for the others to hear of it, or ''
-- Gives 1 for each, or 0 if there was no such session.

local function revoke(key, id, event, from)
  if not remove_sessions(key, { id }) then return 0 end
  append_event(event, from)
  return 1
end

return each(4, revoke, {})
