#!/usr/bin/env bash
# Runs cargo-deny with these arguments. It is built once, into the cache outside the clone.
set -euo pipefail

version=0.20.2
root="${FORESTALL_CACHE:-$HOME/.cache/forestall}/cargo-deny-$version"
if [[ ! -x $root/bin/cargo-deny ]]; then
    echo "cargo-deny $version is not in $root: building it (a few minutes, once)"
    # A target directory of its own would stay behind; cargo removes its temporary one.
    env -u CARGO_TARGET_DIR cargo install --locked --quiet --root "$root" --version "$version" cargo-deny
fi
exec "$root/bin/cargo-deny" "$@"
