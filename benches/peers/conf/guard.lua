-- The guard of nginx: an HS256 token, its client, and a session of that client. Gives the function for each request.
local ffi = require "ffi"
local json = require "cjson.safe"
local base64 = require "ngx.base64"
ffi.cdef [[
const void *EVP_sha256(void);
unsigned char *HMAC(const void *md, const void *key, int key_length, const char *text, size_t length,
                    unsigned char *mac, unsigned int *mac_length);
]]
local crypto = ffi.load("crypto.so.3")
local mac, mac_length = ffi.new("unsigned char[32]"), ffi.new("unsigned int[1]")

local function hs256(secret, text)
    crypto.HMAC(crypto.EVP_sha256(), secret, #secret, text, #text, mac, mac_length)
    return ffi.string(mac, 32)
end

local function same(a, b) -- in constant time
    if not a or #a ~= #b then return false end
    local difference = 0
    for i = 1, #a do difference = bit.bor(difference, bit.bxor(a:byte(i), b:byte(i))) end
    return difference == 0
end

local function verify(secret, token)
    local signed, header, payload, signature = token:match("^(([%w_-]+)%.([%w_-]+))%.([%w_-]+)$")
    if not signed then return end
    local head = json.decode(base64.decode_base64url(header) or "")
    if not head or head.alg ~= "HS256" then return end
    if not same(base64.decode_base64url(signature), hs256(secret, signed)) then return end
    return json.decode(base64.decode_base64url(payload) or "")
end

return function(secret, remember, sessions)
    local cache = remember and require("resty.lrucache").new(10000)
    local owners = ngx.shared.sessions
    for line in io.lines(sessions) do
        local id, client = line:match("^(%S+) (%S+)$")
        assert(owners:set(id, client))
    end
    return function()
        local field = ngx.var
        local authorization = field.http_authorization
        if not authorization or authorization:sub(1, 7) ~= "Bearer " then return ngx.exit(401) end
        local token = authorization:sub(8)
        local claims = cache and cache:get(token)
        if not claims then
            claims = verify(secret, token)
            if not claims then return ngx.exit(401) end
            if cache then cache:set(token, claims) end
        end
        local client = field.http_client_id
        if not client or type(claims.exp) ~= "number" or claims.exp <= ngx.time() or claims.client_id ~= client then
            return ngx.exit(401)
        end
        local session = field.http_session_id
        if not session or owners:get(session) ~= client then return ngx.exit(401) end
    end
end
