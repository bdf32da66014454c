#!/usr/bin/env bash
# A real API server refuses the incidents of a real team, on this machine: `make demo`.
#
# It brings up etcd, kube-apiserver and a registry on loopback, and starts Forestall beside them. With
# NODE=1, as root on Debian, it brings up a whole node in namespaces of its own, builds the image, and
# installs it by the Helm chart. Either way it applies the manifests beside this script with kubectl,
# printing what kubectl prints. Then it stays up, so that you can try more; ONCE=1 ends it at once. It
# fails where an answer is not the expected one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

images=(
    prom/prometheus:v2.54.1 prom/prometheus:v2.55.0 prom/prometheus:v2.55.1 prom/prometheus:v3.0.0
    grafana/loki:2.9.9 grafana/loki:2.9.10 grafana/loki:2.9.17 grafana/loki:3.0.0
    grafana/alloy:v1.4.3 grafana/alloy:v1.5.0 grafana/alloy:v1.5.1
)
state=$(mktemp -d)
mkdir "$state/log"
# shellcheck source=tests/support/processes.sh
source tests/support/processes.sh
cluster=
end() {
    end_front
    # It takes away what it has made, which it could not if it were killed.
    [[ -z $cluster ]] || kill -TERM "$cluster" 2>/dev/null || true
    for child in "${children[@]}"; do
        [[ $child != "$cluster" ]] || continue
        # Forestall would take leave of its API servers for half a minute.
        kill -KILL "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    done
    wait
    rm -rf "$state"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

bold() { if [[ -t 1 ]]; then printf '\033[1m%s\033[0m' "$1"; else printf '%s' "$1"; fi; }
say() { printf '\n%s\n' "$(bold "$*")"; }
fail() {
    echo "demo: $*" >&2
    tail -n 20 "$state"/log/*.log >&2 || true
    exit 1
}
# come_up WHAT COMMAND...: until it succeeds.
come_up() {
    local what=$1
    shift
    until_true 120 "$@" || fail "$what did not come up in 120 s, or has ended"
}
# need COMMAND [TOOL]...: fetches and builds what it needs, before anything is started.
need() {
    .ci/tools.sh "${@:2}"
    in_front tests/programs/build.sh "$1" || exit
    kubectl_program=$(tests/programs/path.sh kubectl)
    say "Everything is built, after $SECONDS s"
    # What is started below ends when this ends, and so with this script, even where that is killed.
    mkfifo "$state/alive"
    setpriv --pdeathsig KILL sleep infinity >"$state/alive" &
    children+=($!)
}
kubectl() { "${enter[@]}" "$kubectl_program" "$@"; }
cache=${FORESTALL_CACHE:-$HOME/.cache/forestall}

# A control plane and a registry on loopback, and Forestall as a process beside them.
loopback() {
    enter=()
    say "This demo starts a real API server with etcd, a registry, and Forestall beside them, and applies examples/"
    cat <<END
It needs no root, listens on loopback only, and asks no public registry.
The first time, it builds all of them from source, which takes some ten minutes on two cores; later, it takes less than one.
Programs are kept in $cache and target/; the cluster is in $state, and is removed at the end.
With NODE=1 (root, Debian) there is a node with kubelet and containerd, too, and the image and the chart are used.
END
    need demo
    local forestall registry arguments=() image registry_address port
    forestall=$(tests/programs/path.sh forestall)
    registry=$(tests/programs/path.sh registry)

    say "Starting a control plane and a registry on loopback"
    # Nothing here waits for Pods or default ServiceAccounts.
    tests/support/control-plane.sh --no-controllers "$state/cluster" <"$state/alive" >"$state/log/control-plane.log" 2>&1 &
    children+=($!)
    cluster=$!
    come_up "the control plane" test -s "$state/cluster/kubeconfig"
    for image in "${images[@]}"; do
        arguments+=(--image "$image")
    done
    run registry "$registry" "${arguments[@]}"
    come_up "the registry" grep -q "${images[-1]}" "$state/log/registry.log"
    registry_address=$(head -n 1 "$state/log/registry.log")
    export KUBECONFIG=$state/cluster/kubeconfig

    say "Starting Forestall, with docker.io at http://$registry_address"
    certs/dev-ca.sh "$state/pki" forestall.forestall.svc localhost 127.0.0.1
    sed "s|http://127.0.0.1:5000|http://$registry_address|" examples/forestall.yaml >"$state/forestall.yaml"
    port=$((10000 + RANDOM % 9000))
    run forestall "$forestall" serve --config "$state/forestall.yaml" \
        --listen "127.0.0.1:$port" --admin-listen "127.0.0.1:$((port + 1))" \
        --tls-cert "$state/pki/tls.crt" --tls-key "$state/pki/tls.key"
    prepare
    ready() { [[ $(exec 3<>"/dev/tcp/127.0.0.1/$((port + 1))" && printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3 && head -n 1 <&3) == *" 200 "* ]]; }
    come_up "Forestall" ready
    kubectl create namespace forestall >/dev/null
    sed "s|PORT|$port|; s|CA_BUNDLE|$(base64 -w0 "$state/pki/ca.crt")|" examples/webhooks.yaml | kubectl apply -f - >/dev/null
    # The API server reads new webhook configurations within a second or so.
    come_up "the webhook" refuses
    more="tail -f $state/log/forestall.log"
}

# A node with kubelet and containerd, and Forestall installed as its users install it.
node() {
    say "This demo starts a real node with kubelet and containerd, installs Forestall by its chart, and applies examples/"
    cat <<END
All of it runs in namespaces of its own, for processes, mounts and the network; it asks no public registry.
The first time, it builds Kubernetes, containerd and the image from source, which takes some half an hour on two cores;
later, it takes some two minutes. Debian packages that are missing are installed (buildah, runc and others), and named.
Programs are kept in $cache; the node is in $cache/node, and is removed at the end.
END
    if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
        fail "NODE=1 needs root, on Debian; without NODE=1 the demo needs neither"
    fi
    need demo-node node
    local helm release=(--namespace forestall)
    helm=$(tests/programs/path.sh helm)
    say "Starting a node"
    tests/support/node.sh "${images[@]}" <"$state/alive" >"$state/node" 2>"$state/log/node.log" &
    children+=($!)
    cluster=$!
    come_up "the node" test -s "$state/node"
    KUBECONFIG=$(<"$state/node")
    export KUBECONFIG HELM_CACHE_HOME=$state/helm HELM_CONFIG_HOME=$state/helm HELM_DATA_HOME=$state/helm
    enter=(nsenter "--net=${KUBECONFIG%/*/*}/netns")
    "${enter[@]}" tests/support/image.sh push 10.123.0.1:5000/forestall:demo >"$state/log/image.log" 2>&1
    prepare
    # The chart's values have the keys of the configuration.
    sed "s|http://127.0.0.1:5000|http://registry.test:5000|" examples/forestall.yaml >"$state/values.yaml"
    release+=(--values "$state/values.yaml" --set image.registry=registry.test:5000 --set image.tag=demo)

    say "Installing the chart in mode audit"
    "${enter[@]}" "$helm" install forestall charts/forestall "${release[@]}" --create-namespace --wait --timeout 2m
    say "S8, under audit: admitted, and what the node makes of it"
    kubectl apply -f examples/s08-prometheus-tag.yaml
    evented() { kubectl get events --field-selector reason=WouldRefuse -o name | grep -q .; }
    come_up "the Event" evented
    kubectl get events --field-selector reason=WouldRefuse
    fails() { kubectl get pods | grep -E 'ImagePullBackOff|ErrImagePull'; }
    come_up "kubelet's verdict" fails
    kubectl get pods
    kubectl delete -f examples/s08-prometheus-tag.yaml >/dev/null

    say "Switching to enforce; the kubelet brings the new configuration within a minute or so"
    "${enter[@]}" "$helm" upgrade forestall charts/forestall "${release[@]}" --set mode=enforce >/dev/null
    come_up "the new mode" refuses
    # Each Pod gets it in its own time.
    sleep 5
    come_up "the new mode in each Pod" refuses
    say "helm test: is it registered, reachable, trusted?"
    "${enter[@]}" "$helm" test forestall --namespace forestall >/dev/null
    kubectl --namespace forestall logs forestall-doctor
    more="nsenter --net=${KUBECONFIG%/*/*}/netns $kubectl_program --namespace forestall logs deployment/forestall --all-pods -f"
}

