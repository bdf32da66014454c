#!/usr/bin/env bash
# Fetches and builds what is missing of these programs: tests/programs/build.sh NAME...
#
# NAME is a program (see programs.sh), or a command of the Makefile, which stands for all the programs
# that it needs. Commands call this before they start or wait for anything, so that whoever waits
# sees what for. Without output from the builds; their last lines are shown where one fails.
set -euo pipefail

folder=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=tests/programs/programs.sh
source "$folder/programs.sh"
# shellcheck source=tests/support/processes.sh
source "$folder/../support/processes.sh"

# In the order in which they are built: what is quick, or needed by more, comes first.
declare -A needs=(
    [demo]="forestall etcd kube-apiserver kubectl registry"
    [demo-node]="control-plane registry helm machine image"
    [deny]="cargo-deny"
    [offline]="docker-registry registry containerd-resolver keyring quantity reference yaml"
    [cluster]="control-plane registry helm promql"
    [node]="demo-node"
    [test]="deny offline cluster node"
    [soak]="forestall-dist control-plane kwok kwok-stages"
    [bench]="forestall-dist registry"
    # Parts of the above.
    [control-plane]="etcd kube-apiserver kube-controller-manager kubectl"
    [machine]="kube-scheduler kubelet kube-proxy containerd containerd-shim-runc-v2 coredns"
)
# Seconds on two idle cores and with empty caches, in the order above: later ones share what earlier
# ones compiled. The others take some seconds.
declare -A seconds=(
    [forestall]=300 [forestall-dist]=480 [image]=480 [cargo-deny]=240
    [etcd]=45 [kube-apiserver]=270 [kube-controller-manager]=90 [kubectl]=30 [registry]=45 [helm]=40
    [kubelet]=60 [containerd]=60 [coredns]=90 [promql]=30 [kwok]=30 [kube-scheduler]=20 [kube-proxy]=20
)

# expand NAME...: adds to `names` what each of them stands for, once.
names=()
expand() {
    local name
    for name in "$@"; do
        if [[ -n ${needs[$name]:-} ]]; then
            # shellcheck disable=SC2086 # a list of words
            expand ${needs[$name]}
        elif [[ " ${names[*]} " != *" $name "* ]]; then
            names+=("$name")
        fi
    done
}

fail() {
    printf 'programs: %s\n' "$@" >&2
    exit 1
}

about() {
    if (($1 < 45)); then
        echo "less than a minute"
    else
        echo "about $((($1 + 30) / 60)) min"
    fi
}

build_go_program() {
    (cd "$module" && CGO_ENABLED=0 go build -trimpath -tags "$tags" -gcflags "$compiler_flags" \
        -ldflags "$linker_flags" -o "$program.unfinished" "$package")
    mv "$program.unfinished" "$program"
}

# Debian's package (distribution 2.8.2), unpacked. It is not installed: that would start it as a service.
build_docker_registry() {
    local target=$cache/debian/docker-registry
    command -v apt-get >/dev/null || { echo "docker-registry comes from Debian by apt-get, which is not here"; return 1; }
    work=$(mktemp -d "$cache/debian.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    (
        cd "$work"
        # On a new machine apt has no lists yet; as another user than root it must have them.
        apt-get download --quiet docker-registry || { apt-get update -qq && apt-get download --quiet docker-registry; }
        dpkg -x ./*.deb unpacked
    )
    mkdir -p "${target%/*}"
    mv --no-target-directory "$work/unpacked" "$target"
}

# What kwok's simulated nodes and Pods go through, which its program does not hold.
build_kwok_stages() {
    local source
    source=$(cd "$here/kwok" && go mod download && go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)
    rm -rf "$program.unfinished"
    cp -r --no-preserve=mode "$source/kustomize/stage" "$program.unfinished"
    mv "$program.unfinished" "$program"
}

build() {
    case $1 in
        forestall) cd "$project" && cargo build --locked --release --bin forestall ;;
        forestall-dist) cd "$project" && cargo build --locked --profile dist --bin forestall --bin bench-echo ;;
        docker-registry) build_docker_registry ;;
        kwok-stages) build_kwok_stages ;;
        image) "$project/tests/support/image.sh" build ;;
        cargo-deny) "$project/.ci/cargo-deny.sh" build ;;
        *) build_go_program ;;
    esac
}

# For in_front, which takes a program and no function.
if [[ ${1:-} == --one ]]; then
    locate "$2"
    build "$2"
    exit
fi

(($# > 0)) || fail "usage: build.sh NAME..., or one of: ${!needs[*]}"
expand "$@"
mkdir -p "$bin"
# Two builds at once would compile the same packages twice.
exec 9>"$bin/lock"
if ! flock --nonblock 9; then
    echo "programs: another build uses $cache; waiting for its end"
    flock 9
fi
absent=()
all=0
for name in "${names[@]}"; do
    locate "$name"
    # Only cargo knows whether its programs are those of the sources.
    if [[ $name == forestall* || ! -e $program ]]; then
        absent+=("$name")
        [[ -e $program ]] || all=$((all + ${seconds[$name]:-15}))
    fi
done
if ((all > 0)); then
    echo "programs: building into $cache, $(about $all) in all on two idle cores, once"
fi
log=$(mktemp)
end() {
    end_front
    rm -f "$log"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
number=0
for name in "${absent[@]}"; do
    number=$((number + 1))
    locate "$name"
    expected=${seconds[$name]:-15}
    [[ ! -e $program ]] || expected=0
    echo "$number of ${#absent[@]}: $name, $(about "$expected")"
    in_front "$here/build.sh" --one "$name" >"$log" 2>&1 9>&- && continue
    tail -n 20 "$log" >&2
    fail "$name could not be built; the lines above say why" \
        "the network must reach crates.io, the Go proxy ($(go env GOPROXY)) and, for docker-registry and image, Debian's archive" \
        "what is built stays built: after the cure, run the same command again"
done
