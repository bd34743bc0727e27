-- Creates sessions, and ends an account's oldest if there would be too many.
-- ARGV  of each: 1 in one: account id, session id; now, ttl of the key (u48, ms); maximum number of sessions, epoch the sign-in was
--       checked against, version of the claims (u32); the record  2 roles or ''  3 to 5 the parts of the details, '' for missing ones
--       6 the last use
-- Returns for each 'created', {'created', id of the last event, ids of the ended sessions} if the cap ended some, or 'stale'
-- if the account or its claims have changed since the sign-in was checked (I5, I16).
-- create_session.lua has the operation.

return each(6, create, {})
