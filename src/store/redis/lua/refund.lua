-- An attempt came to nothing before its password was checked: it isn't counted.
-- KEYS  1 the account's lanes (attempt.lua)
-- ARGV  1 the lane that it was counted in

local found = redis.call('HGET', KEYS[1], ARGV[1])
local failures, _, over, known = string.match(found or '', '^(%d+) (%d+) (%d+) (%d+)$')
if not failures then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f 0 %s %s', math.max(0, tonumber(failures) - 1), over, known))
return 1