# What the manifests need.
prepare() {
    kubectl create namespace demo >/dev/null
    kubectl config set-context --current --namespace demo >/dev/null
    kubectl apply -f examples/crds >/dev/null
    kubectl wait --for condition=Established -f examples/crds --timeout 60s >/dev/null
}
# Ten times, so that several Pods were asked.
refuses() {
    for _ in {1..10}; do
        ! kubectl create --dry-run=server -f examples/s06-unit-mistake.yaml || return 1
    done
}

if [[ -n ${NODE:-} && $NODE != 0 ]]; then
    node
else
    loopback
fi

# show WANTED TITLE FILE [PATTERN]...: applies a file; WANTED is refused, warned, patched or silent.
show() {
    local wanted=$1 title=$2 file=examples/$3 output status=0 got=silent
    shift 3
    say "$title"
    echo "$ kubectl apply -f $file"
    output=$(kubectl apply -f "$file" 2>&1) || status=$?
    echo "$output"
    if ((status != 0)); then
        got=refused
    elif [[ $output == *Warning:* ]]; then
        got=warned
    fi
    [[ $wanted == "$got" || $wanted == patched && $got == silent ]] || fail "$file was to be $wanted, and it is $got"
    for pattern in "$@"; do
        [[ $output == *"$pattern"* ]] || fail "$pattern is not in the answer to $file"
    done
}

