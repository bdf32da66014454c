//! Images that are gone from the registry: where they are all the same, and what a change may keep.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::time::Duration;

use forestall::evidence::{Holder, Unknown};
use forestall::image::ImageReference;
use forestall::objects::{NodeState, PodImages, Reads};
use kube::Client;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Output, eventually, run};
use crate::registry_server::Registry;
use crate::site::{Reach, Scope, Site, deployment, pod};
use crate::view::{self, Line, QUICK, State, available, listed};

/// Who has images.
const IMAGES: &[Reads] = &[Reads::all::<NodeState>(), Reads::all::<PodImages>()];

/// A registry with one tag, and the configuration by which it is asked.
fn registry() -> (Registry, String) {
    let registry = Registry::start(&["team/app:1.0.0"]);
    let server = registry.server();
    let config = format!("registries: {{registry.test: {{server: {server:?}}}}}\n");
    (registry, config)
}

fn image(tag: &str) -> String {
    format!("registry.test/team/app:{tag}")
}

fn with_image(mut object: Value, tag: &str, policy: &str) -> Value {
    let spec = match object.pointer_mut("/spec/template/spec") {
        Some(spec) => spec,
        None => &mut object["spec"],
    };
    spec["containers"][0]["image"] = json!(image(tag));
    spec["containers"][0]["imagePullPolicy"] = json!(policy);
    object
}

fn refused(output: &Output) -> bool {
    !output.success && output.stderr.contains("has no tag")
}

fn silent(output: &Output) -> bool {
    output.success && output.stderr.is_empty()
}

/// Writes down that a node has images, as its kubelet would.
fn node_with(cluster: &ControlPlane, name: &str, images: &[String]) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    cluster.must(&["apply", "-f", "-"], &node.to_string());
    let status = json!({"status": {"images": [{"names": images, "sizeBytes": 1}]}});
    patch_status(cluster, &["node", name], &status);
}

/// Writes down what became of the container of a Pod, as its kubelet would.
fn pod_status(cluster: &ControlPlane, namespace: &str, name: &str, phase: &str, tag: &str) {
    let digest = "1".repeat(64);
    let container = json!({
        "name": "app", "image": image(tag), "ready": true, "restartCount": 0,
        "imageID": format!("registry.test/team/app@sha256:{digest}"),
        "state": {"running": {"startedAt": "2026-11-25T12:00:00Z"}},
    });
    let status = json!({"status": {"phase": phase, "containerStatuses": [container]}});
    patch_status(cluster, &["--namespace", namespace, "pod", name], &status);
}

fn patch_status(cluster: &ControlPlane, object: &[&str], status: &Value) {
    let text = status.to_string();
    let patch = [
        "patch",
        "--subresource",
        "status",
        "--type=merge",
        "-p",
        &text,
    ];
    cluster.must(&[&patch, object].concat(), "");
}

fn dry_run(site: &Site, object: &Value) -> Output {
    site.kubectl(
        &["create", "--dry-run=server", "-f", "-"],
        &object.to_string(),
    )
}

