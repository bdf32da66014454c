//! Custom resources that name images, judged by the leader.

use serde_json::json;

use super::{IMAGES, MISSING, Scene, only_in};
use crate::chart::custom_resources::{Kind, define, object};
use crate::control_plane::eventually;
use crate::registry_server::Registry;

const ALERTMANAGER: Kind = [
    "monitoring.coreos.com",
    "v1",
    "Alertmanager",
    "alertmanagers",
];
/// It is not in the version that its group prefers.
const AGENT: Kind = [
    "monitoring.coreos.com",
    "v1alpha1",
    "PrometheusAgent",
    "prometheusagents",
];
const GADGET: Kind = ["example.com", "v1", "Gadget", "gadgets"];
const CLUSTER_GADGET: Kind = ["example.com", "v1", "ClusterGadget", "clustergadgets"];

#[test]
fn a_custom_resource_is_counted_and_a_kind_that_nobody_installed_holds_up_nothing() {
    let scene = Scene::new();
    define(
        scene.cluster,
        &[ALERTMANAGER, AGENT, GADGET, CLUSTER_GADGET],
    );
    let registry = Registry::start(&IMAGES);
    let spec = |tag: &str| json!({"image": format!("registry.test/team/app:{tag}")});
    scene.apply(&object(ALERTMANAGER, "main", &spec("9.9.9")));
    scene.apply(&object(AGENT, "edge", &spec("9.9.9")));
    scene.apply(&object(GADGET, "old", &spec("9.9.9")));
    scene.apply(&object(GADGET, "good", &spec("1.0.0")));
    let added = "rules:
  missing-image:
    customResources:
      - {group: example.com, kind: Gadget, plural: gadgets, paths: [spec.image]}
      - {group: example.com, kind: ClusterGadget, plural: clustergadgets, paths: [spec.image]}
      - {group: absent.example.com, kind: Absent, plural: absents, paths: [spec.image]}
";
    let config = only_in(&scene.namespace, "audit", &registry);
    let leader = scene.leader(&(config.clone() + added));
    eventually("the number", || leader.number(MISSING) == Some(3.0));
    eventually("the Events", || scene.events().len() == 3);
    let notes = scene.notes();
    let start = "missing-image: spec.image: registry.test has no tag 9.9.9 in registry.test/team/app; nearest: 1.0.1";
    assert!(
        notes.iter().all(|note| note.starts_with(start)),
        "{notes:?}"
    );
    let available = |resource: &str| {
        leader.number(&format!(
            "forestall_kind_available{{resource=\"{resource}\"}}"
        ))
    };
    assert_eq!(available("gadgets.example.com"), Some(1.0));
    // Webhooks are registered for namespaced objects, so nobody would refuse the others.
    for absent in [
        "absents.absent.example.com",
        "clustergadgets.example.com",
        "kafkas.kafka.strimzi.io",
    ] {
        assert_eq!(available(absent), None, "{absent}");
    }
    // A change is seen, and a kind that is not configured any more is not counted.
    scene.apply(&object(GADGET, "old", &spec("1.0.1")));
    eventually("the repair", || leader.number(MISSING) == Some(2.0));
    scene.apply(&object(GADGET, "good", &spec("9.9.8")));
    eventually("another one", || leader.number(MISSING) == Some(3.0));
    leader.reconfigure(&config);
    eventually("those of built-in kinds", || {
        leader.number(MISSING) == Some(2.0)
    });
}
