//! `forestall doctor` where no cluster answers, or only a part of what it is asked.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A kubeconfig with one context, for an API server on this machine.
fn kubeconfig(address: SocketAddr) -> TempDir {
    let files = tempfile::tempdir().unwrap();
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}]});
    fs::write(files.path().join("kubeconfig"), config.to_string()).unwrap();
    files
}

fn doctor(kubeconfig: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forestall"));
    command.arg("doctor").args(arguments);
    command.env("KUBECONFIG", kubeconfig.path().join("kubeconfig"));
    command.output().unwrap()
}

#[test]
fn a_cluster_that_does_not_answer_is_told_with_the_cure() {
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let files = kubeconfig(free.local_addr().unwrap());
    drop(free);
    let complaint = |arguments: &[&str]| {
        let output = doctor(&files, arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let closed = complaint(&[]);
    assert!(closed.starts_with("the current context: "), "{closed}");
    assert!(closed.contains("give --context"), "{closed}");
    let unknown = complaint(&["--context", "nowhere"]);
    assert!(unknown.starts_with("--context nowhere: "), "{unknown}");
    assert!(unknown.contains("get-contexts"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_hangs_makes_things_unknown_and_not_wait() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let files = kubeconfig(listener.local_addr().unwrap());
    let router = Router::new()
        .route("/version", get(async || "{}"))
        .fallback(std::future::pending::<String>);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let began = Instant::now();
    let output = tokio::task::spawn_blocking(move || doctor(&files, &["-o", "json"]));
    let output = output.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(30), "{output:?}");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let late = |check: &&Value| {
        check["message"]
            .as_str()
            .unwrap()
            .contains("did not answer")
    };
    assert!(checks.iter().filter(late).count() >= 3, "{report:#}");
    assert!(
        checks.iter().all(|check| check["result"] != "error"),
        "{report:#}"
    );
}
