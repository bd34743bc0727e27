-- Somebody wants to try a password for an account. Counted as a failure before it is tried, so that many at once don't
-- all get through; trust_device.lua or refund.lua takes it back.
-- One key, a hash. Its fields are lanes: 's', that of strangers, and one for each device and address that is known. Each
-- holds 'failures, not before, forgotten at, known until' (times in ms).
-- KEYS  1 the account's lanes
-- ARGV  1 now  2 lane of the device, or '-'  3 lane of the address  4 failures that cost nothing  5 first wait
--       6 longest wait  7 when few failures are forgotten  8 when many are (times in ms)  9 failures that cost nothing where
--       the lane is known
-- Gives {the lane that counts, how long to wait}; with a wait other than 0, nothing has changed.

local now, free = tonumber(ARGV[1]), tonumber(ARGV[4])
local function read(text)
  local failures, start, over, known = string.match(text or '', '^(%d+) (%d+) (%d+) (%d+)$')
  if not failures then return { failures = 0, start = 0, over = 0, known = 0 } end
  return { failures = tonumber(failures), start = tonumber(start), over = tonumber(over), known = tonumber(known) }
end

local found = redis.call('HMGET', KEYS[1], ARGV[2], ARGV[3], 's')
local lane, state
for i = 1, 2 do
  local candidate = read(found[i])
  if now < candidate.known then
    lane, state = ARGV[i + 1], candidate
    break
  end
end
if lane then
  free = tonumber(ARGV[9])
else
  lane, state = 's', read(found[3])
end

if now >= state.over then state.failures, state.start = 0, 0 end
if now < state.start then return { lane, state.start - now } end
state.failures = state.failures + 1
local forget, above = tonumber(ARGV[7]), state.failures - free
if above > 0 then
  state.start = now + math.min(tonumber(ARGV[6]), tonumber(ARGV[5]) * 2 ^ math.min(above - 1, 30))
  forget = tonumber(ARGV[8])
end
state.over = now + forget
redis.call('HSET', KEYS[1], lane,
  string.format('%.0f %.0f %.0f %.0f', state.failures, state.start, state.over, state.known))
if redis.call('PTTL', KEYS[1]) < forget then redis.call('PEXPIRE', KEYS[1], string.format('%.0f', forget)) end
return { lane, 0 }
