//! The incidents of a real team, at a real API server: the manifests of examples/.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Output, eventually, run};
use crate::faulty::{Answer, EXISTS, Faulty};
use crate::registry_server::Registry;
use crate::site::Site;

/// What Docker Hub has, as far as the examples need it.
pub const IMAGES: [&str; 11] = [
    "prom/prometheus:v2.54.1",
    "prom/prometheus:v2.55.0",
    "prom/prometheus:v2.55.1",
    "prom/prometheus:v3.0.0",
    "grafana/loki:2.9.9",
    "grafana/loki:2.9.10",
    "grafana/loki:2.9.17",
    "grafana/loki:3.0.0",
    "grafana/alloy:v1.4.3",
    "grafana/alloy:v1.5.0",
    "grafana/alloy:v1.5.1",
];

pub fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name)
}

/// The configuration of the examples, with this registry in place of Docker Hub.
pub fn configuration(server: &str) -> String {
    let text = fs::read_to_string(example("forestall.yaml")).unwrap();
    assert!(text.contains("http://127.0.0.1:5000"));
    text.replace("http://127.0.0.1:5000", server)
}

/// Installs the definitions of examples/crds once.
pub fn install_definitions() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let cluster = ControlPlane::shared();
        let definitions = example("crds");
        let definitions = definitions.to_str().unwrap();
        cluster.must(&["apply", "-f", definitions], "");
        cluster.must(
            &["wait", "--for", "condition=Established", "-f", definitions],
            "",
        );
    });
}

/// A namespace judged as in the demo.
fn demo() -> (Site, Registry) {
    install_definitions();
    let registry = Registry::start(&IMAGES);
    (Site::new(&configuration(&registry.server())), registry)
}

fn apply(site: &Site, name: &str) -> Output {
    site.kubectl(&["apply", "-f", example(name).to_str().unwrap()], "")
}

fn refused_with(output: &Output, parts: &[&str]) {
    assert!(
        !output.success,
        "admitted: {}{}",
        output.stdout, output.stderr
    );
    let who = "admission webhook \"validate.forestall.dev\" denied the request: forestall refuses";
    for part in [&[who][..], parts].concat() {
        assert!(
            output.stderr.contains(part),
            "{part:?} is not in {}",
            output.stderr
        );
    }
}

fn silent(output: &Output) {
    assert!(
        output.success && output.stderr.is_empty(),
        "{}",
        output.stderr
    );
}

#[test]
fn s02_an_external_secret_gets_the_deletion_policy_of_the_organisation() {
    let (site, _registry) = demo();
    silent(&apply(&site, "s02-external-secret.yaml"));
    let stored = site.stored("externalsecret", "database");
    assert_eq!(stored["spec"]["target"]["deletionPolicy"], "Delete");
    assert_eq!(
        stored["spec"]["refreshInterval"], "15m",
        "what its author wrote stays"
    );
    // An object that exists is never changed.
    let before = site.stored("externalsecret", "database")["spec"].clone();
    silent(&site.kubectl(&["annotate", "externalsecret", "database", "a=b"], ""));
    let patch = json!({"spec": {"target": {"deletionPolicy": "Retain"}}}).to_string();
    silent(&site.kubectl(
        &[
            "patch",
            "externalsecret",
            "database",
            "--type=merge",
            "-p",
            &patch,
        ],
        "",
    ));
    let mut expected = before;
    expected["target"]["deletionPolicy"] = json!("Retain");
    assert_eq!(site.stored("externalsecret", "database")["spec"], expected);
}

#[test]
fn s02_what_the_author_wrote_is_left_alone() {
    let (site, _registry) = demo();
    let text = fs::read_to_string(example("s02-external-secret.yaml")).unwrap();
    let written = text.replace(
        "    name: database\n  data:",
        "    name: database\n    deletionPolicy: Retain\n  data:",
    );
    assert_ne!(text, written);
    for (name, arguments) in [
        ("client", &["apply", "-f", "-"][..]),
        ("server", &["apply", "--server-side", "-f", "-"]),
    ] {
        let object = written.replacen("name: database", &format!("name: {name}"), 1);
        silent(&Output {
            stderr: String::new(),
            ..site.kubectl(arguments, &object)
        });
        assert_eq!(
            site.stored("externalsecret", name)["spec"]["target"]["deletionPolicy"],
            "Retain"
        );
    }
    // Server-side apply shows by managedFields what its author left out.
    let left_out = text.replacen("name: database", "name: left-out", 1);
    site.must(&["apply", "--server-side", "-f", "-"], &left_out);
    assert_eq!(
        site.stored("externalsecret", "left-out")["spec"]["target"]["deletionPolicy"],
        "Delete"
    );
}

