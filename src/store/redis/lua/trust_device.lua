-- Trusts the device and address of a successful sign-in, and refunds its attempt.
-- KEYS  1 the account's throttle (login_throttle.lua): a hash of buckets, one for each recognized device and address, and 's' for all
--         unrecognized ones
-- ARGV  1 now  2 bucket of the device  3 bucket of the address  4 lifetime of trust (times in ms)
--       5 maximum number of trusted buckets  6 the bucket in which the attempt was counted, or '' if it was counted in another key
-- Returns the number of buckets that the throttle had before, without 's'.

local key, now, lifetime, max_trusted, used = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
-- the value of a bucket: failures, not before, forgotten at, trusted until
local pattern = '^(%d+) (%d+) (%d+) (%d+)$'
local buckets_before = redis.call('HLEN', key) - redis.call('HEXISTS', key, 's')
local found = redis.call('HMGET', key, ARGV[2], ARGV[3], 's')
for i = 1, 2 do
  local bucket = ARGV[i + 1]
  local failures, not_before, forgotten_at = string.match(found[i] or '', pattern)
  -- A new bucket has no failures. The success clears those of the bucket in which the attempt was counted.
  if not failures or bucket == used then failures, not_before, forgotten_at = '0', '0', '0' end
  redis.call('HSET', key, bucket, string.format('%s %s %s %.0f', failures, not_before, forgotten_at, now + lifetime))
end
-- The failures of unrecognized devices stay: only this attempt is refunded.
if used == 's' then
  local failures, _, forgotten_at = string.match(found[3] or '', pattern)
  if failures then
    redis.call('HSET', key, 's', string.format('%.0f 0 %s 0', math.max(0, tonumber(failures) - 1), forgotten_at))
  end
end

-- Removes the buckets whose trust ends first, if there are too many beside 's'. The throttle has no 's' before the first attempt of an
-- unrecognized device.
if redis.call('HLEN', key) - redis.call('HEXISTS', key, 's') > max_trusted then
  local all, trusted = redis.call('HGETALL', key), {}
  for i = 1, #all, 2 do
    local _, _, _, trusted_until = string.match(all[i + 1], pattern)
    if all[i] ~= 's' then trusted[#trusted + 1] = { all[i], tonumber(trusted_until or 0) } end
  end
  table.sort(trusted, function(a, b) return a[2] < b[2] or (a[2] == b[2] and a[1] < b[1]) end)
  for i = 1, #trusted - max_trusted do
    redis.call('HDEL', key, trusted[i][1])
  end
end
if redis.call('PTTL', key) < lifetime then redis.call('PEXPIRE', key, ARGV[4]) end
return buckets_before
