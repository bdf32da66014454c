//! Cases 51, 63 to 65, 68 to 70, 72: what is patched, and what never is. Cases 66 and 71 are
//! properties; see tests/offline/patches.rs.

use forestall::config::Mode;
use forestall::review::Review;
use forestall::rules::Guardrail;
use forestall::rules::Judgement;
use forestall::rules::Meta;
use serde_json::{Value, json};

use super::support::{
    Answer, Door, create, deployment, finding, findings, guardrail, meta, pod, repair, review_of,
};

static REPAIRS: Meta = meta("test-repairs", true);

/// A guardrail that gives this patch as long as the object lacks what is at the pointer.
fn repairing(meta: &'static Meta, lacks: &'static str, patch: Value) -> Guardrail {
    guardrail(meta, move |review: &Review| match review.root().at(lacks) {
        Some(_) => Judgement::default(),
        None => findings([repair(lacks, patch.clone())]),
    })
}

fn repairs(lacks: &'static str, patch: Value) -> Door {
    Door::of(Mode::Enforce, vec![repairing(&REPAIRS, lacks, patch)])
}

/// The object after the patch.
#[track_caller]
fn patched(answer: &Answer, object: &Value) -> Value {
    let patch = answer
        .patch()
        .unwrap_or_else(|| panic!("no patch in {}", answer.text));
    let mut object = object.clone();
    json_patch::patch(&mut object, &patch).unwrap();
    object
}

#[track_caller]
fn dropped(answer: &Answer, reason: &str) {
    assert!(answer.allowed());
    assert_eq!(answer.patch(), None);
    let warnings = answer.warnings();
    assert!(
        warnings.iter().any(|warning| warning.contains(reason)),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn a_repair_is_sent_by_the_mutating_webhook_only() {
    let door = repairs(
        "/spec/a",
        json!([{"op": "add", "path": "/spec/a", "value": 1}]),
    );
    let answer = door.mutate(&create(&deployment("1Gi"))).await;
    assert_eq!(patched(&answer, &deployment("1Gi"))["spec"]["a"], 1);
    assert_eq!(answer.review()["auditAnnotations"]["decision"], "patch");
    let answer = door.validate(&create(&deployment("1Gi"))).await;
    assert_eq!((answer.patch(), answer.allowed()), (None, true));
    door.counted("forestall_mutations_total{rule=\"test-repairs\",applied=\"true\"} 1");
    let labels = "webhook=\"mutating\",resource_kind=\"Deployment\",operation=\"CREATE\",decision=\"patch\",dry_run=\"false\"";
    door.counted(&format!("forestall_admission_requests_total{{{labels}}} 1"));
}

#[tokio::test]
async fn only_enforce_patches() {
    for mode in [Mode::Off, Mode::Audit, Mode::Warn] {
        let patch = json!([{"op": "add", "path": "/spec/a", "value": 1}]);
        let door = Door::of(mode, vec![repairing(&REPAIRS, "/spec/a", patch)]);
        door.mutate(&create(&deployment("1Gi"))).await.is_plain();
    }
}

#[tokio::test]
async fn case_51_a_mirror_pod_is_never_changed() {
    let door = repairs(
        "/spec/a",
        json!([{"op": "add", "path": "/spec/a", "value": 1}]),
    );
    assert!(door.mutate(&create(&pod("1Gi"))).await.patch().is_some());
    let mut mirror = pod("1Gi");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "f0e1"});
    door.mutate(&create(&mirror)).await.is_plain();
}

#[tokio::test]
async fn case_63_a_patch_that_does_not_apply_is_dropped_and_said() {
    for patch in [
        json!([{"op": "replace", "path": "/spec/missing", "value": 1}]),
        json!([{"op": "remove", "path": "/spec/missing"}]),
        json!([{"op": "add", "path": "/spec/missing/below", "value": 1}]),
        json!([{"op": "test", "path": "/kind", "value": "Pod"}, {"op": "add", "path": "/spec/a", "value": 1}]),
    ] {
        let door = repairs("/spec/a", patch);
        dropped(
            &door.mutate(&create(&deployment("1Gi"))).await,
            "not repaired, it does not apply",
        );
        door.counted("forestall_mutations_total{rule=\"test-repairs\",applied=\"false\"} 1");
    }
}

#[tokio::test]
async fn case_63_a_patch_that_makes_another_object_is_dropped() {
    for path in [
        "/kind",
        "/apiVersion",
        "/metadata/name",
        "/metadata/namespace",
    ] {
        let door = repairs(
            "/spec/a",
            json!([{"op": "replace", "path": path, "value": "x"}]),
        );
        dropped(
            &door.mutate(&create(&deployment("1Gi"))).await,
            "it would change",
        );
    }
}

