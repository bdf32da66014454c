use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::evidence::Listing;

mod custom_resources;

fn rule(reads_pull_secrets: bool, compares_platforms: bool) -> MissingImage {
    MissingImage {
        reads_pull_secrets,
        compares_platforms,
        custom_resources: CustomResources::parse(&[]).unwrap(),
    }
}

fn review(image: &str, policy: &str) -> Review {
    Review::of_manifest(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "shop"},
        "spec": {"containers": [{"name": "app", "image": image, "imagePullPolicy": policy}]},
    }))
    .unwrap()
}

fn questions(image: &str, policy: &str) -> Vec<PresenceOf> {
    let questions = rule(false, false).questions(&review(image, policy));
    questions.presence.into_iter().collect()
}

fn judge(image: &str, policy: &str, answer: Option<&Result<ImageState, Unknown>>) -> Judgement {
    let review = review(image, policy);
    let mut evidence = Evidence::default();
    for question in rule(false, false).questions(&review).presence {
        if let Some(answer) = answer {
            evidence.presence.insert(question, answer.clone());
        }
    }
    rule(false, false).judge(&review, &evidence)
}

fn no_tag(tags: &[&str]) -> ImageState {
    let tags = tags.iter().map(ToString::to_string).collect();
    let asked = "registry-1.docker.io (anonymous)".to_owned();
    ImageState::Missing(Missing {
        what: MissingPart::Tag,
        asked,
        tags: Arc::new(tags),
        holder: Ok(None),
    })
}

#[test]
fn s08_prometheus_v2_56_1_has_no_such_tag() {
    let judgement = judge(
        "prom/prometheus:v2.56.1",
        "IfNotPresent",
        Some(&Ok(no_tag(&["v2.55.0", "v2.55.1", "v3.0.0"]))),
    );
    let finding = &judgement.findings[0];
    assert_eq!(finding.path, "/spec/containers/0/image");
    assert_eq!(
        finding.message,
        "app: docker.io has no tag v2.56.1 in prom/prometheus"
    );
    assert!(
        finding.help.starts_with("nearest: v2.55.1 ("),
        "{}",
        finding.help
    );
}

#[test]
fn registry_case_101_what_a_node_has_is_only_likely_where_nodes_do_not_ask_again() {
    let judge = |policy: &str, holder: Result<Option<Holder>, Unknown>| {
        let ImageState::Missing(missing) = no_tag(&["v2"]) else {
            panic!("it is missing")
        };
        let missing = ImageState::Missing(Missing { holder, ..missing });
        judge("team/app:v1", policy, Some(&Ok(missing)))
    };
    let node = || Ok(Some(Holder::Node("ip-10-0-1-1".to_owned())));
    let pod = |namespace: &str| {
        let (namespace, name) = (namespace.to_owned(), "web-1".to_owned());
        Ok(Some(Holder::Pod { namespace, name }))
    };
    let missing = "app: docker.io has no tag v1 in team/app";
    for (holder, who) in [
        (node(), "node ip-10-0-1-1"),
        (pod("shop"), "the node of Pod shop/web-1"),
        // Who runs what in other namespaces is not for everybody.
        (pod("secret"), "the node of a running Pod"),
    ] {
        let softened = judge("IfNotPresent", holder.clone());
        let finding = &softened.findings[0];
        assert_eq!(finding.certainty, Certainty::Likely);
        let expected = format!("{missing}; {who} has it still, but others cannot pull it");
        assert_eq!(finding.message, expected);
        assert!(finding.help.starts_with("nearest: v2"), "{}", finding.help);
        // Whoever pulls in any case asks the registry, whatever is there.
        let always = judge("Always", holder);
        assert_eq!(always.findings[0].certainty, Certainty::Proven);
        assert_eq!(always.findings[0].message, missing);
    }
    let nobody = judge("IfNotPresent", Ok(None));
    assert_eq!(nobody.findings[0].certainty, Certainty::Proven);
    let not_listed = || Err(Unknown::NotSynced);
    let unknown = judge("IfNotPresent", not_listed());
    assert_eq!(unknown.findings, []);
    assert_eq!(unknown.abstained[0].reason, Unknown::NotSynced);
    let always = judge("Always", not_listed());
    assert_eq!(always.findings[0].certainty, Certainty::Proven);
}

#[test]
fn registry_case_96_without_a_near_tag_nothing_is_suggested() {
    let tags = ["v1-amd64", "v1-arm64", "sha256-0a.sig"];
    let judgement = judge("team/app:v1", "Always", Some(&Ok(no_tag(&tags))));
    let help =
        "write a tag that exists, or push the image first; asked: registry-1.docker.io (anonymous)";
    assert_eq!(judgement.findings[0].help, help);
}

#[test]
fn registry_case_31_an_image_of_the_first_schema_is_likely_to_fail() {
    let judgement = judge("old:1", "Always", Some(&Ok(ImageState::Schema1)));
    let finding = &judgement.findings[0];
    assert_eq!(finding.certainty, Certainty::Likely);
    assert!(finding.message.starts_with("app: old:1 is an image of"));
}

