use serde_json::json;

use super::*;

#[test]
fn every_kind_of_container_and_image_volume_is_found() {
    let review = Review::of_manifest(json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "a"},
        "spec": {"jobTemplate": {"spec": {"template": {"spec": {
            "initContainers": [{"name": "init", "image": "a"}, {"name": "sidecar", "image": "b", "restartPolicy": "Always"}],
            "containers": [{"name": "main", "image": "c", "imagePullPolicy": "Never", "volumeMounts": [{"name": "model"}]}],
            "ephemeralContainers": [{"name": "debug", "image": "d"}],
            "volumes": [{"name": "empty", "emptyDir": {}}, {"name": "model", "image": {"reference": "e"}}, {"name": "unused", "image": {"reference": "f"}}],
        }}}}},
    })).unwrap();
    let images = review.images().unwrap();
    let seen: Vec<_> = images
        .iter()
        .map(|image| (&*image.item, &*image.written))
        .collect();
    assert_eq!(
        seen,
        [
            ("init", "a"),
            ("sidecar", "b"),
            ("main", "c"),
            ("debug", "d"),
            ("volume model", "e")
        ]
    );
    for image in images {
        let found = review.root().text_at(&image.pointer());
        assert_eq!(found, Some(&*image.written));
    }
}

#[test]
fn without_a_policy_only_the_tag_latest_is_pulled_always() {
    let digest = format!("@sha256:{}", "a".repeat(64));
    let by_digest = |name: &str| format!("{name}{digest}");
    let policies = [
        json!(null),
        json!(""),
        json!("IfNotPresent"),
        json!("Always"),
    ];
    for (image, expected) in [
        ("nginx:1".to_owned(), [true, true, true, false]),
        ("nginx".to_owned(), [false, false, true, false]),
        ("nginx:latest".to_owned(), [false, false, true, false]),
        (by_digest("nginx"), [true, true, true, false]),
        (by_digest("nginx:latest"), [false, false, true, false]),
    ] {
        let seen = policies.each_ref().map(|policy| {
            let review = Review::of_manifest(json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
                "spec": {"containers": [{"name": "a", "image": image, "imagePullPolicy": policy}]},
            }))
            .unwrap();
            let reference = ImageReference::parse(&image).unwrap();
            review.images().unwrap()[0].is_pulled_once(&reference)
        });
        assert_eq!(seen, expected, "{image}");
    }
}

#[test]
fn a_text_that_is_far_too_long_is_unreadable_and_is_not_copied() {
    let long = |most: usize| "x".repeat(most + 1);
    for (container, place, most) in [
        (json!({"name": long(253)}), "/name", 253),
        (json!({"image": long(1024)}), "/image", 1024),
        (
            json!({"resources": {"limits": {"memory": long(64)}}}),
            MEMORY_LIMIT,
            64,
        ),
    ] {
        let review = Review::of_manifest(json!({
            "apiVersion": "v1", "kind": "Pod", "spec": {"containers": [container]},
        }))
        .unwrap();
        let error = review.images().unwrap_err().to_string();
        assert_eq!(
            error,
            format!("/spec/containers/0{place} is longer than {most} bytes")
        );
    }
}

#[test]
fn a_kind_of_the_same_name_in_another_group_has_no_containers() {
    let review = Review::of_manifest(json!({
        "apiVersion": "x.io/v1", "kind": "Deployment",
        "spec": {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}},
    }))
    .unwrap();
    assert_eq!(review.containers().unwrap().count(), 0);
}

#[test]
fn a_list_of_the_wrong_type_is_unreadable_and_not_a_panic() {
    let review = Review::of_manifest(json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
        "spec": {"template": {"spec": {"containers": {}}}},
    }))
    .unwrap();
    let error = review.containers().map(drop).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/spec/template/spec/containers is not a list"
    );
}

#[test]
fn image_volumes_are_bounded_in_number() {
    let images = |count| {
        let volumes = vec![json!({"name": "a", "image": {"reference": "a:1"}}); count];
        let container = json!({"name": "a", "volumeMounts": [{"name": "a"}]});
        let spec = json!({"containers": [container], "volumes": volumes});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": spec});
        let review = Review::of_manifest(pod).unwrap();
        review.images().map(<[_]>::len)
    };
    assert_eq!(images(MOST_CONTAINERS), Ok(MOST_CONTAINERS));
    assert_eq!(images(MOST_CONTAINERS + 1), Err(Unknown::TooMany));
}

#[test]
fn a_container_without_a_name_is_told_by_its_place_and_what_it_has() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  initContainers: [{name: no, image: a}]\n  \
                containers: [{name: app, image: a}, {image: a}, {name: 0644, image: a}, {name: [a], image: a}, \
                {name: '', image: 1.10}]\n";
    let (documents, _) = crate::manifest::read("a.yaml", text.as_bytes());
    let review = Review::of_shared(&documents[0].object).unwrap();
    let images = review.images().unwrap();
    let items: Vec<_> = images.iter().map(|image| &*image.item).collect();
    let expected = [
        "initContainers[0], name: false (no is a boolean in YAML)",
        "app",
        "containers[1]",
        "containers[2], name: 420 (0644 is a number in YAML)",
        "containers[3]",
        "containers[4]",
    ];
    assert_eq!(items, expected);
    let error = images[5].reference.as_ref().unwrap_err();
    assert_eq!(
        error.to_string(),
        "1.10 is a number in YAML; write it in quotes"
    );
    assert_eq!(error.instead(), Some("1.10"));
    // In JSON, nobody wrote anything else.
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": true}]}});
    let review = Review::of_manifest(pod).unwrap();
    let items: Vec<_> = review.containers().unwrap().map(|one| one.item()).collect();
    assert_eq!(items, ["containers[0], name: true (a boolean)"]);
}

#[test]
fn a_number_in_yaml_is_shown_as_written_and_as_read() {
    let text = "apiVersion: v1\nkind: Pod\nspec:\n  resources: {limits: {memory: 0x200}}\n  containers: [{name: a, \
                resources: {limits: {memory: 512}}}]\n";
    let (documents, _) = crate::manifest::read("a.yaml", text.as_bytes());
    let review = Review::of_shared(&documents[0].object).unwrap();
    let of_pod = review.pod_memory_limit().unwrap().unwrap();
    assert_eq!(of_pod.shown(), "0x200, which YAML reads as \"512\"");
    assert_eq!(of_pod.pointer, "/spec/resources/limits/memory");
    let container = review.containers().unwrap().next().unwrap();
    assert_eq!(container.memory_limit().unwrap().shown(), "\"512\"");
}

#[test]
fn the_limit_of_a_pod_has_a_bounded_length_too() {
    let pod = |limit: String| {
        let resources = json!({"limits": {"memory": limit}});
        Review::of_manifest(
            json!({"apiVersion": "v1", "kind": "Pod", "spec": {"resources": resources}}),
        )
    };
    let long = pod("1".repeat(LONGEST_LIMIT + 1)).unwrap();
    assert!(long.pod_memory_limit().is_err());
    let short = pod("1".repeat(LONGEST_LIMIT)).unwrap();
    assert!(short.pod_memory_limit().is_ok_and(|limit| limit.is_some()));
}
