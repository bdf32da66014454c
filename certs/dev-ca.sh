#!/bin/sh
# Makes a certificate authority and one server certificate, for tests and demonstrations.
#
#   certs/dev-ca.sh DIRECTORY NAME...
#
# NAME is a DNS name or an IP address. DIRECTORY gets ca.crt, ca.key, tls.crt and tls.key; an
# authority that is there already is used again, so the same command renews the certificate.
# Good for DAYS days (30).
set -eu

if [ $# -lt 2 ]; then
    echo "usage: $0 DIRECTORY NAME...    such as: $0 certs/dev localhost 127.0.0.1" >&2
    exit 2
fi
directory=$1
shift
days=${DAYS:-30}

mkdir -p "$directory"
# Nobody else may read the keys, not even for a moment.
umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

names=
for name in "$@"; do
    case $name in
        *:*) kind=IP ;;
        *[!0-9.]*) kind=DNS ;;
        *) kind=IP ;;
    esac
    names="$names${names:+,}$kind:$name"
done

say() {
    openssl "$@" 2>"$work/complaint" || {
        echo "$0: openssl $1 failed:" >&2
        cat "$work/complaint" >&2
        exit 1
    }
}

if [ ! -e "$directory/ca.crt" ] || [ ! -e "$directory/ca.key" ]; then
    # A name of its own each time: one authority must not be taken for another.
    authority="forestall development $(openssl rand -hex 4)"
    say req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$days" \
        -subj "/CN=$authority" \
        -addext 'basicConstraints=critical,CA:TRUE' \
        -addext 'keyUsage=critical,keyCertSign,cRLSign' \
        -keyout "$work/ca.key" -out "$work/ca.crt"
    mv "$work/ca.key" "$work/ca.crt" "$directory/"
fi

cat >"$work/extensions" <<END
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = $names
authorityKeyIdentifier = keyid
END
say req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=forestall" \
    -keyout "$work/tls.key" -out "$work/tls.csr"
say x509 -req -in "$work/tls.csr" -CA "$directory/ca.crt" -CAkey "$directory/ca.key" \
    -set_serial "0x$(openssl rand -hex 16)" -days "$days" -sha256 \
    -extfile "$work/extensions" -out "$work/tls.crt"
# Neither is good without the other, so both arrive complete, one right after the other.
mv "$work/tls.key" "$work/tls.crt" "$directory/"