#[test]
fn registry_case_101_what_a_node_or_a_pod_has_is_warned_about_where_nodes_do_not_ask_again() {
    let (_registry, config) = registry();
    let site = Site::unregistered(&config);
    let other = site.cluster.namespace();
    for (namespace, tag) in [(&site.namespace, "101.2"), (&other, "101.3")] {
        let running = with_image(pod("running", "128Mi"), tag, "IfNotPresent").to_string();
        let create = ["--namespace", namespace, "create", "-f", "-"];
        site.cluster.must(&create, &running);
    }
    site.register(Reach::Service, Scope::Catalogue);
    let create = |tag: &str, policy: &str| {
        dry_run(&site, &with_image(deployment("web", "128Mi"), tag, policy))
    };
    for tag in ["101.1", "101.2", "101.3"] {
        let output = create(tag, "IfNotPresent");
        assert!(refused(&output), "nobody has {tag}: {}", output.stderr);
    }

    node_with(site.cluster, "images-101", &[image("101.1")]);
    pod_status(site.cluster, &site.namespace, "running", "Running", "101.2");
    pod_status(site.cluster, &other, "running", "Running", "101.3");
    let own_pod = format!("the node of Pod {}/running", site.namespace);
    for (tag, who) in [
        ("101.1", "node images-101"),
        ("101.2", own_pod.as_str()),
        ("101.3", "the node of a running Pod"),
    ] {
        let told = format!(
            "Warning: missing-image: app: registry.test has no tag {tag} in registry.test/team/app; \
             {who} has it still, but others cannot pull it"
        );
        eventually(&told, || {
            let output = create(tag, "IfNotPresent");
            output.success && output.stderr.contains(&told)
        });
        let output = create(tag, "Always");
        assert!(refused(&output), "{tag}: {}", output.stderr);
    }
    // `check` asks the same cluster, and writes down what it needs to say the same again.
    let files = tempfile::tempdir().unwrap();
    let config_file = files.path().join("forestall.yaml");
    fs::write(&config_file, &config).unwrap();
    let record = files.path().join("evidence.yaml");
    let file = with_image(deployment("web", "128Mi"), "101.1", "IfNotPresent").to_string();
    let check = |more: &[&OsStr]| {
        let mut check = Command::new(env!("CARGO_BIN_EXE_forestall"));
        let check = check
            .args(["check", "-f", "-", "--config"])
            .arg(&config_file);
        let check = check
            .args(more)
            .env("KUBECONFIG", site.cluster.kubeconfig());
        let output = run(check, &file);
        assert!(output.success, "{}{}", output.stdout, output.stderr);
        output.stdout
    };
    let context = ["config", "current-context"];
    let context = site.cluster.must(&context, "");
    let asked = check(&[
        "--context".as_ref(),
        context.trim_end().as_ref(),
        "--record".as_ref(),
        record.as_ref(),
    ]);
    assert!(asked.contains("node images-101 has it still"), "{asked}");
    let again = check(&["--offline".as_ref(), "--evidence".as_ref(), record.as_ref()]);
    assert!(again.contains("node nodes[0] has it still"), "{again}");
    // An API server writes the policy of a template that has none.
    let mut by_default = with_image(deployment("web", "128Mi"), "101.1", "");
    by_default["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = Value::Null;
    let output = dry_run(&site, &by_default);
    assert!(output.success, "{}", output.stderr);
    let output = create("101.4", "IfNotPresent");
    assert!(refused(&output), "{}", output.stderr);
    site.cluster.must(&["delete", "node", "images-101"], "");
    eventually("the end of the node", || {
        refused(&create("101.1", "IfNotPresent"))
    });
}

#[test]
fn registry_case_12_a_blank_image_of_a_template_is_left_to_whoever_fills_it_in() {
    let (_registry, config) = registry();
    let site = Site::new(&config);
    let with = |mut object: Value, image: &str| {
        let pointer = match object["kind"].as_str() {
            Some("Pod") => "/spec/containers/0/image",
            _ => "/spec/template/spec/containers/0/image",
        };
        *object.pointer_mut(pointer).unwrap() = json!(image);
        dry_run(&site, &object)
    };
    let output = with(deployment("web", "128Mi"), " ");
    assert!(silent(&output), "{}", output.stderr);
    // The API server itself refuses this one.
    let output = with(pod("web", "128Mi"), " nginx");
    assert!(
        !output.success && !output.stderr.contains("webhook"),
        "{}",
        output.stderr
    );
}

#[test]
fn registry_case_97_and_98_an_image_that_has_gone_may_stay_and_a_new_one_must_exist() {
    let (_registry, config) = registry();
    let site = Site::unregistered(&config);
    let web = |tag: &str| with_image(deployment("web", "128Mi"), tag, "Always");
    assert!(site.apply(&web("0.9.0")).success);
    site.register(Reach::Service, Scope::Catalogue);
    // 97: nobody hears of it who does not change the content.
    assert!(silent(&site.apply(&web("0.9.0"))));
    assert!(silent(
        &site.kubectl(&["annotate", "deployment", "web", "team=a"], "")
    ));
    assert!(silent(
        &site.kubectl(&["scale", "deployment", "web", "--replicas=2"], "")
    ));
    let mut other = web("0.9.0");
    other["spec"]["minReadySeconds"] = json!(5);
    let output = site.apply(&other);
    assert!(output.success, "{}", output.stderr);
    // 98
    let output = site.apply(&web("0.9.1"));
    assert!(refused(&output), "{}", output.stderr);
    let output = site.apply(&web("1.0.0"));
    assert!(silent(&output), "{}", output.stderr);
}

#[test]
fn registry_case_99_a_pod_that_a_controller_makes_is_not_refused() {
    let (_registry, config) = registry();
    let site = Site::new(&config);
    let mut child = with_image(pod("web-1", "128Mi"), "0.9.0", "Always");
    assert!(refused(&dry_run(&site, &child)));
    child["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1", "controller": true}]);
    let output = dry_run(&site, &child);
    assert!(silent(&output), "{}", output.stderr);
}

