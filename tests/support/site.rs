//! `forestall serve` beside the real API server, registered for one namespace.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::control_plane::{ControlPlane, Output, eventually, run};
use crate::pki::Pki;

/// Where the Service lies, which leads the API server to this machine.
const SERVICE_NAMESPACE: &str = "forestall";
const SERVICE: &str = "forestall";

/// A namespace whose objects a `forestall serve` of its own judges.
pub struct Site {
    pub cluster: &'static ControlPlane,
    pub namespace: String,
    pub forestall: Forestall,
}

/// The real program. It ends with this, or with the process of the test.
pub struct Forestall {
    pub port: u16,
    admin: SocketAddr,
    files: TempDir,
    supervisor: Child,
}

/// How the API server finds the webhook.
#[derive(Clone, Copy, Debug)]
pub enum Reach {
    /// By a service reference, as in a cluster: HTTP/1.1, and the name of the Service for TLS.
    Service,
    /// By URL, which for loopback means HTTP/2.
    Url,
}

/// What the API server asks the webhook about.
#[derive(Clone, Copy, Debug)]
pub enum Scope {
    /// What guardrails watch, as it will be registered in a cluster.
    Catalogue,
    /// Every request in the namespace, and no way around an error.
    Everything,
}

// === impl Site ===

impl Site {
    /// A new namespace, judged with this configuration.
    pub fn new(config: &str) -> Self {
        let site = Self::unregistered(config);
        site.register(Reach::Service, Scope::Catalogue);
        site
    }

    /// A new namespace, and a Forestall that the API server does not know yet.
    pub fn unregistered(config: &str) -> Self {
        let cluster = ControlPlane::shared();
        Self {
            namespace: cluster.namespace(),
            forestall: Forestall::start(cluster, config),
            cluster,
        }
    }

    /// Registers the webhook for the namespace, and waits until the API server asks it.
    pub fn register(&self, reach: Reach, scope: Scope) {
        install_webhook(self.cluster, &self.forestall, &self.namespace, reach, scope);
        let pod = pod("probe", "128Mi").to_string();
        let line = "forestall_admission_requests_total{webhook=\"validating\"";
        eventually("a review", || {
            let probe = ["create", "--dry-run=server", "-f", "-"];
            self.kubectl(&probe, &pod);
            self.forestall.metrics().contains(line)
        });
    }

    /// Runs kubectl in the namespace.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let namespace = ["--namespace", self.namespace.as_str()];
        self.cluster
            .kubectl(&[&namespace, arguments].concat(), input)
    }

    /// Runs kubectl, which must succeed, and gives both that it printed.
    pub fn must(&self, arguments: &[&str], input: &str) -> Output {
        let output = self.kubectl(arguments, input);
        assert!(
            output.success,
            "kubectl {}: {}",
            arguments.join(" "),
            output.stderr
        );
        output
    }

    pub fn apply(&self, object: &Value) -> Output {
        self.kubectl(&["apply", "-f", "-"], &object.to_string())
    }

    /// An object as it is stored.
    pub fn stored(&self, kind: &str, name: &str) -> Value {
        let output = self.must(
            &["get", kind, name, "-o", "json", "--show-managed-fields"],
            "",
        );
        serde_json::from_str(&output.stdout).unwrap()
    }

    /// The annotations that the API server's audit log has for requests in this namespace.
    pub fn audit_annotations(&self, verb: &str) -> Vec<Value> {
        let log = fs::read_to_string(self.cluster.audit_log()).unwrap();
        let events = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events
            .filter(|event| event["objectRef"]["namespace"] == self.namespace.as_str())
            .filter(|event| event["verb"] == verb)
            .map(|event| event["annotations"].clone())
            .collect()
    }
}

// === impl Forestall ===

impl Forestall {
    /// Starts it with this configuration, and waits until it is ready.
    pub fn start(cluster: &ControlPlane, config: &str) -> Self {
        Self::start_with(cluster.kubeconfig(), config, &[])
    }

