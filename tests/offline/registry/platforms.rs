//! For which platforms an image is built.

use forestall::evidence::ImagePlatforms;
use forestall::lookup::registry::credentials::PodCredentials;
use serde_json::{Value, json};

use super::*;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// An index of these platforms.
fn index(platforms: &[&str]) -> Value {
    let entries = platforms.iter().map(|platform| {
        let (os, architecture) = platform.split_once('/').unwrap();
        json!({"digest": "sha256:0", "platform": {"os": os, "architecture": architecture}})
    });
    json!({"schemaVersion": 2, "manifests": entries.collect::<Vec<_>>()})
}

/// A registry that answers with this, by the digest where there is one.
async fn registry(kind: &'static str, digest: &'static str, body: String) -> Scripted {
    Scripted::start(move |_| {
        let reply = Reply::status(200).header("Content-Type", kind);
        let reply = reply.body(body.clone());
        match digest {
            "" => reply,
            digest => reply.header("Docker-Content-Digest", digest),
        }
    })
    .await
}

async fn platforms(client: &RegistryClient, image: &str) -> String {
    let by = Instant::now() + PATIENCE;
    match client
        .platforms_for(&reference(image), &PodCredentials::default(), by)
        .await
    {
        Ok(ImagePlatforms::Any) => "any".to_owned(),
        Ok(ImagePlatforms::Only(platforms)) => {
            let words: Vec<_> = platforms.iter().map(ToString::to_string).collect();
            words.join(" ")
        }
        Err(unknown) => told(Err(unknown)),
    }
}

#[tokio::test]
async fn registry_case_104_and_105_only_an_index_names_platforms() {
    let both = index(&["linux/arm64", "linux/amd64", "unknown/unknown"]).to_string();
    for (kind, body, expected) in [
        (INDEX, both.clone(), "linux/amd64 linux/arm64"),
        (LIST, both.clone(), "linux/amd64 linux/arm64"),
        (MANIFEST_TYPE, both.clone(), "any"),
        (
            INDEX,
            "evil".to_owned(),
            "gives an index that cannot be read",
        ),
        (
            INDEX,
            format!("[{}]", " ".repeat(5 * 1024 * 1024)),
            "answered with a manifest that is too long for a node",
        ),
    ] {
        let registry = registry(kind, "", body).await;
        let client = client_of(&registry.url());
        assert_eq!(platforms(&client, IMAGE).await, expected);
    }
    let absent = Scripted::start(absent).await;
    let answer = platforms(&client_of(&absent.url()), IMAGE).await;
    assert_eq!(answer, "has no such manifest");
}

#[tokio::test]
async fn a_manifest_is_fetched_once_for_all_tags_of_its_digest() {
    let body = index(&["linux/arm64"]).to_string();
    let registry = registry(INDEX, "sha256:1", body).await;
    let client = client_of(&registry.url());
    for tag in ["v1", "v2", "v1"] {
        let image = format!("registry.test/team/app:{tag}");
        assert_eq!(platforms(&client, &image).await, "linux/arm64");
    }
    let methods: Vec<_> = registry
        .asked()
        .into_iter()
        .map(|asked| asked.method)
        .collect();
    assert_eq!(methods, ["HEAD", "GET", "HEAD"]);
}

#[tokio::test]
async fn a_mirror_answers_for_the_registry() {
    let body = index(&["linux/arm64"]).to_string();
    let away = Scripted::start(|_| Reply::status(0)).await;
    let registry = registry(INDEX, "", body).await;
    let client = client_of_config(&format!(
        "registries: {{registry.test: {{server: '{}', mirrors: ['{}']}}}}",
        registry.url(),
        away.url()
    ));
    assert_eq!(platforms(&client, IMAGE).await, "linux/arm64");
}
