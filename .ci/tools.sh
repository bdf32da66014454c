#!/usr/bin/env bash
# Checks for what the stages need. Debian packages that are missing are installed; programs named as
# arguments are needed too. Rust, Go and make are the reader's to install.
set -euo pipefail

fail() {
    echo "tools: $1" >&2
    exit 1
}

command -v cargo >/dev/null || fail "cargo is missing; install Rust from https://rustup.rs"
command -v go >/dev/null || fail "go is missing; install Go from https://go.dev/dl"

# The C compiler is for aws-lc-rs and mimalloc.
declare -A package_of=([cc]="gcc libc6-dev" [openssl]=openssl [wrk]=wrk
    [buildah]=buildah [runc]=runc [nft]=nftables [conntrack]=conntrack [ip]=iproute2
    [/usr/lib/cni/bridge]=containernetworking-plugins [/etc/ssl/certs/ca-certificates.crt]=ca-certificates)
# The word for all that tests/support/node.sh and image.sh need.
[[ ${1:-} != node ]] || set -- buildah runc nft conntrack ip /usr/lib/cni/bridge /etc/ssl/certs/ca-certificates.crt
missing=()
for program in cc openssl "$@"; do
    command -v "$program" >/dev/null || [[ -e $program ]] || missing+=(${package_of[$program]})
done
if ((${#missing[@]})); then
    as_root=()
    ((EUID == 0)) || as_root=(sudo)
    command -v apt-get >/dev/null || fail "install ${missing[*]}; there is no apt-get here to do it"
    echo "tools: installing the Debian packages ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# rustup installs the tool chain of rust-toolchain.toml here, if it is not there yet.
cargo --version
go version
cargo fetch --locked --quiet
