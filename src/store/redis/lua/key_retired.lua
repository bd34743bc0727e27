-- Appends and publishes the retirement of a signing key: the tokens that it has signed are refused from now on.
-- KEYS  1 the event stream of the bucket that has the events of signing keys  2 the position of that bucket
-- ARGV  1 see lib.lua  2 '', since there is no account  3 the key's id  4 now, ms

-- Appending must not be the first write (see append_event), so a deletion comes first. No entry has this id, so nothing is deleted.
redis.call('XDEL', STREAM, '0-1')
append_event(event_of('key ' .. ARGV[3], 'key_retired', tonumber(ARGV[4])))
publish()
return 1
