#!/usr/bin/env bash
# Builds one program of the tests and prints its path: tests/programs/build.sh NAME
#
# NAME is a folder beside this script, or a tool that kubernetes/go.mod names: etcd, kube-apiserver,
# kube-controller-manager, kubectl. A folder with Go files is built itself; one without has a go.mod
# that names one tool. Programs live outside the clone, by the hash of what they are made of, and
# are built when absent. The first build of the Kubernetes programs takes minutes, later ones none.
set -euo pipefail

name=${1:?usage: build.sh NAME}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${FORESTALL_CACHE:-$HOME/.cache/forestall}/bin

module=$here/$name
[[ -d $module ]] || module=$here/kubernetes
tools() { sed -En 's|^(tool )?\s*([a-z0-9.-]+\.[a-z]+/[^ ]+)$|\2|p' "$module/go.mod"; }
if compgen -G "$module/*.go" >/dev/null; then
    package=.
elif [[ -d $here/$name ]]; then
    package=$(tools)
else
    package=$(tools | grep -E "/$name(/|$)" || tools | grep -E "^go\.$name\.io/" || true)
fi
if [[ $(wc -l <<<"$package") != 1 || -z $package ]]; then
    echo "$name is no folder of $here, and no tool of kubernetes/go.mod" >&2
    exit 1
fi

flags='-s -w'
if [[ $module == "$here/kubernetes" ]]; then
    # Without them the programs call themselves v0.0.0, and kubeVersion checks of charts fail.
    version=$(sed -En 's|^\s*k8s.io/kubernetes (v[0-9.]+).*|\1|p' "$module/go.mod")
    IFS=. read -r major minor _ <<<"${version#v}"
    at=k8s.io/component-base/version
    flags+=" -X $at.gitVersion=$version -X $at.gitMajor=$major -X $at.gitMinor=$minor"
fi

hash=$({ echo "$package $flags" && find "$module" -type f -print0 | sort -z | xargs -0 cat; } | sha256sum)
program=$bin/$name-${hash:0:16}
if [[ ! -x $program ]]; then
    mkdir -p "$bin"
    # Two builds at once would compile the same packages twice.
    exec 9>"$bin/lock"
    flock 9
    if [[ ! -x $program ]]; then
        echo "building $name (${package/#./tests/programs/$name}) into $bin" >&2
        (cd "$module" && CGO_ENABLED=0 go build -trimpath -ldflags "$flags" -o "$program.unfinished" "$package") >&2
        mv "$program.unfinished" "$program"
    fi
fi
echo "$program"
