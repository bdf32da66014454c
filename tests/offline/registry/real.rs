//! Against distribution v3.1.2, and Debian's 2.8.2.

use std::process::{Child, Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use super::super::registry_server::Registry;
use super::*;

/// Debian's registry, which is older. It ends with the test.
pub(super) struct Debian {
    process: Child,
    /// Its settings.
    _files: TempDir,
}

impl Debian {
    pub(super) async fn start(address: &str) -> Self {
        let program = super::super::go::go_program("docker-registry");
        let files = tempfile::tempdir().unwrap();
        let settings = files.path().join("debian.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{inmemory: {{}}}}\nhttp: {{addr: '{address}'}}\n"
        );
        std::fs::write(&settings, text).unwrap();
        let process = Command::new(program)
            .arg("serve")
            .arg(settings)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self {
            process,
            _files: files,
        };
        let by = Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(address).await.is_err() {
            assert!(Instant::now() < by, "Debian's registry does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Pushes an index of nothing, which is the least that a registry takes.
pub(super) async fn push(registry: &str, name: &str, tag: &str) {
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [],
    });
    let url = format!("http://{registry}/v2/{name}/manifests/{tag}");
    let pushed = reqwest::Client::builder().no_proxy().build().unwrap();
    let pushed = pushed
        .put(url)
        .header("Content-Type", "application/vnd.oci.image.index.v1+json")
        .body(index.to_string())
        .send()
        .await
        .unwrap();
    assert!(pushed.status().is_success(), "{pushed:?}");
}

fn docker_hub(registry: &Registry) -> RegistryClient {
    client(&[("docker.io", &registry.server())])
}

async fn missing(client: &RegistryClient, image: &str) -> (MissingPart, Vec<String>) {
    match probe(client, image).await {
        Ok(ImageState::Missing(missing)) => (missing.what, missing.tags.to_vec()),
        other => panic!("{image}: {other:?}"),
    }
}

#[tokio::test]
async fn an_image_exists_by_its_tag_and_by_its_digest() {
    let registry = Registry::start(&["prom/prometheus:v2.55.1", "nginx:latest"]);
    let client = docker_hub(&registry);
    let digest = &registry.digests["prom/prometheus:v2.55.1"];
    for image in [
        "prom/prometheus:v2.55.1",
        "docker.io/prom/prometheus:v2.55.1",
        "nginx",
        "index.docker.io/library/nginx:latest",
        // A node asks for the digest only, whatever stands before it.
        &format!("prom/prometheus@{digest}"),
        &format!("prom/prometheus:v2.56.1@{digest}"),
    ] {
        assert_eq!(
            probe(&client, image).await,
            Ok(ImageState::Exists),
            "{image}"
        );
    }
}

#[tokio::test]
async fn registry_case_29_an_image_that_is_only_an_oci_index_exists() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let _debian = Debian::start(&address).await;
    let newer = Registry::start(&["team/other:v1"]);
    for (version, address, hides_it) in
        [("2.8.2", &address, true), ("3.1.2", &newer.address, false)]
    {
        push(address, "team/app", "v1").await;
        let url = format!("http://{address}{MANIFEST}");
        let plain = reqwest::Client::builder().no_proxy().build().unwrap();
        let image = "application/vnd.docker.distribution.manifest.v2+json";
        let said = plain.get(url).header("Accept", image).send().await.unwrap();
        let said = said.text().await.unwrap();
        // The older one hides it from whoever does not say that an index will do.
        assert_eq!(
            said.contains("MANIFEST_UNKNOWN"),
            hides_it,
            "{version}: {said}"
        );
        let answer = probe(&client_of(&format!("http://{address}")), IMAGE).await;
        assert_eq!(told(answer), "exists", "{version}");
    }
}

#[tokio::test]
async fn s08_three_tags_that_were_never_published_are_missing() {
    let registry = Registry::start(&[
        "prom/prometheus:v2.55.0",
        "prom/prometheus:v2.55.1",
        "prom/prometheus:v3.0.0",
        "grafana/loki:2.9.17",
        "grafana/loki:3.0.0",
        "grafana/alloy:v1.5.0",
        "grafana/alloy:v1.5.1",
    ]);
    let client = docker_hub(&registry);
    for (image, tags) in [
        (
            "prom/prometheus:v2.56.1",
            &["v2.55.0", "v2.55.1", "v3.0.0"][..],
        ),
        ("grafana/loki:2.10.6", &["2.9.17", "3.0.0"]),
        ("grafana/alloy:1.5.0", &["v1.5.0", "v1.5.1"]),
    ] {
        let tags = tags.iter().map(ToString::to_string).collect();
        assert_eq!(missing(&client, image).await, (MissingPart::Tag, tags));
    }
}

#[tokio::test]
async fn repositories_and_digests_that_are_not_there_are_missing() {
    let registry = Registry::start(&["prom/prometheus:v2.55.1"]);
    let client = docker_hub(&registry);
    assert_eq!(
        missing(&client, "prom/prometheuz:v2.55.1").await,
        (MissingPart::Repository, vec![])
    );
    let digest = "a".repeat(64);
    assert_eq!(
        missing(&client, &format!("prom/prometheus@sha256:{digest}")).await,
        (MissingPart::Digest, vec![])
    );
}

#[tokio::test]
async fn registry_case_92_and_93_pages_are_followed_and_the_last_is_near_what_was_wanted() {
    let images: Vec<String> = (10..60)
        .map(|minor| format!("prom/prometheus:v2.{minor}.1"))
        .collect();
    let registry = Registry::with_pages_of(2, &images);
    let client = docker_hub(&registry);
    let (what, tags) = missing(&client, "prom/prometheus:v2.56.2").await;
    assert_eq!(what, MissingPart::Tag);
    // Four pages from the beginning, one from v2.5.
    let mut expected: Vec<String> = (10..18).map(|minor| format!("v2.{minor}.1")).collect();
    expected.extend(["v2.50.1".to_owned(), "v2.51.1".to_owned()]);
    assert_eq!(tags, expected);

    let few = Registry::with_pages_of(2, &images[..7]);
    let (_, tags) = missing(&docker_hub(&few), "prom/prometheus:v3").await;
    assert_eq!(tags.len(), 7);
}

#[tokio::test]
async fn a_registry_that_went_away_is_named_with_what_it_once_answered() {
    let registry = Registry::start(&["prom/prometheus:v2.55.1"]);
    let client = docker_hub(&registry);
    assert_eq!(
        probe(&client, "prom/prometheus:v2.55.1").await,
        Ok(ImageState::Exists)
    );
    drop(registry);
    let answer = probe(&client, "prom/prometheus:v2.56.1").await;
    assert!(answered_before(&answer));
    assert_eq!(told(answer), "cannot be reached");
    // What is known stays known.
    assert_eq!(
        probe(&client, "prom/prometheus:v2.55.1").await,
        Ok(ImageState::Exists)
    );
}
