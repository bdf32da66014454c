//! Cases 73, 75, 77 to 79: what guardrails and the configuration do to an answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use forestall::config::{Config, Mode, NamespaceLabel};
use forestall::evidence::{Evidence, Questions};
use forestall::guard::Guard;
use forestall::lookup::Lookup;
use forestall::report::metrics::Metrics;
use forestall::review::{self, Review};
use forestall::rules::Meta;
use forestall::webhook::{ReviewLimits, Webhook, router};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;

use super::support::{
    Door, Table, UID, create, deployment, finding, findings, guardrail, meta, post,
};

static PANICS: Meta = meta("test-panics", false);
static OBJECTS: Meta = meta("test-objects", false);

#[tokio::test]
async fn case_73_a_guardrail_that_panics_abstains_and_the_others_judge() {
    let panics = || guardrail(&PANICS, |_: &Review| panic!("on purpose"));
    let door = Door::of(Mode::Enforce, vec![panics()]);
    let answer = door.validate(&create(&deployment("1Gi"))).await;
    assert!(answer.allowed());
    assert!(
        answer.warnings()[0].contains("test-panics"),
        "{}",
        answer.text
    );
    assert!(
        answer.review()["auditAnnotations"]["unknown"]
            .as_str()
            .unwrap()
            .contains("failed")
    );
    door.counted("forestall_rule_panics_total{rule=\"test-panics\"} 1");
    let result = "rule=\"test-panics\",mode=\"enforce\",result=\"unknown\"";
    door.counted(&format!("forestall_rule_results_total{{{result}}} 1"));

    let objects = guardrail(&OBJECTS, |_: &Review| findings([finding("a", "b")]));
    let door = Door::of(Mode::Enforce, vec![panics(), objects]);
    let message = door.validate(&create(&deployment("1Gi"))).await.message();
    assert!(message.contains("test-objects: a has \"b\""), "{message}");
}

#[tokio::test]
async fn case_75_twenty_findings_make_ten_warnings() {
    let many = || {
        guardrail(&OBJECTS, |_: &Review| {
            findings(
                (0..20).map(|index| finding(&format!("container {index:02}"), &"é".repeat(300))),
            )
        })
    };
    let door = Door::of(Mode::Warn, vec![many()]);
    let warnings = door.validate(&create(&deployment("1Gi"))).await.warnings();
    assert_eq!(warnings.len(), 10, "{warnings:?}");
    assert!(
        warnings[8].starts_with("test-objects: container 08 has"),
        "{}",
        warnings[8]
    );
    assert!(
        warnings
            .iter()
            .all(|warning| warning.chars().count() <= 256)
    );
    assert!(
        warnings
            .iter()
            .map(|warning| warning.chars().count())
            .sum::<usize>()
            <= 4096
    );
    assert_eq!(warnings[9], "forestall: ... and 11 more");

    let door = Door::of(Mode::Enforce, vec![many()]);
    let message = door.validate(&create(&deployment("1Gi"))).await.message();
    assert!(message.len() <= 1024, "{}", message.len());
    assert!(
        message.contains("refuses Deployment shop/web for 20 reasons"),
        "{message}"
    );
    assert!(message.contains("... and 19 more"), "{message}");
    assert!(message.contains("forestall.dev/allow"), "{message}");
}

#[tokio::test]
async fn case_75_a_refusal_tells_as_many_findings_whole_as_fit() {
    let door = Door::of(
        Mode::Enforce,
        vec![guardrail(&OBJECTS, |_: &Review| {
            findings((0..20).map(|index| finding(&format!("container {index:02}"), "nothing")))
        })],
    );
    let message = door.validate(&create(&deployment("1Gi"))).await.message();
    let told = message.matches("write something else").count();
    assert!(told > 5, "{message}");
    assert!(
        message.contains(&format!("\n... and {} more\n", 20 - told)),
        "{message}"
    );
}

#[tokio::test]
async fn case_75_the_same_warning_is_given_once() {
    let door = Door::of(
        Mode::Warn,
        vec![guardrail(&OBJECTS, |_: &Review| {
            findings((0..3).map(|_| finding("a", "b")))
        })],
    );
    assert_eq!(
        door.validate(&create(&deployment("1Gi")))
            .await
            .warnings()
            .len(),
        1
    );
}

#[test]
fn case_77_a_configuration_with_an_unknown_name_is_refused_with_its_line() {
    for (text, line, says) in [
        (
            "mode: audit\nrules:\n  missing-imag: {}\n",
            3,
            "missing-image",
        ),
        ("rules:\n  missing-image:\n    mode: loud\n", 3, "enforce"),
        ("mode: audit\nmodes: {}\n", 2, "modes"),
        (
            "namespaces:\n  shop:\n    rules:\n      no-such: off\n",
            4,
            "no-such",
        ),
    ] {
        let error = Config::parse("forestall.yaml", text).unwrap_err();
        assert_eq!(
            (error.file.as_str(), error.place.map(|place| place.line)),
            ("forestall.yaml", Some(line)),
            "{error}"
        );
        assert!(error.message.contains(says), "{error}");
    }
}

