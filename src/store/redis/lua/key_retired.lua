-- A signing key was taken out of use: what it signed is refused from now on, and whoever follows is told.
-- ARGV  3 the key's id  4 now, ms

-- The event must not be the first write (see append_event).
redis.call('XDEL', STREAM, '0-1')
append_event(event_of('key ' .. ARGV[3], 'key_retired', tonumber(ARGV[4])))
tell()
return 1