    /// The same by another kubeconfig and with more flags.
    pub fn start_with(kubeconfig: &Path, config: &str, flags: &[&str]) -> Self {
        let [certificate, key] = ["tls.crt", "tls.key"].map(|file| pki().path(file));
        let [certificate, key] = [&certificate, &key].map(|path| path.to_str().unwrap());
        let listen = ["--listen", "127.0.0.1:0"];
        let tls = ["--tls-cert", certificate, "--tls-key", key];
        let forestall = Self::launch(kubeconfig, config, &[&listen[..], &tls, flags].concat());
        eventually("readiness", || forestall.is_ready());
        forestall
    }

    /// Starts it with these flags, and waits until it says where it listens.
    pub fn launch(kubeconfig: &Path, config: &str, flags: &[&str]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let path = files.path().join("forestall.yaml");
        fs::write(&path, config).unwrap();
        let log = File::create(files.path().join("log")).unwrap();
        // Ends the program when the test does, even where that is killed.
        let watchdog = "\"$@\" & child=$!; echo $child >\"$PID_FILE\"
            while kill -0 $child && { read -r -t 1 _ || (($? > 128)); }; do :; done
            kill -KILL $child; wait";
        let supervisor = Command::new("bash")
            .args([
                "-c",
                watchdog,
                "watchdog",
                env!("CARGO_BIN_EXE_forestall"),
                "serve",
            ])
            .args([Path::new("--config"), &path])
            .args(["--admin-listen", "127.0.0.1:0"])
            .args(flags)
            .env("KUBECONFIG", kubeconfig)
            .env("PID_FILE", files.path().join("pid"))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut forestall = Self {
            port: 0,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            files,
            supervisor,
        };
        eventually("the log line with its addresses", || {
            forestall.addresses().is_some()
        });
        let (address, admin) = forestall.addresses().unwrap();
        (forestall.port, forestall.admin) = (address.port(), admin);
        forestall
    }

    pub fn is_ready(&self) -> bool {
        self.get("/readyz").starts_with("HTTP/1.1 200")
    }

    /// Where it listens, as it says itself.
    fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        let log = self.log();
        let mut lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find_map(|line| {
            let address = |key: &str| line.get(key)?.as_str()?.parse().ok();
            Some((address("address")?, address("admin")?))
        })
    }

    /// Sends it a signal, such as TERM.
    pub fn signal(&self, signal: &str) {
        let pid = fs::read_to_string(self.files.path().join("pid")).unwrap();
        let output = run(
            Command::new("kill").args(["-s", signal, pid.trim_end()]),
            "",
        );
        assert!(output.success, "{}", output.stderr);
    }

    /// Exchanges the configuration, and waits until it is in force.
    pub fn reconfigure(&self, config: &str) {
        let done = "judging by the new configuration";
        let before = self.log().matches(done).count();
        fs::write(self.files.path().join("forestall.yaml"), config).unwrap();
        self.signal("HUP");
        eventually("the new configuration", || {
            self.log().matches(done).count() > before
        });
    }

    /// The number of a series, such as `forestall_leader`; `None` where it is not there.
    pub fn number(&self, series: &str) -> Option<f64> {
        sample(&self.metrics(), series)
    }

    /// What it has logged until now.
    pub fn log(&self) -> String {
        fs::read_to_string(self.files.path().join("log")).unwrap()
    }

    /// Where /metrics is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The text of /metrics.
    pub fn metrics(&self) -> String {
        self.get("/metrics")
    }

    /// The answer of the port for operators; empty where there is none.
    fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        if let Ok(mut stream) = TcpStream::connect(self.admin)
            && stream.write_all(request.as_bytes()).is_ok()
        {
            let _ = stream.read_to_string(&mut answer);
        }
        answer
    }
}

impl Drop for Forestall {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
        if std::thread::panicking() {
            println!("forestall logged:\n{}", self.log());
        }
    }
}

