-- Sessions end, one of each operation, and the events of it are appended (I3).
-- ARGV  of each: 1 account id  2 session id  3 reason  4 now, ms  5 who waits for the others to hear of it, or ''
-- Gives 1 for each, or 0 if there was no such session.

local function revoke(key, id, reason, now, from)
  if remove_sessions(key, { id }) == 0 then return 0 end
  append_event(uuid(id), reason, tonumber(now), from)
  return 1
end

return each(5, revoke, {})
