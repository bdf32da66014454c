//! What is found of the images that custom resources name.

use serde_json::json;

use super::{no_tag, rule};
use crate::review::custom_resource::CustomResourceSettings;
use crate::rules::missing_image::*;

/// What is said of a custom resource, where every image has this answer.
fn judge_custom(rule: &MissingImage, object: &serde_json::Value, state: &ImageState) -> Judgement {
    let review = Review::of_manifest(object.clone()).unwrap();
    let questions = rule.questions(&review).presence.into_iter();
    let presence = questions.map(|question| (question, Ok(state.clone())));
    let evidence = Evidence {
        presence: presence.collect(),
        ..Evidence::default()
    };
    rule.judge(&review, &evidence)
}

fn prometheus(image: &str) -> serde_json::Value {
    json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus",
           "metadata": {"name": "k8s", "namespace": "monitoring"},
           "spec": {"image": image, "imagePullSecrets": [{"name": "regcred"}]}})
}

#[test]
fn a_custom_resource_with_a_missing_image_is_found_by_the_path() {
    let mut object = prometheus("prom/prometheus:v2.56.1");
    object["spec"]["containers"] =
        json!([{"name": "proxy", "image": "prom/proxy:1"}, {"name": "prometheus"}]);
    let judgement = judge_custom(&rule(false, false), &object, &no_tag(&["v2.55.1"]));
    let [image, proxy] = &judgement.findings[..] else {
        panic!("{judgement:?}")
    };
    assert_eq!(image.certainty, Certainty::Proven);
    assert_eq!((&*image.path, &*image.item), ("/spec/image", "spec.image"));
    assert_eq!(
        image.message,
        "spec.image: docker.io has no tag v2.56.1 in prom/prometheus"
    );
    assert_eq!(proxy.path, "/spec/containers/0/image");
    assert_eq!(proxy.item, "spec.containers[proxy].image");
}

#[test]
fn placeholders_and_names_that_an_operator_completes_are_no_images_of_a_custom_resource() {
    for image in [
        "",
        " ",
        "auto",
        "{{workflow.parameters.image}}",
        "registry.example.com/app:{{inputs.parameters.tag}}",
        "$(params.image)",
        "registry.example.com/app:${TAG}",
        "quay.io/thanos/thanos",
    ] {
        let object = prometheus(image);
        let judgement = judge_custom(&rule(true, true), &object, &no_tag(&["v1"]));
        assert_eq!(judgement, Judgement::default(), "{image:?}");
    }
    let mut object = prometheus("prom/prometheus:v2.56.1");
    object["spec"]["imagePullPolicy"] = json!("Never");
    let judgement = judge_custom(&rule(false, false), &object, &no_tag(&[]));
    assert_eq!(judgement, Judgement::default());
    let judgement = judge_custom(&rule(false, false), &prometheus("Prom:v1"), &no_tag(&[]));
    assert_eq!(judgement.findings.len(), 1, "what is no reference is found");
}

#[test]
fn what_pull_secrets_may_show_is_unknown_of_a_custom_resource() {
    let object = prometheus("prom/prometheus:v2.56.1");
    let denied = ImageState::Denied {
        asked: "docker.io (anonymous)".to_owned(),
    };
    for (reads_pull_secrets, state, findings) in [
        (false, denied.clone(), 0),
        (true, denied, 0),
        // Without pull secrets, Forestall is given what nodes have.
        (false, no_tag(&[]), 1),
        (true, no_tag(&[]), 0),
        (true, no_tag(&["v2.55.1"]), 1),
    ] {
        let judgement = judge_custom(&rule(reads_pull_secrets, false), &object, &state);
        let seen = (judgement.findings.len(), judgement.abstained.len());
        assert_eq!(seen, (findings, 1 - findings), "{judgement:?}");
        if let [abstention] = &judgement.abstained[..] {
            assert!(abstention.reason.is_lasting(), "{abstention:?}");
        }
    }
}

