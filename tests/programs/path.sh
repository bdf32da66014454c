#!/usr/bin/env bash
# Prints the path of each program: tests/programs/path.sh NAME...
#
# It builds nothing, so that no test and no wait for a server contains a build. It fails where a program
# is not there, and names the command that builds it.
set -euo pipefail

# shellcheck source=tests/programs/programs.sh
source "$(dirname "${BASH_SOURCE[0]}")/programs.sh"
(($# > 0)) || { echo "usage: path.sh NAME..." >&2; exit 2; }

paths=()
absent=()
for name in "$@"; do
    locate "$name"
    paths+=("$program")
    [[ -e $program ]] || absent+=("$name")
done
if ((${#absent[@]})); then
    version=${FORESTALL_KUBERNETES:+FORESTALL_KUBERNETES=$FORESTALL_KUBERNETES }
    echo "not built yet: ${absent[*]}; run ${version}make programs FOR='${absent[*]}', or make programs for all" >&2
    exit 1
fi
printf '%s\n' "${paths[@]}"