who='admission webhook "validate.forestall.dev" denied the request'
show refused "S8: a Prometheus that was never released" s08-prometheus-tag.yaml "$who" v2.55.1
show refused "S8: a Loki that was never released" s08-loki-tag.yaml "$who" 2.9.17
show refused "S8: an Alloy without its v" s08-alloy-tag.yaml "$who" v1.5.0
show refused "S6: half a byte of memory" s06-unit-mistake.yaml "$who" 512Mi
show refused "S6: Prometheus at the limit at which it was killed" s06-prometheus-512mi.yaml "$who" 512Mi
show silent "S6: the same with 1Gi" s06-prometheus-1gi.yaml
show patched "S2: an ExternalSecret that leaves the deletion policy out" s02-external-secret.yaml
echo "$ kubectl get -f examples/s02-external-secret.yaml -o jsonpath={.spec.target}"
kubectl get -f examples/s02-external-secret.yaml -o 'jsonpath={.spec.target}{"\n"}' | tee "$state/target"
grep -q '"deletionPolicy":"Delete"' "$state/target" || fail "the organisation's deletionPolicy is not there"
show patched "S2, S3: an Application whose sync would never end" s03-application.yaml
echo "$ kubectl get -f examples/s03-application.yaml -o yaml (spec.ignoreDifferences)"
kubectl get -f examples/s03-application.yaml -o yaml | sed -n '/^  ignoreDifferences:/,/^  [a-hj-z]/p' | sed '$d' | tee "$state/ignored"
if ! grep -q /status "$state/ignored" || ! grep -q 'select' "$state/ignored"; then
    fail "the Application was not patched"
fi
show warned "The same with a list of its own: told, not touched" s03-application-own-list.yaml unignored-live-fields
show silent "A healthy Deployment" healthy-deployment.yaml

say "Done after $SECONDS s: every answer is the expected one."
if [[ -n ${ONCE:-} ]]; then
    exit 0
fi
trap 'exit 0' INT
say "It stays up until Ctrl-C. Try more in another terminal:"
echo "  export KUBECONFIG=$KUBECONFIG"
echo "  ${enter[*]} $kubectl_program apply -f examples/s08-prometheus-tag.yaml"
echo "  $more"
wait "$cluster"
