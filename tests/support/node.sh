#!/usr/bin/env bash
# A real Kubernetes of one node, on this machine: the control plane, a scheduler, kubelet, containerd,
# kube-proxy, CoreDNS and a registry. Needs root, and Debian's packages of .ci/tools.sh.
#
#     tests/support/node.sh [IMAGE]...
#
# When the node is ready, the script prints the path of the administrator's kubeconfig. The folder
# above it has the logs, and the network namespace: `nsenter --net=NODE/netns kubectl …`.
#
# The registry is called registry.test:5000. It makes every IMAGE itself, and takes what is pushed. The
# node pulls all images from there, whatever registry they name. Pods can resolve its name, and those
# of Services; nothing leads out to the world.
#
# All of it runs in namespaces of its own, for processes, mounts and the network. They end with this
# script, which ends with its standard input. It then removes what is left on the machine, a folder
# and control groups; and before it starts, what one that was killed has left. There is one node at a
# time: a second one waits.
# shellcheck disable=SC2154 # `inside` sets the variables that are named after programs
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
state=${FORESTALL_CACHE:-$HOME/.cache/forestall}/node
address=10.123.0.1
registry_port=5000
cgroups=/sys/fs/cgroup
group=forestall-node
programs=(etcd kube-apiserver kube-controller-manager kube-scheduler kubectl kubelet kube-proxy
    containerd containerd-shim-runc-v2 coredns registry)

