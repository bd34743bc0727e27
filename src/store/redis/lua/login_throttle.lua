-- Admits or delays a password check. Counts the check as a failure in advance, so that concurrent attempts are limited.
-- trust_device.lua or refund.lua takes the failure back.
-- The key is a hash of buckets: 's' for unrecognized devices and addresses, and one per recognized device and address. A
-- bucket holds 'failures, not before, forgotten at, trusted until' (times in ms): no check is admitted before the first time, the
-- failures expire at the second, and the bucket is recognized until the third (trust_device.lua).
-- KEYS  1 the account's throttle
-- ARGV  1 now  2 bucket of the device, '-' for none  3 bucket of the address  4 failures without delay  5 first delay
--       6 longest delay  7 lifetime of failures without delay  8 lifetime of failures with a delay (times in ms)
--       9 failures without delay in a recognized bucket
-- Returns {bucket, delay in ms}. If the delay is not 0, the check is not admitted and nothing changes.

local now, failures_without_delay = tonumber(ARGV[1]), tonumber(ARGV[4])
local function parse(text)
  local failures, not_before, forgotten_at, trusted_until = string.match(text or '', '^(%d+) (%d+) (%d+) (%d+)$')
  if not failures then return { failures = 0, not_before = 0, forgotten_at = 0, trusted_until = 0 } end
  return { failures = tonumber(failures), not_before = tonumber(not_before), forgotten_at = tonumber(forgotten_at),
    trusted_until = tonumber(trusted_until) }
end

-- The bucket of the device precedes that of the address.
local recognizable = { ARGV[2], ARGV[3] }
local found = redis.call('HMGET', KEYS[1], ARGV[2], ARGV[3], 's')
local bucket, state
for i = 1, 2 do
  local candidate = parse(found[i])
  if now < candidate.trusted_until then
    bucket, state = recognizable[i], candidate
    break
  end
end
if bucket then
  failures_without_delay = tonumber(ARGV[9])
else
  bucket, state = 's', parse(found[3])
end

if now >= state.forgotten_at then state.failures, state.not_before = 0, 0 end
if now < state.not_before then return { bucket, state.not_before - now } end
state.failures = state.failures + 1
local lifetime = tonumber(ARGV[7])
local delayed_failures = state.failures - failures_without_delay
if delayed_failures > 0 then
  -- The delay doubles with each failure. The cap of the exponent changes no delay: 2 ^ 30 first delays, of at least 0.1 s each, are three
  -- years, and the longest delay is at most a day (config/limits.rs). It keeps the power finite: 2 ^ 1024 is not.
  state.not_before = now + math.min(tonumber(ARGV[6]), tonumber(ARGV[5]) * 2 ^ math.min(delayed_failures - 1, 30))
  lifetime = tonumber(ARGV[8])
end
state.forgotten_at = now + lifetime
redis.call('HSET', KEYS[1], bucket,
  string.format('%.0f %.0f %.0f %.0f', state.failures, state.not_before, state.forgotten_at, state.trusted_until))
-- the key expires with its last bucket
if redis.call('PTTL', KEYS[1]) < lifetime then redis.call('PEXPIRE', KEYS[1], string.format('%.0f', lifetime)) end
return { bucket, 0 }
