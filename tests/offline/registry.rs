//! The registry client against a real registry, and against scripted ones that are hostile or ill.
//! The numbers of cases are those of the list of registry behaviours in the client's design.

mod auth;
mod background;
mod contents;
mod credentials;
mod forgery;
mod guards;
mod keyring;
mod limits;
mod mirrors;
mod oracle;
mod providers;
mod real;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use forestall::config::Config;
use forestall::evidence::{ImageState, Missing, MissingPart, Unknown};
use forestall::image::ImageReference;
use forestall::registry::{HostSettings, RegistryClient};
use forestall::report::metrics::Metrics;
use tokio::time::Instant;

use super::scripted::{Asked, Reply, Scripted};

/// The image that the scripted registries are asked for, and its paths there.
const IMAGE: &str = "registry.test/team/app:v1";
const MANIFEST: &str = "/v2/team/app/manifests/v1";
const TAGS: &str = "/v2/team/app/tags/list";
/// More than any answer takes here; only what hangs reaches it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client that asks `registry.test` at this address.
fn client_of(server: &str) -> RegistryClient {
    client(&[("registry.test", server)])
}

/// A client of registries and their servers; one without a server is asked by plain HTTP.
fn client(entries: &[(&str, &str)]) -> RegistryClient {
    client_with(entries, Arc::default())
}

fn client_with(entries: &[(&str, &str)], metrics: Arc<Metrics>) -> RegistryClient {
    let settings = |&(host, server): &(&str, &str)| {
        let settings = HostSettings {
            server: (!server.is_empty()).then(|| server.into()),
            plain_http: server.is_empty(),
            ..HostSettings::default()
        };
        (host.to_owned(), settings)
    };
    let config = Config {
        registries: entries.iter().map(settings).collect(),
        ..Config::default()
    };
    RegistryClient::new(&config.registry(), metrics).unwrap()
}

/// A client by this configuration.
fn client_of_config(yaml: &str) -> RegistryClient {
    let config = Config::parse("config.yaml", yaml).unwrap();
    RegistryClient::new(&config.registry(), Arc::new(Metrics::default())).unwrap()
}

fn reference(image: &str) -> ImageReference {
    ImageReference::parse(image).unwrap().pulled()
}

async fn probe(client: &RegistryClient, image: &str) -> Result<ImageState, Unknown> {
    let by = Instant::now() + PATIENCE;
    client.probe(&reference(image), by).await
}

