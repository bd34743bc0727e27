-- Replaces the roles and other claims of an account, and their version, and appends the event (I16: changes apply at once). The next
-- refresh of each session returns the new claims. lib.lua describes KEYS, ARGV 1 and 2, and the fields r, f and v.
-- ARGV  3 the roles, separated by spaces, and the other claims (record.rs), or ''  4 now, ms  5 the account's new epoch
--       6 end of the fence: until then sign-ins that were checked against an older epoch are refused, ms
--       7 the new version of the claims  8 the node that waits for acknowledgements, or ''
-- Returns the stored version: ARGV 7, or the version after the current one if ARGV 7 is not later than the current one.

-- The UUID that stands for a version of claims in an event: no random UUID begins with ten zero bytes. Releases before
-- 0.2 treat it as a session that has ended, which affects no token, and acknowledge it.
local function claims_uuid(version)
  return string.format('00000000-0000-0000-0000-%012x', version)
end

local key, roles, now, epoch, fence_until = KEYS[1], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local found = redis.call('HMGET', key, 'f', 'v')
local former_fence, former_claims_version = found[1], found[2]
local version = math.max(tonumber(ARGV[7]), read_claims(former_claims_version) + 1)

-- The removal comes first, so that a Redis that is out of memory accepts the change (see append_event).
redis.call('HDEL', key, 'r')
append_event(event_of(claims_uuid(version), 'revoked', now), ARGV[8])
publish()
-- An account without sessions needs no roles here: its next sign-in writes them.
if roles ~= '' and redis.call('EXISTS', key) == 1 then redis.call('HSET', key, 'r', roles) end

-- Without this fence a sign-in that read the former roles from SQL would write them here after this script. A fence that is in
-- effect is extended, never shortened.
if former_fence then
  -- A fence has the epoch (4 bytes) and the end, ms (6 bytes).
  local former_epoch, former_until = struct.unpack('>I4I6', former_fence)
  if now < former_until then epoch, fence_until = math.max(epoch, former_epoch), math.max(fence_until, former_until) end
end
redis.call('HSET', key, 'f', struct.pack('>I4I6', epoch, fence_until), 'v', write_claims(version, now))
extend_ttl(key, fence_until - now)
return version
