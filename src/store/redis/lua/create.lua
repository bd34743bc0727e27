-- Creates sessions, and ends the oldest sessions of an account if there would be too many. create_session.lua has the operation.
-- ARGV  for each operation:
--       1 one text: account id, session id (16 bytes each); now, ttl of the key (u48, ms); maximum number of sessions, epoch against
--         which the sign-in was checked, version of the claims (u32); the record
--       2 roles and other claims (record.rs), or ''  3 to 5 the parts of the details, '' for missing ones  6 the last use
-- Returns for each operation: 'created'; {'created', id of the last event, ids of the ended sessions} if the session limit ended some;
-- 'stale' if the account or its claims have changed since the sign-in was checked: the change has ended all sessions (I5), or the sign-in
-- has read outdated claims (I16).

-- Each operation has six arguments, and none has an answer yet.
return run_batch(6, create, {})