/// What comes of asking a scripted registry for the image.
async fn answer(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> String {
    let registry = Scripted::start(script).await;
    told(probe(&client_of(&registry.url()), IMAGE).await)
}

/// An answer in a line: `exists`, `missing Tag [v2]`, `denied`, or why it is not known.
fn told(answer: Result<ImageState, Unknown>) -> String {
    match answer {
        Ok(ImageState::Exists) => "exists".to_owned(),
        Ok(ImageState::Schema1) => "schema 1".to_owned(),
        Ok(ImageState::Missing(Missing { what, tags, .. })) => {
            format!("missing {what:?} [{}]", tags.join(" "))
        }
        Ok(ImageState::Denied { .. }) => "denied".to_owned(),
        Err(Unknown::Registry { why, .. }) => {
            assert!(!why.contains("evil"), "{why:?} shows what a registry wrote");
            why
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// Whether the registry had let us read something before it gave this answer.
fn answered_before(answer: &Result<ImageState, Unknown>) -> bool {
    match answer {
        Err(Unknown::Registry {
            answered_before, ..
        }) => *answered_before,
        other => panic!("{other:?}"),
    }
}

/// A registry that has no such tag, but others.
fn absent(asked: &Asked) -> Reply {
    match asked.path() {
        TAGS => Reply::tags(&["v3", "v2"]),
        _ => Reply::error(404, "MANIFEST_UNKNOWN"),
    }
}

#[tokio::test]
async fn registry_cases_1_and_2_a_name_without_a_host_is_asked_of_docker_hub() {
    for (image, path) in [
        ("nginx", "/v2/library/nginx/manifests/latest"),
        ("localhost:5000", "/v2/library/localhost/manifests/5000"),
    ] {
        let hub = Scripted::start(|_| Reply::status(200)).await;
        let client = client(&[("docker.io", &hub.url())]);
        assert_eq!(told(probe(&client, image).await), "exists");
        assert!(hub.asked()[0].is("HEAD", path), "{:?}", hub.asked());
    }
}

#[tokio::test]
async fn registry_cases_15_and_16_an_image_that_exists_takes_one_head() {
    let plain = Reply::status(200);
    let digest = format!("sha256:{}", "a".repeat(64));
    // Some name neither digest nor length; a node would ask by GET then, but it is there.
    for reply in [
        plain.clone().header("Docker-Content-Digest", &digest),
        plain.without_length(),
    ] {
        let registry = Scripted::start(move |_| reply.clone()).await;
        let answer = probe(&client_of(&registry.url()), IMAGE).await;
        assert_eq!(told(answer), "exists");
        is_one_head(&registry.asked());
    }
}

/// As a node would ask.
fn is_one_head(asked: &[Asked]) {
    assert_eq!(asked.len(), 1);
    assert!(asked[0].is("HEAD", MANIFEST));
    let accept = asked[0].header("accept").unwrap();
    for kind in [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "*/*",
    ] {
        assert!(
            accept.split(", ").any(|accepted| accepted == kind),
            "{kind}"
        );
    }
    assert_eq!(asked[0].header("authorization"), None);
}

#[tokio::test]
async fn registry_case_26_the_tag_beside_a_digest_is_never_asked_for() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let manifest = format!("/v2/team/app/manifests/{digest}");
    let expected = manifest.clone();
    let registry = Scripted::start(move |asked| {
        if asked.path() == manifest {
            Reply::status(200)
        } else {
            Reply::error(404, "MANIFEST_UNKNOWN")
        }
    })
    .await;
    let answer = probe(&client_of(&registry.url()), &format!("{IMAGE}@{digest}")).await;
    assert_eq!(told(answer), "exists");
    let asked = registry.asked();
    assert!(
        asked.len() == 1 && asked[0].is("HEAD", &expected),
        "{asked:?}"
    );
}

#[tokio::test]
async fn registry_case_17_a_registry_without_head_is_asked_by_get() {
    let get_only = |asked: &Asked| match asked.method.as_str() {
        "HEAD" => Reply::status(405),
        _ => Reply::status(200),
    };
    assert_eq!(answer(get_only).await, "exists");
    assert_eq!(answer(|_| Reply::status(405)).await, "answered 405");
}

#[tokio::test]
async fn registry_case_18_missing_takes_a_head_a_get_and_the_list_of_tags() {
    let registry = Scripted::start(absent).await;
    let answer = probe(&client_of(&registry.url()), IMAGE).await;
    let Ok(ImageState::Missing(missing)) = &answer else {
        panic!("{answer:?}");
    };
    let asked = format!("{} (for registry.test, anonymous)", registry.address);
    assert_eq!((missing.what, &missing.asked), (MissingPart::Tag, &asked));
    assert_eq!(*missing.tags, ["v2", "v3"]);
    let methods: Vec<_> = registry
        .asked()
        .into_iter()
        .map(|asked| asked.method)
        .collect();
    assert_eq!(methods, ["HEAD", "GET", "GET"]);
}

#[tokio::test]
async fn registry_case_19_a_get_that_finds_the_image_holds_over_a_head_that_does_not() {
    let wrong_head = |asked: &Asked| match asked.method.as_str() {
        "HEAD" => Reply::error(404, "MANIFEST_UNKNOWN"),
        _ => Reply::status(200),
    };
    assert_eq!(answer(wrong_head).await, "exists");
}

#[tokio::test]
async fn registry_cases_20_22_23_and_24_a_404_must_be_about_absence_in_the_words_of_a_registry() {
    let accept = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"OCI manifest found, but accept header does not support OCI manifests evil"}]}"#;
    let wordless = "answered 404, but not in the words of a registry";
    let red_hat = r#"{"errors":[{"code":"UNKNOWN","message":"Not Found"}]}"#;
    let cases: [(Reply, &str); 9] = [
        (
            Reply::status(404).body(accept),
            "has the image in a form that was not asked for",
        ),
        (
            Reply::html(404),
            "answered with a page for people, as no registry does",
        ),
        (Reply::status(404).body("<evil>"), wordless),
        (Reply::status(404).body("default backend - 404"), wordless),
        // nginx adds this header to whatever it answers, if it is set up as Docker once told.
        (
            Reply::status(404).header("Docker-Distribution-Api-Version", "registry/2.0"),
            wordless,
        ),
        (
            Reply::error(404, "DENIED"),
            "answered 404, but with another reason than absence",
        ),
        (Reply::error(404, "NOT_FOUND"), "missing Tag [v2]"),
        (Reply::status(404).body(red_hat), "missing Tag [v2]"),
        (Reply::error(404, "MANIFEST_UNKNOWN"), "missing Tag [v2]"),
    ];
    for (reply, expected) in cases {
        let shown = format!("{reply:?}");
        let script = move |asked: &Asked| match asked.path() {
            TAGS => Reply::tags(&["v2"]),
            _ => reply.clone(),
        };
        assert_eq!(answer(script).await, expected, "{shown}");
    }
}

