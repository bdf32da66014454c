//! How it starts, and how it says that it cannot.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use super::{NO_REGISTRY, PATIENCE, Serve, follow, forestall, waited};
use crate::pki::client;

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
    for secret in ["forestall-tls", "a/b/c", "/b", "a/"] {
        let refusal = refused(|command| {
            command.args(["--tls-secret", secret, "--tls-service", "forestall"]);
            command.args(["--webhook-configuration", "forestall", "--lease", "a/b"]);
        });
        let reason = format!("{secret:?} names no object; write NAMESPACE/NAME");
        assert!(refusal.contains(&reason), "{refusal}");
    }
    let alone = refused(|command| {
        command.args(["--tls-secret", "forestall/forestall-tls"]);
    });
    assert!(alone.contains("--tls-service <NAME>"), "{alone}");
    let both = refused(|command| {
        command.args(["--tls-secret", "a/b", "--tls-service", "c", "--no-cluster"]);
        command.args(["--webhook-configuration", "d", "--lease", "a/b"]);
    });
    assert!(both.contains("cannot be used with"), "{both}");
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
    let lease = refused(|command| {
        command.args(["--lease", "forestall"]);
    });
    assert!(
        lease.contains("\"forestall\" names no object; write NAMESPACE/NAME"),
        "{lease}"
    );
    let alone = refused(|command| {
        command.args(["--no-cluster", "--lease", "forestall/forestall"]);
    });
    assert!(alone.contains("cannot be used with"), "{alone}");
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

#[test]
fn a_memory_limit_that_cannot_be_is_refused_with_the_cure() {
    for (limit, cure) in [
        ("8Mi", "give the container 64Mi or more"),
        ("256MiB", "write 256Mi"),
    ] {
        let complaint = refused(|command| {
            command.args(["--no-cluster", "--memory-limit", limit]);
        });
        assert!(complaint.contains("--memory-limit"), "{complaint}");
        assert!(complaint.contains(cure), "{complaint}");
    }
}
