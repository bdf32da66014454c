//! Our keyring against kubelet's own code.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use forestall::registry::credentials::{DockerConfig, Keyring, Origin};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::go;

/// How many generated questions are compared.
const GENERATED: usize = 20_000;
const JSON: &str = "kubernetes.io/dockerconfigjson";
const LEGACY: &str = "kubernetes.io/dockercfg";

/// An image that is pulled, and the pull secrets, each a type and the text under its key.
#[derive(Clone, Debug)]
struct Question {
    image: String,
    secrets: Vec<(&'static str, String)>,
}

/// User names in the order in which they are tried; `None`: kubelet fails.
type Answer = Option<Vec<String>>;

#[derive(Deserialize)]
struct Theirs {
    malformed: bool,
    credentials: Option<Vec<Named>>,
}

#[derive(Deserialize)]
struct Named {
    username: String,
}

fn ours(Question { image, secrets }: &Question) -> Answer {
    let mut keyring = Keyring::default();
    for (kind, text) in secrets.iter().filter(|(_, text)| !text.is_empty()) {
        let parse = match *kind {
            JSON => DockerConfig::parse,
            _ => DockerConfig::parse_legacy,
        };
        keyring.add(&parse(text.as_bytes(), &Origin::Own).ok()?);
    }
    let found = keyring.lookup(image);
    let found = found.iter().map(|found| found.username().to_owned());
    Some(found.collect())
}

fn theirs(questions: &[Question]) -> Vec<Answer> {
    let asked = questions.iter().map(|Question { image, secrets }| {
        let secret = |(kind, text): &(&str, String)| {
            let key = if *kind == JSON {
                ".dockerconfigjson"
            } else {
                ".dockercfg"
            };
            json!({"type": kind, "data": {key: text}})
        };
        let secrets: Vec<Value> = secrets.iter().map(secret).collect();
        json!({"image": image, "secrets": secrets}).to_string()
    });
    go::answers("keyring", &asked.collect::<Vec<_>>())
        .into_iter()
        .map(|theirs: Theirs| {
            let found = theirs.credentials.unwrap_or_default().into_iter();
            (!theirs.malformed).then(|| found.map(|named| named.username).collect())
        })
        .collect()
}

fn compare(questions: &[Question]) {
    let theirs = theirs(questions);
    assert_eq!(theirs.len(), questions.len());
    let answers = questions.iter().zip(theirs);
    let answers = answers.map(|(question, theirs)| (question, ours(question), theirs));
    let different: Vec<_> = answers.filter(|(_, ours, theirs)| ours != theirs).collect();
    assert!(
        different.is_empty(),
        "question, Forestall, kubelet: {different:#?}"
    );
}

/// The file with one entry for each key; the user name is the key.
fn config(keys: &[&str]) -> String {
    let entry = |key: &&str| ((*key).to_owned(), json!({"username": key, "password": "p"}));
    json!({"auths": keys.iter().map(entry).collect::<serde_json::Map<_, _>>()}).to_string()
}

const KEYS: &[&str] = &[
    "https://index.docker.io/v1/",
    "http://index.docker.io/v2/",
    "index.docker.io/v1",
    "index.docker.io",
    "docker.io",
    "docker.io/",
    "docker.io/library",
    "docker.io/library/nginx",
    "registry-1.docker.io",
    "quay.io",
    "quay.io/",
    "quay.io/core",
    "quay.io/coreos/etcd",
    "quay.io:443",
    "quay.io:",
    "quay.io?x",
    "quay.io#x",
    "quay.io#%",
    "quay.io#/%ff",
    "%ff@quay.io",
    "quay.io/%ff",
    "quay.io/%63ore",
    "quay.io/v1/core",
    "user:pass@quay.io",
    "HTTPS://quay.io",
    "QUAY.io",
    "*",
    "*.io",
    "*.*",
    "q*y.io",
    "*uay.*o",
    "**.io",
    "*.io:5000",
    "registry.example.com",
    "registry.example.com:8443",
    "*.example.com",
    "*.example.com:8443/team",
    "[2001:db8::1]:5000",
    "[2001:db8::1]",
    "[2001:db8::*]:5000",
    "[1.2.3.4]:5000",
    "[::ffff:1.2.3.4]:5000",
    "1.2.3.4:5000",
    "1.*.3.4:5000",
    "localhost",
    "localhost:5000",
    "a[b].io",
    "[q]uay.io",
    "quay.io:port",
    "quay.io:1:2",
    "a b",
    "quay%2eio",
    "quay%ff.io",
    "quay%25.io",
    "quay%",
    "qu\u{e4}y.io",
    "quay.io\n",
    "",
    "/",
    "https://",
    "://",
];

const IMAGES: &[&str] = &[
    "docker.io/library/nginx",
    "docker.io/prom/prometheus",
    "quay.io/coreos/etcd",
    "quay.io:5000/coreos/etcd",
    "registry.example.com/team/app",
    "registry.example.com:8443/team/app",
    "registry.example.com.evil.io/team/app",
    "[2001:db8::1]:5000/app",
    "[2001:db8::1]/app",
    "[::ffff:1.2.3.4]:5000/app",
    "[:::]:5000/app",
    "1.2.3.4:5000/app",
    "localhost/app",
    "localhost:5000/app",
    "Foo/app",
    "a_b.io/c",
    "index.docker.io/app",
];

#[test]
fn registry_cases_48_to_50_keys_are_for_images_as_kubelet_decides() {
    let mut questions = Vec::new();
    for image in IMAGES {
        let image = (*image).to_owned();
        for key in KEYS {
            let secrets = vec![(JSON, config(&[key]))];
            questions.push(Question {
                image: image.clone(),
                secrets,
            });
        }
        // All together: now the order counts.
        let secrets = KEYS.iter().map(|key| (JSON, config(&[key])));
        questions.push(Question {
            image,
            secrets: secrets.collect(),
        });
    }
    compare(&questions);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of files")]
fn registry_case_52_files_are_malformed_where_kubelet_says_so() {
    let entries = [
        "{}",
        "null",
        "5",
        "[]",
        "\"dTpw\"",
        "true",
        r#"{"username":"u"}"#,
        r#"{"username":null}"#,
        r#"{"username":5}"#,
        r#"{"USERNAME":"u"}"#,
        r#"{"username":"u","username":"v"}"#,
        r#"{"username":"u","Username":null}"#,
        r#"{"password":[]}"#,
        r#"{"email":1}"#,
        r#"{"email":null}"#,
        r#"{"other":{"a":[1e999]}}"#,
        r#"{"auth":"dTpw"}"#,
        r#"{"auth":"dTpw\n"}"#,
        r#"{"auth":"dTpw\r\n="}"#,
        r#"{"auth":"dTpwcQ=="}"#,
        r#"{"auth":"dTpwcQ"}"#,
        r#"{"auth":"dTpwcQ="}"#,
        r#"{"auth":"dTpwcR=="}"#,
        r#"{"auth":"dTpwcR"}"#,
        r#"{"auth":"dTpwcQ==\n"}"#,
        r#"{"auth":"dTpw cQ"}"#,
        r#"{"auth":" dTpw"}"#,
        r#"{"auth":"dTpw "}"#,
        r#"{"auth":"dTpw= "}"#,
        r#"{"auth":"dXU"}"#,
        r#"{"auth":"Og"}"#,
        r#"{"auth":"="}"#,
        r#"{"auth":"%"}"#,
        r#"{"auth":"dTpw====" }"#,
        r#"{"auth":"dQ==Og=="}"#,
        r#"{"auth":"_-_-"}"#,
        r#"{"auth":""}"#,
        r#"{"auth":"/zr/"}"#,
        r#"{"auth":null,"username":"u"}"#,
        r#"{"auth":"dTpw","auth":"%"}"#,
        r#"{"auth":"%","auth":"dTpw"}"#,
        r#"{"email":"\ud800"}"#,
        r#"{"username":"\u0041"}"#,
        r#"{"username":"a\tb"}"#,
        "{\"username\":\"a\tb\"}",
        r#"{"username":"\x"}"#,
        r#"{"username":"u",}"#,
    ];
    let whole = [
        "",
        " ",
        "null",
        "{}",
        "[]",
        "5",
        "\"\"",
        "{",
        "{}}",
        "{} {}",
        "nul",
        "\u{feff}{}",
        r#"{"auths":null}"#,
        r#"{"auths":[]}"#,
        r#"{"auths":5}"#,
        r#"{"AUTHS":{"quay.io":{"username":"u"}}}"#,
        r#"{"auths":{"quay.io":{"username":"u"}},"auths":{"quay.io/core":{"username":"v"}}}"#,
        r#"{"auths":{"quay.io":{"username":"u"}},"auths":null}"#,
        r#"{"auths":{"quay.io":{"auth":"%"}},"auths":{"quay.io":{}}}"#,
        r#"{"HttpHeaders":{"a":"b"}}"#,
        r#"{"httpheaders":{"a":5}}"#,
        r#"{"HttpHeaders":{"a":null}}"#,
        r#"{"HttpHeaders":null}"#,
        r#"{"HttpHeaders":[]}"#,
        r#"{"credHelpers":5,"credsStore":[]}"#,
        r#"{"quay.io":{"username":"u"}}"#,
        r#"{"quay.io":"u"}"#,
        r#"{"\ud800":{}}"#,
        r#"{"a":01}"#,
        r#"{"a":1e5}"#,
        r#"{"a":+1}"#,
        r#"{"a":.5}"#,
        r#"{"a":"\u12"}"#,
        "{\"a\":\"\u{1}\"}",
        r#"{"a":{"b":[{"c":null}]}}"#,
    ];
    let mut questions = Vec::new();
    let mut ask = |kind, text: String| {
        let image = "quay.io/coreos/etcd".to_owned();
        questions.push(Question {
            image,
            secrets: vec![(kind, text)],
        });
    };
    for entry in entries {
        ask(JSON, format!("{{\"auths\":{{\"quay.io\":{entry}}}}}"));
        ask(LEGACY, format!("{{\"quay.io\":{entry}}}"));
    }
    for text in whole {
        ask(JSON, text.to_owned());
        ask(LEGACY, text.to_owned());
    }
    ask(
        JSON,
        format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000)),
    );
    compare(&questions);
}

