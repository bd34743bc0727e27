-- Forgets the devices and addresses that an account recognizes: removes the throttle buckets that count their failures. The
-- bucket 's', which counts the failures of all others, stays.
-- KEYS  1 the account's throttle, a hash of buckets (login_throttle.lua)
-- Returns the number of removed buckets.

local buckets = {}
for _, bucket in ipairs(redis.call('HKEYS', KEYS[1])) do
  if bucket ~= 's' then buckets[#buckets + 1] = bucket end
end
if #buckets > 0 then redis.call('HDEL', KEYS[1], unpack(buckets)) end
return #buckets
