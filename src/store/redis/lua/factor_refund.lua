-- Takes back an attempt at a second factor's code. A success on a recognized device or address empties its bucket; in the
-- bucket of unrecognized callers only the attempt itself is taken back, so that the owner's sign-ins give an attacker no attempts.
-- KEYS  1 the throttle of an account's kind of factor (factor_throttle.lua)
-- ARGV  1 bucket  2 '1' after a success, '0' if the code was not checked

if ARGV[2] == '1' and ARGV[1] ~= 's' then return redis.call('HDEL', KEYS[1], ARGV[1]) end
local failures, _, over = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^(%d+) (%d+) (%d+)$')
if not failures then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f 0 %s', math.max(0, tonumber(failures) - 1), over))
return 1
