#!/usr/bin/env bash
# The memory of the program as it is shipped (profile dist) beside a cluster that is idle, and one with
# PODS Pods, WORKLOADS workloads, as many ConfigMaps of 4 KiB and SECRETS ExternalSecrets on simulated
# nodes (kwok), against the budgets of
# docs/architecture.md: `make soak`.
#
# Everything runs on loopback, and ends with this script. It takes some minutes, and never more than
# LIMIT_MINUTES. It fails where a budget is missed, or something could not be measured.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

pods=${PODS:-10000}
workloads=${WORKLOADS:-3000}
secrets=${SECRETS:-2000}
nodes=100
limit=$((60 * ${LIMIT_MINUTES:-30}))
idle_budget=20
loaded_budget=60
# So many objects are created by one kubectl, and so many of those run at a time.
batch=500
parallel=4

work=$(mktemp -d)
children=()
end() {
    # The control plane ends when nobody holds its standard input any more.
    [[ -z ${plane:-} ]] || exec {plane}>&-
    for child in "${children[@]}"; do
        kill -KILL "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

fail() {
    echo "soak: $*" >&2
    tail -n 20 "$work"/*.log >&2 || true
    exit 1
}
# within SECONDS COMMAND...: tries until it succeeds, and no longer than the whole may take.
within() {
    local ends=$((SECONDS + $1))
    shift
    until "$@" 2>/dev/null; do
        ((SECONDS < ends && SECONDS < limit)) || fail "waited in vain for: $*"
        sleep 0.2
    done
}
# get PORT PATH: the answer to a plain HTTP request.
get() {
    local socket
    exec {socket}<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&"$socket"
    cat <&"$socket"
    exec {socket}>&-
}
# memory FIELD: MiB of Forestall, of VmRSS (now) or VmHWM (the most so far).
memory() { awk -v field="$1:" '$1 == field { printf "%.1f\n", $2 / 1024 }' "/proc/$forestall/status"; }
# has KIND COUNT [OPTION...]: whether there are as many.
has() { (($("$kubectl" --namespace default get "$1" "${@:3}" -o name | wc -l) >= $2)); }

program=$(tests/programs/path.sh forestall-dist)
kubectl=$(tests/programs/path.sh kubectl)
kwok=$(tests/programs/path.sh kwok)
stages=$(tests/programs/path.sh kwok-stages)

echo "soak: starting the control plane"
mkfifo "$work/plane"
tests/support/control-plane.sh "$work/cluster" <"$work/plane" >"$work/kubeconfig" 2>"$work/plane.log" &
children+=($!)
exec {plane}>"$work/plane"
within 180 test -s "$work/kubeconfig"
KUBECONFIG=$(<"$work/kubeconfig")
export KUBECONFIG

port=$((20000 + RANDOM % 10000))
admin=$((port + 1))
echo "mode: audit" >"$work/config.yaml"
"$program" serve --config "$work/config.yaml" --memory-limit 256Mi --lease default/forestall \
    --listen "127.0.0.1:$port" --admin-listen "127.0.0.1:$admin" >"$work/forestall.log" 2>&1 &
forestall=$!
children+=("$forestall")
is_ready() { get "$admin" /readyz | head -n 1 | grep -q ' 200 '; }
within 60 is_ready
sleep 5
idle=$(memory VmRSS)

echo "soak: $nodes nodes, $workloads workloads and $pods Pods, after $SECONDS s"
# The stages leave out by which digest a container was started, which is part of what is kept of a Pod.
digest=sha256:$(printf '%064d' 1)
for stage in "$stages"/{node,pod}/fast/{node,pod}-*.yaml; do
    [[ ! -f $stage ]] || { echo ---; cat "$stage"; }
done | sed "s/^\( *\)- image: {{ .image | Quote }}/&\n\1  imageID: registry.example.com\/team\/app@$digest/" >"$work/stages.yaml"
"$kwok" --kubeconfig "$KUBECONFIG" --manage-all-nodes --config "$work/stages.yaml" >"$work/kwok.log" 2>&1 &
children+=($!)
# fill LAST TEMPLATE: a list of what the template makes of each number up to LAST.
fill() { seq "$1" | awk -v template="$2" '{ text = template; gsub(/NUMBER/, $1, text); gsub(/NODE/, $1 % '"$nodes"' + 1, text); print "---"; print text }'; }
spec='{containers: [{name: app, image: "registry.example.com/team/app:v1.2.NUMBER", resources: {limits: {memory: 512Mi}},
    env: [{name: LOG_LEVEL, value: info}, {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}]'
fill "$nodes" '{apiVersion: v1, kind: Node, metadata: {name: node-NUMBER}}' >"$work/nodes.yaml"
# No replicas: the Pods come below, so that no controller has to make them one after another.
fill "$workloads" "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web-NUMBER, namespace: default},
  spec: {replicas: 0, selector: {matchLabels: {app: web-NUMBER}}, template: {metadata: {labels: {app: web-NUMBER}}, spec: $spec}}}}" >"$work/workloads.yaml"
fill "$pods" "{apiVersion: v1, kind: Pod, metadata: {name: pod-NUMBER, namespace: default, labels: {app: web-NUMBER}},
  spec: $spec, nodeName: node-NODE}}" >"$work/pods.yaml"
padding=$(printf 'x%.0s' {1..1000})
fill "$workloads" "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings-NUMBER, namespace: default},
  data: {a: $padding, b: $padding, c: $padding, d: $padding}}" >"$work/configmaps.yaml"
fill "$secrets" "{apiVersion: external-secrets.io/v1, kind: ExternalSecret, metadata: {name: db-NUMBER, namespace: default},
  spec: {secretStoreRef: {kind: ClusterSecretStore, name: aws}, target: {name: db-NUMBER},
    data: [{secretKey: user, remoteRef: {key: db/NUMBER}}, {secretKey: password, remoteRef: {key: db/NUMBER}}]}}" >"$work/externalsecrets.yaml"
# create FILE: every object in it.
create() {
    local parts=$work/parts
    rm -rf "$parts"
    mkdir "$parts"
    awk -v RS='---\n' -v batch="$batch" -v parts="$parts" \
        'NF { file = parts "/" int(made / batch); made += 1; print "---\n" $0 >> file; if (made % batch == 0) close(file) }' "$1"
    find "$parts" -type f -print0 |
        timeout $((limit - SECONDS)) xargs -0 -n 1 -P "$parallel" "$kubectl" create -o name -f >"$work/create.log" 2>&1 ||
        fail "not everything could be created"
}
within 60 "$kubectl" --namespace default get serviceaccount default >/dev/null
"$kubectl" create -f examples/crds/externalsecrets.yaml >/dev/null
within 60 "$kubectl" get externalsecrets --all-namespaces
for what in nodes workloads configmaps externalsecrets pods; do
    create "$work/$what.yaml"
    echo "soak: $what created, after $SECONDS s"
done
has deployments "$workloads" || fail "there are fewer Deployments than were created"
within 600 has pods "$pods" --field-selector status.phase=Running
# What was learnt of them settles.
sleep 20
loaded=$(memory VmRSS)
most=$(memory VmHWM)
is_ready || fail "forestall is not ready any more"

missed=0
# row WHAT MIB [BUDGET]
row() {
    local verdict=""
    if [[ -n ${3:-} ]]; then
        verdict=$(awk -v value="$2" -v budget="$3" 'BEGIN { print value <= budget ? "met" : "MISSED" }')
        [[ $verdict == met ]] || missed=$((missed + 1))
    fi
    printf '%-52s %8s  %-9s %s\n' "$1" "$2" "${3:+<= $3}" "$verdict"
}
echo
printf '%-52s %8s  %s\n' "" MiB budget
row "memory, idle" "$idle" "$idle_budget"
row "memory with all of them" "$loaded" "$loaded_budget"
row "the most until then" "$most"
echo "soak: done after $SECONDS s"
((missed == 0))