#[tokio::test]
async fn case_64_two_patches_at_one_path_end_alike_in_any_order() {
    static FIRST: Meta = meta("test-first", true);
    static SECOND: Meta = meta("test-second", true);
    let first = || {
        repairing(
            &FIRST,
            "/spec/a",
            json!([{"op": "add", "path": "/spec/a", "value": 1}]),
        )
    };
    let second = || {
        repairing(
            &SECOND,
            "/spec/a",
            json!([{"op": "add", "path": "/spec/a", "value": 2}]),
        )
    };
    let one = Door::of(Mode::Enforce, vec![first(), second()]);
    let other = Door::of(Mode::Enforce, vec![second(), first()]);
    let review = create(&deployment("1Gi"));
    let answers = (one.mutate(&review).await, other.mutate(&review).await);
    assert_eq!(answers.0.review(), answers.1.review());
    let object = patched(&answers.0, &deployment("1Gi"));
    one.mutate(&create(&object)).await.is_plain();
}

#[tokio::test]
async fn case_65_the_second_pass_is_empty() {
    let door = repairs(
        "/spec/a",
        json!([{"op": "add", "path": "/spec/a", "value": 1}]),
    );
    let object = patched(
        &door.mutate(&create(&deployment("1Gi"))).await,
        &deployment("1Gi"),
    );
    door.mutate(&create(&object)).await.is_plain();
}

#[tokio::test]
async fn case_65_a_patch_that_would_be_made_again_is_dropped() {
    let door = repairs(
        "/spec/never",
        json!([{"op": "add", "path": "/spec/list", "value": [1]}]),
    );
    dropped(
        &door.mutate(&create(&deployment("1Gi"))).await,
        "does not settle",
    );
}

#[tokio::test]
async fn case_68_odd_keys_are_reached() {
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
        "spec": {"x/y~z": {"": {}}}});
    let door = repairs(
        "/spec/x~1y~0z//a",
        json!([{"op": "add", "path": "/spec/x~1y~0z//a", "value": 1}]),
    );
    let object = patched(&door.mutate(&create(&object)).await, &object);
    assert_eq!(object["spec"]["x/y~z"][""]["a"], 1);
}

#[tokio::test]
async fn case_69_an_insertion_shifts_what_comes_after() {
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
        "spec": {"list": ["b"]}});
    let door = repairs(
        "/spec/list/1",
        json!([
            {"op": "add", "path": "/spec/list/0", "value": "a"},
            {"op": "test", "path": "/spec/list/1", "value": "b"},
            {"op": "replace", "path": "/spec/list/1", "value": "c"},
        ]),
    );
    let object = patched(&door.mutate(&create(&object)).await, &object);
    assert_eq!(object["spec"]["list"], json!(["a", "c"]));
}

#[tokio::test]
async fn case_70_nothing_is_patched_that_goes_away_or_connects() {
    let door = repairs(
        "/spec/a",
        json!([{"op": "add", "path": "/spec/a", "value": 1}]),
    );
    let object = deployment("1Gi");
    for operation in ["DELETE", "CONNECT", "PATCH"] {
        door.mutate(&review_of(operation, &object, &object))
            .await
            .is_plain();
        door.mutate(&review_of(operation, &Value::Null, &object))
            .await
            .is_plain();
    }
    assert!(
        door.mutate(&review_of("UPDATE", &object, &json!({})))
            .await
            .patch()
            .is_some()
    );
}

#[tokio::test]
async fn case_72_a_huge_patch_is_dropped() {
    let value = "x".repeat(300 << 10);
    let door = repairs(
        "/spec/a",
        json!([{"op": "add", "path": "/spec/a", "value": value}]),
    );
    dropped(
        &door.mutate(&create(&deployment("1Gi"))).await,
        "longer than 262144 bytes",
    );
}

#[tokio::test]
async fn a_refusal_has_no_patch() {
    static REFUSES: Meta = meta("test-refuses", false);
    let refuses = guardrail(&REFUSES, |_: &Review| findings([finding("a", "b")]));
    let patch = json!([{"op": "add", "path": "/spec/a", "value": 1}]);
    let door = Door::of(
        Mode::Enforce,
        vec![repairing(&REPAIRS, "/spec/a", patch), refuses],
    );
    let answer = door.validate(&create(&deployment("1Gi"))).await;
    assert!(answer.message().contains("test-refuses"));
    assert_eq!(answer.review().get("patch"), None);
}
