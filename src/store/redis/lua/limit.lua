-- Takes a place of a quota (GCRA, as in domain/limit.rs). One key, a string: when all places will be free again, in µs.
-- KEYS  1 the limit
-- ARGV  1 now (ms)  2 how long a place takes to be free again (µs)  3 how many places
-- Gives 0, or how long until there is a place (µs); then nothing has changed.

local now, interval = tonumber(ARGV[1]) * 1000, tonumber(ARGV[2])
local before = math.max(now, tonumber(redis.call('GET', KEYS[1]) or now))
local after = before + interval
local over = after - now - interval * tonumber(ARGV[3])
if over > 0 then return over end
-- a second more than needed, for clocks that differ
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', string.format('%.0f', math.ceil((after - now) / 1000) + 1000))
return 0
