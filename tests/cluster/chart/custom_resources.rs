//! Kinds of custom resources with images: one value for the configuration, the webhook and the roles.

use serde_json::{Value, json};

use super::{REGISTRY, objects, of_kind, register, rendered, the};
use crate::control_plane::{ControlPlane, eventually};
use crate::registry_server::Registry;
use crate::site::Site;

/// Group, version, kind and plural name.
pub type Kind = [&'static str; 4];

const PROMETHEUS: Kind = ["monitoring.coreos.com", "v1", "Prometheus", "prometheuses"];
pub const WIDGET: Kind = ["example.com", "v1", "Widget", "widgets"];

/// A small definition of a kind of custom resources, whose spec may be anything.
fn definition([group, version, kind, plural]: Kind) -> Value {
    let is_cluster_scoped = kind.starts_with("Cluster");
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group,
            "scope": if is_cluster_scoped { "Cluster" } else { "Namespaced" },
            "names": {"kind": kind, "listKind": format!("{kind}List"), "plural": plural,
                      "singular": kind.to_lowercase()},
            "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object",
                "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }}}],
        },
    })
}

/// Installs definitions, and waits until their objects can be written.
pub fn define(cluster: &ControlPlane, kinds: &[Kind]) {
    for kind in kinds {
        let name = format!("crd/{}.{}", kind[3], kind[0]);
        cluster.must(&["apply", "-f", "-"], &definition(*kind).to_string());
        cluster.must(&["wait", "--for", "condition=Established", &name], "");
    }
}

/// An object of such a kind.
pub fn object([group, version, kind, _]: Kind, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": format!("{group}/{version}"), "kind": kind,
           "metadata": {"name": name}, "spec": spec})
}

/// What is written of widgets, in the values and in the configuration.
pub fn widgets() -> Value {
    json!({"group": "example.com", "kind": "Widget", "plural": "widgets",
           "paths": ["spec.image", "spec.parts[*].image"]})
}

/// What the chart makes of these settings of missing-image.
fn chart(settings: &Value, registries: &Value) -> Vec<Value> {
    let rules = format!("rules={}", json!({"missing-image": settings}));
    let registries = format!("registries={registries}");
    let set = ["--set", REGISTRY, "--set", "mode=enforce"];
    let json = ["--set-json", &rules, "--set-json", &registries];
    objects(&rendered(&[set, json].concat()))
}

/// Whether a list of rules has one for this group and resource alone; all of its other fields.
fn rule(rules: &Value, group: &str, resource: &str) -> Option<Value> {
    let mut rules = rules.as_array().unwrap().iter();
    let is_for = |rule: &&Value| {
        rule["apiGroups"] == json!([group]) && rule["resources"] == json!([resource])
    };
    let mut rest = rules.find(is_for)?.as_object().unwrap().clone();
    rest.retain(|key, _| key != "apiGroups" && key != "resources");
    Some(rest.into())
}

#[test]
fn one_value_feeds_the_configuration_the_webhook_and_the_roles() {
    let objects = chart(&json!({"customResources": [widgets()]}), &json!({}));
    let webhook = &the(&objects, "ValidatingWebhookConfiguration")["webhooks"][0];
    let rest =
        json!({"apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "scope": "Namespaced"});
    assert_eq!(
        rule(&webhook["rules"], "example.com", "widgets"),
        Some(rest)
    );
    let mutating = the(&objects, "MutatingWebhookConfiguration").to_string();
    assert!(!mutating.contains("widgets"), "{mutating}");
    let role = the(&objects, "ClusterRole");
    assert_eq!(
        rule(&role["rules"], "example.com", "widgets"),
        Some(json!({"verbs": ["list", "watch"]}))
    );
    let config = the(&objects, "ConfigMap")["data"]["config.yaml"].to_string();
    assert!(config.contains("customResources"), "{config}");
    // What is off everywhere needs none of it.
    let off = json!({"mode": "off", "customResources": [widgets()]});
    let objects = chart(&off, &json!({}));
    for kind in ["ValidatingWebhookConfiguration", "ClusterRole"] {
        for object in of_kind(&objects, kind) {
            assert!(!object.to_string().contains("widgets"), "{object}");
        }
    }
}

#[test]
fn an_image_that_a_custom_resource_names_is_refused_where_it_does_not_exist() {
    define(ControlPlane::shared(), &[PROMETHEUS, WIDGET]);
    let registry = Registry::start(&["team/app:1.0.0", "team/app:1.0.1"]);
    let registries = json!({"registry.test": {"server": registry.server()}});
    let objects = chart(&json!({"customResources": [widgets()]}), &registries);
    let config = the(&objects, "ConfigMap")["data"]["config.yaml"].clone();
    let site = Site::unregistered(config.as_str().unwrap());
    register(&site, &objects);
    let create = |object: &Value| site.kubectl(&["create", "-f", "-"], &object.to_string());
    let image = |tag: &str| format!("registry.test/team/app:{tag}");
    let probe = object(WIDGET, "probe", &json!({"image": "No:1"}));
    eventually("the webhook", || {
        let dry = ["create", "--dry-run=server", "-f", "-"];
        !site.kubectl(&dry, &probe.to_string()).success
    });

    let spec = json!({"replicas": 2, "image": image("9.9.9")});
    let output = create(&object(PROMETHEUS, "k8s", &spec));
    assert!(!output.success, "{output:?}");
    for part in [
        "forestall refuses Prometheus ",
        "missing-image: spec.image: registry.test has no tag 9.9.9 in registry.test/team/app",
        "at spec.image\n",
        "nearest: 1.0.1",
    ] {
        assert!(output.stderr.contains(part), "{part:?}: {}", output.stderr);
    }
    let parts = |tag: &str| {
        json!({"image": image("1.0.0"), "parts": [
            {"name": "odd", "image": "{{ placeholder }}"}, {"name": "even", "image": image(tag)}]})
    };
    let output = create(&object(WIDGET, "web", &parts("9.9.9")));
    let message = "spec.parts[even].image: registry.test has no tag 9.9.9";
    assert!(
        !output.success && output.stderr.contains(message),
        "{output:?}"
    );
    assert!(
        output.stderr.contains("at spec.parts[1].image"),
        "{output:?}"
    );

    // What is there is written without a word, and only a change for the worse is refused.
    let output = create(&object(WIDGET, "web", &parts("1.0.1")));
    assert!(output.success && output.stderr.is_empty(), "{output:?}");
    let patch = |spec: &Value| {
        let patch = json!({"spec": spec}).to_string();
        site.kubectl(
            &["patch", "widget", "web", "--type=merge", "-p", &patch],
            "",
        )
    };
    assert!(patch(&json!({"replicas": 3})).success);
    assert!(!patch(&json!({"image": image("9.9.9")})).success);
    assert!(site.kubectl(&["label", "widget", "web", "a=b"], "").success);
    assert!(site.kubectl(&["delete", "widget", "web"], "").success);
    let label = "resource_kind=\"Widget\",operation=\"CREATE\",decision=\"deny\"";
    let metrics = site.forestall.metrics();
    assert!(metrics.contains(label), "{metrics}");
}