#[tokio::test]
async fn registry_case_21_a_list_that_holds_the_tag_contradicts_its_absence() {
    let registry = Scripted::start(|asked| match asked.path() {
        TAGS => Reply::tags(&["v1", "v2"]),
        _ => Reply::error(404, "MANIFEST_UNKNOWN"),
    })
    .await;
    let answer = probe(&client_of(&registry.url()), IMAGE).await;
    assert!(answered_before(&answer));
    assert_eq!(
        told(answer),
        "contradicts itself: it lists the tag, and has no manifest for it"
    );
}

#[tokio::test]
async fn registry_case_25_a_repository_that_is_unknown_is_missing_unless_it_has_tags() {
    let unknown = |_: &Asked| Reply::error(404, "NAME_UNKNOWN");
    assert_eq!(answer(unknown).await, "missing Repository []");
    let lists_tags = |asked: &Asked| match asked.path() {
        TAGS => Reply::tags(&["v2"]),
        _ => Reply::error(404, "NAME_UNKNOWN"),
    };
    assert_eq!(answer(lists_tags).await, "missing Tag [v2]");
}

#[tokio::test]
async fn registry_case_27_and_28_a_digest_is_missing_if_manifest_and_blob_are() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let image = format!("registry.test/team/app:v1@{digest}");
    let blob = format!("/v2/team/app/blobs/{digest}");
    let cases = [
        (404, "missing Digest []"),
        (
            200,
            "contradicts itself: it has the blob, and no manifest of that digest",
        ),
        (307, "redirects once too often"),
        (
            401,
            "answered 401: it does not say whether the image is there",
        ),
        (500, "answered 500"),
    ];
    for (status, expected) in cases {
        let blob = blob.clone();
        let registry = Scripted::start(move |asked| {
            if asked.path() == blob {
                Reply::status(status)
            } else {
                absent(asked)
            }
        })
        .await;
        let answer = probe(&client_of(&registry.url()), &image).await;
        assert_eq!(told(answer), expected, "{status}");
    }
}

