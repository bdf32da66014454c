use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::config::Mode;
use crate::evidence::{Holder, ObjectOf, ObjectsOf, Platform, Pull, Question, ReferrersOf};
use crate::objects::{
    ConfigMapKeys, Definition, ImageSet, MODE_LABEL, PodReferences, Reference, Referent, ValueHash,
};
use crate::rules::argocd;
use crate::tree::Tree;

fn files(evidence: &str) -> Files {
    let evidence = EvidenceFile::parse("evidence.yaml", evidence).unwrap();
    Files::new(&Config::default(), Some(evidence))
}

async fn ask(files: &Files, question: &impl Question) -> Evidence {
    let by = Instant::now() + Duration::from_secs(5);
    let mut questions = Questions::default();
    questions.ask(question);
    files.gather(questions, Door::Files, by).await
}

fn presence(image: &ImageReference) -> PresenceOf {
    let image = image.clone();
    PresenceOf(Pull {
        image,
        puller: None,
    })
}

async fn image(files: &Files, text: &str) -> Result<ImageState, Unknown> {
    let image = ImageReference::parse(text).unwrap().pulled();
    let question = presence(&image);
    ask(files, &question).await.get(&question).cloned()
}

async fn version(files: &Files) -> Result<String, Unknown> {
    let evidence = ask(files, &ObjectsOf::<ArgoCdController>::all()).await;
    argocd::version(&evidence).map(ToOwned::to_owned)
}

async fn diff(files: &Files) -> Result<bool, Unknown> {
    let evidence = ask(files, &ObjectsOf::<ArgoCdParameters>::all()).await;
    argocd::server_side_diff(&evidence)
}

fn controller(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "argocd-application-controller"}},
        "spec": {"template": {"spec": {"containers": [{"name": "application-controller", "image": image}]}}},
    })
}

#[tokio::test]
async fn references_are_compared_after_normalisation() {
    let digest = format!("sha256:{}", "1".repeat(64));
    let files = files(&format!(
        "images:\n  \
           prom/prometheus:v1: exists\n  \
           docker.io/library/nginx: missing\n  \
           a.b/c:tag@{digest}: missing\n  \
           a.b/denied:1: denied\n\
         tags: {{docker.io/nginx: [1.27, 1.28]}}\n"
    ));
    let exists = image(&files, "docker.io/prom/prometheus:v1").await;
    assert_eq!(exists, Ok(ImageState::Exists));
    let Ok(ImageState::Missing(missing)) = image(&files, "nginx:latest").await else {
        panic!("nginx is missing");
    };
    assert_eq!(missing.what, MissingPart::Tag);
    assert_eq!(*missing.tags, ["1.27", "1.28"]);
    let Ok(ImageState::Missing(missing)) = image(&files, &format!("a.b/c@{digest}")).await else {
        panic!("the digest is missing");
    };
    assert_eq!(missing.what, MissingPart::Digest);
    assert!(matches!(
        image(&files, "a.b/denied:1").await,
        Err(Unknown::Registry { .. })
    ));
    // A tag that is listed is no proof that another is missing, nor are files of registries.
    let unknown = image(&files.complete(), "nginx:1.29").await;
    assert!(
        matches!(unknown, Err(Unknown::Unavailable(_))),
        "{unknown:?}"
    );
}

fn add(files: &mut Files, object: &Value) {
    files.add(Tree::from(object).root());
}

async fn holder(files: &Files, text: &str) -> Option<Holder> {
    match image(files, text).await {
        Ok(ImageState::Missing(missing)) => missing.holder.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn registry_case_101_nodes_and_pods_of_the_files_have_images() {
    let node = |name: &str| Some(Holder::Node(name.to_owned()));
    let given = "images: {a.b/c:1: missing, a.b/c:2: missing, a.b/c:3: missing, nginx: missing}\n\
                 nodes: [{}, {images: ['docker.io/nginx:latest', a.b/c:1]}, {name: n, images: [a.b/c:1]}]\n";
    let mut files = files(given);
    assert_eq!(holder(&files, "nginx").await, node("nodes[1]"));
    assert_eq!(holder(&files, "a.b/c:1").await, node("n"));
    assert_eq!(holder(&files, "a.b/c:2").await, None);

    let image = |tag: &str| json!({"names": [format!("a.b/c:{tag}")]});
    let status = json!({"images": [image("2"), image("3")]});
    add(
        &mut files,
        &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "m"}, "status": status}),
    );
    assert_eq!(holder(&files, "a.b/c:2").await, node("m"));
    let pod = |state: Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1", "namespace": "shop"},
            "spec": {"containers": [{"name": "a", "image": "a.b/c:3"}]},
            "status": {"containerStatuses": [{"name": "a", "image": "a.b/c:3", "imageID": "sha256:0", "state": state}]},
        })
    };
    // A later object of the same name takes the place of the one before.
    add(
        &mut files,
        &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "m"}}),
    );
    add(&mut files, &pod(json!({"running": {}})));
    let expected = Holder::Pod {
        namespace: "shop".to_owned(),
        name: "web-1".to_owned(),
    };
    assert_eq!(holder(&files, "a.b/c:3").await, Some(expected));
    assert_eq!(holder(&files, "a.b/c:2").await, None);
    add(&mut files, &pod(json!({"waiting": {}})));
    assert_eq!(holder(&files, "a.b/c:3").await, None);
}

