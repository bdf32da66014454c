//! The Helm chart: what it renders, refuses and installs, by the real Helm and a real API server.

mod committed;
pub mod custom_resources;
mod guards;
mod monitoring;
mod objects;
mod release;
mod scope;
mod skipped;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use forestall::manifest;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::control_plane::{ControlPlane, Output, run};
use crate::go::go_program;
use crate::site::{Site, pki};

/// The files of charts/forestall/ci, without `-values.yaml`.
const CASES: [&str; 5] = [
    "cert-manager",
    "default",
    "enforce",
    "everything",
    "own-certificate",
];

/// What every installation must say.
const REGISTRY: &str = "image.registry=registry.example.com";

/// The chart as `helm package` makes it.
struct Packed {
    folder: TempDir,
    chart: PathBuf,
}

impl Packed {
    fn shared() -> &'static Self {
        static PACKED: OnceLock<Packed> = OnceLock::new();
        PACKED.get_or_init(|| {
            committed::write_sources();
            let folder = tempfile::tempdir().unwrap();
            let mut package = command(folder.path());
            package.arg("package").arg(source());
            package.arg("--destination").arg(folder.path());
            let output = run(&mut package, "");
            assert!(output.success, "{}", output.stderr);
            let chart = folder
                .path()
                .join(format!("forestall-{}.tgz", env!("CARGO_PKG_VERSION")));
            Packed { folder, chart }
        })
    }
}

/// The folder of the chart.
fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/forestall")
}

/// Helm, which keeps nothing outside of this folder.
fn command(home: &Path) -> Command {
    let mut command = Command::new(go_program("helm"));
    for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(name, home.join(name));
    }
    command
}

/// Runs `helm VERB forestall CHART` with these arguments.
fn helm(verb: &str, arguments: &[&str], cluster: Option<&ControlPlane>) -> Output {
    let packed = Packed::shared();
    let mut command = command(packed.folder.path());
    command.args([verb, "forestall"]);
    if matches!(verb, "install" | "template" | "upgrade") {
        command.arg(&packed.chart);
    }
    command.args(arguments);
    if let Some(cluster) = cluster {
        command.env("KUBECONFIG", cluster.kubeconfig());
    }
    run(&mut command, "")
}

/// Renders the chart without a cluster, as Argo CD does.
fn template(arguments: &[&str]) -> Output {
    let target = ["--namespace", "forestall", "--kube-version", "1.37.2"];
    helm("template", &[&target, arguments].concat(), None)
}

/// Renders the chart, which must succeed.
fn rendered(arguments: &[&str]) -> String {
    let output = template(arguments);
    assert!(output.success, "{arguments:?}: {}", output.stderr);
    output.stdout
}

/// Renders the chart with settings beside those that every installation has.
fn with(settings: &[&str]) -> Vec<Value> {
    let mut arguments = vec!["--set", REGISTRY];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    objects(&rendered(&arguments))
}

/// What the chart makes of one file of charts/forestall/ci.
fn case(name: &str) -> Vec<Value> {
    objects(&rendered(&["--values", values(name).to_str().unwrap()]))
}

fn values(name: &str) -> PathBuf {
    source().join(format!("ci/{name}-values.yaml"))
}

/// The objects in a text, read as kubectl reads them.
fn objects(text: &str) -> Vec<Value> {
    let (documents, errors) = manifest::read("rendered", text.as_bytes());
    assert!(errors.is_empty(), "{errors:?}\n{text}");
    documents
        .into_iter()
        .map(|document| document.object.root().to_value())
        .collect()
}

/// Those that Helm makes and deletes at other times than the rest.
fn is_hook(object: &Value) -> bool {
    object
        .pointer("/metadata/annotations/helm.sh~1hook")
        .is_some()
}

/// The objects of one kind, but for hooks.
fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects
        .iter()
        .filter(|object| object["kind"] == kind && !is_hook(object))
        .collect()
}

/// The only object of its kind.
fn the<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    match of_kind(objects, kind)[..] {
        [object] => object,
        ref others => panic!("not one {kind}, but {others:#?}"),
    }
}

/// Registers the chart's webhooks for the namespace of a site.
fn register(site: &Site, objects: &[Value]) {
    for (kind, path) in [
        ("MutatingWebhookConfiguration", "mutate"),
        ("ValidatingWebhookConfiguration", "validate"),
    ] {
        let mut configuration = the(objects, kind).clone();
        configuration["metadata"]["name"] = json!(format!("chart-{}", site.namespace));
        let webhook = &mut configuration["webhooks"][0];
        webhook["clientConfig"] = json!({
            "url": format!("https://127.0.0.1:{}/{path}", site.forestall.port),
            "caBundle": BASE64.encode(std::fs::read(pki().path("ca.crt")).unwrap()),
        });
        webhook["namespaceSelector"] =
            json!({"matchLabels": {"kubernetes.io/metadata.name": site.namespace}});
        site.cluster
            .must(&["apply", "-f", "-"], &configuration.to_string());
    }
}

/// The catalogue that the chart has.
fn catalogue() -> Vec<Map<String, Value>> {
    let text = std::fs::read_to_string(source().join("files/catalogue.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}
