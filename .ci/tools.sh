#!/usr/bin/env bash
# Checks for what every command needs, and for the programs named as arguments: .ci/tools.sh [PROGRAM | node]...
# Debian packages that are missing are installed. Rust, Go and make are the reader's to install.
set -euo pipefail

fail() {
    echo "tools: $1" >&2
    exit 1
}

command -v cargo >/dev/null || fail "cargo is missing; install Rust from https://rustup.rs"
command -v go >/dev/null || fail "go is missing; install Go from https://go.dev/dl"

# The C compiler is for aws-lc-rs and mimalloc.
declare -A package_of=([cc]="gcc libc6-dev" [openssl]=openssl [wrk]=wrk [curl]=curl [git]=git [shellcheck]=shellcheck
    [buildah]=buildah [runc]=runc [nft]=nftables [conntrack]=conntrack [ip]=iproute2
    [/usr/lib/cni/bridge]=containernetworking-plugins [/etc/ssl/certs/ca-certificates.crt]=ca-certificates)
programs=(cc openssl)
for program in "$@"; do
    case $program in
        # What tests/support/node.sh and image.sh need.
        node) programs+=(buildah runc nft conntrack ip /usr/lib/cni/bridge /etc/ssl/certs/ca-certificates.crt) ;;
        *) programs+=("$program") ;;
    esac
done
missing=()
for program in "${programs[@]}"; do
    # shellcheck disable=SC2206 # one or two words
    type -P "$program" >/dev/null || [[ -e $program ]] || missing+=(${package_of[$program]})
done
if ((${#missing[@]})); then
    as_root=()
    ((EUID == 0)) || as_root=(sudo)
    command -v apt-get >/dev/null || fail "install ${missing[*]}; there is no apt-get here to do it"
    echo "tools: installing the Debian packages ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    # Out of reach of what ends us: packages that dpkg has half installed must be mended by hand.
    "${as_root[@]}" setsid --wait apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# rustup installs the tool chain of rust-toolchain.toml here, if it is not there yet.
cargo --version
go version
cargo fetch --locked --quiet
