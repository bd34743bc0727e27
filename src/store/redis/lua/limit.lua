-- Takes a request from a quota (GCRA, as in domain/limit.rs). The key, a string, holds the time when the quota is full again, in µs.
-- KEYS  1 the quota
-- ARGV  1 now (ms)  2 time in which the quota refills by one request (µs)  3 requests of a full quota
-- Returns 0. If the quota is exhausted, changes nothing and returns the time until the next request is allowed (µs).

local now, interval = tonumber(ARGV[1]) * 1000, tonumber(ARGV[2])
-- When the quota would be full again after this request. An empty quota refills in `interval * ARGV[3]`: if the quota would take longer,
-- it is exhausted.
local full_at = math.max(now, tonumber(redis.call('GET', KEYS[1]) or now)) + interval
local wait = full_at - now - interval * tonumber(ARGV[3])
if wait > 0 then return wait end
-- The TTL, in ms, is a second longer than needed, because the clocks of nodes differ.
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', string.format('%.0f', math.ceil((full_at - now) / 1000) + 1000))
return 0