# The control groups of the node: one in each hierarchy of version 1, or the one of version 2.
groups() {
    if [[ -e $cgroups/cgroup.controllers ]]; then
        echo "$cgroups/$group"
    else
        printf "%s$group\n" "$cgroups"/*/
    fi
}

make_groups() {
    local path file
    for path in $(groups); do
        mkdir -p "$path"
        # A new group of version 1 may use no processor and no memory node, until it is told which.
        if [[ $path == "$cgroups/cpuset/"* ]]; then
            for file in cpuset.cpus cpuset.mems; do
                cat "$cgroups/cpuset/$file" >"$path/$file"
            done
        fi
    done
    # Version 2 hands controllers down only when it is told to.
    if [[ -e $cgroups/cgroup.controllers ]]; then
        echo '+cpu +cpuset +memory +pids' | tee "$cgroups/cgroup.subtree_control" >"$path/cgroup.subtree_control"
    fi
}

# Removes what namespaces do not take with them. Processes leave their groups a moment after they were killed.
sweep() {
    local ends=$((SECONDS + 20)) path
    for path in $(groups); do
        while [[ -d $path ]] && ! find "$path" -depth -type d -exec rmdir {} + 2>/dev/null; do
            ((SECONDS < ends)) || break
            sleep 0.1
        done
    done
    rm -rf "$state"
}

# --- outside: what is to be there before, and to be gone after -----------------------------------
outside() {
    if ((EUID != 0)); then
        echo "the node needs root: it mounts, makes control groups and network namespaces" >&2
        exit 1
    fi
    for program in buildah runc nft conntrack; do
        if ! command -v "$program" >/dev/null; then
            echo "$program is missing; run .ci/tools.sh node, which installs it" >&2
            exit 1
        fi
    done
    # To say at once what is missing.
    "$here/../programs/path.sh" "${programs[@]}" >/dev/null
    exec 9>/run/lock/forestall-node
    if ! flock --nonblock 9; then
        echo "another node is up; waiting for its end" >&2
        flock 9
    fi
    inner=none
    end() {
        local status=$?
        if ((status != 0)); then
            tail -n 3 "$state"/log/*.log "$state"/cluster/log/*.log >&2 || true
        fi
        exec 2>/dev/null
        # The first process of a namespace takes all the others along, and is the only child of unshare,
        # which ends when they all have.
        [[ ! -d /proc/$inner ]] || kill -KILL "$(<"/proc/$inner/task/$inner/children")" || true
        wait
        sweep
        exit "$status"
    }
    trap end EXIT
    trap 'exit 1' INT TERM HUP
    sweep
    mkdir -p "$state/log"
    make_groups
    # `<&0`, because what runs in the background would get no input.
    setpriv --pdeathsig KILL unshare --net --mount --pid --fork --kill-child --mount-proc \
        "$here/node.sh" --inside "$@" <&0 9>&- &
    inner=$!
    ln -s "/proc/$inner/ns/net" "$state/netns"
    wait "$inner"
}

# --- inside: namespaces of its own ----------------------------------------------------------------
inside() {
    # shellcheck source=tests/support/processes.sh
    source "$here/processes.sh"
    local path paths
    paths=$("$here/../programs/path.sh" "${programs[@]}")
    for program in "${programs[@]}"; do
        read -r path
        declare -g "${program//-/_}=$path"
    done <<<"$paths"
    cd "$state"
    hide_the_machine
    connect
    start_control_plane
    start_registry
    start_dns
    start_runtime
    start_kubelet
    run kube-scheduler "$kube_scheduler" --kubeconfig="$KUBECONFIG" --leader-elect=false
    start_proxy
    ready() { "$kubectl" wait --for=condition=Ready node/node --timeout=0; }
    until_true 120 ready
    echo "$KUBECONFIG"
    until_nobody_listens node
}

# Paths that containerd, its shims, CNI plugins and kubelet write to without being asked are folders in
# memory here; and the registry has a name.
hide_the_machine() {
    for path in /run /var/lib /var/log; do
        mount -t tmpfs tmpfs "$path"
    done
    printf '127.0.0.1 localhost\n%s registry.test\n' $address >hosts
    mount --bind hosts /etc/hosts
}

# A bridge with a pair of devices gives the node its address and a carrier, where there are no dummy devices.
connect() {
    ip link set lo up
    ip link add node0 type bridge
    ip address add $address/24 dev node0
    ip link add up0 type veth peer name up1
    ip link set up0 master node0 up
    ip link set up1 up
    ip link set node0 up
    ip route add default dev node0
    echo 1 >/proc/sys/net/ipv4/ip_forward
}

start_control_plane() {
    mkfifo alive
    # Opened for both ways, it never ends: the control plane ends with this namespace.
    "$here/control-plane.sh" "$state/cluster" "$here/audit-policy.yaml" $address <>alive >log/control-plane.log 2>&1 &
    children+=($!)
    export KUBECONFIG=$state/cluster/kubeconfig KUBECACHEDIR=$state/cache
    until_true 120 test -s "$KUBECONFIG"
}

start_registry() {
    local arguments=()
    for image in "${images[@]}"; do
        arguments+=(--image "$image")
    done
    run registry "$registry" --listen "$address:$registry_port" "${arguments[@]}"
    until_true 30 grep -q . log/registry.log
    push_pause >log/pause.log 2>&1
}

# The image of the process that holds the namespaces of a Pod, and of tests that need any.
push_pause() {
    local buildah=(buildah --storage-driver vfs --root "$state/buildah" --runroot /run/buildah)
    mkdir pause
    cc -static -O2 -o pause/pause "$here/pause.c"
    printf 'FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n' >pause/Dockerfile
    "${buildah[@]}" bud --isolation chroot --tag pause pause
    "${buildah[@]}" push --tls-verify=false pause "docker://$address:$registry_port/pause:1"
}

# Every name that is not in the cluster does not exist.
start_dns() {
    cat >Corefile <<COREFILE
cluster.local {
    bind $address
    errors
    kubernetes {
        kubeconfig $KUBECONFIG
    }
}
registry.test {
    bind $address
    errors
    hosts hosts
}
. {
    bind $address
    template ANY ANY {
        rcode NXDOMAIN
    }
}
COREFILE
    run coredns "$coredns" -conf Corefile
}

start_runtime() {
    mkdir -p bin cni certs.d/_default
    # containerd finds its shim by name.
    ln -s "$containerd_shim_runc_v2" bin/containerd-shim-runc-v2
    # For docker.io and every other host, too.
    echo "server = \"http://registry.test:$registry_port\"" >certs.d/_default/hosts.toml
    cat >cni/10-pods.conflist <<JSON
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "pods0", "isGateway": true, "hairpinMode": true, "ipam": {
    "type": "host-local", "ranges": [[{"subnet": "10.124.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON
    # Not every machine lets root make a process less likely to be killed: restrict_oom_score_adj.
    cat >containerd.toml <<TOML
version = 3
root = "$state/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.internal.v1.opt']
path = "$state/containerd/opt"
[plugins.'io.containerd.cri.v1.images']
snapshotter = "overlayfs"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "registry.test:$registry_port/pause:1"
[plugins.'io.containerd.cri.v1.images'.registry]
config_path = "$state/certs.d"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "$state/cni"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false
TOML
    PATH=$state/bin:$PATH run containerd "$containerd" --config containerd.toml
    until_true 30 test -S /run/containerd/containerd.sock
}

start_kubelet() {
    local pki=$state/cluster/pki
    # Evictions for want of disk or memory would only disturb: the machine is not the node's alone.
    cat >kubelet.yaml <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, x509: {clientCAFile: $pki/ca.crt}, webhook: {enabled: true}}
authorization: {mode: Webhook}
tlsCertFile: $pki/node.crt
tlsPrivateKeyFile: $pki/node.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$group
failCgroupV1: false
failSwapOn: false
clusterDomain: cluster.local
clusterDNS: [$address]
resolvConf: ""
volumePluginDir: /var/lib/kubelet/volume-plugins
evictionHard: {memory.available: 50Mi}
imageGCHighThresholdPercent: 100
localStorageCapacityIsolation: false
YAML
    run kubelet "$kubelet" --config=kubelet.yaml --kubeconfig="$pki/node.kubeconfig" \
        --hostname-override=node --node-ip=$address --root-dir="$state/kubelet"
}

start_proxy() {
    cat >proxy.yaml <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 10.124.0.0/24
clientConnection: {kubeconfig: $KUBECONFIG}
hostnameOverride: node
conntrack: {maxPerCore: 0}
YAML
    run kube-proxy "$kube_proxy" --config=proxy.yaml
}

if [[ ${1:-} == --inside ]]; then
    shift
    images=("$@")
    inside
else
    outside "$@"
fi
