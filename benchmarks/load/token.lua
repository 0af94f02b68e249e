-- wrk script: POST every line of a file once, over keep-alive connections, on ONE wrk thread (-t1).
--
-- GROAT_LOAD_BODIES   path of the file: one form body a line
-- GROAT_LOAD_PROOFS   where it is set: path of a file with one DPoP header value a line, each for the body of its line
-- GROAT_LOAD_SECONDS  stop sending after so many seconds, counted from the first request
--
-- The run ends when the bodies or the seconds are used up AND every request sent has been answered, so that the server's
-- CPU time can be divided by the number of requests. wrk's own duration (-d) is only the emergency brake behind that.
-- The last line of output is one JSON object; driver.py reads it.

local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } load_time;
  int clock_gettime(int clock, load_time *now);
  int getpid(void);
  int kill(int pid, int signal);
]]
local CLOCK_MONOTONIC, SIGINT = 1, 2
local NOTHING = "" -- wrk writes no byte for it and leaves the connection idle
local PREPARATION_CALLS = 1 -- wrk calls request() once before the run, to count pipelined requests, and sends nothing

local now_buffer = ffi.new("load_time")
local function now()
  ffi.C.clock_gettime(CLOCK_MONOTONIC, now_buffer)
  return tonumber(now_buffer.seconds) + tonumber(now_buffer.nanoseconds) / 1e9
end

-- Globals, not locals: done() runs in another Lua state and can only ask for globals.
sent, answered, first_sent, last_answered = 0, 0, 0, 0
statuses = {}
local calls, finished, head, bodies, proofs, deadline, seconds = 0, false, nil, nil, nil, nil, nil

local main_thread -- known in the state of setup() and done()
function setup(thread)
  main_thread = thread
end

function init()
  seconds = tonumber(os.getenv("GROAT_LOAD_SECONDS"))
  bodies = assert(io.open(os.getenv("GROAT_LOAD_BODIES")))
  local path = os.getenv("GROAT_LOAD_PROOFS")
  proofs = path and assert(io.open(path))
  head = "POST " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.headers["Host"]
    .. "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: "
end

local function format(body)
  local proof = proofs and calls > PREPARATION_CALLS and "\r\nDPoP: " .. assert(proofs:read("*l")) or ""
  return head .. #body .. proof .. "\r\n\r\n" .. body
end

local function stop_if_drained()
  if finished and answered == sent then
    ffi.C.kill(ffi.C.getpid(), SIGINT) -- ends wrk's sleep, so that done() comes at once
  end
end

local function next_body()
  local time = now()
  if sent == 0 then
    first_sent, deadline = time, time + seconds
  end
  return time < deadline and bodies:read("*l") or nil
end

function request()
  calls = calls + 1
  if calls <= PREPARATION_CALLS then
    return format("preparation=never-sent")
  end
  local body = not finished and next_body()
  if not body then
    finished = true
    stop_if_drained()
    return NOTHING
  end
  sent = sent + 1
  return format(body)
end

function response(status)
  answered = answered + 1
  last_answered = now()
  local key = tostring(status)
  statuses[key] = (statuses[key] or 0) + 1
  stop_if_drained()
end

local function json_counts(counts)
  local members, accepted = {}, 0
  for status, count in pairs(counts) do
    members[#members + 1] = string.format('"%s":%d', status, count)
    if status:sub(1, 1) == "2" then
      accepted = accepted + count
    end
  end
  return "{" .. table.concat(members, ",") .. "}", accepted
end

function done(summary, latency)
  local total = main_thread:get("answered")
  local by_status, accepted = json_counts(main_thread:get("statuses"))
  local errors = summary.errors
  print(string.format(
    '{"sent":%d,"requests":%d,"accepted":%d,"refused":%d,"statuses":%s,"socket_errors":%d,"seconds":%.6f,'
      .. '"latency_p50_ms":%.3f,"latency_p99_ms":%.3f}',
    main_thread:get("sent"), total, accepted, total - accepted, by_status,
    errors.connect + errors.read + errors.write + errors.timeout,
    main_thread:get("last_answered") - main_thread:get("first_sent"),
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
