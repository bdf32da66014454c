//! Our reading of image references against the Go library that nodes use.

use forestall::image::ImageReference;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde::Deserialize;

/// How many generated references are compared.
const GENERATED: usize = 20_000;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Answer {
    #[serde(skip_serializing)]
    error: String,
    domain: String,
    path: String,
    tag: String,
    digest: String,
    full: String,
    familiar: String,
    pulled: String,
}

fn ours(text: &str) -> Option<Answer> {
    let reference = ImageReference::parse(text).ok()?;
    Some(Answer {
        error: String::new(),
        full: reference.to_string(),
        familiar: reference.familiar(),
        pulled: reference.pulled().to_string(),
        domain: reference.repository.domain,
        path: reference.repository.path,
        tag: reference.tag.unwrap_or_default(),
        digest: reference.digest.unwrap_or_default(),
    })
}

fn theirs(references: &[String]) -> Vec<Option<Answer>> {
    super::go::answers("reference", references)
        .into_iter()
        .map(|answer: Answer| answer.error.is_empty().then_some(answer))
        .collect()
}

fn compare(references: &[String]) {
    let theirs = theirs(references);
    assert_eq!(theirs.len(), references.len());
    for (text, theirs) in references.iter().zip(theirs) {
        assert_eq!(
            ours(text),
            theirs,
            "left: Forestall, right: the Go library, for {text:?}"
        );
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of references")]
fn hand_written_references_are_read_as_by_the_go_library() {
    let hex = "0123456789abcdef".repeat(8);
    let digest = |algorithm: &str, digits: usize| format!("{algorithm}:{}", &hex[..digits]);
    let mut references: Vec<String> = [
        "nginx",
        "nginx:1",
        "nginx:",
        ":1",
        "",
        " ",
        " nginx",
        "nginx ",
        "nginx\n",
        "Nginx",
        "nginx:Tag",
        "a/b/c:d",
        "/a",
        "a/",
        "a//b",
        "localhost",
        "localhost:5000",
        "localhost/a",
        "localhost:5000/a",
        "LOCALHOST/a",
        "a.b/c",
        "a.b:80/c:d",
        "a.b:/c",
        "a.b:x/c",
        "A/b",
        "A.b/c:D",
        "A/B",
        "docker.io/a",
        "docker.io",
        "docker.io/",
        "docker.io/library/a",
        "docker.io/library/a/b",
        "index.docker.io/a",
        "index.docker.io/a/b",
        "library/a",
        "nginx:тег",
        "имя",
        "a_b",
        "a__b",
        "a___b",
        "a--b",
        "a---b",
        "a.-b",
        "a..b",
        "a-",
        "-a",
        "a_",
        "_a",
        ".a",
        "a.",
        "a_b.c/d",
        "a_b.c/d:e",
        "-a.b/c",
        "a-.b/c",
        "a.b-/c",
        "a..b/c",
        ".b/c",
        "[::1]/a",
        "[::1]:5000/a:b",
        "[2001:db8::1]:5000/repo:tag",
        "[::1/a",
        "::1/a",
        "[]/a",
        "[::1%25eth0]/a",
        "[fe80::1]x/a",
        "a:b:c",
        "a:b/c:d:e",
        "a@",
        "a@b",
        "a:b@",
        "a@sha256",
        "a@sha256:",
        "a:.b",
        "a:-b",
        "a:_b",
        "a:b.c-d_e",
        "0x7f.1/a",
        "169.254.169.254/a:b",
        "example.com:99999999/a",
        "a/b@c/d",
        "%20/a",
        "a%20",
        "a?b",
        "a#b",
        "https://a.b/c",
        "a\\b",
        "a.b.c./d",
        "xn--e1afmkfd.example/a",
        "a\u{0}b",
        "a/b:c/d",
        "é/a",
        "É/a",
    ]
    .map(ToOwned::to_owned)
    .to_vec();
    for name in ["a", "a:b", "a.b:80/c:d", "Docker/docker"] {
        for (algorithm, digits) in [
            ("sha256", 64),
            ("sha256", 63),
            ("sha256", 65),
            ("sha384", 96),
            ("sha512", 128),
            ("sha512", 64),
            ("md5", 32),
            ("SHA256", 64),
            ("sha256+b64", 64),
            ("sha1", 40),
        ] {
            references.push(format!("{name}@{}", digest(algorithm, digits)));
        }
        references.push(format!("{name}@{}", digest("sha256", 64).to_uppercase()));
        references.push(format!("{name}@sha256:{}", hex[..64].to_uppercase()));
        references.push(format!("{name}@{0}@{0}", digest("sha256", 64)));
    }
    for length in [127, 128, 129] {
        references.push(format!("a:{}", "b".repeat(length)));
    }
    for length in [246, 247, 248, 255, 256] {
        references.push("a".repeat(length));
        references.push(format!("a.b/{}", "a".repeat(length)));
    }
    references.push(hex[..64].to_owned());
    references.push(hex[..64].to_uppercase());
    references.push(format!("a/{}", &hex[..64]));
    compare(&references);
}

/// Pieces that make a valid reference now and then, and arbitrary text in between.
fn reference() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z0-9]{1,4}",
        2 => prop::sample::select(vec![
            "/", "/", ":", "@", ".", "_", "__", "-", "--", "[", "]", "::1", ":5000/", "localhost",
            "docker.io/", "index.docker.io/", "library/", "sha256:", "sha512:", "@sha256:",
        ]).prop_map(ToOwned::to_owned),
        1 => "[A-Z]{1,2}",
        1 => prop::sample::select(vec![32, 63, 64, 65, 128]).prop_map(|length| "0a".repeat(64)[..length].to_owned()),
    ];
    let pieces = prop::collection::vec(piece, 1..9).prop_map(|pieces| pieces.concat());
    let shaped = "([a-z0-9.-]{1,6}(:[0-9]{1,4})?/)?[a-z0-9_./-]{1,10}(:[A-Za-z0-9_.-]{0,6})?(@sha256:[0-9a-f]{64})?";
    prop_oneof![4 => pieces, 4 => shaped, 1 => "[a-zA-Z0-9._:/@\\[\\]-]{0,24}", 1 => "\\PC{0,12}"]
}

#[test]
fn generated_references_are_read_as_by_the_go_library() {
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    let strategy = reference();
    let references: Vec<String> = (0..GENERATED)
        .map(|_| strategy.new_tree(&mut runner).unwrap().current())
        .collect();
    let valid = references
        .iter()
        .filter(|text| ImageReference::parse(text).is_ok())
        .count();
    assert!(
        valid > GENERATED / 20,
        "only {valid} of {GENERATED} are references: the comparison shows little"
    );
    compare(&references);
}
