-- wrk's figures in one line: responses/s, bytes/s, p50 and p99 in µs, socket errors, status errors.
function done(summary, latency)
  local seconds = summary.duration / 1e6
  local errors = summary.errors
  print(string.format(
    "SUMMARY %.3f %.3f %.1f %.1f %d %d",
    summary.requests / seconds, summary.bytes / seconds,
    latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.timeout, errors.status))
end
