//! The matchConditions: what the API server does not ask about is what Forestall would never judge.

use std::sync::Arc;

use forestall::review::{Door, Review};
use serde_json::{Value, json};

use super::{register, with};
use crate::control_plane::eventually;
use crate::incidents::install_definitions;
use crate::site::{Site, deployment, pod};

/// A namespace in which the chart's webhooks are called, as far as their conditions let them; an error
/// in a condition refuses.
fn site() -> Site {
    install_definitions();
    // No question goes to a registry.
    let site = Site::unregistered("mode: enforce\nrules: {missing-image: {mode: off}}");
    let objects = with(&["mode=enforce", "webhooks.failurePolicy=Fail"]);
    register(&site, &objects);
    for (webhook, object) in [
        ("mutating", application("probe", "main")),
        ("validating", pod("probe", "128Mi")),
    ] {
        eventually("a review", || {
            create(&site, &object);
            asked(&site, webhook) > 0
        });
    }
    site
}

/// Reviews that have come to a webhook.
fn asked(site: &Site, webhook: &str) -> u64 {
    let label = format!("forestall_admission_requests_total{{webhook=\"{webhook}\"");
    let metrics = site.forestall.metrics();
    let lines = metrics.lines().filter(|line| line.starts_with(&label));
    let counts = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    counts.sum()
}

/// Whether the validating webhook is asked about what is done.
fn is_asked(site: &Site, act: impl FnOnce()) -> bool {
    let before = asked(site, "validating");
    act();
    asked(site, "validating") > before
}

/// Creates an object without storing it.
fn create(site: &Site, object: &Value) -> crate::control_plane::Output {
    site.kubectl(
        &["create", "--dry-run=server", "-f", "-"],
        &object.to_string(),
    )
}

fn application(name: &str, revision: &str) -> Value {
    json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": name}, "spec": {
        "project": "default",
        "destination": {"namespace": "platform", "server": "https://kubernetes.default.svc"},
        "source": {"repoURL": "https://git.example.com/a.git", "path": "a", "targetRevision": revision},
    }})
}

fn owner(controller: &Value) -> Value {
    let mut owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a",
                           "uid": "6b1c2a5e-0000-4000-8000-000000000000"});
    if !controller.is_null() {
        owner["controller"] = controller.clone();
    }
    owner
}

/// What Forestall itself would do with the request.
fn would_be_judged(object: &Value, previous: Option<&Value>) -> bool {
    let mut review = Review::of_manifest(object.clone()).unwrap();
    review.door = Door::Admission;
    if let Some(previous) = previous {
        review = review.replacing(Arc::new(previous.clone().into()));
    }
    !review.has_controller() && !review.leaves_content_alone()
}

#[test]
fn what_a_controller_makes_is_not_asked_about_and_everything_else_is() {
    let site = site();
    let (yes, no) = (owner(&json!(true)), owner(&json!(false)));
    let says_nothing = owner(&Value::Null);
    let many: Vec<_> = (0..2000).map(|_| no.clone()).collect();
    for owners in [
        json!(null),
        json!([]),
        json!([says_nothing]),
        json!([no]),
        json!([yes]),
        json!([no, says_nothing, yes]),
        json!(many),
    ] {
        // Nothing runs with that limit, so whoever is asked refuses.
        let mut bad = pod("bad", "512m");
        bad["metadata"]["ownerReferences"] = owners.clone();
        let mut output = None;
        let is_asked = is_asked(&site, || output = Some(create(&site, &bad)));
        let judged = would_be_judged(&bad, None);
        assert_eq!(is_asked, judged, "{owners}");
        let output = output.unwrap();
        assert_eq!(output.success, !judged, "{owners}: {}", output.stderr);
        assert_eq!(
            output.stderr.contains("impossible-memory-limit"),
            judged,
            "{}",
            output.stderr
        );
    }
    // And a real controller.
    assert!(site.apply(&deployment("web", "128Mi")).success);
    eventually("the ReplicaSet and its Pod", || {
        site.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"], "")
            .stdout
            .contains("pod/web-")
    });
    let metrics = site.forestall.metrics();
    assert!(
        metrics.contains("resource_kind=\"Deployment\""),
        "{metrics}"
    );
    assert!(
        !metrics.contains("resource_kind=\"ReplicaSet\""),
        "{metrics}"
    );
}

