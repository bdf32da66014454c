#!/usr/bin/env bash
# What somebody meets who has just cloned HEAD: the README's first `cargo run` and first `make`, in a clone
# in a temporary folder.
#
# The clone has a target folder of its own: what cargo left in ours would hide what is missing, and no
# other stage wants the release build, which takes the minutes here. The programs that the demo
# builds go into the same cache as always, where the stages after this one find them.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/support/processes.sh
source tests/support/processes.sh

work=$(mktemp -d)
end() {
    end_front
    rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
unset CARGO_TARGET_DIR

git clone --quiet . "$work/forestall"
cd "$work/forestall"
echo "newcomer: $(git log -1 --format='%h %s') in $work/forestall"

first=$(sed -n 's/^\$ \(cargo run .*\)/\1/p' README.md | head -n 1)
second=$(sed -n 's/^    \(make [a-z]*\) .*/\1/p' README.md | head -n 1)
if [[ -z $first || -z $second ]]; then
    echo "newcomer: the README shows no line with '$ cargo run …', or none with '    make …'" >&2
    exit 1
fi
# began WHAT: the line before it, with the time so far.
began() { printf '\nnewcomer: after %s s: %s\n' "$SECONDS" "$1"; }
began "$first"
# shellcheck disable=SC2086 # it is a line of words
in_front $first && status=0 || status=$?
# The example has a mistake, and `check` ends with 1 where it finds one.
((status == 1)) || { echo "newcomer: it ended with $status, and is to end with 1" >&2; exit 1; }
began "$second ONCE=1"
# shellcheck disable=SC2086
in_front $second ONCE=1
began "done"
