-- Admits or delays a password check. Counts it as a failure in advance, so that concurrent attempts are limited too;
-- trust_device.lua or refund.lua takes it back.
-- The key is a hash of buckets: 's' for unrecognized devices and addresses, and one per recognized device and address. A
-- bucket holds 'failures, not before, forgotten at, trusted until' (times in ms).
-- KEYS  1 the account's throttle
-- ARGV  1 now  2 bucket of the device, or '-'  3 bucket of the address  4 failures without delay  5 first delay
--       6 longest delay  7 lifetime of few failures  8 lifetime of many failures (times in ms)  9 failures without delay in
--       a recognized bucket
-- Returns {bucket, delay}; with a delay other than 0, changes nothing.

local now, free = tonumber(ARGV[1]), tonumber(ARGV[4])
local function read(text)
  local failures, start, over, trusted = string.match(text or '', '^(%d+) (%d+) (%d+) (%d+)$')
  if not failures then return { failures = 0, start = 0, over = 0, trusted = 0 } end
  return { failures = tonumber(failures), start = tonumber(start), over = tonumber(over), trusted = tonumber(trusted) }
end

local found = redis.call('HMGET', KEYS[1], ARGV[2], ARGV[3], 's')
local bucket, state
for i = 1, 2 do
  local candidate = read(found[i])
  if now < candidate.trusted then
    bucket, state = ARGV[i + 1], candidate
    break
  end
end
if bucket then
  free = tonumber(ARGV[9])
else
  bucket, state = 's', read(found[3])
end

if now >= state.over then state.failures, state.start = 0, 0 end
if now < state.start then return { bucket, state.start - now } end
state.failures = state.failures + 1
local forget, above = tonumber(ARGV[7]), state.failures - free
if above > 0 then
  state.start = now + math.min(tonumber(ARGV[6]), tonumber(ARGV[5]) * 2 ^ math.min(above - 1, 30))
  forget = tonumber(ARGV[8])
end
state.over = now + forget
redis.call('HSET', KEYS[1], bucket,
  string.format('%.0f %.0f %.0f %.0f', state.failures, state.start, state.over, state.trusted))
if redis.call('PTTL', KEYS[1]) < forget then redis.call('PEXPIRE', KEYS[1], string.format('%.0f', forget)) end
return { bucket, 0 }