/// The number of a series in the text of /metrics; `None` where it is not there.
pub fn sample(metrics: &str, series: &str) -> Option<f64> {
    let mut lines = metrics.lines();
    lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// One authority and one certificate for all tests of this process.
pub fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| {
        let service = format!("{SERVICE}.{SERVICE_NAMESPACE}.svc");
        Pki::new(&[&service, "localhost", "127.0.0.1"])
    })
}

/// Registers both webhooks for one namespace.
pub fn install_webhook(
    cluster: &ControlPlane,
    forestall: &Forestall,
    namespace: &str,
    reach: Reach,
    scope: Scope,
) {
    static SERVICE_INSTALLED: OnceLock<()> = OnceLock::new();
    SERVICE_INSTALLED.get_or_init(|| {
        cluster.must(&["create", "namespace", SERVICE_NAMESPACE], "");
        // There are no nodes, so the Service leads to a process on this machine.
        let service = [
            "create",
            "service",
            "externalname",
            SERVICE,
            "--external-name=localhost",
        ];
        cluster.must(
            &[&["--namespace", SERVICE_NAMESPACE][..], &service[..]].concat(),
            "",
        );
    });
    let configurations = json!({"apiVersion": "v1", "kind": "List", "items": [
        configuration(forestall, namespace, reach, scope, "Mutating", true),
        configuration(forestall, namespace, reach, scope, "Validating", false),
    ]});
    cluster.must(&["apply", "-f", "-"], &configurations.to_string());
}

fn configuration(
    forestall: &Forestall,
    namespace: &str,
    reach: Reach,
    scope: Scope,
    kind: &str,
    only_repairs: bool,
) -> Value {
    let (verb, seconds) = if kind == "Mutating" {
        ("mutate", 2)
    } else {
        ("validate", 5)
    };
    let port = forestall.port;
    let mut client = match reach {
        Reach::Service => json!({"service": {"namespace": SERVICE_NAMESPACE, "name": SERVICE,
                                             "path": format!("/{verb}"), "port": port}}),
        Reach::Url => json!({"url": format!("https://127.0.0.1:{port}/{verb}")}),
    };
    client["caBundle"] = json!(BASE64.encode(fs::read(pki().path("ca.crt")).unwrap()));
    let (rules, failure_policy) = match scope {
        Scope::Catalogue => (rules(only_repairs), "Ignore"),
        Scope::Everything => (vec![every_request()], "Fail"),
    };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": format!("{kind}WebhookConfiguration"),
        "metadata": {"name": format!("forestall-{namespace}")},
        "webhooks": [{
            "name": format!("{verb}.forestall.dev"),
            "clientConfig": client,
            "rules": rules,
            "failurePolicy": failure_policy,
            "timeoutSeconds": seconds,
            "matchPolicy": "Equivalent",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        }],
    })
}

/// What the program itself says that it watches.
pub fn rules(only_repairs: bool) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forestall"));
    let catalogue = run(command.args(["rules", "-o", "json"]), "");
    let catalogue: Vec<Value> = serde_json::from_str(&catalogue.stdout).unwrap();
    catalogue
        .iter()
        .filter(|guardrail| !only_repairs || guardrail["repairs"] == true)
        .flat_map(|guardrail| guardrail["rules"].as_array().unwrap().clone())
        .collect()
}

fn every_request() -> Value {
    json!({"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"],
           "operations": ["*"], "scope": "Namespaced"})
}

/// A Pod whose only container has this memory limit.
pub fn pod(name: &str, memory: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod_spec(memory)})
}

/// A Deployment whose only container has this memory limit.
pub fn deployment(name: &str, memory: &str) -> Value {
    let labels = json!({"app": name});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod_spec(memory)},
    }})
}

fn pod_spec(memory: &str) -> Value {
    json!({"containers": [{"name": "app", "image": "app:1",
                           "resources": {"limits": {"memory": memory}}}]})
}
