-- The load of `scripts/bench peers`: sends the bytes of the file named first, where the second argument is `varied`
-- with a number of their own in each request, and ends with one line of figures.
local template, varied
local count = 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  template = file:read("*a")
  file:close()
  varied = args[2] == "varied"
end

function request()
  if not varied then
    return template
  end
  count = count + 1
  return (template:gsub("@@@@@@@@", string.format("%08d", count)))
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"seconds": %f, "requests": %d, "bytes": %.0f, "p50_ms": %f, "p99_ms": %f, "failed": %d}\n',
    summary.duration / 1e6, summary.requests, summary.bytes,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout
  ))
end
