//! Reviews that are made to take memory, sent to a real `forestall serve` under a memory limit.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::pki::Pki;

const MEBIBYTE: usize = 1 << 20;

/// As large as a body may be.
const LARGEST: usize = 32 * MEBIBYTE;

/// How many are sent at a time.
const CROWD: usize = 10;

/// Far more than any answer takes: an unoptimised program on a busy machine reads a megabyte a second.
const PATIENCE: Duration = Duration::from_mins(5);

/// A `forestall serve` without a cluster, killed when dropped.
pub struct Besieged {
    child: Child,
    address: String,
    pki: Pki,
    peak: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    watch: Option<JoinHandle<()>>,
    _files: TempDir,
}

/// What became of a request.
pub struct Answer {
    pub status: u16,
    pub text: String,
}

// === impl Besieged ===

impl Besieged {
    /// Starts it with this memory limit, in MiB, by a command that begins with these words.
    pub fn start(launcher: &[String], limit: usize) -> Self {
        let (pki, files) = (Pki::local(), tempfile::tempdir().unwrap());
        let config = files.path().join("config.yaml");
        // What it asks registries for is another matter.
        fs::write(&config, "rules: {missing-image: {mode: off}}\n").unwrap();
        let program = env!("CARGO_BIN_EXE_forestall").to_owned();
        let words: Vec<_> = launcher.iter().cloned().chain([program]).collect();
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .args(["serve", "--no-cluster", "--log-format", "json"])
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--memory-limit", &format!("{limit}Mi")])
            .arg("--config")
            .arg(config)
            .arg("--tls-cert")
            .arg(pki.path("tls.crt"))
            .arg("--tls-key")
            .arg(pki.path("tls.key"))
            .env_remove("RUST_LOG")
            .envs(of_the_image())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = log.next().expect("it serves").unwrap();
            let line: Value = serde_json::from_str(&line).unwrap();
            if let Some(address) = line["address"].as_str() {
                break address.to_owned();
            }
        };
        // Read on, so that it never waits for a reader.
        std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
        let (peak, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let watch = std::thread::spawn({
            let (peak, over, pid) = (Arc::clone(&peak), Arc::clone(&over), child.id());
            move || {
                while !over.load(Relaxed) {
                    peak.fetch_max(anonymous(pid).unwrap_or_default(), Relaxed);
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        });
        Self {
            child,
            address,
            pki,
            peak,
            over,
            watch: Some(watch),
            _files: files,
        }
    }

    /// The most memory of its own that it was seen with, in MiB: without the program itself, whose
    /// size is that of a build for tests.
    pub fn peak(&self) -> usize {
        self.peak.load(Relaxed) / 1024
    }

    /// Fails where it has ended.
    pub fn lives(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "it was killed: {ended:?}");
    }

    /// Sends every review of [`hostile`] alone, ten at a time, and all together, with ordinary ones in
    /// between. Each must be answered or turned away, and the ordinary ones answered.
    pub async fn withstands(&mut self, hostile: &[(&'static str, Arc<String>)]) {
        for (what, review) in hostile {
            let answer = self.post(review).await;
            answer.is_decent(what);
            println!("{what}, alone: {} {}", answer.status, answer.reason());
            self.judges(what).await;
        }
        for crowded in ["lists", "maps", "legal", "containers", "all"] {
            let chosen = hostile
                .iter()
                .filter(|(what, _)| crowded == "all" || crowded == *what);
            let chosen: Vec<_> = chosen.cycle().take(CROWD).collect();
            assert_eq!(chosen.len(), CROWD, "{crowded}");
            let crowd = chosen.iter().map(async |(what, review)| {
                let answer = self.post(review).await;
                answer.is_decent(what);
                answer.status
            });
            let crowd = futures::future::join_all(crowd);
            let ordinary = async {
                loop {
                    let answer = self.post(&ordinary()).await;
                    assert_eq!(answer.status, 200, "beside {crowded}: {}", answer.text);
                    sleep(Duration::from_millis(20)).await;
                }
            };
            let statuses: Vec<u16> = tokio::select! {
                statuses = crowd => statuses,
                never = ordinary => never,
            };
            let answered = statuses.iter().filter(|status| **status == 200).count();
            println!(
                "{crowded}, ten at a time: {answered} answered, {} turned away",
                CROWD - answered
            );
            self.judges(crowded).await;
            self.lives();
        }
    }

    /// An ordinary review is judged as ever.
    async fn judges(&mut self, after: &str) {
        self.lives();
        let answer = self.post(&ordinary()).await;
        assert!(
            answer.text.contains("512m"),
            "after {after}: {}",
            answer.text
        );
    }

    async fn post(&self, review: &str) -> Answer {
        let exchange = async {
            let stream = TcpStream::connect(&self.address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let connector = TlsConnector::from(self.pki.client(&["http/1.1"]));
            let mut stream = connector.connect(name, stream).await.unwrap();
            let head = format!(
                "POST /validate?timeout=5s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                review.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            // One that is turned away is not read to its end.
            let (mut reading, mut writing) = tokio::io::split(stream);
            let write = async {
                let _ = writing.write_all(review.as_bytes()).await;
                let _ = writing.flush().await;
                std::future::pending::<()>().await;
            };
            let mut answer = Vec::new();
            tokio::select! {
                _ = reading.read_to_end(&mut answer) => {}
                () = write => {}
            }
            String::from_utf8(answer).unwrap()
        };
        let answer = timeout(PATIENCE, exchange).await.expect("an answer");
        let (head, text) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let status = head.split(' ').nth(1).unwrap_or_default();
        Answer {
            status: status.parse().unwrap_or_default(),
            text: text.to_owned(),
        }
    }
}

impl Drop for Besieged {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.watch.take().map(JoinHandle::join);
    }
}

// === impl Answer ===

impl Answer {
    /// Answered under its uid, or turned away.
    #[track_caller]
    fn is_decent(&self, what: &str) {
        let Self { status, text } = self;
        match status {
            200 => assert!(text.contains("\"uid\":\"u-1\""), "{what}: {text}"),
            413 | 503 => {}
            _ => panic!("{what}: {status} {text}"),
        }
    }

    fn reason(&self) -> String {
        match serde_json::from_str::<Value>(&self.text) {
            Ok(review) => review["response"]["warnings"].to_string(),
            Err(_) => self.text.trim_end().to_owned(),
        }
    }
}

/// What would take the most memory, each in a Deployment.
pub fn hostile() -> Vec<(&'static str, Arc<String>)> {
    let most = LARGEST - 2_000;
    let fill = |item: &str| format!("[{}0]", item.repeat(most / item.len()));
    let half = most / 2;
    let deep = format!("{}{}", "[".repeat(half), "]".repeat(half));
    let container = r#"{"name":"a","image":"A","resources":{"limits":{"memory":"1m"}}}"#;
    let containers = vec![container; 2_000].join(",");
    // As the API server sends 3.1 MB, the most that it takes: Go writes `<` in six characters.
    let legal = format!("\"{}\"", "\\u003c".repeat(3_100_000));
    [
        ("lists", annotated(&fill("[0],"))),
        ("maps", annotated(&fill("{},"))),
        ("entries", annotated(&fill(r#"{"":0},"#))),
        ("text", annotated(&format!("\"{}\"", "x".repeat(most)))),
        (
            "escaped",
            annotated(&format!("\"\\n{}\"", "x".repeat(most - 2))),
        ),
        ("deep", annotated(&deep)),
        ("legal", annotated(&legal)),
        (
            "containers",
            review(&json!({})).replace("[{}]", &format!("[{containers}]")),
        ),
    ]
    .map(|(what, review)| (what, Arc::new(review)))
    .into()
}

fn annotated(value: &str) -> String {
    review(&json!({"metadata": {"annotations": {"a": "@"}}})).replace("\"@\"", value)
}

fn ordinary() -> String {
    let container =
        json!({"name": "a", "image": "a:1", "resources": {"limits": {"memory": "512m"}}});
    review(&json!({})).replace("[{}]", &json!([container]).to_string())
}

fn review(with: &Value) -> String {
    let mut object = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [{}]}}},
    });
    json_patch::merge(&mut object, with);
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "operation": "CREATE",
            "namespace": "default",
            "name": "web",
            "object": object,
        },
    })
    .to_string()
}

/// Memory of a process that belongs to no file, in KiB.
fn anonymous(pid: u32) -> Option<usize> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The environment that the image gives the program: what its allocator is told.
fn of_the_image() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = include_str!("../../Dockerfile").lines();
    let variables = lines.filter_map(|line| line.strip_prefix("ENV ")?.split_once('='));
    variables.filter(|(name, _)| name.starts_with("MIMALLOC_"))
}
