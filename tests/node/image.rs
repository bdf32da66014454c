//! The image, as a registry gives it away.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Command;

use serde_json::{Value, json};

use crate::control_plane::run;
use crate::node_under_test::{REGISTRY, TAG, Turn};

/// The most that an image may have, unpacked, in bytes.
const LARGEST: u64 = 25_000_000;

/// What the registry has under this path of the repository.
async fn get(path: &str) -> Vec<u8> {
    let request = reqwest::Client::new()
        .get(format!("http://{REGISTRY}/v2/forestall/{path}"))
        .header("Accept", "application/vnd.oci.image.manifest.v1+json");
    let answer = request.send().await.unwrap().error_for_status().unwrap();
    answer.bytes().await.unwrap().to_vec()
}

async fn blob(descriptor: &Value) -> Vec<u8> {
    get(&format!("blobs/{}", descriptor["digest"].as_str().unwrap())).await
}

/// The lines by which tar describes what is in a layer.
fn entries(layer: &[u8]) -> Vec<String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(layer).unwrap();
    let arguments = ["--numeric-owner", "--full-time", "-tvf"];
    let listed = run(Command::new("tar").args(arguments).arg(file.path()), "");
    assert!(listed.success, "{}", listed.stderr);
    listed.stdout.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_image_has_one_program_and_certificates_and_no_shell() {
    let _turn = Turn::wait();
    let manifest: Value = serde_json::from_slice(&get(&format!("manifests/{TAG}")).await).unwrap();
    let mut files = BTreeSet::new();
    let mut size = 0;
    for layer in manifest["layers"].as_array().unwrap() {
        // -rwxr-xr-x 0/0 123456 2026-01-31 12:00:00 forestall
        for entry in entries(&blob(layer).await) {
            let fields: Vec<&str> = entry.split_whitespace().collect();
            if entry.starts_with('d') {
                continue;
            }
            assert!(entry.starts_with("-r"), "not a plain file: {entry}");
            size += fields[2].parse::<u64>().unwrap();
            files.insert(fields[5].to_owned());
        }
    }
    let expected = ["etc/ssl/certs/ca-certificates.crt", "forestall"];
    assert_eq!(files, expected.map(str::to_owned).into());
    let packed: u64 = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["size"].as_u64().unwrap())
        .sum();
    println!("the image has {size} bytes, {packed} as it is pulled");
    assert!(size <= LARGEST, "{size} bytes");
}

#[tokio::test]
async fn the_image_runs_as_nobody_and_says_what_it_is() {
    let _turn = Turn::wait();
    let manifest: Value = serde_json::from_slice(&get(&format!("manifests/{TAG}")).await).unwrap();
    let image: Value = serde_json::from_slice(&blob(&manifest["config"]).await).unwrap();
    let config = &image["config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], json!(["/forestall"]));
    assert_eq!(config["Cmd"], Value::Null);
    assert_eq!(
        config["ExposedPorts"],
        json!({"8080/tcp": {}, "9443/tcp": {}})
    );
    let label = |name: &str| &config["Labels"][format!("org.opencontainers.image.{name}")];
    assert_eq!(label("title"), "Forestall");
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(label("licenses"), "Apache-2.0");
    assert_eq!(label("description"), env!("CARGO_PKG_DESCRIPTION"));
}
