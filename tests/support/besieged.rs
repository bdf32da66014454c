//! A `forestall serve` on this machine, under siege and a memory limit.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::pki::Pki;
use crate::siege::Siege;

/// A `forestall serve` without a cluster, killed when dropped.
pub struct Besieged {
    child: Child,
    siege: Siege,
    peak: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    watch: Option<JoinHandle<()>>,
    _files: TempDir,
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
        let siege = Siege {
            address,
            name: "localhost".to_owned(),
            client: pki.client(&["http/1.1"]),
        };
        Self {
            child,
            siege,
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

    /// Sends every hostile review; see [`Siege::lay`].
    pub async fn withstands(&mut self, hostile: &[(&'static str, Arc<String>)]) {
        let Self { child, siege, .. } = self;
        siege.lay(hostile, || lives(child)).await;
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

fn lives(child: &mut Child) {
    let ended = child.try_wait().unwrap();
    assert!(ended.is_none(), "it was killed: {ended:?}");
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
