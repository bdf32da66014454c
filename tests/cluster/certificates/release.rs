//! What the chart installs, without the chart: names, registration, endpoints, and load on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::PostParams;
use kube::{Api, Client};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;

use super::guarded;
use crate::control_plane::{ControlPlane, Output};
use crate::pki::client;
use crate::site::Forestall;

pub const SECRET: &str = "forestall-tls";
pub const SERVICE: &str = "forestall";

/// No registry is asked in these tests.
pub const NO_REGISTRY: &str = "rules: {missing-image: {mode: off}}\n";

/// A namespace with a Service and, once registered, two webhook configurations of its name.
pub struct Release {
    pub cluster: &'static ControlPlane,
    pub namespace: String,
}

impl Release {
    pub fn new() -> Self {
        let cluster = ControlPlane::shared();
        let release = Self {
            cluster,
            namespace: cluster.namespace(),
        };
        let service = ["create", "service", "externalname", SERVICE];
        release.kubectl(&[&service[..], &["--external-name=localhost"]].concat());
        release
    }

    /// The real program, as the chart starts it.
    pub fn start(&self, listen: &str) -> Forestall {
        let secret = format!("{}/{SECRET}", self.namespace);
        let lease = format!("{0}/{0}", self.namespace);
        let flags = [
            ["--listen", listen],
            ["--tls-secret", &secret],
            ["--tls-service", SERVICE],
            ["--webhook-configuration", &self.namespace],
            ["--lease", &lease],
        ];
        Forestall::launch(self.cluster.kubeconfig(), NO_REGISTRY, &flags.concat())
    }

