//! Cases 39 to 58: the object, whatever it is.

use std::time::{Duration, Instant};

use forestall::config::{Config, Mode};
use forestall::guard::Guard;
use serde_json::{Value, json};

use super::support::{Door, Table, UID, create, deployment, pod, review_of, update};

/// A review with an object that no `Value` can hold.
fn create_raw(object: &str) -> String {
    let plain = deployment("1Gi");
    create(&plain)
        .to_string()
        .replace(&plain.to_string(), object)
}

fn deployment_with(raw: &str) -> String {
    let mut object = deployment("512m");
    object["metadata"]["annotations"] = json!({"here": "@"});
    create_raw(&object.to_string().replace("\"@\"", raw))
}

#[tokio::test]
async fn case_39_deep_objects_keep_their_uid() {
    let door = Door::of_catalogue();
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for depth in [128, 9_900, 100_000] {
        let answer = door
            .post(
                "/validate",
                create_raw(&format!("{{\"a\":{}}}", nested(depth))),
            )
            .await;
        answer.gave_up("object cannot be read: recursion limit exceeded");
    }
    // serde_json reads 127 levels.
    let fits = deployment_with(&nested(124));
    assert!(
        door.post("/validate", fits)
            .await
            .message()
            .contains("512m")
    );
    let old = update(&deployment("1Gi"), &json!({"kind": "OLD"})).to_string();
    let old = old.replace(
        "{\"kind\":\"OLD\"}",
        &format!("{{\"a\":{}}}", nested(9_900)),
    );
    door.post("/validate", old)
        .await
        .gave_up("oldObject cannot be read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_40_and_41_huge_lists_and_maps_take_bounded_time_and_memory() {
    let door = Door::of_catalogue_with_time();
    // As much as the 3 MiB of a request hold.
    let list = format!("[{}0]", "0,".repeat(1_500_000));
    let keys: Vec<_> = (0..300_000).map(|key| format!("\"{key}\":0")).collect();
    let maps = format!("[{}{{}}]", "{\"a\":0},".repeat(375_000));
    let objects = [
        ("list", list),
        ("map", format!("{{{}}}", keys.join(","))),
        ("maps", maps),
    ];
    for (what, raw) in objects {
        let began = Instant::now();
        let answer = door
            .post("/validate?timeout=30s", deployment_with(&raw))
            .await;
        assert_eq!(answer.review()["uid"], UID);
        assert!(answer.message().contains("512m"), "{what}");
        assert!(
            began.elapsed() < Duration::from_secs(15),
            "{what}: {:?}",
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn case_42_odd_numbers_are_read_or_given_up() {
    let door = Door::of_catalogue();
    for number in [
        "1e308",
        "-0",
        "-0.0",
        "18446744073709552000",
        "1.0",
        "1e400",
        "123456789012345678901234567890",
    ] {
        let answer = door.post("/validate", deployment_with(number)).await;
        if number == "1e400" {
            answer.gave_up("number out of range");
        } else {
            assert!(answer.message().contains("512m"), "{number}");
        }
    }
}

#[tokio::test]
async fn case_43_text_that_hides_or_commands_is_made_visible() {
    let nasty = "a\0b\u{1b}[31mc\u{202e}d\ne\tf\u{2066}";
    let mut object = deployment("512m");
    object["spec"]["template"]["spec"]["containers"][0]["name"] = json!(nasty);
    object["metadata"]["annotations"] = json!({"long": "x".repeat(256 << 10)});
    let hidden = |text: &str| {
        text.chars()
            .find(|char| char.is_control() && *char != '\n' || "\u{202e}\u{2066}".contains(*char))
    };
    let refused = Door::of_catalogue().validate(&create(&object)).await;
    assert_eq!(hidden(&refused.message()), None, "{}", refused.message());
    let config = Config {
        mode: Some(Mode::Warn),
        ..Config::default()
    };
    let door = Door::new(Guard::new(config, Table::default()).unwrap());
    let warnings = door.validate(&create(&object)).await.warnings();
    assert!(
        warnings.iter().any(|warning| warning.contains("512m")),
        "{warnings:?}"
    );
    for warning in warnings {
        assert_eq!(hidden(&warning), None);
        assert!(
            !warning.contains('\n') && warning.chars().count() <= 256,
            "{warning}"
        );
    }
}

#[tokio::test]
async fn case_44_wrong_types_everywhere_are_admitted_and_said() {
    let door = Door::of_catalogue();
    let container = |key: &str, value: Value| {
        let mut object = deployment("1Gi");
        object["spec"]["template"]["spec"]["containers"][0][key] = value;
        object
    };
    let spec = |value: Value| {
        let mut object = deployment("1Gi");
        object["spec"] = value;
        object
    };
    // The last field says whether something is left unjudged by it. A workload without a template has
    // nothing to judge, and the API server takes no such object.
    let objects = [
        (
            "containers",
            spec(json!({"template": {"spec": {"containers": {}}}})),
            true,
        ),
        (
            "containers",
            spec(json!({"template": {"spec": {"containers": ["a"]}}})),
            true,
        ),
        ("template", spec(json!({"template": "x"})), true),
        ("spec", spec(json!([])), true),
        ("resources", container("resources", json!([])), true),
        (
            "limits",
            container("resources", json!({"limits": []})),
            true,
        ),
        (
            "memory",
            container("resources", json!({"limits": {"memory": {}}})),
            true,
        ),
        ("image", container("image", json!(7)), true),
        ("env", container("env", json!("x")), false),
        ("replicas", spec(json!({"replicas": "3"})), false),
    ];
    for (what, object, said) in objects {
        let answer = door.validate(&create(&object)).await;
        assert!(answer.allowed(), "{what}: {}", answer.text);
        let warnings = answer.warnings();
        assert!(!said || warnings.len() == 1, "{what}: {}", answer.text);
        assert!(door.mutate(&create(&object)).await.allowed(), "{what}");
    }
    door.validate(&create_with_object(json!("text")))
        .await
        .gave_up("object is no JSON object");
    door.validate(&create_with_object(json!([1])))
        .await
        .gave_up("object is no JSON object");
}

fn create_with_object(object: Value) -> Value {
    let mut review = create(&deployment("1Gi"));
    review["request"]["object"] = object;
    review
}

#[tokio::test]
async fn case_45_no_metadata_and_no_spec() {
    let door = Door::of_catalogue();
    for missing in ["metadata", "spec", "apiVersion", "kind"] {
        let mut object = deployment("512m");
        object.as_object_mut().unwrap().remove(missing);
        let mut review = create(&deployment("512m"));
        review["request"]["object"] = object;
        let answer = door.validate(&review).await;
        assert_eq!(
            answer.allowed(),
            missing == "spec",
            "{missing}: {}",
            answer.text
        );
    }
    let bare = create_with_object(json!({}));
    assert!(door.validate(&bare).await.allowed());
}

#[tokio::test]
async fn case_46_a_generated_name_is_told_by_its_prefix() {
    let mut object = deployment("512m");
    object["metadata"] = json!({"generateName": "web-", "namespace": "shop"});
    let review = create(&object);
    assert_eq!(review["request"].get("name"), None);
    let message = Door::of_catalogue().validate(&review).await.message();
    assert!(
        message.starts_with("forestall refuses Deployment shop/web-\n"),
        "{message}"
    );
}

#[tokio::test]
async fn case_47_a_deletecollection_has_no_name() {
    let mut review = review_of("DELETE", &Value::Null, &deployment("512m"));
    review["request"].as_object_mut().unwrap().remove("name");
    Door::of_catalogue().validate(&review).await.is_plain();
}

#[tokio::test]
async fn case_48_other_sub_resources_are_let_through() {
    let door = Door::that_objects(Mode::Enforce);
    for (operation, part, object) in [
        ("UPDATE", "status", deployment("512m")),
        ("UPDATE", "status", pod("512m")),
        (
            "UPDATE",
            "scale",
            json!({"apiVersion": "autoscaling/v1", "kind": "Scale"}),
        ),
        (
            "CREATE",
            "eviction",
            json!({"apiVersion": "policy/v1", "kind": "Eviction"}),
        ),
        (
            "CREATE",
            "binding",
            json!({"apiVersion": "v1", "kind": "Binding"}),
        ),
        ("CREATE", "binding", pod("512m")),
        (
            "CREATE",
            "token",
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}),
        ),
        (
            "CONNECT",
            "exec",
            json!({"apiVersion": "v1", "kind": "PodExecOptions"}),
        ),
        ("CONNECT", "exec", pod("512m")),
    ] {
        let mut review = review_of(operation, &object, &Value::Null);
        review["request"]["subResource"] = json!(part);
        door.validate(&review).await.is_plain();
        door.mutate(&review).await.is_plain();
    }
}

#[tokio::test]
async fn case_49_ephemeral_containers_and_resize_are_judged() {
    let door = Door::of_catalogue();
    let mut resized = update(&pod("512m"), &pod("1Gi"));
    resized["request"]["subResource"] = json!("resize");
    assert!(door.validate(&resized).await.message().contains("512m"));

    let mut debugged = pod("1Gi");
    debugged["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "BUSYBOX:1"}]);
    let mut review = update(&debugged, &pod("1Gi"));
    review["request"]["subResource"] = json!("ephemeralcontainers");
    assert!(door.validate(&review).await.message().contains("BUSYBOX"));
}

#[tokio::test]
async fn case_50_sidecars_are_judged() {
    let mut object = pod("1Gi");
    object["spec"]["initContainers"] = json!([{
        "name": "mesh",
        "image": "mesh:1",
        "restartPolicy": "Always",
        "resources": {"limits": {"memory": "100m"}},
    }]);
    let message = Door::of_catalogue()
        .validate(&create(&object))
        .await
        .message();
    assert!(
        message.contains("mesh") && message.contains("100m"),
        "{message}"
    );
}

#[tokio::test]
async fn case_52_what_is_going_away_is_still_judged() {
    let mut now = pod("512m");
    now["metadata"]["deletionTimestamp"] = json!("2026-11-25T10:00:00Z");
    now["metadata"]["finalizers"] = json!(["example.com/wait"]);
    let mut before = now.clone();
    before["spec"] = pod("1Gi")["spec"].take();
    assert!(
        !Door::of_catalogue()
            .validate(&update(&now, &before))
            .await
            .allowed()
    );
}

#[tokio::test]
async fn case_53_the_same_content_is_never_refused() {
    let mut now = deployment("512m");
    now["metadata"]["labels"] = json!({"a": "b"});
    now["status"] = json!({"replicas": 1});
    Door::of_catalogue()
        .validate(&update(&now, &deployment("512m")))
        .await
        .is_plain();
}

#[tokio::test]
async fn case_54_an_old_mistake_warns_where_something_else_changes() {
    let mut now = deployment("512m");
    now["spec"]["replicas"] = json!(3);
    let answer = Door::of_catalogue()
        .validate(&update(&now, &deployment("512m")))
        .await;
    assert!(answer.allowed());
    assert!(
        answer
            .warnings()
            .iter()
            .any(|warning| warning.contains("512m")),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn case_55_a_kind_of_the_same_name_in_another_group_is_ignored() {
    let door = Door::that_objects(Mode::Enforce);
    let mut object = deployment("512m");
    object["apiVersion"] = json!("x.io/v1");
    door.validate(&create(&object)).await.is_plain();
    let labels = "webhook=\"validating\",resource_kind=\"other\",operation=\"CREATE\",decision=\"allow\",dry_run=\"false\"";
    door.counted(&format!("forestall_admission_requests_total{{{labels}}} 1"));
}

#[tokio::test]
async fn case_55_objects_that_nobody_judges_are_not_even_read() {
    let door = Door::that_objects(Mode::Enforce);
    let mut review = create(&json!({"apiVersion": "x.io/v1", "kind": "Thing"}));
    review["request"]["object"] = json!("no object at all");
    door.validate(&review).await.is_plain();
    door.mutate(&create_with_object(json!(1))).await.is_plain();
}

#[tokio::test]
async fn case_56_every_version_of_an_autoscaler_is_admitted() {
    let door = Door::of_catalogue();
    for api_version in ["autoscaling/v1", "autoscaling/v2", "autoscaling/v2beta2"] {
        let object = json!({"apiVersion": api_version, "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web"}, "spec": {"maxReplicas": 3}});
        let mut review = create(&object);
        review["request"]["requestKind"]["version"] = json!("v1");
        assert!(door.validate(&review).await.allowed(), "{api_version}");
        assert!(door.mutate(&review).await.allowed(), "{api_version}");
    }
}

#[tokio::test]
async fn case_57_quantities_in_every_spelling() {
    let door = Door::of_catalogue();
    for (memory, admitted) in [
        ("512Mi", true),
        ("0.5Gi", true),
        ("536870912", true),
        ("1e9", true),
        ("512M", true),
        ("512m", false),
        // What the API server itself refuses is none of our business.
        ("-1", false),
        ("", true),
        ("1Ki5", true),
    ] {
        let answer = door.validate(&create(&deployment(memory))).await;
        assert_eq!(answer.allowed(), admitted, "{memory}: {}", answer.text);
    }
}

#[tokio::test]
async fn case_58_image_references_of_every_shape_are_answered() {
    let door = Door::of_catalogue();
    let digest = format!("sha256:{}", "a".repeat(64));
    let with_digest = format!("a/b@{digest}");
    let with_both = format!("a:1@{digest}");
    let long = "a".repeat(300);
    for (image, admitted) in [
        ("a", true),
        ("a:443/b", true),
        (with_digest.as_str(), true),
        (with_both.as_str(), true),
        ("[::1]:5000/x", true),
        ("169.254.169.254/x", true),
        ("kubernetes.default.svc/x", true),
        ("a/B", false),
        (long.as_str(), false),
        ("bücher.example/x", false),
        ("a:", false),
        ("", true),
    ] {
        let mut object = deployment("1Gi");
        object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        let answer = door.validate(&create(&object)).await;
        assert_eq!(answer.allowed(), admitted, "{image}: {}", answer.text);
    }
}
