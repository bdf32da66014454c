//! `forestall serve` as a process.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::pki::{Pki, client};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

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
        timeout(PATIENCE, seen).await.unwrap();
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

    fn complaints(&self) -> Vec<String> {
        let log = self.log.lock().unwrap();
        let errors = log.iter().filter(|line| line["level"] == "ERROR");
        errors
            .map(|line| line["message"].as_str().unwrap().to_owned())
            .collect()
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

/// Runs to the end, which must come by itself; exit status 2 and the complaint.
fn refused(arguments: impl FnOnce(&mut Command)) -> String {
    let mut command = forestall();
    arguments(&mut command);
    let Output { status, stderr, .. } = command.output().unwrap();
    let complaint = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{complaint}");
    complaint
}

fn refused_config(text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.yaml"), text).unwrap();
    let complaint = refused(|command| {
        command
            .args(["--no-cluster", "--config", "config.yaml"])
            .current_dir(directory.path());
    });
    let line: Value = serde_json::from_str(complaint.trim()).unwrap();
    line["message"].as_str().unwrap().to_owned()
}

#[test]
fn case_77_a_wrong_configuration_is_refused_at_the_start_with_its_place() {
    let rule = refused_config("mode: audit\nrules:\n  missing-images: {}\n");
    assert!(rule.starts_with("config.yaml:3:"), "{rule}");
    assert!(rule.contains("did you mean missing-image?"), "{rule}");
    let mode = refused_config("mode: enforced\n");
    assert!(
        mode.starts_with("config.yaml:1:7: \"enforced\" is no mode"),
        "{mode}"
    );
    let field = refused_config("mode: audit\nmodes: {}\n");
    assert!(
        field.starts_with("config.yaml:2:1: unknown field"),
        "{field}"
    );
}

#[test]
fn wrong_flags_and_files_are_refused_with_the_cure() {
    let half = refused(|command| {
        command.args(["--no-cluster", "--tls-cert", "tls.crt"]);
    });
    assert!(half.contains("--tls-key <FILE>"), "{half}");
    let missing = refused(|command| {
        command.args([
            "--no-cluster",
            "--tls-cert",
            "no.crt",
            "--tls-key",
            "no.key",
        ]);
    });
    assert!(
        missing.contains("--tls-cert no.crt: No such file"),
        "{missing}"
    );
    let config = refused(|command| {
        command.args(["--no-cluster", "--config", "no.yaml"]);
    });
    assert!(
        config.contains("--config no.yaml: No such file"),
        "{config}"
    );
    let cluster = refused(|command| {
        command
            .env("KUBECONFIG", "/nonexistent/config")
            .env("HOME", "/nonexistent");
    });
    assert!(cluster.contains("or give --no-cluster"), "{cluster}");
}

#[tokio::test]
async fn a_port_in_use_is_refused_with_the_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--admin-listen"] {
        let address = address.clone();
        let refusal = tokio::task::spawn_blocking(move || {
            // Given twice, the later one would be an error, so these are the only ones.
            let mut command = Command::new(env!("CARGO_BIN_EXE_forestall"));
            let other = if flag == "--listen" {
                "--admin-listen"
            } else {
                "--listen"
            };
            command.args(["serve", "--no-cluster", "--log-format", "text"]);
            command.args([flag, &address, other, "127.0.0.1:0"]);
            let Output { status, stderr, .. } = command.output().unwrap();
            assert_eq!(status.code(), Some(2));
            (
                String::from_utf8(stderr).unwrap(),
                format!("{flag} {address}: Address already in use"),
            )
        });
        let (complaint, expected) = refusal.await.unwrap();
        assert!(complaint.contains(&expected), "{complaint}");
    }
}

