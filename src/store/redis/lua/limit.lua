-- Takes a request from a quota (GCRA, as in domain/limit.rs). The key, a string, holds the time when the quota is full again, in µs.
-- KEYS  1 the limit
-- ARGV  1 now (ms)  2 time in which one request is regained (µs)  3 requests of a full quota
-- Returns 0; if the quota is exhausted, changes nothing and returns the time until the next request is allowed (µs).

local now, interval = tonumber(ARGV[1]) * 1000, tonumber(ARGV[2])
local before = math.max(now, tonumber(redis.call('GET', KEYS[1]) or now))
local after = before + interval
local over = after - now - interval * tonumber(ARGV[3])
if over > 0 then return over end
-- A second more than needed, for clock differences.
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', string.format('%.0f', math.ceil((after - now) / 1000) + 1000))
return 0
