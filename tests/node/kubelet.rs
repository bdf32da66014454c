//! What Forestall says of an image beside what kubelet and containerd make of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::control_plane::eventually;
use crate::node_under_test::{Node, REGISTRY_NAME, Turn};
use crate::release::{Release, deployment};

/// A digest that no image has.
const NO_DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
/// What becomes of a container whose image was pulled. Those of the registry have no program.
const PULLED: &[&str] = &["Running", "CreateContainerError", "RunContainerError"];
const NOT_PULLED: &[&str] = &["ImagePullBackOff", "ErrImagePull"];
const INVALID: &[&str] = &["InvalidImageName"];

/// One object, what Forestall must say of it, and what must become of its Pod.
struct Row {
    what: &'static str,
    object: Value,
    refused: bool,
    ends: &'static [&'static str],
}

/// A Deployment of this image.
fn of(what: &'static str, image: &str, refused: bool, ends: &'static [&'static str]) -> Row {
    Row {
        what,
        object: deployment("app", image),
        refused,
        ends,
    }
}

/// The same with other values in the PodSpec.
fn with(mut row: Row, spec: &Value) -> Row {
    for (key, value) in spec.as_object().unwrap() {
        row.object["spec"]["template"]["spec"][key] = value.clone();
    }
    row
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows(digest: &str) -> Vec<Row> {
    let there = "prom/prometheus:v2.55.1";
    let pause = format!("{REGISTRY_NAME}/pause:1");
    let volume =
        |reference: &str| json!({"volumes": [{"name": "data", "image": {"reference": reference}}]});
    let mounted = |reference: &str| {
        let mut spec = volume(reference);
        let mounts = json!([{"name": "data", "mountPath": "/data"}]);
        spec["containers"] = json!([{"name": "app", "image": pause, "volumeMounts": mounts}]);
        spec
    };
    let init = |image: &str| json!({"initContainers": [{"name": "first", "image": image}]});
    vec![
        of("S8", "prom/prometheus:v2.56.1", true, NOT_PULLED),
        of("S8", "grafana/loki:2.10.6", true, NOT_PULLED),
        of("S8", "grafana/alloy:1.5.0", true, NOT_PULLED),
        of(
            "S8",
            "otel/opentelemetry-collector-contrib:0.116.0",
            false,
            PULLED,
        ),
        of("a tag", there, false, PULLED),
        of(
            "the same, written whole",
            "docker.io/prom/prometheus:v2.55.1",
            false,
            PULLED,
        ),
        of("a program that runs", &pause, false, &["Running"]),
        of("no tag, and no latest", "prom/prometheus", true, NOT_PULLED),
        of(
            "a repository that is missing",
            "team/nothing:v1",
            true,
            NOT_PULLED,
        ),
        of(
            "a digest",
            &format!("prom/prometheus@{digest}"),
            false,
            PULLED,
        ),
        of(
            "case 26: a missing tag beside a digest",
            &format!("prom/prometheus:v9@{digest}"),
            false,
            PULLED,
        ),
        of(
            "a digest that is missing",
            &format!("prom/prometheus@{NO_DIGEST}"),
            true,
            NOT_PULLED,
        ),
        of(
            "a tag beside a missing digest",
            &format!("{there}@{NO_DIGEST}"),
            true,
            NOT_PULLED,
        ),
        of("case 5: capital letters", "Prometheus:v1", true, INVALID),
        of("case 6: an empty tag", "prom/prometheus:", true, INVALID),
        of(
            "case 8: 64 hexadecimal digits",
            &"a1".repeat(32),
            true,
            INVALID,
        ),
        of(
            "case 9: a digest that is too short",
            "prom/prometheus@sha256:abc",
            true,
            INVALID,
        ),
        of(
            "case 10: a digest of MD5",
            "prom/prometheus@md5:00000000000000000000000000000000",
            true,
            INVALID,
        ),
        with(
            of("a missing init container", &pause, true, NOT_PULLED),
            &init("prom/prometheus:v9"),
        ),
        with(
            of("case 102: an image volume", &pause, false, &["Running"]),
            &mounted(&pause),
        ),
        with(
            of("case 102: a missing image volume", &pause, true, NOT_PULLED),
            &mounted("prom/prometheus:v9"),
        ),
        with(
            of(
                "a missing one that nobody mounts",
                &pause,
                false,
                &["Running"],
            ),
            &volume("prom/prometheus:v9"),
        ),
        of(
            "a placeholder that nobody replaces",
            "auto",
            false,
            NOT_PULLED,
        ),
    ]
}

/// The reasons for which containers wait or have ended, and `Running`.
fn states(pods: &Value) -> Vec<String> {
    let statuses = |pod: &Value| {
        let lists = ["initContainerStatuses", "containerStatuses"];
        let lists = lists.map(|list| pod["status"][list].as_array().cloned().unwrap_or_default());
        lists.concat()
    };
    let pods = pods["items"].as_array().unwrap().iter();
    pods.flat_map(statuses)
        .flat_map(|status| {
            let state = &status["state"];
            let running = (!state["running"].is_null()).then(|| "Running".to_owned());
            let reasons = ["waiting", "terminated"]
                .map(|at| state[at]["reason"].as_str().map(ToOwned::to_owned));
            running.into_iter().chain(reasons.into_iter().flatten())
        })
        .collect()
}

/// The digest of an image, as the registry of the node has it.
fn digest(node: &Node, image: &str) -> String {
    let log = std::fs::read_to_string(node.state().join("log/registry.log")).unwrap();
    let made = log
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{image} ")));
    made.unwrap_or_else(|| panic!("{image} is not in {log}"))
        .to_owned()
}

/// A namespace in which objects are refused, and one in which they are only recorded.
fn namespaces(node: &Node, release: &Release<'_>) -> [String; 2] {
    let namespaces = [node.cluster.namespace(), node.cluster.namespace()];
    let mode = "forestall.dev/mode=enforce";
    let label = ["label", "namespace", &namespaces[0], mode];
    node.cluster.must(&label, "");
    let any = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "any"}});
    for namespace in &namespaces {
        release.until_judged(namespace, &any);
    }
    namespaces
}

