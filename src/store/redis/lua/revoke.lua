-- Ends one session per operation, and appends the event of its end in the same step (I3). A batched script: lib.lua describes KEYS and
-- ARGV 1.
-- ARGV  for each operation: 1 one text: account id, session id (16 bytes each), and the node that waits for acknowledgements, if any
--       2 the event
-- Returns for each operation 1. If there was no such session, the id of the bucket's last event ('' for none): that event or
-- an earlier one ended the session, or the session has expired.

local function revoke(key, target, event)
  local id, waiting_node = string.sub(target, 17, 32), string.sub(target, 33)
  if not remove_sessions(key, { id }) then return redis.call('GET', POSITION) or '' end
  append_event(event, waiting_node)
  return 1
end

return run_batch(2, revoke, {})
