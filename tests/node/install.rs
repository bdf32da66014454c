//! `helm install` of the packed chart, and what the API server, kubelet and users then see.

use serde_json::{Value, json};

use crate::control_plane::eventually;
use crate::node_under_test::{Node, Turn};
use crate::release::{Release, deployment};

/// Names are resolved in the Pods: the registry has no address in any of this.
const MISSING: &str = "prom/prometheus:v2.55.9";
const THERE: &str = "prom/prometheus:v2.55.1";

/// The reasons for which containers of this app wait.
fn waits(node: &Node, namespace: &str, app: &str) -> String {
    let path = "jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}";
    let label = format!("app={app}");
    let arguments = [
        "--namespace",
        namespace,
        "get",
        "pods",
        "--selector",
        &label,
        "-o",
        path,
    ];
    node.cluster.must(&arguments, "")
}

#[test]
fn a_missing_tag_is_refused_through_the_service() {
    let node = Turn::wait();
    let release = Release::install(&node, &json!({"mode": "enforce"}));
    let namespace = node.cluster.namespace();
    let refused = release.until_judged(&namespace, &deployment("web", MISSING));
    assert!(!refused.success);
    for part in [
        "admission webhook \"validate.forestall.dev\" denied the request",
        "missing-image",
        "v2.55.9",
        "nearest: v2.55.1",
    ] {
        assert!(
            refused.stderr.contains(part),
            "{part} is not in {}",
            refused.stderr
        );
    }
    let admitted = release.apply(&namespace, &deployment("web", THERE));
    assert!(
        admitted.success && admitted.stderr.is_empty(),
        "{}",
        admitted.stderr
    );
}

#[test]
fn in_audit_mode_a_missing_tag_is_admitted_and_counted_and_kubelet_proves_it_right() {
    let node = Turn::wait();
    let release = Release::install(&node, &json!({}));
    let namespace = node.cluster.namespace();
    let admitted = release.until_judged(&namespace, &deployment("web", MISSING));
    assert!(
        admitted.success && admitted.stderr.is_empty(),
        "{}",
        admitted.stderr
    );
    let counted = release.sum(
        "forestall_admission_requests_total",
        &[
            "resource_kind=\"Deployment\"",
            "decision=\"would_deny\"",
            "dry_run=\"false\"",
        ],
    );
    assert!(counted >= 1.0, "{counted}");
    let found = release.sum(
        "forestall_rule_results_total",
        &[
            "rule=\"missing-image\"",
            "mode=\"audit\"",
            "result=\"would_deny\"",
        ],
    );
    assert!(found >= 1.0, "{found}");
    // By the leader's own look at the cluster.
    let events = [
        "--namespace",
        &namespace,
        "get",
        "events",
        "-o",
        "jsonpath={.items[*].message}",
    ];
    let told = [&events[..], &["--field-selector", "reason=WouldRefuse"]].concat();
    eventually("an Event on the Deployment", || {
        node.cluster.kubectl(&told, "").stdout.contains("v2.55.9")
    });
    eventually("the number to read before enforcing", || {
        release.sum("forestall_would_refuse", &["rule=\"missing-image\""]) >= 1.0
    });
    eventually("a container that cannot be pulled", || {
        let waits = waits(&node, &namespace, "web");
        waits.contains("ImagePullBackOff") || waits.contains("ErrImagePull")
    });
}

#[test]
fn doctor_finds_nothing_wrong_with_what_helm_installed() {
    let node = Turn::wait();
    let release = Release::install(&node, &json!({}));
    let namespace = ["--namespace", release.namespace.as_str()];
    let test = ["test", "forestall", "--timeout", "120s"];
    let tested = node.helm(&[&test, &namespace[..]].concat(), "");
    let logs = [&namespace[..], &["logs", "forestall-doctor"]].concat();
    let found = node.cluster.must(&logs, "");
    assert!(tested.success, "{}{found}", tested.stderr);
    for check in ["registered", "exclusions", "pods", "dry-run", "leader"] {
        let is_ok = |line: &str| line.split_whitespace().take(2).eq(["ok", check]);
        assert!(found.lines().any(is_ok), "{check}: {found}");
    }
}

#[test]
fn case_94_it_runs_as_any_user_on_a_root_that_nobody_writes_to() {
    let node = Turn::wait();
    let user = json!({"runAsUser": 12345, "runAsGroup": 12345});
    let release = Release::install(
        &node,
        &json!({"mode": "enforce", "podSecurityContext": user}),
    );
    for pod in release.pods() {
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(pod["spec"]["securityContext"]["runAsUser"], 12345);
        let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
        assert_eq!(*restarts, Value::from(0));
    }
    let namespace = node.cluster.namespace();
    let refused = release.until_judged(&namespace, &deployment("web", MISSING));
    assert!(
        refused.stderr.contains("missing-image"),
        "{}",
        refused.stderr
    );
}

#[test]
fn the_kernel_kills_what_writes_more_than_its_limit() {
    let node = Turn::wait();
    let namespace = node.cluster.namespace();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "greedy"}, "spec": {
        "restartPolicy": "Never",
        "containers": [{
            "name": "greedy",
            "image": "registry.test:5000/pause:1",
            "args": ["64"],
            "resources": {"limits": {"memory": "32Mi"}},
        }],
    }});
    let within = ["--namespace", &namespace];
    node.cluster.must(
        &[&within[..], &["create", "-f", "-"]].concat(),
        &pod.to_string(),
    );
    let path = "jsonpath={.status.containerStatuses[0].state.terminated.reason}";
    let reason = [&within[..], &["get", "pod", "greedy", "-o", path]].concat();
    eventually("a killed container", || {
        node.cluster.kubectl(&reason, "").stdout == "OOMKilled"
    });
}
