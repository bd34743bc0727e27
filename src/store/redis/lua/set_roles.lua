-- Replaces the roles that the next refresh of each session of an account returns.
-- ARGV  3 the roles, separated by spaces, or ''  4 now, ms  5 the account's new epoch
--       6 until when sign-ins that were checked against an older epoch are refused, ms
-- Returns 1.

local key, roles, now, epoch, till = KEYS[1], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if roles == '' then
  redis.call('HDEL', key, 'r')
elseif redis.call('EXISTS', key) == 1 then
  redis.call('HSET', key, 'r', roles)
end

-- Without this fence a sign-in that read the former roles from SQL would write them here after this script.
local fence = redis.call('HGET', key, 'f')
if fence then
  local fence_epoch, fence_till = struct.unpack('>I4I6', fence)
  if now < fence_till then epoch, till = math.max(epoch, fence_epoch), math.max(till, fence_till) end
end
redis.call('HSET', key, 'f', struct.pack('>I4I6', epoch, till))
keep(key, till - now)
return 1
