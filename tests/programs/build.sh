#!/usr/bin/env bash
# Builds one program of the tests and prints its path: tests/programs/build.sh NAME
#
# NAME is a folder beside this script, or a tool that the go.mod of one of them names, such as
# kube-apiserver or containerd-shim-runc-v2. A folder with Go files is built itself. Programs live
# outside the clone, by the hash of what they are made of, and are built when absent. The first
# build of the Kubernetes programs takes minutes, later ones none.
#
# FORESTALL_KUBERNETES=1.34 takes the programs that the folder kubernetes-1.34 names from there.
set -euo pipefail

name=${1:?usage: build.sh NAME}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${FORESTALL_CACHE:-$HOME/.cache/forestall}/bin

# Lines "MODULE PACKAGE" of every tool; a package that ends in a version is called by what is before it.
tools() {
    sed -En 's|^(tool )?\s*([a-z0-9.-]+\.[a-z]+/[^ ]+)$|\2|p' "$1/go.mod" | sed "s|^|$1 |"
}
if compgen -G "$here/$name/*.go" >/dev/null; then
    module=$here/$name
    package=.
else
    # Every version of Kubernetes has the same programs, so only one of them is looked at.
    modules=("$here/kubernetes${FORESTALL_KUBERNETES:+-$FORESTALL_KUBERNETES}")
    for mod in "$here"/*/go.mod; do
        [[ $mod == "$here"/kubernetes-* ]] || modules+=("${mod%/go.mod}")
    done
    read -r module package < <(for module in "${modules[@]}"; do tools "$module"; done |
        grep -E "/$name\$|go\.$name\.io/") || true
fi
if [[ -z $module ]]; then
    echo "$name is no folder of $here with Go files, and no tool that a go.mod there names" >&2
    exit 1
fi

flags='-s -w'
if [[ $module == "$here"/kubernetes* ]]; then
    # Without them the programs call themselves v0.0.0, and kubeVersion checks of charts fail.
    version=$(sed -En 's|^\s*k8s.io/kubernetes (v[0-9.]+).*|\1|p' "$module/go.mod")
    IFS=. read -r major minor _ <<<"${version#v}"
    at=k8s.io/component-base/version
    flags+=" -X $at.gitVersion=$version -X $at.gitMajor=$major -X $at.gitMinor=$minor"
fi

# containerd's snapshotters for btrfs, devicemapper and ZFS want C libraries; nothing else knows these tags.
tags=no_btrfs,no_devmapper,no_zfs
hash=$({ echo "$package $flags $tags" && find "$module" -type f -print0 | sort -z | xargs -0 cat; } | sha256sum)
program=$bin/$name-${hash:0:16}
if [[ ! -x $program ]]; then
    mkdir -p "$bin"
    # Two builds at once would compile the same packages twice.
    exec 9>"$bin/lock"
    flock 9
    if [[ ! -x $program ]]; then
        echo "building $name (${package/#./tests/programs/$name}) into $bin" >&2
        (cd "$module" && CGO_ENABLED=0 go build -trimpath -tags "$tags" -ldflags "$flags" -o "$program.unfinished" "$package") >&2
        mv "$program.unfinished" "$program"
    fi
fi
echo "$program"
