#!/usr/bin/env bash
# cargo-deny, which lives in the cache outside the clone.
#
#     .ci/cargo-deny.sh build         builds it, if it is not there yet
#     .ci/cargo-deny.sh path          prints where it is, or will be
#     .ci/cargo-deny.sh ARGUMENT...   runs it
set -euo pipefail

version=0.20.2
root="${FORESTALL_CACHE:-$HOME/.cache/forestall}/cargo-deny-$version"
program=$root/bin/cargo-deny
case ${1:-} in
    build)
        # A target directory of its own would stay behind; cargo removes its temporary one.
        [[ -x $program ]] ||
            exec env -u CARGO_TARGET_DIR cargo install --locked --root "$root" --version "$version" cargo-deny
        ;;
    path) echo "$program" ;;
    *)
        if [[ ! -x $program ]]; then
            echo "cargo-deny $version is not built yet; run make programs FOR=deny" >&2
            exit 1
        fi
        exec "$program" "$@"
        ;;
esac