#[tokio::test]
async fn what_a_registry_may_hide_from_strangers_is_not_missing() {
    let hidden = "shows nothing of that repository without credentials, so it may hide it";
    let digest = format!("sha256:{}", "a".repeat(64));
    for (tags, of_tag, of_digest) in [
        (Reply::error(404, "NAME_UNKNOWN"), hidden, hidden),
        (Reply::error(401, "UNAUTHORIZED"), hidden, hidden),
        (Reply::status(200), hidden, hidden),
        (
            Reply::status(200).body("{\"message\":\"ok\"}"),
            hidden,
            hidden,
        ),
        (Reply::tags(&[]), hidden, hidden),
        (
            Reply::tags(&["v2"]),
            "missing Tag [v2]",
            "missing Digest []",
        ),
    ] {
        let registry = Scripted::start(move |asked| match asked.path() {
            TAGS => tags.clone(),
            path if path.contains("/blobs/") => Reply::status(404),
            _ => Reply::error(404, "NAME_UNKNOWN"),
        })
        .await;
        // Asked under its own address: nobody said that it has all that there is.
        let client = client(&[(&registry.address, "")]);
        let image = format!("{}/team/app", registry.address);
        let answer = probe(&client, &format!("{image}:v1")).await;
        assert_eq!(told(answer), of_tag);
        let answer = probe(&client, &format!("{image}@{digest}")).await;
        assert_eq!(told(answer), of_digest);
    }
}

#[tokio::test]
async fn registry_case_30_a_manifest_that_is_too_long_for_a_node_is_none() {
    let long = |_: &Asked| Reply::status(200).length(6 * 1024 * 1024);
    assert_eq!(
        answer(long).await,
        "answered with a manifest that is too long for a node"
    );
}

#[tokio::test]
async fn statuses_that_say_nothing_of_the_image_are_unknown() {
    for (status, expected) in [
        (204, "answered 204"),
        (400, "answered 400"),
        (
            403,
            "answered 403: it does not say whether the image is there",
        ),
        (408, "answered 408"),
        (429, "answered 429: too many requests"),
        (500, "answered 500"),
        (503, "answered 503"),
    ] {
        assert_eq!(
            answer(move |_| Reply::error(status, "evil")).await,
            expected
        );
        // Nor do they when only the confirmation meets them.
        let late = move |asked: &Asked| match asked.method.as_str() {
            "HEAD" => Reply::status(404),
            _ => Reply::error(status, "evil"),
        };
        assert_eq!(answer(late).await, expected, "{status} to GET");
    }
    let page = |_: &Asked| Reply::html(200);
    assert_eq!(
        answer(page).await,
        "answered with a page for people, as no registry does"
    );
}

#[tokio::test]
async fn registry_case_94_a_list_of_tags_that_is_withheld_leaves_the_proof() {
    for (status, expected) in [
        (401, "missing Tag []"),
        (403, "missing Tag []"),
        (404, "missing Tag []"),
        (405, "missing Tag []"),
        (429, "missing Tag []"),
        // What fails now may have failed before.
        (500, "answered 500"),
        (502, "answered 502"),
    ] {
        let script = move |asked: &Asked| match asked.path() {
            TAGS => Reply::error(status, "evil"),
            _ => Reply::error(404, "MANIFEST_UNKNOWN"),
        };
        assert_eq!(answer(script).await, expected, "{status}");
    }
}

#[tokio::test]
async fn registry_case_91_tags_are_sorted_and_what_is_no_tag_is_dropped() {
    let list = |tags: &'static [&str]| {
        move |asked: &Asked| match asked.path() {
            TAGS => Reply::tags(tags),
            _ => Reply::error(404, "MANIFEST_UNKNOWN"),
        }
    };
    let odd = list(&["b", "a", "b", "<evil>", "evil evil", "\u{202e}evil"]);
    assert_eq!(answer(odd).await, "missing Tag [a b]");
    // What must be escaped is in no list of a registry.
    let escaped = list(&["b", "\u{1b}[31mevil"]);
    assert_eq!(answer(escaped).await, "missing Tag []");
}