#[tokio::test]
async fn what_is_recorded_of_a_holder_leads_to_the_same_answer() {
    let image = ImageReference::parse("a.b/c:1").unwrap();
    let held = ImageState::Missing(Missing {
        holder: Ok(Some(Holder::Node("n".to_owned()))),
        ..Files::default().missing(&image)
    });
    let platform = Platform {
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
    };
    let node = NodeState {
        platform: Some(platform),
        images: ImageSet::default(),
        has_crio: false,
    };
    for asks_platforms in [false, true] {
        let mut recorded = EvidenceFile::default();
        let mut found = Evidence::default();
        found.presence.insert(presence(&image), Ok(held.clone()));
        if asks_platforms {
            let question = ObjectsOf::<NodeState>::all().into();
            let nodes = Listing::of([("n", node.clone())]);
            found.objects.insert(question, Ok(nodes));
        }
        for _ in 0..2 {
            recorded.remember(&found);
        }
        assert_eq!(recorded.nodes.len(), 1, "{:?}", recorded.nodes);
        let again = files(&recorded.to_yaml().unwrap());
        let expected = Some(Holder::Node("nodes[0]".to_owned()));
        assert_eq!(holder(&again, "a.b/c:1").await, expected);
        let nodes = ask(&again, &ObjectsOf::<NodeState>::all()).await;
        let nodes = nodes.get(&ObjectsOf::<NodeState>::all());
        let platforms = nodes.and_then(|nodes| nodes.platforms());
        assert_eq!(platforms.is_ok(), asks_platforms);
    }
}

#[tokio::test]
async fn what_is_recorded_of_an_image_leads_to_the_same_answer() {
    let image = ImageReference::parse("registry.test/c:1").unwrap();
    let no_repository = ImageState::Missing(Missing {
        what: MissingPart::Repository,
        ..Files::default().missing(&image)
    });
    let denied = ImageState::Denied {
        asked: "the evidence".to_owned(),
    };
    let config = "
rules: {missing-image: {pullSecrets: true}}
registries: {registry.test: {trustDenied: true}}
";
    let config = Config::parse("config.yaml", config).unwrap();
    for state in [
        no_repository,
        denied,
        ImageState::Exists,
        ImageState::Schema1,
    ] {
        let mut recorded = EvidenceFile::default();
        let mut found = Evidence::default();
        found.presence.insert(presence(&image), Ok(state.clone()));
        recorded.remember(&found);
        let yaml = recorded.to_yaml().unwrap();
        let recorded = EvidenceFile::parse("evidence.yaml", &yaml).unwrap();
        let again = Files::new(&config, Some(recorded));
        let answer = ask(&again, &presence(&image)).await;
        assert_eq!(answer.get(&presence(&image)), Ok(&state), "{yaml}");
    }
    // Without the setting, nobody vouches for it.
    let without = files("images: {registry.test/c:1: denied}");
    let answer = ask(&without, &presence(&image)).await;
    assert!(answer.get(&presence(&image)).is_err());
}

#[tokio::test]
async fn a_pull_secret_that_another_object_makes_is_there() {
    let mut files = files("{}");
    add(
        &mut files,
        &json!({
            "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret",
            "metadata": {"name": "registry", "namespace": "shop"},
            "spec": {"target": {"name": "regcred"}},
        }),
    );
    let states = |files: Files| async move {
        let asked = PullSecretsOf(Puller {
            namespace: "shop".to_owned(),
            service_account: "default".to_owned(),
            named: vec!["regcred".to_owned()],
        });
        let found = ask(&files, &asked).await;
        let secrets = found.get(&asked).unwrap().clone();
        secrets
            .into_iter()
            .map(|secret| secret.state)
            .collect::<Vec<_>>()
    };
    let expected = [PullSecretState::Usable];
    assert_eq!(states(files).await, expected);
}

#[tokio::test]
async fn the_version_of_argo_cd_is_configured_or_given_or_seen() {
    let mut none = Files::default();
    assert_eq!(version(&none).await, Err(Unknown::NotAsked));
    add(&mut none, &controller("quay.io/argoproj/argocd:v2.10.3"));
    assert_eq!(version(&none).await, Ok("v2.10.3".to_owned()));
    // What is under check replaces what is in the cluster.
    add(&mut none, &controller("quay.io/argoproj/argocd:v2.11.0"));
    assert_eq!(version(&none).await, Ok("v2.11.0".to_owned()));
    let mut given = files("argocd: {version: 2.12}");
    add(&mut given, &controller("quay.io/argoproj/argocd:v2.10.3"));
    assert_eq!(version(&given).await, Ok("2.12".to_owned()));
    let config = Config::parse("c", "argocd: {version: 3.1}").unwrap();
    let evidence = EvidenceFile::parse("e", "argocd: {version: 2.12}").unwrap();
    let configured = Files::new(&config, Some(evidence));
    assert_eq!(version(&configured).await, Ok("3.1".to_owned()));
}