impl Row {
    /// Its object by another name.
    fn named(&self, name: &str) -> Value {
        let mut object = self.object.clone();
        for place in [
            "/metadata/name",
            "/spec/selector/matchLabels/app",
            "/spec/template/metadata/labels/app",
        ] {
            *object.pointer_mut(place).unwrap() = json!(name);
        }
        object
    }

    /// Waits until its Pod is as it must be, and gives the states of the containers.
    fn ends(&self, node: &Node, namespace: &str, name: &str) -> Vec<String> {
        let selector = format!("app={name}");
        let place = ["--namespace", namespace, "--selector", &selector];
        let get = [&["get", "pods", "-o", "json"], &place[..]].concat();
        let look = || states(&serde_json::from_str(&node.cluster.must(&get, "")).unwrap());
        eventually(self.what, || {
            let states = look();
            states.iter().any(|state| self.ends.contains(&&**state))
        });
        look()
    }
}

/// The names of objects with an Event that they would be refused.
fn told(node: &Node, namespace: &str) -> BTreeSet<String> {
    let names = "jsonpath={range .items[*]}{.involvedObject.name} {end}";
    let place = ["--namespace", namespace, "-o", names];
    let only = ["get", "events", "--field-selector", "reason=WouldRefuse"];
    let told = node.cluster.must(&[&only, &place[..]].concat(), "");
    told.split_whitespace().map(ToOwned::to_owned).collect()
}

#[test]
fn what_is_refused_ends_in_image_pull_back_off_and_what_kubelet_pulls_is_admitted() {
    let node = Turn::wait();
    let values = json!({
        "registries": {
            "docker.io": {"server": format!("http://{REGISTRY_NAME}")},
            REGISTRY_NAME: {"plainHttp": true},
        },
    });
    let release = Release::install(&node, &values);
    let [enforced, audited] = namespaces(&node, &release);
    let rows = rows(&digest(&node, "prom/prometheus:v2.55.1"));
    let rows: BTreeMap<_, _> = (1..)
        .map(|number| format!("row-{number}"))
        .zip(rows)
        .collect();
    let dry_run = [
        "--namespace",
        &enforced,
        "create",
        "--dry-run=server",
        "-f",
        "-",
    ];
    let mut refused = BTreeSet::new();
    for (name, row) in &rows {
        let object = row.named(name);
        let verdict = node.cluster.kubectl(&dry_run, &object.to_string());
        let is_refused = verdict.stderr.contains("denied the request");
        assert!(
            is_refused || verdict.success,
            "{}: {}",
            row.what,
            verdict.stderr
        );
        if is_refused {
            refused.insert(name.clone());
        }
        let admitted = release.apply(&audited, &object);
        let is_silent = admitted.success && admitted.stderr.is_empty();
        assert!(is_silent, "{}: {}", row.what, admitted.stderr);
    }
    let mut wrong = Vec::new();
    for (name, row) in &rows {
        let states = row.ends(&node, &audited, name);
        let is_refused = refused.contains(name);
        let said = if is_refused { "refused" } else { "admitted" };
        let image = &row.object["spec"]["template"]["spec"]["containers"][0]["image"];
        println!(
            "{said:<9} {:<36} {:<40} {image}",
            states.join(", "),
            row.what
        );
        let runs = states.iter().any(|state| state == "Running");
        if is_refused != row.refused || is_refused && runs {
            wrong.push(row.what);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The leader says the same of what is stored.
    eventually("an Event on each Deployment that would be refused", || {
        told(&node, &audited) == refused
    });
}
