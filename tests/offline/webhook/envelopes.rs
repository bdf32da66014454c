//! Cases 23 to 38: the AdmissionReview around the object.

use axum::body::Body;
use axum::http::StatusCode;
use forestall::config::Mode;
use serde_json::{Value, json};

use super::support::{Door, UID, create, deployment, review_of};

async fn is_bad(body: impl Into<Body>, says: &str) {
    let door = Door::that_objects(Mode::Enforce);
    let answer = door.post("/validate", body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
    assert!(answer.text.contains(says), "{}", answer.text);
    door.counted("forestall_requests_shed_total{reason=\"bad_request\"} 1");
}

fn plain() -> Value {
    create(&deployment("1Gi"))
}

#[tokio::test]
async fn case_23_no_json() {
    is_bad("hello", "no JSON object").await;
    is_bad("{\"request\": ", "no AdmissionReview").await;
}

#[tokio::test]
async fn case_24_a_list() {
    is_bad("[]", "no JSON object").await;
    let listed = json!(["admission.k8s.io/v1", "AdmissionReview", plain()["request"]]);
    is_bad(listed.to_string(), "no JSON object").await;
}

#[tokio::test]
async fn case_25_no_request() {
    is_bad("{}", "admission.k8s.io/v1").await;
    let mut review = plain();
    review["request"].take();
    is_bad(review.to_string(), "request is missing").await;
    review.as_object_mut().unwrap().remove("request");
    is_bad(review.to_string(), "request is missing").await;
}

#[tokio::test]
async fn case_26_no_uid() {
    let mut review = plain();
    review["request"]["uid"] = json!("");
    is_bad(review.to_string(), "request.uid is missing").await;
    review["request"]["uid"].take();
    is_bad(review.to_string(), "request.uid is missing").await;
    review["request"].as_object_mut().unwrap().remove("uid");
    is_bad(review.to_string(), "request.uid is missing").await;
}

#[tokio::test]
async fn case_27_another_version_is_not_answered_as_v1() {
    let mut review = plain();
    review["apiVersion"] = json!("admission.k8s.io/v1beta1");
    is_bad(review.to_string(), "admissionReviewVersions: [v1]").await;
    let mut review = plain();
    review["kind"] = json!("ConversionReview");
    is_bad(review.to_string(), "admission.k8s.io/v1").await;
}

#[tokio::test]
async fn case_28_an_unknown_operation_is_admitted() {
    let door = Door::that_objects(Mode::Enforce);
    let answer = door
        .validate(&review_of("PATCH", &deployment("1Gi"), &Value::Null))
        .await;
    answer.is_plain();
    let labels = "webhook=\"validating\",resource_kind=\"Deployment\",operation=\"other\",decision=\"allow\",dry_run=\"false\"";
    door.counted(&format!("forestall_admission_requests_total{{{labels}}} 1"));
}

#[tokio::test]
async fn case_29_unknown_fields_change_nothing() {
    let door = Door::that_objects(Mode::Enforce);
    let mut review = plain();
    review["future"] = json!({"a": [1, 2]});
    review["request"]["future"] = json!({"uid": "another"});
    review["request"]["kind"]["future"] = json!(true);
    assert_eq!(door.validate(&review).await.review()["uid"], UID);
    assert!(!door.validate(&review).await.allowed());
}

#[tokio::test]
async fn case_30_two_uids() {
    let twice = plain()
        .to_string()
        .replacen("\"uid\":", "\"uid\":\"other\",\"uid\":", 1);
    is_bad(twice, "duplicate field `uid`").await;
}

#[tokio::test]
async fn case_31_a_uid_of_a_megabyte() {
    let mut review = plain();
    review["request"]["uid"] = json!("u".repeat(1 << 20));
    is_bad(review.to_string(), "longer than").await;
}

#[tokio::test]
async fn case_32_what_may_be_null_or_absent_changes_nothing() {
    let door = Door::that_objects(Mode::Enforce);
    let mut review = plain();
    let request = &mut review["request"];
    request["dryRun"].take();
    request["options"].take();
    request["name"].take();
    request["subResource"].take();
    request.as_object_mut().unwrap().remove("namespace");
    assert!(!door.validate(&review).await.allowed());
    let request = review["request"].as_object_mut().unwrap();
    for name in [
        "dryRun",
        "options",
        "name",
        "subResource",
        "oldObject",
        "requestKind",
    ] {
        request.remove(name);
    }
    assert!(!door.validate(&review).await.allowed());
}

#[tokio::test]
async fn case_33_no_object_on_create() {
    let door = Door::that_objects(Mode::Enforce);
    let mut review = plain();
    review["request"]["object"].take();
    door.validate(&review)
        .await
        .gave_up("the request has no object");
    let labels = "webhook=\"validating\",resource_kind=\"Deployment\",operation=\"CREATE\",decision=\"error\",dry_run=\"false\"";
    door.counted(&format!("forestall_admission_requests_total{{{labels}}} 1"));
}

#[tokio::test]
async fn case_33_audit_and_off_say_it_only_to_the_audit_log() {
    let mut review = plain();
    review["request"]["object"].take();
    let response = Door::that_objects(Mode::Audit)
        .validate(&review)
        .await
        .review();
    assert_eq!(response["allowed"], true);
    assert_eq!(response.get("warnings"), None);
    assert_eq!(
        response["auditAnnotations"]["unknown"],
        "the request has no object"
    );
    assert_eq!(
        Door::that_objects(Mode::Off)
            .validate(&review)
            .await
            .warnings()
            .len(),
        0
    );
}

#[tokio::test]
async fn case_34_no_objects_on_delete() {
    let door = Door::that_objects(Mode::Enforce);
    let mut review = review_of("DELETE", &Value::Null, &deployment("1Gi"));
    door.validate(&review).await.is_plain();
    review["request"]["oldObject"].take();
    door.validate(&review).await.is_plain();
    door.mutate(&review).await.is_plain();
}

#[tokio::test]
async fn case_35_no_user() {
    let door = Door::that_objects(Mode::Enforce);
    let mut review = plain();
    review["request"]["userInfo"].take();
    assert!(!door.validate(&review).await.allowed());
    review["request"]
        .as_object_mut()
        .unwrap()
        .remove("userInfo");
    assert!(!door.validate(&review).await.allowed());
}

#[tokio::test]
async fn case_36_what_is_not_utf_8() {
    let mut body = plain().to_string().into_bytes();
    let at = body
        .windows(14)
        .position(|part| part == b"system:masters")
        .unwrap();
    body[at] = 0xff;
    is_bad(body, "not UTF-8").await;
}

#[tokio::test]
async fn case_37_a_byte_order_mark() {
    is_bad(format!("\u{feff}{}", plain()), "no JSON object").await;
}

#[tokio::test]
async fn case_38_garbage_behind_it() {
    is_bad(format!("{}}}", plain()), "trailing characters").await;
    is_bad(format!("{0}{0}", plain()), "trailing characters").await;
    let door = Door::that_objects(Mode::Enforce);
    assert!(
        !door
            .post("/validate", format!(" \n{}\n ", plain()))
            .await
            .allowed()
    );
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_admitted_under_its_uid() {
    let door = Door::that_objects(Mode::Enforce);
    for (field, value) in [
        ("name", json!(5)),
        ("kind", json!("Deployment")),
        ("operation", json!(["CREATE"])),
        ("userInfo", json!("admin")),
        ("dryRun", json!("true")),
    ] {
        let mut review = plain();
        review["request"][field] = value;
        door.validate(&review)
            .await
            .gave_up("the request cannot be read: invalid type");
    }
    let twice = plain()
        .to_string()
        .replacen("\"object\":", "\"object\":{},\"object\":", 1);
    door.post("/validate", twice)
        .await
        .gave_up("duplicate field `object`");
}
