-- Stores a one-time token. Removes the account's expired tokens, and the oldest tokens of this purpose if there are too many.
-- KEYS  1 the account's one-time tokens, a hash. A field is the purpose (1 byte) and an id (16 bytes); one_time_tokens.rs describes
--         the values, which begin with the times of issue and expiry
-- ARGV  1 now (ms)  2 field  3 value  4 the maximum number of live tokens of the purpose  5 ttl of this token (ms)
-- Returns 1.

local key, now, purpose = KEYS[1], tonumber(ARGV[1]), string.sub(ARGV[2], 1, 1)
-- live: the live tokens of the purpose, without the new one
local fields, live = redis.call('HGETALL', key), {}
for i = 1, #fields, 2 do
  -- two times of 48 bits, ms
  local issued, expires = struct.unpack('>I6I6', fields[i + 1])
  if expires <= now then
    redis.call('HDEL', key, fields[i])
  elseif string.sub(fields[i], 1, 1) == purpose and fields[i] ~= ARGV[2] then
    live[#live + 1] = { field = fields[i], issued = issued }
  end
end
-- Oldest first. Tokens of the same millisecond are ordered by field.
table.sort(live, function(a, b) return a.issued < b.issued or (a.issued == b.issued and a.field < b.field) end)
-- + 1 for the new token
for i = 1, #live - tonumber(ARGV[4]) + 1 do redis.call('HDEL', key, live[i].field) end
redis.call('HSET', key, ARGV[2], ARGV[3])
-- The hash lives as long as its longest-lived token.
if redis.call('PTTL', key) < tonumber(ARGV[5]) then redis.call('PEXPIRE', key, ARGV[5]) end
return 1