#[test]
fn s02_s03_an_application_without_a_list_gets_one_and_a_list_of_its_own_is_told() {
    let (site, _registry) = demo();
    silent(&apply(&site, "s03-application.yaml"));
    let list = site.stored("application", "platform")["spec"]["ignoreDifferences"].clone();
    let entries = list.as_array().unwrap();
    let of = |kind: &str| {
        entries
            .iter()
            .find(|entry| entry["kind"] == kind)
            .unwrap_or_else(|| panic!("{kind}: {list}"))
    };
    assert_eq!(of("APIService")["jsonPointers"], json!(["/status"]));
    let expressions = of("ExternalSecret")["jqPathExpressions"].to_string();
    for part in [
        "conversionStrategy",
        "decodingStrategy",
        "metadataPolicy",
        "select(. == ",
    ] {
        assert!(expressions.contains(part), "{part} is not in {expressions}");
    }

    let output = apply(&site, "s03-application-own-list.yaml");
    assert!(
        output.success && output.stderr.contains("Warning: unignored-live-fields: "),
        "{}",
        output.stderr
    );
    let own = site.stored("application", "platform-own-list")["spec"]["ignoreDifferences"].clone();
    assert_eq!(
        own.as_array().map(Vec::len),
        Some(1),
        "a list that Git holds is not touched: {own}"
    );
}

#[test]
fn s06_a_unit_mistake_is_refused() {
    let (site, _registry) = demo();
    refused_with(
        &apply(&site, "s06-unit-mistake.yaml"),
        &["\"512m\"", "write 512Mi"],
    );
}

#[test]
fn s06_prometheus_is_not_let_back_to_the_limit_at_which_it_was_killed() {
    let (site, _registry) = demo();
    refused_with(
        &apply(&site, "s06-prometheus-512mi.yaml"),
        &["oom-killed-memory-limit", "512Mi"],
    );
    silent(&apply(&site, "s06-prometheus-1gi.yaml"));
    refused_with(
        &apply(&site, "s06-prometheus-512mi.yaml"),
        &["oom-killed-memory-limit", "512Mi"],
    );
}

#[test]
fn s08_tags_that_were_never_published_are_refused_with_the_nearest_real_ones() {
    let (site, _registry) = demo();
    for (name, nearest) in [
        ("s08-prometheus-tag.yaml", "nearest: v2.55.1"),
        ("s08-loki-tag.yaml", "nearest: 2.9.17"),
        ("s08-alloy-tag.yaml", "nearest: v1.5.0"),
    ] {
        refused_with(&apply(&site, name), &["missing-image: ", nearest, ".image"]);
    }
    silent(&apply(&site, "healthy-deployment.yaml"));
}

#[test]
fn s08_a_registry_that_proves_nothing_refuses_nothing() {
    let json = "Content-Type: application/json";
    let faults = [
        Answer::Http(
            "401 Unauthorized",
            json,
            r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#,
        ),
        Answer::Http("429 Too Many Requests", "Retry-After: 60", "slow down"),
        Answer::Http("500 Internal Server Error", json, "{}"),
        Answer::Http(
            "404 Not Found",
            "Content-Type: text/html",
            "<html>nothing here</html>",
        ),
        Answer::Silence,
        Answer::HangUp,
    ];
    std::thread::scope(|scope| {
        for fault in faults {
            scope.spawn(move || {
                let registry = Faulty::start(fault);
                let site = Site::new(&configuration(&registry.server));
                // It has never let Forestall read anything: a metric names it, and no warning.
                silent(&apply(&site, "s08-prometheus-tag.yaml"));
                let readable = "forestall_registry_readable{registry=\"docker.io\"} ";
                assert!(
                    site.forestall.metrics().contains(&format!("{readable}0")),
                    "{}",
                    site.forestall.metrics()
                );
            });
            scope.spawn(move || {
                let registry = Faulty::start(EXISTS);
                let site = Site::new(&configuration(&registry.server));
                silent(&apply(&site, "healthy-deployment.yaml"));
                registry.answer(fault);
                let output = apply(&site, "s08-prometheus-tag.yaml");
                let warning = "Warning: forestall could not check missing-image";
                assert!(
                    output.success && output.stderr.contains(warning),
                    "{}",
                    output.stderr
                );
            });
        }
    });
}

