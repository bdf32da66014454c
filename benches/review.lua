-- Posts the review in the file $REVIEW again and again, and ends with one line for compare.sh:
-- reviews per second, the 50th and 99th percentile in microseconds, and how many failed.
local file = assert(io.open(os.getenv("REVIEW"), "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = "application/json"
file:close()

done = function(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    local per_second = summary.requests / summary.duration * 1e6
    local line = "result %.1f %.0f %.0f %d\n"
    io.write(line:format(per_second, latency:percentile(50), latency:percentile(99), failed))
end
