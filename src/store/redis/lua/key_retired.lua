-- Appends and publishes the retirement of a signing key: its tokens are refused from now on.
-- ARGV  3 the key's id  4 now, ms

-- The event must not be the first write (see append_event).
redis.call('XDEL', STREAM, '0-1')
append_event(event_of('key ' .. ARGV[3], 'key_retired', tonumber(ARGV[4])))
publish()
return 1