#[tokio::test]
async fn case_76_a_configuration_that_became_wrong_leaves_the_old_one_in_force() {
    let serve = Serve::start(NO_REGISTRY).await;
    assert!(!serve.admits_512m().await);
    assert!(serve.has_metric("forestall_config_valid 1").await);

    serve.write_config("mode: audited\n");
    serve.signal("HUP");
    serve.until_metric("forestall_config_valid 0").await;
    assert!(!serve.admits_512m().await, "enforced as before");
    assert_eq!(serve.admin("/readyz").await, (200, "ok\n".to_owned()));
    let complaints = serve.complaints();
    let [complaint] = complaints.as_slice() else {
        panic!("{complaints:?}");
    };
    assert!(
        complaint.contains("config.yaml:1:7: \"audited\" is no mode; write"),
        "{complaint}"
    );
    assert!(
        complaint.ends_with("the configuration before it is still in force"),
        "{complaint}"
    );

    serve.write_config(&format!("mode: audit\n{NO_REGISTRY}"));
    serve.signal("HUP");
    serve.until_metric("forestall_config_valid 1").await;
    assert!(serve.admits_512m().await);
    assert!(
        serve
            .has_metric("forestall_config_reload_total{result=\"failure\"} 1")
            .await
    );
    assert!(
        serve
            .has_metric("forestall_config_reload_total{result=\"success\"} 1")
            .await
    );
}

#[tokio::test]
async fn case_76_and_93_new_files_are_taken_up_without_a_signal() {
    let serve = Serve::start(NO_REGISTRY).await;
    let before = serve.connect().await.unwrap();
    let shown = |stream: &TlsStream<TcpStream>| {
        stream.get_ref().1.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    };
    serve.pki.renew(&["localhost", "127.0.0.1", "::1"]);
    serve.write_config(&format!("mode: audit\n{NO_REGISTRY}"));
    serve
        .until_metric("forestall_config_reload_total{result=\"success\"} 1")
        .await;
    serve
        .until_metric("forestall_tls_reload_total{result=\"success\"} 1")
        .await;
    let after = serve.connect().await.unwrap();
    assert_ne!(shown(&before), shown(&after));
    assert!(serve.admits_512m().await);
}

