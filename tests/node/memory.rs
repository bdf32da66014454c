//! The memory of a running Pod.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::{Value, json};

use crate::node_under_test::{Node, Turn};
use crate::pki;
use crate::release::Release;
use crate::siege::{Siege, hostile};

/// MiB of memory in use by each Pod of a release that cannot be given back, as kubelet tells it.
fn working_sets(node: &Node, release: &Release<'_>) -> Vec<f64> {
    let path = "/api/v1/nodes/node/proxy/stats/summary";
    let summary: Value =
        serde_json::from_str(&node.cluster.must(&["get", "--raw", path], "")).unwrap();
    let pods = summary["pods"].as_array().unwrap().iter();
    pods.filter(|pod| pod["podRef"]["namespace"] == release.namespace.as_str())
        .flat_map(|pod| pod["containers"].as_array().into_iter().flatten())
        .filter_map(|container| container["memory"]["workingSetBytes"].as_f64())
        .map(|bytes| bytes / f64::from(1 << 20))
        .collect()
}

/// Straight to the Pod, as anybody in its network could.
fn case_92(values: &Value) {
    let node = Turn::wait();
    let release = Release::install(&node, values);
    let pods = release.pods();
    let namespace = release.namespace.as_str();
    let secret = ["--namespace", namespace, "get", "secret", "forestall-tls"];
    let authority = [&secret[..], &["-o", r"jsonpath={.data.ca\.crt}"]].concat();
    let authority = BASE64.decode(node.cluster.must(&authority, "")).unwrap();
    let address = pods[0]["status"]["podIP"].as_str().unwrap();
    let siege = Siege {
        address: format!("{address}:9443"),
        name: format!("forestall.{namespace}.svc"),
        client: pki::client(&authority, &["http/1.1"]),
    };
    println!("idle: {:.1?} MiB", working_sets(&node, &release));
    // In this thread, which is in the node's network.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(siege.lay(&hostile(), || {}));
    println!("besieged: {:.1?} MiB", working_sets(&node, &release));
    let restarts = release.pods()[0]["status"]["containerStatuses"][0]["restartCount"].clone();
    assert_eq!(restarts, 0, "the Pod was killed");
}

#[test]
fn case_92_at_64_mib_no_review_gets_the_pod_killed() {
    case_92(&json!({
        "replicaCount": 1,
        "mode": "enforce",
        "rules": {"missing-image": {"mode": "off"}},
        "resources": {"requests": {"memory": "32Mi"}, "limits": {"memory": "64Mi"}},
    }));
}

#[test]
fn case_92_at_the_default_limit_no_review_gets_the_pod_killed() {
    case_92(&json!({
        "replicaCount": 1,
        "mode": "enforce",
        "rules": {"missing-image": {"mode": "off"}},
    }));
}