#[test]
fn s08_a_registry_that_is_down_refuses_nothing() {
    let registry = Registry::start(&IMAGES);
    let site = Site::new(&configuration(&registry.server()));
    silent(&apply(&site, "healthy-deployment.yaml"));
    drop(registry);
    let output = apply(&site, "s08-prometheus-tag.yaml");
    assert!(
        output.success && output.stderr.contains("could not check missing-image"),
        "{}",
        output.stderr
    );
}

#[test]
fn the_label_of_a_namespace_turns_refusals_into_warnings_and_into_silence() {
    let (site, _registry) = demo();
    let label = |mode: &str| {
        let label = format!("forestall.dev/mode={mode}");
        site.cluster.must(
            &["label", "--overwrite", "namespace", &site.namespace, &label],
            "",
        );
    };
    let dry_run = || {
        let file = example("s06-unit-mistake.yaml");
        site.kubectl(
            &["apply", "--dry-run=server", "-f", file.to_str().unwrap()],
            "",
        )
    };
    label("warn");
    eventually("a warning in place of a refusal", || {
        let output = dry_run();
        output.success && output.stderr.contains("Warning: impossible-memory-limit: ")
    });
    label("audit");
    eventually("silence in place of a warning", || {
        let output = dry_run();
        // The API server has a warning of its own for fractions of a byte.
        output.success && !output.stderr.contains("impossible-memory-limit")
    });
    let metrics = site.forestall.metrics();
    assert!(
        metrics.contains("decision=\"would_deny\",dry_run=\"true\""),
        "{metrics}"
    );
    label("enforce");
    eventually("a refusal again", || !dry_run().success);
}

/// Every namespaced object of a file, for tests of what the API server makes of them.
pub fn objects(name: &str) -> Vec<Value> {
    let bytes = fs::read(example(name)).unwrap();
    let (documents, errors) = forestall::manifest::read(name, &bytes);
    assert!(errors.is_empty(), "{errors:?}");
    documents
        .into_iter()
        .map(|document| document.object.root().to_value())
        .collect()
}

/// A chart with one template: an example, with another memory limit where one is given.
fn chart(directory: &Path, template: &str) {
    fs::create_dir_all(directory.join("templates")).unwrap();
    let about = "apiVersion: v2\nname: prometheus\nversion: 0.1.0\n";
    fs::write(directory.join("Chart.yaml"), about).unwrap();
    let text = fs::read_to_string(example(template)).unwrap();
    let text = text.replace("memory: 512Mi", "memory: {{ .Values.memory }}");
    fs::write(directory.join("templates/deployment.yaml"), text).unwrap();
}

#[test]
fn helm_shows_the_refusal_too_and_installs_what_is_repaired() {
    let (site, _registry) = demo();
    let directory = tempfile::tempdir().unwrap();
    chart(directory.path(), "s06-prometheus-512mi.yaml");
    let install = |memory: &str| {
        let mut helm = Command::new(crate::go::go_program("helm"));
        helm.args(["upgrade", "--install", "monitoring"])
            .arg(directory.path())
            .args(["--namespace", &site.namespace])
            .args(["--set", &format!("memory={memory}")])
            .env("KUBECONFIG", site.cluster.kubeconfig())
            .env("HELM_CACHE_HOME", directory.path().join("cache"));
        run(&mut helm, "")
    };
    refused_with(&install("512Mi"), &["oom-killed-memory-limit"]);
    let output = install("1Gi");
    assert!(output.success, "{}", output.stderr);
}
