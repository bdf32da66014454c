#!/usr/bin/env bash
# Unpacks Debian's docker-registry (distribution 2.8.2) beside the built programs, and prints its path.
# It is not installed: that would start it as a service.
set -euo pipefail

folder=${FORESTALL_CACHE:-$HOME/.cache/forestall}/debian/docker-registry
if [[ ! -d $folder ]]; then
    mkdir -p "${folder%/*}"
    work=$(mktemp -d "$folder.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    (cd "$work" && apt-get download --quiet docker-registry && dpkg -x ./*.deb unpacked) >&2
    # Somebody else may have been quicker.
    mv --no-target-directory "$work/unpacked" "$folder" 2>/dev/null || [[ -d $folder ]]
fi
echo "$folder/usr/bin/docker-registry"
