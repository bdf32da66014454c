#!/usr/bin/env bash
# A real Kubernetes control plane on loopback, without nodes: etcd, kube-apiserver,
# kube-controller-manager. Needs no root.
#
#     tests/support/control-plane.sh [--no-controllers] STATE [AUDIT_POLICY [ADDRESS]]
#
# With ADDRESS it is served there, for the node of node.sh. Without controllers, no Deployment gets Pods.
#
# STATE is a folder that is empty or not there yet. When the cluster answers, the script writes
# STATE/kubeconfig (the administrator's) and prints its path; everything else goes to STATE/log,
# and with a policy the API server's audit log to STATE/audit.log. It stays until its standard
# input ends, and so ends with the process that holds the other end, however that one ends. Then
# every process of it is gone, and STATE too.
set -euo pipefail

controllers=kube-controller-manager
if [[ ${1:-} == --no-controllers ]]; then
    controllers=
    shift
fi
state=${1:?usage: control-plane.sh [--no-controllers] STATE [AUDIT_POLICY [ADDRESS]]}
audit_policy=${2:+$(realpath "$2")}
address=${3:-127.0.0.1}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2086 # none or one
paths=$("$here/../programs/path.sh" etcd kube-apiserver kubectl $controllers)
{
    read -r etcd
    read -r kube_apiserver
    read -r kubectl
    [[ -z $controllers ]] || read -r kube_controller_manager
} <<<"$paths"

mkdir -p "$state"
if [[ -n $(ls -A "$state") ]]; then
    echo "$state is not empty" >&2
    exit 1
fi
state=$(cd "$state" && pwd)
# shellcheck source=tests/support/processes.sh
source "$here/processes.sh"

# Nothing in here is worth a graceful end, and nothing may outlive it.
end() {
    local status=$?
    if ((status != 0)); then
        tail -n 5 "$state"/log/*.log >&2 || true
    fi
    exec 2>/dev/null
    for child in "${children[@]}"; do
        kill -KILL "$child" || true
    done
    wait
    rm -rf "$state"
}
trap end EXIT
trap 'exit 1' INT TERM HUP

mkdir -p "$state"/{log,pki}
cd "$state/pki"

# --- certificates -------------------------------------------------------------------------------
new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }
new_key ca.key
openssl req -x509 -new -key ca.key -out ca.crt -subj /CN=throw-away-ca -days 30
new_key service-accounts.key
openssl pkey -in service-accounts.key -pubout -out service-accounts.pub
# sign NAME SUBJECT USE
sign() {
    new_key "$1.key"
    openssl req -new -key "$1.key" -subj "$2" |
        openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -out "$1.crt" -days 30 -extfile <(
            echo "extendedKeyUsage=$3"
            echo "subjectAltName=DNS:localhost,DNS:kubernetes.default.svc,IP:$address,IP:127.0.0.1,IP:10.96.0.1"
        ) 2>/dev/null
}
sign server /CN=kube-apiserver serverAuth
sign administrator /O=system:masters/CN=administrator clientAuth
sign controllers /CN=system:kube-controller-manager clientAuth
sign node /O=system:nodes/CN=system:node:node serverAuth,clientAuth

# kubeconfig NAME: for the user of that certificate, to standard output.
kubeconfig() {
    cat <<YAML
apiVersion: v1
kind: Config
clusters:
  - name: local
    cluster:
      server: https://$address:$port
      certificate-authority-data: $(base64 -w0 ca.crt)
users:
  - name: $1
    user:
      client-certificate-data: $(base64 -w0 "$1.crt")
      client-key-data: $(base64 -w0 "$1.key")
contexts:
  - name: local
    context: {cluster: local, user: $1}
current-context: local
YAML
}

# --- etcd, on ports that the kernel picks ---------------------------------------------------------
anywhere=http://127.0.0.1:0
run etcd "$etcd" --data-dir "$state/etcd" --unsafe-no-fsync \
    --listen-client-urls $anywhere --advertise-client-urls $anywhere \
    --listen-peer-urls $anywhere --initial-advertise-peer-urls $anywhere \
    --initial-cluster default=$anywhere
serving='serving client traffic insecurely.*"address":"'
until_true 30 grep -q "$serving" "$state/log/etcd.log"
etcd_address=$(sed -n "s/.*$serving\([^\"]*\)\".*/\1/p" "$state/log/etcd.log")

# --- kube-apiserver, which wants to be told its port ------------------------------------------------
audit=()
if [[ -n $audit_policy ]]; then
    audit=(--audit-policy-file="$audit_policy" --audit-log-path="$state/audit.log")
fi
if (($# < 3)); then
    # Loopback is no address that the endpoint reconciler would publish.
    reach=(--endpoint-reconciler-type=none)
    # What only nodes need.
    idle=,-node-ipam-controller,-node-lifecycle-controller,-taint-eviction-controller,-persistentvolume-attach-detach-controller
else
    reach=(--advertise-address="$address" --kubelet-preferred-address-types=InternalIP
        --kubelet-client-certificate=administrator.crt --kubelet-client-key=administrator.key)
    idle=
fi
answers() { "$kubectl" --kubeconfig "$state/pki/unready" get --raw /readyz; }
for _ in {1..10}; do
    # Below the range from which the kernel gives ports to others.
    port=$((20000 + RANDOM % 12000))
    kubeconfig administrator >unready
    # Without aggregator routing a webhook's Service may be an ExternalName one, so it can be here.
    run kube-apiserver "$kube_apiserver" --etcd-servers="http://$etcd_address" \
        --bind-address="$address" --secure-port=$port \
        --tls-cert-file=server.crt --tls-private-key-file=server.key --cert-dir="$state/pki" \
        --client-ca-file=ca.crt --authorization-mode=Node,RBAC --allow-privileged=true \
        --service-account-issuer=https://kubernetes.default.svc \
        --service-account-key-file=service-accounts.pub \
        --service-account-signing-key-file=service-accounts.key \
        --service-cluster-ip-range=10.96.0.0/24 \
        --enable-aggregator-routing=false "${reach[@]}" "${audit[@]}"
    if until_true 60 answers; then
        break
    fi
    # Somebody may have taken the port; anything else will not get better.
    grep -q 'address already in use' "$state/log/kube-apiserver.log" || exit 1
    unset 'children[-1]'
done
answers >/dev/null

# --- kube-controller-manager ---------------------------------------------------------------------
if [[ -n $controllers ]]; then
    kubeconfig controllers >controllers.kubeconfig
    run kube-controller-manager "$kube_controller_manager" --kubeconfig=controllers.kubeconfig \
        --secure-port=0 --leader-elect=false --use-service-account-credentials=true \
        --service-account-private-key-file=service-accounts.key --root-ca-file=ca.crt \
        --controllers="*$idle"
    until_true 60 "$kubectl" --kubeconfig unready --namespace default get serviceaccount default
fi

kubeconfig node >node.kubeconfig
mv unready "$state/kubeconfig"
echo "$state/kubeconfig"

# --- until nobody holds the other end ---------------------------------------------------------------
until_nobody_listens 'control plane'
