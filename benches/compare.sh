#!/usr/bin/env bash
# The program as it is shipped (profile dist) beside a bare echo of the same reviews, on loopback, with
# one load generator: `make bench`. Both are measured in turn, ROUNDS times, and the medians are
# compared. Every image is in a real registry on loopback, so after the first review the answers come
# from the cache.
#
# It fails where something could not be measured. A budget that is missed is printed, and is no
# failure: other work on the machine can cause it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=${ROUNDS:-5}
seconds=${SECONDS_EACH:-5}
connections=16

work=$(mktemp -d)
children=()
end() {
    for child in "${children[@]}"; do
        stop "$child"
    done
    rm -rf "$work"
}
# At once: `forestall serve` would take its time to leave, and none of them has anything to lose.
stop() {
    kill -KILL "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

fail() {
    echo "bench: $*" >&2
    tail -n 20 "$work"/*.log >&2 || true
    exit 1
}
# within SECONDS COMMAND...: tries until it succeeds.
within() {
    local ends=$((SECONDS + $1))
    shift
    until "$@" 2>/dev/null; do
        ((SECONDS < ends)) || fail "waited in vain for: $*"
        sleep 0.002
    done
}
# get PORT PATH: the answer to a plain HTTP request.
get() {
    local socket
    exec {socket}<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&"$socket"
    cat <&"$socket"
    exec {socket}>&-
}
is_ready() { get "$admin" /readyz | head -n 1 | grep -q ' 200 '; }
milliseconds() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.0f\n", (to - from) * 1000 }'; }
# memory PID FIELD: MiB, of VmRSS (now) or VmHWM (the most so far).
memory() { awk -v field="$2:" '$1 == field { printf "%.1f\n", $2 / 1024 }' "/proc/$1/status"; }
median() { sort -g | awk '{ value[NR] = $1 } END { print value[int((NR + 1) / 2)] }'; }
column() { awk -v column="$2" '{ print $column }' "$1" | median; }
# load URL REVIEW CONNECTIONS: reviews/s, p50 and p99 in microseconds.
load() {
    local threads=$(($3 > 1 ? 2 : 1)) line
    line=$(REVIEW=$2 wrk -t "$threads" -c "$3" -d "${seconds}s" --timeout 10s -s benches/review.lua "$1")
    read -r _ per_second half most failed < <(grep '^result ' <<<"$line")
    [[ $failed == 0 && $per_second != 0.0 ]] || fail "$failed requests to $1 failed: $line"
    echo "$per_second $half $most"
}

forestall_program=$(tests/programs/path.sh forestall-dist)
echo_program=${forestall_program%/*}/bench-echo
registry=$(tests/programs/path.sh registry)

"$registry" --image prom/prometheus:v2.55.1 \
    --image prometheus-operator/prometheus-config-reloader:v0.79.2 >"$work/registry.log" 2>&1 &
children+=($!)
within 10 grep -q v0.79.2 "$work/registry.log"
registry_address=$(head -n 1 "$work/registry.log")
cat >"$work/config.yaml" <<END
mode: enforce
registries:
  docker.io: {server: "http://$registry_address"}
  quay.io: {server: "http://$registry_address"}
rules:
  oom-killed-memory-limit:
    known:
      - {image: prom/prometheus, limit: 512Mi, outcome: oomKilled}
  implicit-external-secret-defaults:
    defaults: {deletionPolicy: Retain}
argocd: {version: v2.10.0}
END

port=$((20000 + RANDOM % 10000))
admin=$((port + 1))
start() {
    "$forestall_program" serve --no-cluster --config "$work/config.yaml" \
        --listen "127.0.0.1:$port" --admin-listen "127.0.0.1:$admin" >"$work/forestall.log" 2>&1 &
    forestall=$!
    children+=("$forestall")
    within 30 is_ready
}

echo "bench: starting the servers"
for start in 1 2 3 4 5; do
    began=$EPOCHREALTIME
    start
    milliseconds "$began"
    # The last one stays.
    ((start == 5)) || stop "$forestall"
done >"$work/starts"
"$echo_program" --listen 127.0.0.1:0 >"$work/echo.log" 2>&1 &
echo=$!
children+=("$echo")
within 10 grep -q https "$work/echo.log"
echo_url="$(sed 's/.* //' "$work/echo.log")/validate?timeout=5s"
forestall_url="https://127.0.0.1:$port/validate?timeout=5s"
echo_idle=$(memory "$echo" VmRSS)
forestall_idle=$(memory "$forestall" VmRSS)

echo "bench: rounds: $rounds, each of 4 times $seconds s"
for _ in $(seq "$rounds"); do
    load "$echo_url" benches/review.json "$connections" >>"$work/echo.many"
    load "$forestall_url" benches/review.json "$connections" >>"$work/forestall.many"
    load "$echo_url" benches/review.json 1 >>"$work/echo.one"
    load "$forestall_url" benches/review.json 1 >>"$work/forestall.one"
done
echo_busy=$(memory "$echo" VmHWM)
forestall_busy=$(memory "$forestall" VmHWM)
# All this is worth nothing if the reviews were not judged, or not admitted in silence.
get "$admin" /metrics >"$work/metrics"
grep '^forestall_admission_requests_total' "$work/metrics" | grep -qv 'decision="allow"' &&
    fail "some reviews were not admitted in silence: $(grep '^forestall_admission' "$work/metrics")"
grep -q '^forestall_registry_requests_total{.*outcome="found".*}' "$work/metrics" ||
    fail "the registry was not asked: $(grep '^forestall_registry' "$work/metrics")"

echo "bench: a review of 18.6 MB, and usual ones beside it"
# The API server takes 3.1 MB, and Go writes each `<` in six characters.
review=$(<benches/review.json)
{
    printf '%s"annotations":{"large":"' "${review%%\"annotations\":\{*}"
    head -c 3100000 /dev/zero | tr '\0' '<' | sed 's/</\\u003c/g'
    printf '",%s' "${review#*\"annotations\":\{}"
} >"$work/large.json"
load "$echo_url" "$work/large.json" 1 >"$work/echo.large"
load "$forestall_url" "$work/large.json" 1 >"$work/forestall.large" &
beside=$!
load "$forestall_url" benches/review.json 1 >"$work/forestall.beside"
wait "$beside" || fail "the large review was not answered"
forestall_large=$(memory "$forestall" VmHWM)

echo "bench: forestall check of 2,000 objects"
mkdir "$work/manifests"
for file in $(seq 20); do
    for object in $(seq 100); do
        echo "---"
        sed "s/NAME/web-$file-$object/g" benches/deployment.yaml
    done >"$work/manifests/$file.yaml"
done
for _ in 1 2 3 4 5; do
    began=$EPOCHREALTIME
    "$forestall_program" check --offline --config "$work/config.yaml" -f "$work/manifests" \
        -o json >"$work/check.json" || fail "forestall check ended with $?"
    milliseconds "$began"
done >"$work/checks"

# row WHAT ECHO FORESTALL [BUDGET]: BUDGET is "<= N" for the value, "ratio <= N" for the ratio.
row() {
    awk -v what="$1" -v echo="$2" -v forestall="$3" -v budget="${4:-}" 'BEGIN {
        ratio = echo == "" ? "" : sprintf("%.2f", forestall / echo)
        words = split(budget, word, " ")
        value = word[1] == "ratio" ? ratio : forestall
        met = word[words - 1] == ">=" ? value + 0 >= word[words] + 0 : value + 0 <= word[words] + 0
        verdict = budget == "" ? "" : met ? "met" : "MISSED"
        printf "%-42s %10s %10s %7s  %-13s %s\n", what, echo, forestall, ratio, budget, verdict
    }'
}
echo
printf '%-42s %10s %10s %7s  %s\n' "" echo forestall ratio budget
many="$connections connections"
row "reviews/s, $many" "$(column "$work/echo.many" 1)" "$(column "$work/forestall.many" 1)" "ratio >= 0.7"
row "p50, $many, us" "$(column "$work/echo.many" 2)" "$(column "$work/forestall.many" 2)"
row "p99, $many, us" "$(column "$work/echo.many" 3)" "$(column "$work/forestall.many" 3)"
row "p50, 1 connection, us" "$(column "$work/echo.one" 2)" "$(column "$work/forestall.one" 2)"
row "p99, 1 connection, us" "$(column "$work/echo.one" 3)" "$(column "$work/forestall.one" 3)" "ratio <= 2"
row "memory, idle, MiB" "$echo_idle" "$forestall_idle" "<= 20"
row "memory, the most under load, MiB" "$echo_busy" "$forestall_busy"
row "memory, the most with 18.6 MB reviews, MiB" "" "$forestall_large"
row "start to ready, ms" "" "$(median <"$work/starts")" "<= 1000"
row "a review of 18.6 MB, p99, us" "$(column "$work/echo.large" 3)" "$(column "$work/forestall.large" 3)" "<= 1000000"
row "a usual review beside it, p99, us" "" "$(column "$work/forestall.beside" 3)"
row "check of 2,000 objects, ms" "" "$(median <"$work/checks")" "<= 1000"
