-- Finds a one-time token by its link or its code, and consumes it if ARGV 4 is '1' (I11: it works once). A wrong code reduces the
-- remaining attempts of every live token of the group (ARGV 2).
-- KEYS  1 the account's one-time tokens (issue_token.lua)
-- ARGV  1 now (ms)  2 the group: purpose (1 byte), or purpose and id (17 bytes) for one token only  3 'link' or 'code'
--       4 '1' to consume the token  5 binding (16 bytes)  6 and following: the digests that the token may have
-- Returns {field, value}, or {} if no live token has one of the digests, or if the token has another binding because the account has
-- changed since it was issued.

local key, now, group, by_code = KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3] == 'code'
-- A value is: issued at (6 bytes), expires at (6), binding (16), digest of the link (32), digest of the code (32), remaining
-- attempts (1). The constants are the positions of the first bytes, counted from 1.
local BINDING, LINK, CODE, ATTEMPTS = 13, 29, 61, 93
-- missed: the live tokens that do not match, each its field and its value with one attempt less. Written only after a wrong code.
local fields, missed = redis.call('HGETALL', key), {}
for i = 1, #fields, 2 do
  local field, value = fields[i], fields[i + 1]
  local _, expires = struct.unpack('>I6I6', value)
  if string.sub(field, 1, #group) == group and now < expires then
    local attempts = string.byte(value, ATTEMPTS)
    if not by_code or attempts > 0 then
      local first = by_code and CODE or LINK
      local digest = string.sub(value, first, first + 31)
      for j = 6, #ARGV do
        if digest == ARGV[j] then
          if string.sub(value, BINDING, BINDING + 15) ~= ARGV[5] then return {} end
          if ARGV[4] == '1' then redis.call('HDEL', key, field) end
          return { field, value }
        end
      end
      missed[#missed + 1] = { field, string.sub(value, 1, ATTEMPTS - 1) .. string.char(math.max(0, attempts - 1)) }
    end
  end
end
if by_code then
  for _, token in ipairs(missed) do redis.call('HSET', key, token[1], token[2]) end
end
return {}
