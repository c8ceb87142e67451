-- What wrk is to ask for beside its URL, and its figures in one line: responses/s, bytes/s, p50 and
-- p99 in µs, socket errors, status errors.
-- Arguments: "upload SIZE" posts so many bytes, "fresh" has another URL and field in each request.
local count = 0

function init(args)
  if args[1] == "upload" then
    wrk.method = "POST"
    wrk.body = string.rep("x", tonumber(args[2]))
  elseif args[1] == "fresh" then
    local path = wrk.path
    request = function()
      count = count + 1
      wrk.headers["X-Count"] = count
      return wrk.format(nil, path .. "?n=" .. count)
    end
  end
end

function done(summary, latency)
  local seconds = summary.duration / 1e6
  local errors = summary.errors
  print(string.format(
    "SUMMARY %.3f %.3f %.1f %.1f %d %d",
    summary.requests / seconds, summary.bytes / seconds,
    latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.timeout, errors.status))
end
