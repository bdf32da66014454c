#!/usr/bin/env bash
# The image of the Dockerfile.
#
#     tests/support/image.sh build            builds it, if it is not there yet
#     tests/support/image.sh push REFERENCE   pushes it to a registry, by plain HTTP
#     tests/support/image.sh path             prints where it is, or will be
#
# The builder is Debian's buildah. No hub is asked for the base to build on: a stand-in is made, which
# has the compiler and the libraries of this machine. The Dockerfile is the same. An image is built
# once for each state of what goes in, and what cargo makes for it stays in the cache, too.
set -euo pipefail

usage='usage: image.sh build | push REFERENCE | path'
action=${1:?$usage}
reference=${2:-}
[[ $action != push || -n $reference ]] || { echo "$usage" >&2; exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cache=${FORESTALL_CACHE:-$HOME/.cache/forestall}/image
architecture=$(dpkg --print-architecture)
toolchain=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
hash=$({
    rustc "+$toolchain" --version --verbose
    cc --version
    cat tests/support/image.sh Dockerfile .dockerignore Cargo.toml Cargo.lock
    find src docs/rules benches/echo.rs -type f -print0 | sort -z | xargs -0 sha256sum
} | sha256sum)
image=$cache/${hash:0:16}.tar
if [[ $action == path ]]; then
    echo "$image"
    exit
fi
if [[ $action == push && ! -s $image ]]; then
    echo "the image of these sources is not built yet; run make programs FOR=image" >&2
    exit 1
fi

mkdir -p "$cache/tmp"
exec 9>"$cache/lock"
flock 9
# buildah keeps the folders of `RUN --mount=type=cache` there.
export TMPDIR=$cache/tmp
buildah() {
    command buildah --storage-driver vfs --root "$cache/storage" --runroot "$cache/run" "$@"
}
# A name for each layer and image would only gather.
trap 'rm -rf "$cache/storage" "$cache/run"' EXIT

# The stand-in for the base: the folders into which those of this machine are mounted.
stand_in() {
    local base=$cache/base folder link
    rm -rf "$base"
    mkdir -p "$base"/{dev,etc/ssl/certs,proc,sys,tmp,root/.cargo,root/.rustup,usr}
    for link in bin sbin lib lib64; do
        ln -s "usr/$link" "$base/$link"
    done
    cp /etc/ssl/certs/ca-certificates.crt "$base/etc/ssl/certs/"
    mounts=(-v "${CARGO_HOME:-$HOME/.cargo}:/root/.cargo:ro" -v "${RUSTUP_HOME:-$HOME/.rustup}:/root/.rustup:ro")
    # Not all of /usr: the base image has its own things in /usr/local.
    for folder in bin sbin lib lib64 include libexec share; do
        mounts+=(-v "/usr/$folder:/usr/$folder:ro")
    done
    buildah bud --tag localhost/stand-in:1 --file - "$base" <<DOCKERFILE
FROM scratch
COPY . /
ENV PATH=/root/.cargo/bin:/usr/bin:/bin RUSTUP_TOOLCHAIN=$toolchain CARGO_NET_OFFLINE=true \
    CARGO_HOME=/root/.cargo RUSTUP_HOME=/root/.rustup
DOCKERFILE
}

build() {
    [[ ! -s $image ]] || return 0
    if ((EUID != 0)); then
        echo "buildah needs root to build the image" >&2
        return 1
    fi
    if ! type -P buildah >/dev/null; then
        echo "buildah is missing; run .ci/tools.sh node, which installs it" >&2
        return 1
    fi
    cargo fetch --locked --quiet
    stand_in
    # The builder of the Dockerfile sets BUILDARCH; this one is too old to know it.
    buildah bud --isolation chroot --pull-never --platform "linux/$architecture" "${mounts[@]}" \
        --build-arg "BUILDARCH=$architecture" --build-arg BUILD_IMAGE=localhost/stand-in:1 --tag forestall .
    buildah push forestall "oci-archive:$image.unfinished"
    find "$cache" -maxdepth 1 -name '*.tar' -mtime +0 -delete
    mv "$image.unfinished" "$image"
}

case $action in
    build) build ;;
    push) buildah push --tls-verify=false "$(buildah pull --quiet "oci-archive:$image")" "docker://$reference" ;;
    *)
        echo "$usage" >&2
        exit 2
        ;;
esac
