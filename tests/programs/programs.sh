# shellcheck shell=bash disable=SC2034
# For build.sh and path.sh, which source it: where each program is, and how it is made.
#
# A program is a folder beside this script that has Go files, or a tool that the go.mod of such a
# folder names, such as kube-apiserver; or one of the others that `locate` names. Programs live outside
# the clone, by the hash of what they are made of.
#
# FORESTALL_KUBERNETES=1.34 takes the programs that the folder kubernetes-1.34 names from there.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/../.." && pwd)
cache=${FORESTALL_CACHE:-$HOME/.cache/forestall}
bin=$cache/bin
# containerd's snapshotters for btrfs, devicemapper and ZFS want C libraries; nothing else knows these tags.
tags=no_btrfs,no_devmapper,no_zfs
# What debuggers need is stripped from the programs; not making it saves a seventh of the time.
compiler_flags='all=-dwarf=false'

# locate NAME: sets `program` to its path, where it will be if it is not there yet.
locate() {
    case $1 in
        forestall) program=${CARGO_TARGET_DIR:-$project/target}/release/forestall ;;
        forestall-dist) program=${CARGO_TARGET_DIR:-$project/target}/dist/forestall ;;
        docker-registry) program=$cache/debian/docker-registry/usr/bin/docker-registry ;;
        kwok-stages) program=$bin/kwok-stages-$(sed -En 's|^\s*sigs.k8s.io/kwok (v[0-9.]+).*|\1|p' "$here/kwok/go.mod") ;;
        image) program=$("$project/tests/support/image.sh" path) ;;
        cargo-deny) program=$("$project/.ci/cargo-deny.sh" path) ;;
        *) locate_go_program "$1" ;;
    esac
}

# Lines "MODULE PACKAGE" of every tool; a package that ends in a version is called by what is before it.
tools() {
    sed -En 's|^(tool )?\s*([a-z0-9.-]+\.[a-z]+/[^ ]+)$|\2|p' "$1/go.mod" | sed "s|^|$1 |"
}

# Sets `module`, `package` and `linker_flags`, too.
locate_go_program() {
    local name=$1 modules mod version major minor at hash
    if compgen -G "$here/$name/*.go" >/dev/null; then
        module=$here/$name
        package=.
    else
        # Every version of Kubernetes has the same programs, so only one of them is looked at.
        modules=("$here/kubernetes${FORESTALL_KUBERNETES:+-$FORESTALL_KUBERNETES}")
        for mod in "$here"/*/go.mod; do
            [[ $mod == "$here"/kubernetes-* ]] || modules+=("${mod%/go.mod}")
        done
        read -r module package < <(for mod in "${modules[@]}"; do tools "$mod"; done |
            grep -E "/$name\$|go\.$name\.io/") || true
    fi
    if [[ -z $module ]]; then
        echo "$name is no folder of $here with Go files, and no tool that a go.mod there names" >&2
        return 1
    fi
    linker_flags='-s -w'
    if [[ $module == "$here"/kubernetes* ]]; then
        # Without them the programs call themselves v0.0.0, and kubeVersion checks of charts fail.
        version=$(sed -En 's|^\s*k8s.io/kubernetes (v[0-9.]+).*|\1|p' "$module/go.mod")
        IFS=. read -r major minor _ <<<"${version#v}"
        at=k8s.io/component-base/version
        linker_flags+=" -X $at.gitVersion=$version -X $at.gitMajor=$major -X $at.gitMinor=$minor"
    fi
    hash=$({
        echo "$package $linker_flags $compiler_flags $tags"
        find "$module" -type f -print0 | sort -z | xargs -0 cat
    } | sha256sum)
    program=$bin/$name-${hash:0:16}
}
