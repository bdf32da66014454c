//! The webhook and `forestall check` agree about the objects of examples/, word by word.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use forestall::report::metrics::Metrics;
use forestall::tls::{Certificates, PairFiles};
use forestall::webhook::server::{ConnectionLimits, Server};
use serde_json::{Value, json};

use crate::control_plane::{Output, eventually, run};
use crate::incidents::{IMAGES, configuration, example, install_definitions};
use crate::registry_server::Registry;
use crate::site::{Site, pki, pod};

/// The examples that both doors judge alike. `implicit-external-secret-defaults` judges a file by all
/// defaults and a request by the organisation's only, so its example is not among them.
const EXAMPLES: [&str; 9] = [
    "healthy-deployment.yaml",
    "s03-application.yaml",
    "s03-application-own-list.yaml",
    "s06-prometheus-1gi.yaml",
    "s06-prometheus-512mi.yaml",
    "s06-unit-mistake.yaml",
    "s08-alloy-tag.yaml",
    "s08-loki-tag.yaml",
    "s08-prometheus-tag.yaml",
];

/// A webhook that keeps what the API server sends, and allows everything.
struct Recorder {
    objects: Arc<Mutex<Vec<Value>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Recorder {
    fn start(site: &Site) -> Self {
        let objects: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = Arc::clone(&objects);
        let record = async move |body: Bytes| {
            let review: Value = serde_json::from_slice(&body).unwrap();
            kept.lock()
                .unwrap()
                .push(review["request"]["object"].clone());
            let response = json!({"uid": review["request"]["uid"], "allowed": true});
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}).to_string()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let files = PairFiles {
            certificate: pki().path("tls.crt"),
            key: pki().path("tls.key"),
        };
        let certificates =
            Arc::new(Certificates::from_files(files, Arc::new(Metrics::default())).unwrap());
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Server {
            listener,
            router: Router::new().route("/", post(record)),
            tls: Some(certificates.server_config().unwrap()),
            limits: ConnectionLimits::default(),
            metrics: None,
        };
        runtime.spawn(server.run(std::future::pending()));
        let recorder = Self {
            objects,
            _runtime: runtime,
        };
        recorder.register(site, port);
        recorder
    }

    fn register(&self, site: &Site, port: u16) {
        let namespace = &site.namespace;
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": format!("recorder-{namespace}")},
            "webhooks": [{
                "name": "recorder.forestall.dev",
                "clientConfig": {
                    "url": format!("https://127.0.0.1:{port}/"),
                    "caBundle": BASE64.encode(fs::read(pki().path("ca.crt")).unwrap()),
                },
                "rules": [{"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["CREATE"], "scope": "Namespaced"}],
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            }],
        });
        site.cluster
            .must(&["apply", "-f", "-"], &configuration.to_string());
        eventually("a recorded object", || {
            site.kubectl(
                &["create", "--dry-run=server", "-f", "-"],
                &pod("probe", "128Mi").to_string(),
            );
            !self.objects.lock().unwrap().is_empty()
        });
    }

    /// What the API server sent of the newest request for this object.
    fn sent(&self, name: &str) -> Value {
        let objects = self.objects.lock().unwrap();
        let sent = objects
            .iter()
            .rev()
            .find(|object| object["metadata"]["name"] == name);
        sent.cloned()
            .unwrap_or_else(|| panic!("{name} was not sent"))
    }
}

