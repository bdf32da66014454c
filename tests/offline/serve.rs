//! `forestall serve` as a process.

mod load;
mod memory;
mod reload;
mod start;
mod stop;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::pki::Pki;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// No registry is asked in these tests.
const NO_REGISTRY: &str = "rules: {missing-image: {mode: off}}\n";

/// A running `forestall serve`, killed when dropped.
struct Serve {
    child: Child,
    address: String,
    admin: String,
    log: Arc<Mutex<Vec<Value>>>,
    pki: Pki,
    directory: TempDir,
    http: reqwest::Client,
}

impl Serve {
    async fn start(config: &str) -> Self {
        Self::start_with(config, |command| {
            command.arg("--no-cluster");
        })
        .await
    }

    async fn start_with(config: &str, arguments: impl FnOnce(&mut Command)) -> Self {
        let (pki, directory) = (Pki::local(), tempfile::tempdir().unwrap());
        fs::write(directory.path().join("config.yaml"), config).unwrap();
        let mut command = forestall();
        command
            .arg("--config")
            .arg(directory.path().join("config.yaml"));
        command.arg("--tls-cert").arg(pki.path("tls.crt"));
        command.arg("--tls-key").arg(pki.path("tls.key"));
        arguments(&mut command);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = follow(child.stderr.take().unwrap());
        let serving = waited(|| {
            let log = log.lock().unwrap();
            log.iter().find(|line| line["address"].is_string()).cloned()
        })
        .await;
        let text = |key: &str| serving[key].as_str().unwrap().to_owned();
        let authority = fs::read(pki.path("ca.crt")).unwrap();
        let authority = reqwest::Certificate::from_pem(&authority).unwrap();
        let http = reqwest::Client::builder()
            .tls_certs_only([authority])
            .no_proxy();
        Self {
            child,
            address: text("address"),
            admin: text("admin"),
            log,
            pki,
            directory,
            http: http.timeout(PATIENCE).build().unwrap(),
        }
    }

    fn write_config(&self, text: &str) {
        fs::write(self.directory.path().join("config.yaml"), text).unwrap();
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    async fn admin(&self, path: &str) -> (u16, String) {
        let answer = self
            .http
            .get(format!("http://{}{path}", self.admin))
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn has_metric(&self, line: &str) -> bool {
        self.admin("/metrics")
            .await
            .1
            .lines()
            .any(|found| found == line)
    }

    async fn until_metric(&self, line: &str) {
        let seen = async {
            while !self.has_metric(line).await {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let seen = timeout(PATIENCE, seen).await;
        assert!(
            seen.is_ok(),
            "no {line:?} in\n{}",
            self.admin("/metrics").await.1
        );
    }

    /// Whether a Pod with a limit of 512m is let in.
    async fn admits_512m(&self) -> bool {
        let url = format!("https://{}/validate?timeout=5s", self.address);
        let answer = self.http.post(url).json(&review()).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        answer["response"]["allowed"].as_bool().unwrap()
    }

    async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(&self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let trust = self.pki.client(&["http/1.1"]);
        TlsConnector::from(trust).connect(name, stream).await
    }

    /// What it has complained of, once there is something: a metric is seen sooner than a line of the log.
    async fn complaints(&self) -> Vec<String> {
        waited(|| {
            let log = self.log.lock().unwrap();
            let errors = log.iter().filter(|line| line["level"] == "ERROR");
            let messages = errors.map(|line| line["message"].as_str().unwrap().to_owned());
            Some(messages.collect::<Vec<_>>()).filter(|complaints| !complaints.is_empty())
        })
        .await
    }

    /// Waits until it has heard a signal.
    async fn until_leaving(&self) {
        waited(|| {
            let log = self.log.lock().unwrap();
            let mut messages = log.iter().filter_map(|line| line["message"].as_str());
            messages
                .any(|message| message.starts_with("leaving"))
                .then_some(())
        })
        .await;
    }

    async fn ended(&mut self) -> ExitStatus {
        waited(|| self.child.try_wait().unwrap()).await
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `forestall serve` on free ports, with a log that a test can read.
fn forestall() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forestall"));
    command.arg("serve").args(["--log-format", "json"]);
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.env_remove("RUST_LOG").env_remove("KUBECONFIG");
    command
}

/// Reads the log, so that the process never waits for a reader.
fn follow(stderr: impl Read + Send + 'static) -> Arc<Mutex<Vec<Value>>> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&log);
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let line = serde_json::from_str(&line).unwrap_or_else(|_| json!({ "text": line }));
            lines.lock().unwrap().push(line);
        }
    });
    log
}

async fn waited<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, found).await.unwrap()
}

fn review() -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "operation": "CREATE",
            "namespace": "default",
            "name": "web",
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "web", "namespace": "default"},
                "spec": {"containers": [{
                    "name": "web",
                    "image": "nginx",
                    "resources": {"limits": {"memory": "512m"}},
                }]},
            },
        },
    })
}
