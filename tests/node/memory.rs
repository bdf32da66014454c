//! The memory of a running Pod.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::{Value, json};

use crate::node_under_test::Turn;
use crate::pki;
use crate::release::Release;
use crate::siege::{Siege, hostile};

/// MiB of memory that a Pod has in use, and that it had at the most, as the kernel counts them.
fn used(pod: &Value) -> [f64; 2] {
    let group = format!("pod{}", pod["metadata"]["uid"].as_str().unwrap());
    let (root, files) = if Path::new("/sys/fs/cgroup/memory").exists() {
        let files = ["memory.usage_in_bytes", "memory.max_usage_in_bytes"];
        ("/sys/fs/cgroup/memory/forestall-node/kubepods", files)
    } else {
        let files = ["memory.current", "memory.peak"];
        ("/sys/fs/cgroup/forestall-node/kubepods", files)
    };
    // By their class of service, Pods lie in there or one deeper.
    let places =
        ["", "burstable", "besteffort"].map(|class| Path::new(root).join(class).join(&group));
    let place = places.iter().find(|place| place.exists()).unwrap();
    files.map(|file| {
        let text = fs::read_to_string(place.join(file)).unwrap();
        text.trim_end().parse::<f64>().unwrap() / f64::from(1 << 20)
    })
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
    println!("idle: {:.1?} MiB now and at the most", used(&pods[0]));
    // In this thread, which is in the node's network.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(siege.lay(&hostile(), || {}));
    println!("besieged: {:.1?} MiB now and at the most", used(&pods[0]));
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
