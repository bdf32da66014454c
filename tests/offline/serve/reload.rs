//! New files while it runs.

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{NO_REGISTRY, Serve};

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
    let complaints = serve.complaints().await;
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
async fn files_that_the_configuration_names_are_read_again_too() {
    let hosts = tempfile::tempdir().unwrap();
    let file = hosts.path().join("quay.io/hosts.toml");
    std::fs::create_dir(hosts.path().join("quay.io")).unwrap();
    std::fs::write(&file, "server = \"https://a.example\"").unwrap();
    let directory = hosts.path().display();
    let serve = Serve::start(&format!("hostsDirectory: '{directory}'\n{NO_REGISTRY}")).await;

    std::fs::write(&file, "server = 5").unwrap();
    serve.signal("HUP");
    serve.until_metric("forestall_config_valid 0").await;
    let complaints = serve.complaints().await;
    let expected = format!("hostsDirectory: {}: server is no string; ", file.display());
    assert!(complaints[0].starts_with(&expected), "{complaints:?}");

    std::fs::write(&file, "server = \"https://b.example\"").unwrap();
    serve.signal("HUP");
    serve.until_metric("forestall_config_valid 1").await;
    let taken_up = "forestall_config_reload_total{result=\"success\"} 1";
    assert!(serve.has_metric(taken_up).await);
}
