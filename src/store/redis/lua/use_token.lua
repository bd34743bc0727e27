-- Finds a one-time token by its link or its code, and consumes it if ARGV 4 says so (I11). A wrong code counts against
-- every token of the group (ARGV 2) that has a code left.
-- KEYS  1 the account's one-time tokens (issue_token.lua)
-- ARGV  1 now (ms)  2 purpose (1 byte), or purpose and id (17 bytes) for one token only  3 'link' or 'code'  4 '1' to consume it  5 binding (16 bytes)
--       6 and following: the digests that it may have
-- Returns {field, value}, or {} if no live token has one of the digests, or if the account has changed since.

local key, now, group, by_code = KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3] == 'code'
-- Offsets in a value: issued 6, expires 6, binding 16, link 32, code 32, attempts 1.
local BINDING, LINK, CODE, ATTEMPTS = 13, 29, 61, 93
local fields, others = redis.call('HGETALL', key), {}
for i = 1, #fields, 2 do
  local field, value = fields[i], fields[i + 1]
  local _, expires = struct.unpack('>I6I6', value)
  if string.sub(field, 1, #group) == group and now < expires then
    local attempts = string.byte(value, ATTEMPTS)
    if not by_code or attempts > 0 then
      local from = by_code and CODE or LINK
      local digest = string.sub(value, from, from + 31)
      for j = 6, #ARGV do
        if digest == ARGV[j] then
          if string.sub(value, BINDING, BINDING + 15) ~= ARGV[5] then return {} end
          if ARGV[4] == '1' then redis.call('HDEL', key, field) end
          return { field, value }
        end
      end
      others[#others + 1] = { field, string.sub(value, 1, ATTEMPTS - 1) .. string.char(math.max(0, attempts - 1)) }
    end
  end
end
if by_code then
  for _, other in ipairs(others) do redis.call('HSET', key, other[1], other[2]) end
end
return {}
