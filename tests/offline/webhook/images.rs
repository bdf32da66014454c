//! Reviews of images, with the real registry client behind the webhook.

use forestall::report::metrics::Metrics;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forestall::config::Config;
use forestall::guard::Guard;
use forestall::lookup::live::Live;
use forestall::registry::RegistryClient;
use serde_json::{Value, json};

use super::super::scripted::{Asked, Reply, Scripted};
use super::support::{Answer, Door, create, deployment, update};

/// More than any answer takes here; only what hangs reaches it.
const PATIENCE: Duration = Duration::from_secs(20);
/// What nobody who reads a message may see of a registry's answer.
const HOSTILE: &str = "\u{1b}[31mevil <b> https://evil.test";

/// A webhook that asks this registry under the name of registry.test.
fn door(registry: &Scripted) -> Door<Live> {
    let url = registry.url();
    let yaml = format!("registries: {{registry.test: {{server: {url:?}}}}}");
    let config = Config::parse("config.yaml", &yaml).unwrap();
    let lookup = Live {
        registry: Some(Arc::new(
            RegistryClient::new(&config.registry(), Arc::new(Metrics::default())).unwrap(),
        )),
        cluster: None,
        argocd_version: None,
    };
    Door::new(Guard::new(config, lookup).unwrap())
}

/// A Deployment with a container for each of these tags.
fn with_tags<Tag: ToString>(tags: impl IntoIterator<Item = Tag>) -> Value {
    let mut object = deployment("1Gi");
    let containers = tags.into_iter().map(|tag| {
        let tag = tag.to_string();
        json!({"name": format!("app-{tag}"), "image": format!("registry.test/team/app:{tag}")})
    });
    object["spec"]["template"]["spec"]["containers"] = containers.collect();
    object
}

fn is_manifest(asked: &Asked, tag: &str) -> bool {
    asked.path() == format!("/v2/team/app/manifests/{tag}")
}

fn absent() -> Reply {
    Reply::error(404, "MANIFEST_UNKNOWN")
}

#[tokio::test(flavor = "multi_thread")]
async fn registry_case_72_a_hundred_reviews_of_one_image_are_one_question() {
    let registry = Scripted::start(|_| Reply::status(200).after(Duration::from_millis(200))).await;
    let door = door(&registry);
    let reviews = (0..100).map(|_| {
        let door = door.clone();
        tokio::spawn(async move { door.validate(&create(&with_tags(["v1"]))).await })
    });
    for answer in futures::future::join_all(reviews).await {
        answer.unwrap().is_plain();
    }
    assert_eq!(registry.asked().len(), 1);
}

#[tokio::test]
async fn registry_case_71_a_review_of_twenty_images_is_answered_in_time_though_one_hangs() {
    let registry = Scripted::start(|asked| match asked.path() {
        path if path.ends_with("/tags/list") => Reply::tags(&["v1"]),
        _ if is_manifest(asked, "7") => Reply::status(200).after(PATIENCE),
        _ if is_manifest(asked, "13") => absent(),
        _ => Reply::status(200),
    })
    .await;
    let door = door(&registry);
    let began = Instant::now();
    let review = create(&with_tags(0..20)).to_string();
    let answer = door.post("/validate?timeout=3s", review).await;
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    let message = answer.message();
    assert!(message.contains("has no tag 13"), "{message}");
    assert_eq!(message.matches("has no tag").count(), 1, "{message}");
    let unknown = answer.review()["auditAnnotations"]["unknown"].clone();
    let unknown = unknown.as_str().unwrap();
    assert!(
        unknown.contains("app-7") && !unknown.contains("app-8"),
        "{unknown}"
    );
}

/// Everything that a registry can put into an answer of this status.
fn hostile(status: u16, code: &str) -> Reply {
    let error = json!({"code": code, "message": HOSTILE, "detail": {"name": HOSTILE}});
    Reply::status(status)
        .header("X-Evil", "evil")
        .header("Retry-After", "evil")
        .json(&json!({"errors": [error], "message": HOSTILE, "token": HOSTILE}))
}

#[tokio::test]
async fn registry_case_89_nothing_that_a_registry_wrote_reaches_a_message() {
    let realm = "Bearer realm=\"https://evil.test/token\",error=\"evil\"";
    let moved = "https://evil.test/manifests/evil";
    for (what, is_refused, reply) in [
        ("missing", true, hostile(404, "MANIFEST_UNKNOWN")),
        ("no repository", true, hostile(404, "NAME_UNKNOWN")),
        ("a code of its own", false, hostile(404, "evil")),
        ("denied", false, hostile(403, "DENIED")),
        (
            "a realm elsewhere",
            false,
            hostile(401, "UNAUTHORIZED").header("WWW-Authenticate", realm),
        ),
        ("too many", false, hostile(429, "TOOMANYREQUESTS")),
        ("broken", false, hostile(500, "evil")),
        (
            "elsewhere",
            false,
            hostile(307, "evil").header("Location", moved),
        ),
        ("a page", false, Reply::html(200).body("<b>evil</b>")),
    ] {
        let registry = Scripted::start(move |asked| match asked.path() {
            path if path.ends_with("/tags/list") => {
                Reply::tags(&["v2", "v1<evil>", "v1.evil evil"])
            }
            _ if is_manifest(asked, "good") => Reply::status(200),
            _ => reply.clone(),
        })
        .await;
        let door = door(&registry);
        door.validate(&create(&with_tags(["good"])))
            .await
            .is_plain();
        let answer = door.validate(&create(&with_tags(["v1"]))).await;
        assert_eq!(answer.allowed(), !is_refused, "{what}: {}", answer.text);
        assert!(!answer.text.contains("evil"), "{what}: {}", answer.text);
        assert!(!answer.text.contains("\\u001b"), "{what}: {}", answer.text);
    }
}

