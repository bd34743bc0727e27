-- Verifies the access token of a request with Latchkey, for haproxy.cfg, which reads the result from the variables txn.latchkey_….

local latchkey = os.getenv("LATCHKEY_URL")

-- The time limit of one attempt. HAProxy tries four times, so a request waits at most 3 s for Latchkey.
local timeout_ms = 750

-- The headers in which Latchkey sends the caller's identity. A header that Latchkey does not send stays absent, because
-- haproxy.cfg has removed the caller's own.
local identity_headers = {
  "x-auth-subject", "x-auth-session", "x-auth-client", "x-auth-scope", "x-auth-roles", "x-auth-expires",
}

-- The first value of a header of the response, or an empty string. HAProxy counts a header's values from 0.
local function first_value(response, name)
  local values = response.headers and response.headers[name]
  return values and values[0] or ""
end

core.register_action("latchkey_verify", { "http-req" }, function(txn)
  -- Forwards every Authorization header, because Latchkey must see and refuse a request with several. The list for the HTTP
  -- client counts from 1. The last index of the caller's values is #values, because they count from 0.
  local authorization = {}
  local values = txn.http:req_get_headers()["authorization"]
  if values then
    for i = 0, #values do authorization[i + 1] = values[i] end
  end
  local headers = {}
  if #authorization > 0 then headers["authorization"] = authorization end

  -- haproxy.cfg sets a query for paths that need a second factor or a recent authentication.
  local url = latchkey .. "/v1/verify" .. (txn:get_var("txn.latchkey_query") or "")
  local response = core.httpclient():get{ url = url, headers = headers, timeout = timeout_ms }

  -- 0 if Latchkey did not answer; haproxy.cfg then answers 503.
  local status = response and response.status or 0
  txn:set_var("txn.latchkey_status", status)
  if status == 200 then
    for _, name in ipairs(identity_headers) do
      local value = first_value(response, name)
      if value ~= "" then txn.http:req_set_header(name, value) end
    end
  elseif status == 401 then
    txn:set_var("txn.latchkey_challenge", first_value(response, "www-authenticate"))
    txn:set_var("txn.latchkey_body", response.body or "")
  end
end)