fn key() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => prop::sample::select(vec![
            "a", "b", "quay", "io", ".", ".", "*", ":", "/", "/v1/", "/v2/", "/", "docker.io", "index.docker.io",
            ":5000", "https://", "http://", "[", "]", "::1", "[::1]", "?", "#", "@", "%", "%61", "%2f", "%ff", "-",
        ]).prop_map(ToOwned::to_owned),
        1 => "[a-zA-Z0-9~!$&'()*+,;=<>\" _\\\\^`{|}é]",
    ];
    let pieces = prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat());
    let shaped =
        "(https?://)?(a|b|[*]|a[*])([.](a|b|[*])){0,2}(:5000|:)?(/v[12])?(/(a|b|ab)){0,2}/?";
    prop_oneof![1 => pieces, 2 => shaped]
}

fn image() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "(a|b|ab|A)([.](a|b|ab)){0,2}(:5000)?(/(a|b|ab)){1,3}",
        1 => "(docker[.]io|\\[::1\\](:5000)?)(/(a|b|library)){1,2}",
    ]
}

/// A key that is for an image, or nearly: some labels are stars, and some of the path is gone.
fn key_near(image: &str, stars: u8, cut: usize, has_port: bool) -> String {
    let (host, path) = image.split_once('/').unwrap_or((image, ""));
    let (host, port) = host.rsplit_once(':').unwrap_or((host, ""));
    let labels = host.split('.').enumerate().map(|(index, label)| {
        let is_star = !host.starts_with('[') && stars >> index & 1 == 1;
        if is_star { "*" } else { label }
    });
    let port = if has_port && !port.is_empty() {
        format!(":{port}")
    } else {
        String::new()
    };
    let path = &path[..cut.min(path.len())];
    format!("{}{port}/{path}", labels.collect::<Vec<_>>().join("."))
}

