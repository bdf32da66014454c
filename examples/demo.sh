#!/usr/bin/env bash
# A real API server refuses the incidents of a real team, on this machine: `make demo`.
#
# As root on Debian, it brings up a real Kubernetes of one node in namespaces of its own, builds the
# image, and installs it by the Helm chart. Else it brings up a control plane and a registry on
# loopback, and starts Forestall beside them. Either way it applies the manifests beside this script
# with kubectl, printing what kubectl prints. Then it stays up, so that you can try more; ONCE=1 ends
# it at once. It fails where an answer is not the expected one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

images=(
    prom/prometheus:v2.54.1 prom/prometheus:v2.55.0 prom/prometheus:v2.55.1 prom/prometheus:v3.0.0
    grafana/loki:2.9.9 grafana/loki:2.9.10 grafana/loki:2.9.17 grafana/loki:3.0.0
    grafana/alloy:v1.4.3 grafana/alloy:v1.5.0 grafana/alloy:v1.5.1
)
state=$(mktemp -d)
children=()
end() {
    for child in "${children[@]}"; do
        # Forestall would take leave of its API servers for half a minute.
        kill -KILL "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    done
    rm -rf "$state"
}
trap end EXIT
trap 'exit 0' INT
trap 'exit 143' TERM HUP

bold() { if [[ -t 1 ]]; then printf '\033[1m%s\033[0m' "$1"; else printf '%s' "$1"; fi; }
say() { printf '\n%s\n' "$(bold "$*")"; }
fail() {
    echo "demo: $*" >&2
    tail -n 20 "$state"/*.log >&2 || true
    exit 1
}
# until_true WHAT COMMAND...
until_true() {
    local what=$1 ends=$((SECONDS + 120))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < ends)) || fail "$what did not come up in 120 s"
        sleep 0.2
    done
}

# Both below end when their input does, and so with this script, however it ends.
mkfifo "$state/alive"
sleep infinity >"$state/alive" &
children+=($!)
kubectl_program=$(tests/programs/build.sh kubectl)
kubectl() { "${enter[@]}" "$kubectl_program" "$@"; }

# A control plane and a registry on loopback, and Forestall as a process beside them.
loopback() {
    enter=()
    say "Building Forestall (a first build takes minutes)"
    cargo build --release --bin forestall
    local forestall=$PWD/target/release/forestall registry arguments=() image registry_address port
    registry=$(tests/programs/build.sh registry)

    say "Starting a control plane and a registry on loopback"
    tests/support/control-plane.sh "$state/cluster" <"$state/alive" >"$state/control-plane.log" 2>&1 &
    children+=($!)
    for image in "${images[@]}"; do
        arguments+=(--image "$image")
    done
    "$registry" "${arguments[@]}" >"$state/registry.log" 2>&1 &
    children+=($!)
    until_true "the registry" grep -q "${images[-1]}" "$state/registry.log"
    registry_address=$(head -n 1 "$state/registry.log")
    until_true "the control plane" test -s "$state/cluster/kubeconfig"
    export KUBECONFIG=$state/cluster/kubeconfig

    say "Starting Forestall, with docker.io at http://$registry_address"
    certs/dev-ca.sh "$state/pki" forestall.forestall.svc localhost 127.0.0.1
    sed "s|http://127.0.0.1:5000|http://$registry_address|" examples/forestall.yaml >"$state/forestall.yaml"
    port=$((10000 + RANDOM % 9000))
    "$forestall" serve --config "$state/forestall.yaml" \
        --listen "127.0.0.1:$port" --admin-listen "127.0.0.1:$((port + 1))" \
        --tls-cert "$state/pki/tls.crt" --tls-key "$state/pki/tls.key" >"$state/forestall.log" 2>&1 &
    children+=($!)
    prepare
    ready() { [[ $(exec 3<>"/dev/tcp/127.0.0.1/$((port + 1))" && printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3 && head -n 1 <&3) == *" 200 "* ]]; }
    until_true "Forestall" ready
    kubectl create namespace forestall >/dev/null
    sed "s|PORT|$port|; s|CA_BUNDLE|$(base64 -w0 "$state/pki/ca.crt")|" examples/webhooks.yaml | kubectl apply -f - >/dev/null
    # The API server reads new webhook configurations within a second or so.
    until_true "the webhook" refuses
    more="tail -f $state/forestall.log"
}

# A node with kubelet and containerd, and Forestall installed as its users install it.
node() {
    say "Building the image (a first build takes ten minutes), and starting a node"
    tests/support/image.sh
    local helm release=(--namespace forestall)
    helm=$(tests/programs/build.sh helm)
    tests/support/node.sh "${images[@]}" <"$state/alive" >"$state/node" 2>"$state/node.log" &
    children+=($!)
    until_true "the node" test -s "$state/node"
    KUBECONFIG=$(<"$state/node")
    export KUBECONFIG HELM_CACHE_HOME=$state/helm HELM_CONFIG_HOME=$state/helm HELM_DATA_HOME=$state/helm
    enter=(nsenter "--net=${KUBECONFIG%/*/*}/netns")
    "${enter[@]}" tests/support/image.sh 10.123.0.1:5000/forestall:demo
    prepare
    # The chart's values have the keys of the configuration.
    sed "s|http://127.0.0.1:5000|http://registry.test:5000|" examples/forestall.yaml >"$state/values.yaml"
    release+=(--values "$state/values.yaml" --set image.registry=registry.test:5000 --set image.tag=demo)

    say "Installing the chart in mode audit"
    "${enter[@]}" "$helm" install forestall charts/forestall "${release[@]}" --create-namespace --wait --timeout 2m
    say "S8, under audit: admitted, and what the node makes of it"
    kubectl apply -f examples/s08-prometheus-tag.yaml
    evented() { kubectl get events --field-selector reason=WouldRefuse -o name | grep -q .; }
    until_true "the Event" evented
    kubectl get events --field-selector reason=WouldRefuse
    fails() { kubectl get pods | grep -E 'ImagePullBackOff|ErrImagePull'; }
    until_true "kubelet's verdict" fails
    kubectl get pods
    kubectl delete -f examples/s08-prometheus-tag.yaml >/dev/null

    say "Switching to enforce; the kubelet brings the new configuration within a minute or so"
    "${enter[@]}" "$helm" upgrade forestall charts/forestall "${release[@]}" --set mode=enforce >/dev/null
    until_true "the new mode" refuses
    # Each Pod gets it in its own time.
    sleep 5
    until_true "the new mode in each Pod" refuses
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
    local try
    for try in {1..10}; do
        ! kubectl create --dry-run=server -f examples/s06-unit-mistake.yaml || return 1
    done
}

if ((EUID == 0)) && command -v apt-get >/dev/null; then
    say "You are root: the demo runs on a real node, by the Helm chart"
    .ci/tools.sh node
    node
else
    say "You are not root on Debian: the demo runs on a control plane without nodes, and without the chart"
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
grep -q /status "$state/ignored" && grep -q 'select' "$state/ignored" || fail "the Application was not patched"
show warned "The same with a list of its own: told, not touched" s03-application-own-list.yaml unignored-live-fields
show silent "A healthy Deployment" healthy-deployment.yaml

say "Done: every answer is the expected one."
if [[ -n ${ONCE:-} ]]; then
    exit 0
fi
say "It stays up until Ctrl-C. Try more in another terminal:"
echo "  export KUBECONFIG=$KUBECONFIG"
echo "  ${enter[*]} $kubectl_program apply -f examples/s08-prometheus-tag.yaml"
echo "  $more"
wait "${children[1]}"