/// One finding as either door tells it. A warning at the API server has no path.
type Told = BTreeSet<(String, &'static str, String, String)>;

/// The findings in what kubectl printed.
fn at_the_api_server(output: &Output) -> Told {
    let mut told = Told::new();
    let rule = |text: &str| {
        let (rule, message) = text.split_once(": ")?;
        forestall::rules::catalogue::find(rule)
            .map(|meta| (meta.name.to_owned(), message.to_owned()))
    };
    let lines: Vec<_> = output.stderr.lines().collect();
    for pair in lines.windows(2) {
        if let Some((rule, message)) = rule(pair[0])
            && let Some(path) = pair[1].strip_prefix("  at ")
        {
            told.insert((rule, "error", path.to_owned(), message));
        }
    }
    for warning in lines
        .iter()
        .filter_map(|line| line.strip_prefix("Warning: "))
    {
        if let Some((rule, message)) = rule(warning) {
            told.insert((rule, "warning", String::new(), message));
        }
    }
    told
}

/// The findings of `forestall check`, told as the API server tells them.
fn in_files(report: &Value) -> Told {
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let tell = |finding: &Value| {
        let (rule, message) = (text(finding, "rule"), text(finding, "message"));
        if finding["level"] == "error" {
            let path = forestall::verdict::wording::field_path(&text(finding, "path"));
            (rule, "error", path, message)
        } else {
            (
                rule,
                "warning",
                String::new(),
                format!(
                    "{message}; {}",
                    text(finding, "help").lines().next().unwrap()
                ),
            )
        }
    };
    report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(tell)
        .collect()
}

/// What the registry of this test answers, as an evidence file.
fn evidence(registry: &Registry) -> String {
    let mut images: Vec<_> = IMAGES
        .iter()
        .map(|image| format!("  {image}: exists"))
        .collect();
    let missing = [
        "prom/prometheus:v2.56.1",
        "grafana/loki:2.10.6",
        "grafana/alloy:1.5.0",
    ];
    images.extend(missing.iter().map(|image| format!("  {image}: missing")));
    let tags = ["prom/prometheus", "grafana/loki", "grafana/alloy"].map(|repository| {
        let of = |image: &&str| {
            image
                .split_once(':')
                .filter(|(name, _)| *name == repository)
                .map(|(_, tag)| tag.to_owned())
        };
        let tags: Vec<_> = IMAGES.iter().filter_map(of).collect();
        format!("  {repository}: [{}]", tags.join(", "))
    });
    assert_eq!(registry.digests.len(), IMAGES.len());
    format!(
        "images:\n{}\ntags:\n{}\n",
        images.join("\n"),
        tags.join("\n")
    )
}

#[test]
fn the_webhook_and_the_check_command_find_the_same() {
    install_definitions();
    let registry = Registry::start(&IMAGES);
    let config = configuration(&registry.server());
    let site = Site::new(&config);
    let recorder = Recorder::start(&site);
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let config = write("config.yaml", &config);
    let evidence = write("evidence.yaml", &evidence(&registry));
    let mut found = 0;
    for name in EXAMPLES {
        let file = example(name);
        let output = site.kubectl(&["create", "-f", file.to_str().unwrap()], "");
        let [object] = &crate::incidents::objects(name)[..] else {
            panic!("{name} has one object")
        };
        let sent = recorder.sent(object["metadata"]["name"].as_str().unwrap());
        let sent = write(name, &sent.to_string());
        let mut check = Command::new(env!("CARGO_BIN_EXE_forestall"));
        check.args(["check", "--offline", "-o", "json"]);
        check
            .arg("--config")
            .arg(&config)
            .arg("--evidence")
            .arg(&evidence);
        check
            .arg("--cluster-state")
            .arg(example("crds"))
            .arg("-f")
            .arg(sent);
        let checked = run(&mut check, "");
        let report: Value = serde_json::from_str(&checked.stdout)
            .unwrap_or_else(|error| panic!("{error}: {checked:?}"));
        let told = at_the_api_server(&output);
        assert_eq!(
            told,
            in_files(&report),
            "{name}: left the webhook ({}), right check",
            output.stderr
        );
        assert_eq!(report["errors"], json!([]), "{name}");
        let refused = told.iter().any(|(_, level, ..)| *level == "error");
        assert_eq!(output.success, !refused, "{name}: {}", output.stderr);
        assert_eq!(
            checked.success, !refused,
            "{name}: the exit status of check"
        );
        found += told.len();
    }
    assert!(
        found >= 6,
        "only {found} findings: the examples show little"
    );
}