#[tokio::test]
async fn case_80_a_cluster_that_is_down_at_the_start_delays_readiness_and_nothing_else() {
    // A port that nobody listens on.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://127.0.0.1:{port}")}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    });
    fs::write(&kubeconfig, text.to_string()).unwrap();
    let start = Instant::now();
    let serve = Serve::start_with(NO_REGISTRY, |command| {
        command.env("KUBECONFIG", &kubeconfig);
    })
    .await;
    assert_eq!(serve.admin("/livez").await.0, 200);
    let (status, text) = serve.admin("/readyz").await;
    assert_eq!(
        (status, text.contains("[-] cluster")),
        (503, true),
        "{text}"
    );
    // The label of the namespace is unknown, so enforce counts as warn.
    assert!(serve.admits_512m().await);
    let ready = async {
        while serve.admin("/readyz").await.0 != 200 {
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(PATIENCE, ready).await.unwrap();
    assert!(
        start.elapsed() >= Duration::from_secs(19),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn case_90_sigterm_ends_it_with_0_and_without_a_lost_request() {
    let mut serve = Serve::start(NO_REGISTRY).await;
    let mut idle = serve.connect().await.unwrap();
    serve.signal("TERM");
    let start = Instant::now();
    waited(|| {
        let log = serve.log.lock().unwrap();
        log.iter()
            .any(|line| {
                line["message"]
                    .as_str()
                    .is_some_and(|m| m.starts_with("leaving"))
            })
            .then_some(())
    })
    .await;
    let (status, text) = serve.admin("/readyz").await;
    assert_eq!(
        (status, text.contains("[-] staying")),
        (503, true),
        "{text}"
    );
    let body = review().to_string();
    let request = format!(
        "POST /validate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    while start.elapsed() < Duration::from_secs(9) {
        // Answered, and closed by the answer.
        idle.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, idle.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(answer.contains("\"allowed\":false"), "{answer}");
        idle = serve.connect().await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(serve.ended().await.code(), Some(0));
    assert!(
        start.elapsed() >= Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn case_90_a_second_signal_ends_it_within_a_second() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT")] {
        let mut serve = Serve::start(NO_REGISTRY).await;
        serve.signal(first);
        waited(|| {
            let log = serve.log.lock().unwrap();
            log.iter()
                .any(|line| {
                    line["message"]
                        .as_str()
                        .is_some_and(|m| m.starts_with("leaving"))
                })
                .then_some(())
        })
        .await;
        serve.signal(second);
        let start = Instant::now();
        assert_eq!(serve.ended().await.code(), Some(1));
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{:?}",
            start.elapsed()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_20_of_two_thousand_reviews_at_a_time_the_surplus_is_shed_at_once() {
    const CROWD: usize = 2_000;
    const PLACES: usize = 512;
    crate::transport::allow_open_files(15_000);
    let serve = Serve::start(NO_REGISTRY).await;
    let mut crowd = Vec::with_capacity(CROWD);
    for _ in 0..CROWD {
        crowd.push(serve.connect().await.unwrap());
    }
    let body = review().to_string();
    let head = format!(
        "POST /validate?timeout=5s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    // Half of each review, so that all are under way at the same time.
    for stream in &mut crowd {
        let half = format!("{head}{}", &body[..body.len() / 2]);
        stream.write_all(half.as_bytes()).await.unwrap();
    }
    let shed = format!(
        "forestall_requests_shed_total{{reason=\"reviews\"}} {}",
        CROWD - PLACES
    );
    serve.until_metric(&shed).await;
    let (mut judged, mut turned_away) = (0, 0);
    for stream in &mut crowd {
        // Who was turned away may have been closed already.
        let _ = stream.write_all(&body.as_bytes()[body.len() / 2..]).await;
        let mut answer = [0; 512];
        let count = timeout(PATIENCE, stream.read(&mut answer))
            .await
            .unwrap()
            .unwrap();
        let answer = String::from_utf8_lossy(&answer[..count]).to_lowercase();
        if answer.starts_with("http/1.1 200 ") {
            judged += 1;
        } else {
            assert!(answer.starts_with("http/1.1 503 "), "{answer}");
            assert!(!answer.contains("retry-after"), "{answer}");
            turned_away += 1;
        }
    }
    assert_eq!((judged, turned_away), (PLACES, CROWD - PLACES));
    // And all is well again.
    assert!(!serve.admits_512m().await);
}

#[tokio::test]
async fn without_a_certificate_a_person_is_told_how_to_ask() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.yaml"), NO_REGISTRY).unwrap();
    let mut command = forestall();
    command
        .args(["--no-cluster", "--config", "config.yaml"])
        .current_dir(directory.path());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = follow(child.stderr.take().unwrap());
    waited(|| {
        log.lock()
            .unwrap()
            .iter()
            .any(|line| line["address"].is_string())
            .then_some(())
    })
    .await;
    let mut text = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    while !text.contains("-d '") {
        assert!(stdout.read_line(&mut text).unwrap() > 0, "{text}");
    }
    let told = follow_advice(directory.path(), &text);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(told.contains("\"allowed\":false"), "{told}");
    assert!(told.contains("write 512Mi"), "{told}");
}

/// Saves the certificate and runs the command, as it is printed.
fn follow_advice(directory: &Path, text: &str) -> String {
    let begin = text.find("-----BEGIN").unwrap();
    let end = text.find("-----END CERTIFICATE-----\n").unwrap();
    let pem = &text[begin..end + "-----END CERTIFICATE-----\n".len()];
    client(pem.as_bytes(), &[]);
    fs::write(directory.join("forestall.pem"), pem).unwrap();
    let curl = &text[text.find("curl ").unwrap()..];
    let output = Command::new("sh")
        .args(["-c", curl])
        .current_dir(directory)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}