/// Admitted within its time, with one line that says what is not known.
#[track_caller]
fn is_unknown(what: &str, began: Instant, answer: &Answer) {
    let took = began.elapsed();
    assert!(took < Duration::from_millis(1500), "{what}: {took:?}");
    assert!(answer.allowed(), "{what}: {}", answer.text);
    let warnings = answer.warnings();
    assert_eq!(warnings.len(), 1, "{what}: {}", answer.text);
    assert!(
        warnings[0].contains("registry.test"),
        "{what}: {warnings:?}"
    );
}

#[tokio::test]
async fn case_83_whatever_a_registry_does_the_review_is_admitted_in_time_and_says_so() {
    let zipped = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let to = |location: &str| Reply::status(307).header("Location", location);
    let realm = "Bearer realm=\"https://elsewhere.test/token\"";
    for (what, reply) in [
        ("breaks off", Reply::status(0)),
        ("401", Reply::error(401, "UNAUTHORIZED")),
        ("403", Reply::error(403, "DENIED")),
        ("404 in other words", Reply::status(404).body("no such app")),
        (
            "429",
            Reply::error(429, "TOOMANYREQUESTS").header("Retry-After", "60"),
        ),
        ("500", Reply::error(500, "UNKNOWN")),
        ("slow", Reply::status(200).after(PATIENCE)),
        ("a page for people", Reply::html(200)),
        ("100 MB", Reply::error(404, "x").length(100 << 20)),
        ("no JSON", Reply::status(404).body("{\"errors\": [")),
        (
            "a realm on another host",
            Reply::status(401).header("WWW-Authenticate", realm),
        ),
        ("redirect to metadata", to("https://169.254.169.254/latest")),
        ("redirects without end", to("/v2/team/app/manifests/v1")),
        (
            "zipped",
            Reply::status(404)
                .header("Content-Encoding", "gzip")
                .body(zipped),
        ),
    ] {
        // It hides its tags as well, so nothing else can prove anything.
        let registry = Scripted::start(move |asked| {
            if is_manifest(asked, "good") {
                Reply::status(200)
            } else {
                reply.clone()
            }
        })
        .await;
        let door = door(&registry);
        door.validate(&create(&with_tags(["good"])))
            .await
            .is_plain();
        for _ in 0..2 {
            let began = Instant::now();
            let review = create(&with_tags(["v1"])).to_string();
            let answer = door.post("/validate?timeout=1s", review).await;
            is_unknown(what, began, &answer);
        }
        let named = |asked: &Asked| asked.header("authorization").is_some();
        assert!(!registry.asked().iter().any(named), "{what}");
        // What it has read stays known, and keeps nobody waiting.
        door.validate(&create(&with_tags(["good"])))
            .await
            .is_plain();
    }
}

#[tokio::test]
async fn case_84_a_tag_that_is_removed_between_two_reviews_hurts_only_what_is_new() {
    let removed = Arc::new(AtomicBool::new(false));
    let is_gone = Arc::clone(&removed);
    let registry = Scripted::start(move |asked| match asked.path() {
        path if path.ends_with("/tags/list") => Reply::tags(&["v2"]),
        _ if is_gone.load(Ordering::SeqCst) => absent(),
        _ => Reply::status(200),
    })
    .await;
    let before = door(&registry);
    let object = with_tags(["v1"]);
    before.validate(&create(&object)).await.is_plain();
    removed.store(true, Ordering::SeqCst);
    // What was just seen is believed for some minutes.
    before.validate(&create(&object)).await.is_plain();
    // Another replica sees it now, as this one will.
    let after = door(&registry);
    let message = after.validate(&create(&object)).await.message();
    assert!(message.contains("has no tag v1"), "{message}");
    let mut changed = object.clone();
    changed["spec"]["minReadySeconds"] = json!(5);
    let answer = after.validate(&update(&changed, &object)).await;
    assert!(answer.allowed(), "{}", answer.text);
    assert!(
        answer.warnings()[0].contains("has no tag v1"),
        "{}",
        answer.text
    );
    let mut labelled = object.clone();
    labelled["metadata"]["labels"] = json!({"team": "a"});
    after.validate(&update(&labelled, &object)).await.is_plain();
}
