#!/usr/bin/env bash
# Runs every stage of `make test`, also after one that failed, so that one run tells all. Prints the
# minutes of each and the sum of the tests. A test that is ignored or filtered out is a failure.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
# shellcheck source=tests/support/processes.sh
source tests/support/processes.sh

# The first one finds nothing that others have built; then everything is built, and then it is tested.
stages=(newcomer tools programs fmt clippy shell rustdoc deny unit offline cluster node)
log=$(mktemp)
end() {
    end_front
    rm -f "$log"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
summary=""
failed_stages=0

minutes() {
    awk -v seconds="$1" 'BEGIN { printf "%.1f min", seconds / 60 }'
}

for stage in "${stages[@]}"; do
    echo "=== $stage"
    start=$SECONDS
    # shellcheck disable=SC2016 # they are for the other shell
    if in_front bash -o pipefail -c 'make --no-print-directory "$0" 2>&1 | tee -a "$1"' "$stage" "$log"; then
        outcome=passed
    else
        outcome=FAILED
        failed_stages=$((failed_stages + 1))
    fi
    line=$(printf '%-8s %s %10s' "$stage" "$outcome" "$(minutes $((SECONDS - start)))")
    echo "=== $line"
    summary+="$line"$'\n'
    # Nothing works without its tools.
    [[ $stage == tools && $outcome == FAILED ]] && break
done

# From the lines that cargo test ends each binary with:
# test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
read -r passed failed skipped < <(awk '
    /^test result: / { passed += $4; failed += $6; skipped += $8 + $12 }
    END { print passed + 0, failed + 0, skipped + 0 }' "$log")

echo "==="
printf '%s' "$summary"
echo "$passed passed, $failed failed, $skipped skipped; $failed_stages of ${#stages[@]} stages failed; $(minutes "$SECONDS")"
((failed_stages == 0 && failed == 0 && skipped == 0 && passed > 0))
