-- Replaces the roles, the other claims and their version of an account, which the next refresh of each of its sessions returns, and appends
-- the event (I16).
-- ARGV  3 the roles, separated by spaces, and the other claims (record.rs), or ''  4 now, ms  5 the account's new epoch
--       6 until when sign-ins that were checked against an older epoch are refused, ms
--       7 the new version; a version that is not later than the current one is replaced by the next one
--       8 the node that waits for acknowledgements, or ''
-- Returns the version.

-- The UUID that stands for a version of claims in an event: no random UUID begins with ten zero bytes. Releases before
-- 0.2 take it for a session that has ended, which harms no token, and acknowledge it.
local function claims_uuid(version)
  return string.format('00000000-0000-0000-0000-%012x', version)
end

local key, roles, now, epoch, till = KEYS[1], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local found = redis.call('HMGET', key, 'f', 'v')
local version = math.max(tonumber(ARGV[7]), read_claims(found[2]) + 1)

-- First, so that a Redis that is out of memory accepts the change (see append_event).
redis.call('HDEL', key, 'r')
append_event(event_of(claims_uuid(version), 'revoked', now), ARGV[8])
publish()
if roles ~= '' and redis.call('EXISTS', key) == 1 then redis.call('HSET', key, 'r', roles) end

-- Without this fence a sign-in that read the former roles from SQL would write them here after this script.
if found[1] then
  local fence_epoch, fence_till = struct.unpack('>I4I6', found[1])
  if now < fence_till then epoch, till = math.max(epoch, fence_epoch), math.max(till, fence_till) end
end
redis.call('HSET', key, 'f', struct.pack('>I4I6', epoch, till), 'v', write_claims(version, now))
keep(key, till - now)
return version
