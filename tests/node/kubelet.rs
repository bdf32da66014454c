//! What Forestall says of an image beside what kubelet and containerd make of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::control_plane::eventually;
use crate::node_under_test::{Node, REGISTRY_NAME, Turn};
use crate::release::{Release, deployment};

/// A digest that no image has.
const NO_DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
/// It fails kubelet: its "auth" is not base64.
const BROKEN_SECRET: &str = r#"{"auths": {"registry.example.com": {"auth": "robot:pass"}}}"#;

/// How a container ends that kubelet can start, for it has no program: it was pulled.
const PULLED: &[&str] = &["Running", "RunContainerError", "CrashLoopBackOff", "Error"];
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

fn rows(digest: &str) -> Vec<Row> {
    let there = "prom/prometheus:v2.55.1";
    let pause = format!("{REGISTRY_NAME}/pause:1");
    let volume =
        |reference: &str| json!({"volumes": [{"name": "data", "image": {"reference": reference}}]});
    let init = |image: &str| json!({"initContainers": [{"name": "first", "image": image}]});
    let secret = json!({"imagePullSecrets": [{"name": "broken"}]});
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
            &volume(there),
        ),
        with(
            of("case 102: a missing image volume", &pause, true, NOT_PULLED),
            &volume("prom/prometheus:v9"),
        ),
        with(
            of("case 52: a malformed pull secret", &pause, true, NOT_PULLED),
            &secret,
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

#[test]
fn what_is_refused_ends_in_image_pull_back_off_and_what_kubelet_pulls_is_admitted() {
    let node = Turn::wait();
    let values = json!({
        "rules": {"missing-image": {"pullSecrets": true}},
        "registries": {
            "docker.io": {"server": format!("http://{REGISTRY_NAME}")},
            REGISTRY_NAME: {"plainHttp": true},
        },
    });
    let release = Release::install(&node, &values);
    let (enforced, audited) = (node.cluster.namespace(), node.cluster.namespace());
    let label = [
        "label",
        "namespace",
        &enforced,
        "forestall.dev/mode=enforce",
    ];
    node.cluster.must(&label, "");
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "broken"},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": BROKEN_SECRET},
    });
    for namespace in [&enforced, &audited] {
        assert!(release.apply(namespace, &secret).success);
    }
    release.until_judged(&audited, &secret);
    let rows = rows(&digest(&node, "prom/prometheus:v2.55.1"));
    let mut wrong = Vec::new();
    let mut table = String::new();
    let dry_run = [
        "--namespace",
        &enforced,
        "create",
        "--dry-run=server",
        "-f",
        "-",
    ];
    let verdicts: Vec<_> = rows
        .iter()
        .map(|row| node.cluster.kubectl(&dry_run, &row.object.to_string()))
        .collect();
    for (number, row) in rows.iter().enumerate() {
        let mut object = row.object.clone();
        object["metadata"]["name"] = json!(format!("row-{number}"));
        for place in [
            "/spec/selector/matchLabels/app",
            "/spec/template/metadata/labels/app",
        ] {
            *object.pointer_mut(place).unwrap() = json!(format!("row-{number}"));
        }
        let admitted = release.apply(&audited, &object);
        assert!(
            admitted.success && admitted.stderr.is_empty(),
            "{}: {}",
            row.what,
            admitted.stderr
        );
    }
    for (number, (row, verdict)) in rows.iter().zip(&verdicts).enumerate() {
        let selector = format!("app=row-{number}");
        let get = [
            "--namespace",
            &audited,
            "get",
            "pods",
            "--selector",
            &selector,
            "-o",
            "json",
        ];
        let look = || states(&serde_json::from_str(&node.cluster.must(&get, "")).unwrap());
        eventually(row.what, || {
            look()
                .iter()
                .any(|state| row.ends.contains(&state.as_str()))
        });
        let seen = look();
        let refused = verdict.stderr.contains("denied the request");
        assert!(
            refused || verdict.success,
            "{}: {}",
            row.what,
            verdict.stderr
        );
        let image = &row.object["spec"]["template"]["spec"]["containers"][0]["image"];
        let said = if refused { "refused" } else { "admitted" };
        writeln!(
            table,
            "{said:<9} {:<28} {:<40} {image}",
            seen.join(", "),
            row.what
        )
        .unwrap();
        let runs = seen.iter().any(|state| state == "Running");
        if refused != row.refused || refused && runs {
            wrong.push(format!("{}: {said}; {}", row.what, verdict.stderr));
        }
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The leader says the same of what is stored.
    let expected: BTreeSet<_> = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.refused)
        .map(|(number, _)| format!("row-{number}"))
        .collect();
    let path = "jsonpath={range .items[*]}{.involvedObject.name}{'\n'}{end}";
    let told = [
        "--namespace",
        &audited,
        "get",
        "events",
        "--field-selector",
        "reason=WouldRefuse",
        "-o",
        path,
    ];
    eventually("an Event on each Deployment that would be refused", || {
        let told = node.cluster.must(&told, "");
        let told: BTreeSet<_> = told.lines().map(ToOwned::to_owned).collect();
        told == expected
    });
}
