-- Asks `groat guard serve --proxy nginx` whether a caller may pass: HAProxy itself asks nobody (forward-auth.cfg loads this).
-- The guard is told in the two headers of the nginx dialect what the caller wants. Whatever is no 204 lets nobody through.
local GUARD = os.getenv("GROAT_GUARD") or "http://127.0.0.1:3003"
local IDENTITY = { "x-groat-client", "x-groat-subject", "x-groat-scopes", "x-groat-expires" }
local HANDED_ON = { "www-authenticate", "retry-after", "content-type", "cache-control" }
local KEYS_MILLISECONDS = 7000 -- the guard waits up to 5.5 s for its issuer's keys

local function first(headers, name)
    local values = headers[name]
    return values and values[0]
end

local function refuse(txn, status, headers, body)
    local reply = txn:reply({ status = status, body = body })
    for name, value in pairs(headers) do
        reply:add_header(name, value)
    end
    txn:done(reply)
end

local function undecided(txn)
    refuse(txn, 503, { ["retry-after"] = "1", ["cache-control"] = "no-store" }, "")
end

-- http-request lua.groat_guard scope=orders:read
core.register_action("groat_guard", { "http-req" }, function(txn, demand)
    local asked = {
        ["x-original-method"] = { txn.sf:method() },
        ["x-original-uri"] = { txn.sf:url() },
    }
    local sent = txn.http:req_get_headers()
    for _, name in ipairs({ "authorization", "dpop" }) do
        if sent[name] then
            asked[name] = {}
            for at = 0, #sent[name] do -- HAProxy counts lines from 0, Lua from 1
                table.insert(asked[name], sent[name][at])
            end
        end
    end
    local client = core.httpclient()
    local answer = client:get({ url = GUARD .. "/forward-auth?" .. demand, headers = asked, timeout = KEYS_MILLISECONDS })
    local status = answer and answer.status or 0
    if status == 204 then
        for _, name in ipairs(IDENTITY) do
            txn.http:req_set_header(name, first(answer.headers, name) or "")
        end
    elseif status == 400 or status == 401 or status == 403 then
        local headers = {}
        for _, name in ipairs(HANDED_ON) do
            headers[name] = first(answer.headers, name)
        end
        refuse(txn, status, headers, answer.body)
    else
        undecided(txn)
    end
end, 1)
