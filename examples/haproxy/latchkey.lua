-- Verifies the access token of a request with Latchkey. haproxy.cfg reads the result from the variables txn.latchkey_….

local latchkey = os.getenv("LATCHKEY_URL")

-- The time limit of one attempt. HAProxy tries four times, so a request waits at most 3 s for Latchkey.
local timeout_ms = 750

-- The headers in which Latchkey sends the caller's identity. haproxy.cfg has removed all headers of these names that the
-- caller has sent.
local identity_headers = {
  "x-auth-subject", "x-auth-session", "x-auth-client", "x-auth-scope", "x-auth-roles", "x-auth-expires",
}

-- The first value of a header of the response, or an empty string. HAProxy counts a header's values from 0.
local function first_value(response, name)
  local values = response.headers and response.headers[name]
  return values and values[0] or ""
end

core.register_action("latchkey_verify", { "http-req" }, function(txn)
  -- Forwards all Authorization headers: if there are several, Latchkey must see this and refuse the request. The indexes of
  -- the caller's values are 0 to #values, and those of the HTTP client's list start at 1.
  local authorization = {}
  local values = txn.http:req_get_headers()["authorization"]
  if values then
    for i = 0, #values do authorization[i + 1] = values[i] end
  end
  local headers = {}
  if #authorization > 0 then headers["authorization"] = authorization end

  -- haproxy.cfg sets this variable for paths that need a second factor or a recent authentication.
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
