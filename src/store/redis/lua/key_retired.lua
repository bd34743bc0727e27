-- A signing key was taken out of use: what it signed is refused from now on, and whoever follows is told.
-- ARGV  5 the key's id  6 now, ms

-- The event must not be the first write (see append_event).
redis.call('PEXPIRE', STREAM, RETENTION)
append_event('key ' .. ARGV[5], 'key_retired', tonumber(ARGV[6]))
return 1