#[tokio::test]
async fn server_side_diff_is_what_the_parameters_say() {
    assert_eq!(diff(&Files::default()).await, Err(Unknown::NotAsked));
    assert_eq!(diff(&Files::default().complete()).await, Ok(false));
    assert_eq!(
        diff(&files("argocd: {version: 2.10}")).await,
        Err(Unknown::NotAsked)
    );
    assert_eq!(diff(&files("argocd: {cmdParams: {}}")).await, Ok(false));
    let on = "argocd: {cmdParams: {controller.diff.server.side: true}}";
    assert_eq!(diff(&files(on)).await, Ok(true));
    let mut seen = Files::default();
    add(
        &mut seen,
        &json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cmd-params-cm"},
            "data": {"controller.diff.server.side": "true"},
        }),
    );
    assert_eq!(diff(&seen).await, Ok(true));
}

#[tokio::test]
async fn a_definition_is_known_from_its_manifest() {
    let question = ObjectOf::<Definition>::named(None, "things.x.io");
    let found = async |files: &Files| {
        let evidence = ask(files, &question).await;
        let found = evidence.get(&question);
        found.map(|found| found.map(|definition| definition.0.clone()))
    };
    let mut files = Files::default();
    assert_eq!(found(&files).await, Err(Unknown::NotAsked));
    let spec = json!({"group": "x.io", "names": {"plural": "things"}});
    add(
        &mut files,
        &json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "things.x.io"}, "spec": spec,
        }),
    );
    assert_eq!(found(&files).await, Ok(Some(spec)));
    assert_eq!(found(&Files::default().complete()).await, Ok(None));
}

#[test]
fn a_namespace_says_its_mode() {
    let mut files = Files::default();
    let namespace = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    add(&mut files, &namespace("a", json!({(MODE_LABEL): "audit"})));
    add(&mut files, &namespace("b", Value::Null));
    assert_eq!(files.label("a"), NamespaceLabel::Known(Some(Mode::Audit)));
    assert_eq!(files.label("b"), NamespaceLabel::Known(None));
    assert_eq!(files.label("absent"), NamespaceLabel::Known(None));
}

#[tokio::test]
async fn who_names_a_config_map_is_found_in_whichever_order_they_come() {
    let workload = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [{"envFrom": [{"configMapRef": {"name": "env"}}]}]}}},
    });
    let config_map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "env"}, "data": {"A": "1"}});
    let env = || Reference {
        kind: Referent::ConfigMap,
        name: "env".into(),
    };
    let referrers = ReferrersOf::<PodReferences>::new("default", env());
    let elsewhere = ReferrersOf::<PodReferences>::new("other", env());
    let keys = ObjectOf::<ConfigMapKeys>::named(Some("default"), "env");
    for order in [[&workload, &config_map], [&config_map, &workload]] {
        let mut files = Files::default();
        for object in order {
            add(&mut files, object);
        }
        let evidence = ask(&files, &referrers).await;
        let found = evidence.get(&referrers).unwrap();
        let names: Vec<_> = found.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["default/web"]);
        assert_eq!(found.rest(), Err(Unknown::NotAsked), "there may be others");
        let evidence = ask(&files, &keys).await;
        let found = evidence.get(&keys).unwrap().unwrap();
        assert_eq!(found.get("A"), Some(ValueHash::of_text("1")));
        let files = files.complete();
        let evidence = ask(&files, &elsewhere).await;
        let found = evidence.get(&elsewhere).unwrap();
        assert_eq!(found.all().unwrap().len(), 0);
    }
}

#[tokio::test]
async fn an_object_without_a_namespace_is_in_the_default_one_or_the_one_that_is_given() {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"},
        "imagePullSecrets": [{"name": "regcred"}],
    });
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "regcred"}, "type": "Opaque"});
    for (files, namespace) in [
        (Files::default(), "default"),
        (Files::default().in_namespace("shop"), "shop"),
    ] {
        let mut files = files;
        add(&mut files, &account);
        add(&mut files, &secret);
        for (asked, is_known) in [(namespace, true), ("other", false)] {
            let question = PullSecretsOf(Puller {
                namespace: asked.to_owned(),
                service_account: "web".to_owned(),
                named: Vec::new(),
            });
            let evidence = ask(&files, &question).await;
            let known = evidence.get(&question);
            assert_eq!(known.is_ok_and(|secrets| secrets.len() == 1), is_known);
        }
    }
}