    /// Registers both webhooks for Deployments in this namespace, without a caBundle.
    pub fn register(&self, port: u16) {
        let configuration = |kind: &str, verb: &str| {
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": format!("{kind}WebhookConfiguration"),
                "metadata": {"name": self.namespace},
                "webhooks": [{
                    "name": format!("{verb}.forestall.dev"),
                    "clientConfig": {"service": {
                        "namespace": self.namespace, "name": SERVICE,
                        "path": format!("/{verb}"), "port": port,
                    }},
                    "rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"],
                               "resources": ["deployments"], "operations": ["CREATE"]}],
                    "failurePolicy": "Fail",
                    "sideEffects": "None",
                    "admissionReviewVersions": ["v1"],
                    "namespaceSelector":
                        {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}},
                }],
            })
        };
        self.apply(&json!({"apiVersion": "v1", "kind": "List", "items": [
            configuration("Mutating", "mutate"),
            configuration("Validating", "validate"),
        ]}));
    }

    pub fn unregister(&self) {
        for webhook in ["mutating", "validating"] {
            self.kubectl(&["delete", &kind(webhook), &self.namespace]);
        }
    }

    /// Writes what the endpoints of a Service look like. There are no Pods here, and an address of
    /// this machine is only taken as a name.
    pub fn publish(&self, addresses: &[&str]) {
        let endpoints = addresses
            .iter()
            .map(|address| json!({"addresses": [address]}));
        self.apply(&json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": SERVICE, "labels": {"kubernetes.io/service-name": SERVICE}},
            "addressType": "FQDN",
            "endpoints": endpoints.collect::<Vec<_>>(),
        }));
    }

    /// Runs kubectl in the namespace, which must succeed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let namespace = ["--namespace", self.namespace.as_str()];
        self.cluster.must(&[&namespace, arguments].concat(), "")
    }

    pub fn apply(&self, object: &Value) {
        let apply = ["--namespace", &self.namespace, "apply", "-f", "-"];
        self.cluster.must(&apply, &object.to_string());
    }

    /// Asks for a Deployment with this memory limit, and stores nothing.
    pub fn dry_run(&self, memory: &str) -> Output {
        let create = [
            "--namespace",
            &self.namespace,
            "create",
            "--dry-run=server",
            "-f",
            "-",
        ];
        self.cluster.kubectl(&create, &guarded(memory).to_string())
    }

    /// The Secret; null where there is none.
    pub fn secret(&self) -> Value {
        let get = ["get", "secret", SECRET, "-o", "json", "--ignore-not-found"];
        serde_json::from_str(&self.kubectl(&get)).unwrap_or_default()
    }

    pub fn secret_version(&self) -> String {
        self.secret()["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// A text in the Secret.
    pub fn in_secret(&self, key: &str) -> String {
        text(&self.secret()["data"][key])
    }

    pub fn break_secret(&self, key: &str, value: &str) {
        let patch = json!({"data": {key: BASE64.encode(value)}}).to_string();
        self.kubectl(&["patch", "secret", SECRET, "--type=merge", "--patch", &patch]);
    }

    /// The caBundle, in PEM; empty where there is none.
    pub fn trusted(&self, webhook: &str) -> String {
        let get = ["get", &kind(webhook), &self.namespace, "-o", "json"];
        let configuration: Value = serde_json::from_str(&self.kubectl(&get)).unwrap();
        text(&configuration["webhooks"][0]["clientConfig"]["caBundle"])
    }

    pub fn overwrite(&self, webhook: &str, bundle: &str) {
        let place = "/webhooks/0/clientConfig/caBundle";
        let operation = json!({"op": "replace", "path": place, "value": BASE64.encode(bundle)});
        let patch = format!("[{operation}]");
        let kind = kind(webhook);
        self.kubectl(&[
            "patch",
            &kind,
            &self.namespace,
            "--type=json",
            "--patch",
            &patch,
        ]);
    }
}

/// Whether a replica says so of the mutating and of the validating configuration.
pub fn configured(replica: &Forestall, [mutating, validating]: [u8; 2]) -> bool {
    let metrics = replica.metrics();
    let says = |webhook, value| {
        let gauge = "forestall_webhook_configured";
        metrics.contains(&format!("{gauge}{{webhook=\"{webhook}\"}} {value}\n"))
    };
    says("mutating", mutating) && says("validating", validating)
}

pub fn certificates_in(pem: &str) -> usize {
    pem.matches("-----BEGIN CERTIFICATE-----").count()
}

fn kind(webhook: &str) -> String {
    format!("{webhook}webhookconfiguration")
}

fn text(base64: &Value) -> String {
    let bytes = BASE64.decode(base64.as_str().unwrap_or_default()).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Requests by the API server, and handshakes as by one that has just read the configuration.
pub struct Load {
    done: Arc<AtomicBool>,
    reviews: JoinHandle<(u32, Vec<String>)>,
    handshakes: JoinHandle<(u32, Vec<String>)>,
}

/// What became of it.
#[derive(Debug)]
pub struct Done {
    pub reviews: u32,
    pub handshakes: u32,
    pub failures: Vec<String>,
}

impl Load {
    pub async fn start(release: &Release, replicas: &[&'static str], port: u16) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let client = release.cluster.client().await;
        let reviews = reviews(client.clone(), release.namespace.clone(), Arc::clone(&done));
        let replicas = replicas.iter().map(|address| (*address, port)).collect();
        let handshakes = handshakes(
            client,
            release.namespace.clone(),
            replicas,
            Arc::clone(&done),
        );
        Self {
            done,
            reviews: tokio::spawn(reviews),
            handshakes: tokio::spawn(handshakes),
        }
    }

    pub async fn stop(self) -> Done {
        self.done.store(true, Relaxed);
        let (reviews, mut failures) = self.reviews.await.unwrap();
        let (handshakes, others) = self.handshakes.await.unwrap();
        failures.extend(others);
        Done {
            reviews,
            handshakes,
            failures,
        }
    }
}

async fn reviews(client: Client, namespace: String, done: Arc<AtomicBool>) -> (u32, Vec<String>) {
    let api: Api<Deployment> = Api::namespaced(client, &namespace);
    let deployment = serde_json::from_value(guarded("128Mi")).unwrap();
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let (mut made, mut failures) = (0, Vec::new());
    while !done.load(Relaxed) {
        if let Err(error) = api.create(&dry, &deployment).await {
            failures.push(error.to_string());
        }
        made += 1;
        sleep(Duration::from_millis(5)).await;
    }
    (made, failures)
}

async fn handshakes(
    kube: Client,
    namespace: String,
    replicas: Vec<(&'static str, u16)>,
    done: Arc<AtomicBool>,
) -> (u32, Vec<String>) {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(kube);
    let name = ServerName::try_from(format!("{SERVICE}.{namespace}.svc")).unwrap();
    let (mut made, mut failures) = (0, Vec::new());
    while !done.load(Relaxed) {
        let configuration = api.get(&namespace).await.unwrap();
        let webhook = configuration.webhooks.unwrap().swap_remove(0);
        let trust = client(&webhook.client_config.ca_bundle.unwrap().0, &[]);
        for replica in &replicas {
            let stream = TcpStream::connect(*replica).await.unwrap();
            let connector = TlsConnector::from(Arc::clone(&trust));
            if let Err(error) = connector.connect(name.clone(), stream).await {
                failures.push(format!("{replica:?}: {error}"));
            }
            made += 1;
        }
        sleep(Duration::from_millis(50)).await;
    }
    (made, failures)
}
