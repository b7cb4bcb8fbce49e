-- What Envoy's JWT filter does not check: the client of the token, and a session of that client.
local owners = {}
for line in io.lines("sessions.txt") do
  local id, client = line:match("^(%S+) (%S+)$")
  owners[id] = client
end
function envoy_on_request(handle)
  local headers = handle:headers()
  local client, session = headers:get("client-id"), headers:get("session-id")
  local verified = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn")
  local claims = verified and verified["claims"]
  if not client or not session or not claims or claims["client_id"] ~= client or owners[session] ~= client then
    handle:respond({[":status"] = "401"}, "rejected\n")
  end
end