#[test]
fn a_custom_resource_is_asked_for_with_nobodys_pull_secrets_and_no_platforms() {
    let review = Review::of_manifest(prometheus("prom/prometheus:v2.56.1")).unwrap();
    let image = ImageReference::parse("prom/prometheus:v2.56.1").unwrap();
    let questions = rule(true, true).questions(&review);
    let mut only_the_image = Questions::default();
    only_the_image.ask(&PresenceOf(Pull {
        image: image.pulled(),
        puller: None,
    }));
    assert_eq!(questions, only_the_image);
}

#[test]
fn an_image_that_a_step_before_may_make_is_only_likely_to_be_missing() {
    let workflow = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
        "metadata": {"generateName": "ci-"}, "spec": {"entrypoint": "main", "templates": [
            {"name": "build", "container": {"image": "gcr.io/kaniko-project/executor:v1.23.2"}},
            {"name": "test", "container": {"image": "{{workflow.parameters.image}}"}}]}});
    let judgement = judge_custom(&rule(false, false), &workflow, &no_tag(&["v1.23.1"]));
    let [finding] = &judgement.findings[..] else {
        panic!("{judgement:?}")
    };
    assert_eq!(finding.certainty, Certainty::Likely);
    assert_eq!(finding.item, "spec.templates[build].container.image");
    assert!(finding.help.ends_with("; or have a step before make it"));
}

#[test]
fn a_kind_that_the_settings_add_is_watched_and_judged() {
    let custom_resources = CustomResources::parse(&[CustomResourceSettings {
        group: "example.com".to_owned(),
        kind: "Widget".to_owned(),
        plural: "widgets".to_owned(),
        paths: vec!["spec.image".to_owned()],
    }]);
    let rule = MissingImage {
        custom_resources: custom_resources.unwrap(),
        ..rule(false, false)
    };
    let watched: Vec<_> = rule.also_watches().iter().map(|kind| kind.plural).collect();
    assert_eq!(watched, ["widgets"]);
    let object = json!({"apiVersion": "example.com/v1", "kind": "Widget",
                        "metadata": {"name": "a"}, "spec": {"image": "team/app:1"}});
    let judgement = judge_custom(&rule, &object, &no_tag(&[]));
    assert_eq!(judgement.findings.len(), 1);
    let odd = json!({"apiVersion": "example.com/v1", "kind": "Widget",
                     "spec": {"image": {"repository": "team/app"}}});
    let judgement = judge_custom(&rule, &odd, &no_tag(&[]));
    assert_eq!(
        judgement.abstained[0].reason.to_string(),
        "/spec/image is no text"
    );
}

#[test]
fn a_list_that_is_reordered_has_the_same_findings() {
    let cluster = |images: &[&str]| {
        let group = |image: &&str| json!({"groupName": "g", "template": {"spec": {"containers": [{"name": "worker", "image": image}]}}});
        let groups: Vec<_> = images.iter().map(group).collect();
        json!({"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "a"},
               "spec": {"workerGroupSpecs": groups}})
    };
    let found = |images: &[&str]| {
        let judgement = judge_custom(&rule(false, false), &cluster(images), &no_tag(&[]));
        let findings = judgement.findings.into_iter();
        let identities = findings.map(|finding| (finding.item, finding.value));
        identities.collect::<BTreeSet<_>>()
    };
    assert_eq!(found(&["a:1", "b:1"]), found(&["b:1", "a:1"]));
    assert!(found(&["c:1", "a:1", "b:1"]).is_superset(&found(&["a:1", "b:1"])));
}

#[test]
fn what_a_node_has_is_only_likely_whatever_the_policy_as_pods_may_have_another() {
    let ImageState::Missing(missing) = no_tag(&["v2"]) else {
        panic!("it is missing")
    };
    let holder = Ok(Some(Holder::Node("ip-10-0-1-1".to_owned())));
    let held = ImageState::Missing(Missing { holder, ..missing });
    for (image, policy) in [("team/app:latest", None), ("team/app:v1", Some("Always"))] {
        let mut object = prometheus(image);
        object["spec"]["imagePullPolicy"] = json!(policy);
        let judgement = judge_custom(&rule(false, false), &object, &held);
        assert_eq!(
            judgement.findings[0].certainty,
            Certainty::Likely,
            "{image}"
        );
    }
}