#[tokio::test]
async fn case_78_a_namespace_that_the_cache_lacks_has_the_default_mode_and_is_counted() {
    let labels = BTreeMap::from([("shop".to_owned(), NamespaceLabel::Absent)]);
    let config = Config {
        mode: Some(Mode::Enforce),
        ..Config::default()
    };
    let objects = guardrail(&OBJECTS, |_: &Review| findings([finding("a", "b")]));
    let table = Table {
        labels,
        ..Table::default()
    };
    let door = Door::new(Guard::with(config, vec![objects], table));
    assert!(!door.validate(&create(&deployment("1Gi"))).await.allowed());
    door.counted("forestall_unknown_namespaces_total 1");
    let mut elsewhere = create(&deployment("1Gi"));
    elsewhere["request"]["namespace"] = "other".into();
    assert!(!door.validate(&elsewhere).await.allowed());
    door.counted("forestall_unknown_namespaces_total 1");
}

/// Its label says something else each time that it is read.
struct Flips(Arc<AtomicUsize>);

impl Lookup for Flips {
    async fn gather(&self, _: Questions, _: review::Door, _: Instant) -> Evidence {
        Evidence::default()
    }

    fn label(&self, _: &str) -> NamespaceLabel {
        let mode = match self.0.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Mode::Enforce,
            _ => Mode::Audit,
        };
        NamespaceLabel::Known(Some(mode))
    }
}

#[tokio::test]
async fn case_79_one_review_is_judged_by_one_label() {
    static OTHER: Meta = meta("test-other", false);
    let judge = |meta| guardrail(meta, |_: &Review| findings([finding("a", "b")]));
    let guard = Guard::with(
        Config::default(),
        vec![judge(&OBJECTS), judge(&OTHER)],
        Flips(Arc::default()),
    );
    let webhook = Arc::new(Webhook::new(
        guard,
        Arc::new(Metrics::default()),
        ReviewLimits::default(),
    ));
    for _ in 0..10 {
        let request = post("/validate", create(&deployment("1Gi")).to_string());
        let response = router(webhook.clone()).oneshot(request).await.unwrap();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX)
            .await
            .unwrap();
        let review: Value = serde_json::from_slice(&body).unwrap();
        let rules = &review["response"]["auditAnnotations"]["rules"];
        assert_eq!(rules, "test-objects, test-other");
        if let Some(message) = review["response"]["status"]["message"].as_str() {
            assert!(
                message.contains("test-objects") && message.contains("test-other"),
                "{message}"
            );
        } else {
            let denied = &review["response"]["auditAnnotations"]["would-deny"];
            assert_eq!(denied, "test-objects, test-other");
        }
    }
}

#[tokio::test]
async fn another_configuration_holds_from_the_next_review_on() {
    let guard = |mode| {
        let config = Config {
            mode: Some(mode),
            ..Config::default()
        };
        let objects = guardrail(&OBJECTS, |_: &Review| findings([finding("a", "b")]));
        Guard::with(config, vec![objects], Table::default())
    };
    let door = Door::new(guard(Mode::Enforce));
    assert!(!door.validate(&create(&deployment("1Gi"))).await.allowed());
    door.webhook.judging().replace(guard(Mode::Audit));
    let answer = door.validate(&create(&deployment("1Gi"))).await;
    assert_eq!((answer.allowed(), answer.warnings().len()), (true, 0));
    assert_eq!(
        answer.review()["auditAnnotations"]["would-deny"],
        "test-objects"
    );
    assert_eq!(answer.review()["uid"], UID);
    let labels = "webhook=\"validating\",resource_kind=\"Deployment\",operation=\"CREATE\",decision=\"would_deny\",dry_run=\"false\"";
    door.counted(&format!("forestall_admission_requests_total{{{labels}}} 1"));
}

#[tokio::test]
async fn a_kind_that_the_configuration_adds_is_judged_and_counted_by_its_name() {
    let config = "rules: {missing-image: {customResources: [{group: example.com, kind: Widget, \
                  plural: widgets, paths: [spec.image]}]}}";
    let config = Config::parse("config.yaml", config).unwrap();
    let door = Door::new(Guard::new(config, Table::default()).unwrap());
    let object = |kind: &str| {
        json!({"apiVersion": "example.com/v1", "kind": kind,
               "metadata": {"name": "a", "namespace": "shop"}, "spec": {"image": "No:1"}})
    };
    let answer = door.validate(&create(&object("Widget"))).await;
    let message = answer.message();
    assert!(
        message.contains("missing-image: spec.image has the image \"No:1\""),
        "{message}"
    );
    // Whoever may create objects cannot make a series.
    door.validate(&create(&object("Gadget"))).await.is_plain();
    for (kind, decision) in [("Widget", "deny"), ("other", "allow")] {
        let labels = format!(
            "webhook=\"validating\",resource_kind=\"{kind}\",operation=\"CREATE\",decision=\"{decision}\",dry_run=\"false\""
        );
        door.counted(&format!("forestall_admission_requests_total{{{labels}}} 1"));
    }
    // The next configuration may know it no more.
    door.webhook
        .judging()
        .replace(Guard::new(Config::default(), Table::default()).unwrap());
    door.validate(&create(&object("Widget"))).await.is_plain();
}