#[test]
fn a_change_of_metadata_or_status_is_not_asked_about_and_any_other_is() {
    let site = site();
    site.must(
        &["create", "-f", "-"],
        &application("shop", "main").to_string(),
    );
    site.must(
        &["create", "-f", "-"],
        &deployment("web", "128Mi").to_string(),
    );
    let operation = json!({"sync": {"revision": "main"}});
    for (resource, patch) in [
        (
            "deployment/web",
            json!({"metadata": {"labels": {"a": "b"}}}),
        ),
        (
            "deployment/web",
            json!({"metadata": {"finalizers": ["forestall.test/held"]}}),
        ),
        ("deployment/web", json!({"metadata": {"finalizers": null}})),
        ("deployment/web", json!({"spec": {"replicas": 2}})),
        (
            "deployment/web",
            json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}),
        ),
        (
            "application/shop",
            json!({"metadata": {"annotations": {"argocd.argoproj.io/refresh": "hard"}}}),
        ),
        (
            "application/shop",
            json!({"status": {"sync": {"status": "OutOfSync"}}}),
        ),
        (
            "application/shop",
            json!({"status": {"sync": {"status": "Synced"}}, "metadata": {"annotations": null}}),
        ),
        ("application/shop", json!({"operation": operation})),
        ("application/shop", json!({"operation": null})),
        (
            "application/shop",
            json!({"operation": null, "status": null}),
        ),
        (
            "application/shop",
            json!({"spec": {"source": {"targetRevision": "v2"}}}),
        ),
    ] {
        let (kind, name) = resource.split_once('/').unwrap();
        let before = site.stored(kind, name);
        let change = patch.to_string();
        let is_asked = is_asked(&site, || {
            site.must(&["patch", resource, "--type=merge", "-p", &change], "");
        });
        let after = site.stored(kind, name);
        assert_eq!(
            is_asked,
            would_be_judged(&after, Some(&before)),
            "{resource}: {patch}"
        );
    }
}

#[test]
fn parts_of_pods_are_asked_about_and_deletions_are_not() {
    let site = site();
    site.must(&["create", "-f", "-"], &pod("app", "128Mi").to_string());
    let resize = json!({"spec": {"containers": [{"name": "app", "resources": {"limits": {"memory": "512Mi"}}}]}});
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "a", "imagePullPolicy": "Never"}]}});
    for (part, patch) in [("resize", resize), ("ephemeralcontainers", debug)] {
        let patch = patch.to_string();
        assert!(
            is_asked(&site, || {
                site.must(
                    &["patch", "pod", "app", "--subresource", part, "-p", &patch],
                    "",
                );
            }),
            "{part}"
        );
    }
    assert!(!is_asked(&site, || {
        site.must(&["delete", "pod", "app", "--now"], "");
    }));
}

/// The API server bounds what an expression may cost, and an error would refuse here.
#[test]
fn conditions_are_cheap_for_the_largest_objects_too() {
    let site = site();
    let mut large = deployment("large", "128Mi");
    let variable = |number| json!({"name": format!("NAME_{number}"), "value": "v".repeat(100)});
    let variables: Vec<_> = (0..8000).map(variable).collect();
    large["spec"]["template"]["spec"]["containers"][0]["env"] = json!(variables);
    large["spec"]["replicas"] = json!(0);
    assert!(large.to_string().len() > 1_000_000);
    site.must(&["create", "-f", "-"], &large.to_string());
    let patch = |patch: Value| {
        let patch = patch.to_string();
        is_asked(&site, || {
            site.must(
                &["patch", "deployment/large", "--type=merge", "-p", &patch],
                "",
            );
        })
    };
    assert!(!patch(json!({"metadata": {"labels": {"a": "b"}}})));
    assert!(patch(json!({"spec": {"paused": true}})));
}
