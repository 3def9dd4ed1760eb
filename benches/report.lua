-- `post JSON`: requests are POSTs of this. `paths FILE`: its lines, `PATH TOKEN`, are asked for in turn.
local lines, at = {}, 0

function init(arguments)
  if arguments[1] == "post" then
    wrk.method = "POST"
    wrk.body = arguments[2]
    wrk.headers["Content-Type"] = "application/json"
  elseif arguments[1] == "paths" then
    for line in io.lines(arguments[2]) do
      local path, token = line:match("^(%S+) (%S+)$")
      -- Made once, so that making it costs nothing under load.
      lines[#lines + 1] = wrk.format("GET", path, { ["Authorization"] = "JWT " .. token, ["Host"] = wrk.headers["Host"] })
    end
    request = function()
      at = at % #lines + 1
      return lines[at]
    end
  end
end

-- wrk's result as one line of JSON. Runs once, after the last request: it does not slow the load down.
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"bytes":%d,"p50_us":%d,"p90_us":%d,"p99_us":%d,"max_us":%d,' ..
    '"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(90),
    latency:percentile(99), latency.max, e.connect, e.read, e.write, e.status, e.timeout))
end