#[test]
fn registry_case_100_an_image_that_is_never_pulled_is_not_asked_for() {
    let (_registry, config) = registry();
    let site = Site::new(&config);
    let asked = || {
        let series = "forestall_registry_requests_total{registry=\"registry.test\"";
        site.forestall.metrics().contains(series)
    };
    let output = dry_run(&site, &with_image(pod("app", "128Mi"), "0.9.0", "Never"));
    assert!(silent(&output), "{}", output.stderr);
    assert!(!asked(), "{}", site.forestall.metrics());
    assert!(refused(&dry_run(
        &site,
        &with_image(pod("app", "128Mi"), "0.9.0", "Always")
    )));
    assert!(asked(), "{}", site.forestall.metrics());
}

#[test]
fn registry_case_102_an_image_volume_is_judged() {
    let (_registry, config) = registry();
    let site = Site::new(&config);
    let with_volume = |tag: &str| {
        let mut pod = with_image(pod("app", "128Mi"), "1.0.0", "Always");
        pod["spec"]["volumes"] = json!([{"name": "model", "image": {"reference": image(tag)}}]);
        pod["spec"]["containers"][0]["volumeMounts"] =
            json!([{"name": "model", "mountPath": "/model"}]);
        dry_run(&site, &pod)
    };
    let output = with_volume("1.0.0");
    assert!(silent(&output), "{}", output.stderr);
    let output = with_volume("0.9.0");
    assert!(
        refused(&output) && output.stderr.contains("at spec.volumes[0].image.reference"),
        "{}",
        output.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_an_image_is_followed_and_an_ended_pod_has_none() {
    let cluster = ControlPlane::shared();
    let namespace = cluster.namespace();
    let (view, metrics) = listed(cluster.client().await, IMAGES, QUICK).await;
    assert!(available(&metrics, "pods", 1), "{}", metrics.encode());
    let reference = ImageReference::parse(&image("followed")).unwrap();
    let holder = || view.holder(&reference);
    assert_eq!(holder(), Ok(None));

    node_with(cluster, "images-followed", &[image("followed")]);
    let node = Holder::Node("images-followed".to_owned());
    view::eventually("the node's image", || holder() == Ok(Some(node.clone()))).await;
    node_with(cluster, "images-followed", &[image("another")]);
    view::eventually("the end of the image", || holder() == Ok(None)).await;
    cluster.must(&["delete", "node", "images-followed"], "");

    let running = with_image(pod("running", "128Mi"), "followed", "IfNotPresent");
    let create = ["--namespace", &namespace, "create", "-f", "-"];
    cluster.must(&create, &running.to_string());
    pod_status(cluster, &namespace, "running", "Running", "followed");
    let running = Holder::Pod {
        namespace: namespace.clone(),
        name: "running".to_owned(),
    };
    view::eventually("the Pod", || holder() == Ok(Some(running.clone()))).await;
    pod_status(cluster, &namespace, "running", "Succeeded", "followed");
    view::eventually("the end of the Pod", || holder() == Ok(None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_list_it_is_unknown_who_has_an_image() {
    let cluster = ControlPlane::shared();
    let line = Line::to(cluster.config().await, State::Cut).await;
    let patience = view::Patience {
        first_list: Duration::from_millis(100),
        ..QUICK
    };
    let reference = ImageReference::parse(&image("unlisted")).unwrap();
    let (view, _) = listed(line.client(), IMAGES, patience).await;
    assert_eq!(view.holder(&reference), Err(Unknown::NotSynced));
    line.set(State::Open);
    view::eventually("the lists", || view.holder(&reference) == Ok(None)).await;

    // A guardrail that was off at the start finds out from its first question on.
    let (view, metrics) = view::listed_and_later(cluster.client().await, &[], IMAGES, QUICK).await;
    assert!(!metrics.encode().contains("resource=\"pods\""));
    assert_eq!(view.holder(&reference), Err(Unknown::NotSynced));
    view::eventually("the lists", || view.holder(&reference) == Ok(None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_listed_has_no_image() {
    let cluster = ControlPlane::shared();
    let mut config = cluster.config().await;
    config.auth_info.impersonate = Some("system:serviceaccount:nowhere:nobody".to_owned());
    let client = Client::try_from(config).unwrap();
    let (view, metrics) = listed(client, IMAGES, QUICK).await;
    let reference = ImageReference::parse(&image("forbidden")).unwrap();
    assert_eq!(view.holder(&reference), Ok(None));
    assert!(available(&metrics, "nodes", 0), "{}", metrics.encode());
}