/// Some secrets with one entry each, so that kubelet's order is not that of Go's maps.
fn question() -> impl Strategy<Value = Question> {
    let near = (
        any::<u8>(),
        0..8_usize,
        prop::bool::weighted(0.8),
        any::<bool>(),
    );
    let entry = (key(), near, any::<bool>(), any::<bool>());
    (image(), prop::collection::vec(entry, 0..5)).prop_map(|(image, entries)| {
        let secret = |(key, (stars, cut, has_port, is_near), is_legacy, has_auth)| {
            let key = if is_near {
                key_near(&image, stars, cut, has_port)
            } else {
                key
            };
            let entry = if has_auth {
                let pair = format!("{}:p", key.replace(':', ";"));
                json!({"auth": BASE64_STANDARD.encode(pair)})
            } else {
                json!({"username": key})
            };
            let entries = json!({key: entry});
            if is_legacy {
                (LEGACY, entries.to_string())
            } else {
                (JSON, json!({"auths": entries}).to_string())
            }
        };
        let secrets = entries.into_iter().map(secret).collect();
        Question { image, secrets }
    })
}

#[test]
fn generated_secrets_give_what_kubelet_finds() {
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    let strategy = question();
    let questions: Vec<Question> = (0..GENERATED)
        .map(|_| strategy.new_tree(&mut runner).unwrap().current())
        .collect();
    let answers: Vec<usize> = questions
        .iter()
        .map(|question| ours(question).map_or(0, |found| found.len()))
        .collect();
    let different: BTreeSet<_> = answers.iter().collect();
    let some = answers.iter().filter(|found| **found > 0).count();
    assert!(
        some > GENERATED / 20 && different.len() > 2,
        "credentials are found for {some} of {GENERATED} images: the comparison shows little"
    );
    compare(&questions);
}
