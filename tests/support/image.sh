#!/usr/bin/env bash
# Builds the image of the Dockerfile, and pushes it to a registry: tests/support/image.sh [REFERENCE]
#
# The builder is Debian's buildah. No hub is asked for the base to build on: a stand-in is made, which
# has the compiler and the libraries of this machine. The Dockerfile is the same. An image is built
# once for each state of what goes in, and what cargo makes for it stays in the cache, too.
set -euo pipefail

reference=${1:-}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cache=${FORESTALL_CACHE:-$HOME/.cache/forestall}/image
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

architecture=$(dpkg --print-architecture)
toolchain=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
hash=$({
    rustc "+$toolchain" --version --verbose
    cc --version
    cat tests/support/image.sh Dockerfile .dockerignore Cargo.toml Cargo.lock
    find src docs/rules benches/echo.rs -type f -print0 | sort -z | xargs -0 sha256sum
} | sha256sum)
image=$cache/${hash:0:16}.tar

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

if [[ ! -s $image ]]; then
    echo "building the image; the first time, it compiles everything" >&2
    {
        cargo fetch --locked --quiet
        stand_in
        # The builder of the Dockerfile sets BUILDARCH; this one is too old to know it.
        buildah bud --isolation chroot --pull-never --platform "linux/$architecture" "${mounts[@]}" \
            --build-arg "BUILDARCH=$architecture" --build-arg BUILD_IMAGE=localhost/stand-in:1 --tag forestall .
        buildah push forestall "oci-archive:$image.unfinished"
    } >&2
    find "$cache" -maxdepth 1 -name '*.tar' -delete
    mv "$image.unfinished" "$image"
fi
[[ -z $reference ]] || buildah push --tls-verify=false "$(buildah pull --quiet "oci-archive:$image")" "docker://$reference" >&2