#[test]
fn registry_case_104_and_105_an_index_must_have_a_platform_that_a_node_has() {
    let platform = |text: &&str| {
        let (os, architecture) = text.split_once('/').unwrap();
        Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
        }
    };
    let judge = |built: Option<&[&str]>, nodes: Option<&[&str]>, selector: &str| {
        let review = Review::of_manifest(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
            "spec": {
                "containers": [{"name": "app", "image": "a:1"}],
                "nodeSelector": {"kubernetes.io/arch": selector},
            },
        }))
        .unwrap();
        let rule = rule(false, true);
        let mut evidence = Evidence::default();
        let questions = rule.questions(&review);
        for question in questions.presence {
            evidence.presence.insert(question, Ok(ImageState::Exists));
        }
        for question in questions.platforms {
            let answer = match built {
                Some(built) => ImagePlatforms::Only(built.iter().map(platform).collect()),
                None => ImagePlatforms::Any,
            };
            evidence.platforms.insert(question, Ok(answer));
        }
        if let Some(nodes) = nodes {
            let nodes = nodes.iter().map(|name| {
                let state = NodeState {
                    platform: Some(platform(name)),
                    ..NodeState::default()
                };
                (*name, state)
            });
            let question = ObjectsOf::<NodeState>::all().into();
            evidence.objects.insert(question, Ok(Listing::of(nodes)));
        }
        rule.judge(&review, &evidence)
    };
    let arm = Some(&["linux/arm64"][..]);
    let amd = Some(&["linux/amd64"][..]);
    let both = Some(&["linux/amd64", "linux/arm64"][..]);
    let found = judge(arm, amd, "amd64");
    assert_eq!(found.findings[0].certainty, Certainty::Likely);
    assert_eq!(
        found.findings[0].message,
        "app: a:1 is built for linux/arm64, and no node that may get the pod is: they are \
         linux/amd64"
    );
    assert_eq!(judge(arm, both, "amd64").findings.len(), 1);
    for (built, nodes, selector) in [
        (arm, both, "arm64"),
        (both, amd, "amd64"),
        // A node that is not there yet may be made for it.
        (arm, amd, "arm64"),
        (arm, Some(&[][..]), "amd64"),
        // Case 105: what is no index is pulled, whatever it is.
        (None, amd, "amd64"),
        (Some(&[][..]), amd, "amd64"),
    ] {
        let judgement = judge(built, nodes, selector);
        assert_eq!(judgement, Judgement::default(), "{built:?} {nodes:?}");
    }
    let unknown = judge(arm, None, "amd64");
    assert_eq!((unknown.findings.len(), unknown.abstained.len()), (0, 1));
}

#[test]
fn what_is_not_known_is_no_finding() {
    let judgement = judge("nginx:1", "Always", Some(&Err(Unknown::TimedOut)));
    assert_eq!(
        (judgement.findings.len(), judgement.abstained.len()),
        (0, 1)
    );
}

#[test]
fn registry_cases_12_13_and_100_images_that_are_never_pulled_and_placeholders_are_skipped() {
    for (image, policy) in [("nginx:1", "Never"), ("auto", "Always"), (" ", "Always")] {
        assert_eq!(questions(image, policy), [], "{image:?}");
        assert_eq!(
            judge(image, policy, Some(&Ok(no_tag(&[])))),
            Judgement::default(),
            "{image:?}"
        );
    }
}

#[test]
fn registry_cases_5_6_7_8_9_10_and_11_a_reference_that_is_none_is_proven_and_nobody_is_asked() {
    let digest = |algorithm: &str, digits| format!("a@{algorithm}:{}", "0".repeat(digits));
    let path = |length| format!("a.b/{}", "x".repeat(length));
    for (image, cure) in [
        ("Nginx:1".to_owned(), "capital letters"),
        ("nginx:".to_owned(), "nothing stands after the colon"),
        ("nginx:тег".to_owned(), "is no tag"),
        ("0a".repeat(32), "image ID"),
        (digest("sha256", 63), "is no digest"),
        (digest("md5", 32), "is no digest"),
        (path(256), "256 bytes"),
    ] {
        assert_eq!(questions(&image, "Always"), [], "{image}");
        let judgement = judge(&image, "Always", None);
        let finding = &judgement.findings[0];
        assert_eq!(finding.certainty, Certainty::Proven, "{image}");
        assert!(finding.help.contains(cure), "{image}: {}", finding.help);
    }
    assert_eq!(questions(&path(255), "Always").len(), 1);
    assert_eq!(questions(&digest("sha256", 64), "Always").len(), 1);
    let hostile = judge("Nginx:latest:1\u{1b}[31m", "Always", None);
    assert!(!hostile.findings[0].message.contains('\u{1b}'));
}
