use std::time::Duration;

use serde_json::json;

use super::*;
use crate::config::Mode;
use crate::tree::Tree;

fn files(evidence: &str) -> Files {
    let evidence = EvidenceFile::parse("evidence.yaml", evidence).unwrap();
    Files::new(&Config::default(), Some(evidence))
}

async fn ask(files: &Files, question: Question) -> Evidence {
    let by = Instant::now() + Duration::from_secs(5);
    files
        .gather(BTreeSet::from([question]), Door::Files, by)
        .await
}

async fn image(files: &Files, text: &str) -> Result<ImageState, Unknown> {
    let image = ImageReference::parse(text).unwrap().pulled();
    let question = Question::Image {
        image: image.clone(),
        puller: None,
    };
    ask(files, question).await.image(&image, None).cloned()
}

async fn version(files: &Files) -> Result<String, Unknown> {
    let evidence = ask(files, Question::ArgoCdVersion).await;
    evidence.argocd_version().map(ToOwned::to_owned)
}

async fn diff(files: &Files) -> Result<bool, Unknown> {
    let evidence = ask(files, Question::ArgoCdServerSideDiff).await;
    evidence.argocd_server_side_diff()
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
    let question = Question::Image {
        image: image.clone(),
        puller: None,
    };
    let held = ImageState::Missing(Missing {
        holder: Ok(Some(Holder::Node("n".to_owned()))),
        ..Files::default().missing(&image)
    });
    let platform = Platform {
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
    };
    let platforms = Ok(Fact::NodePlatforms(BTreeSet::from([platform])));
    for asks_platforms in [false, true] {
        let mut recorded = EvidenceFile::default();
        for _ in 0..2 {
            recorded.remember(&question, &Ok(Fact::Image(held.clone())));
            if asks_platforms {
                recorded.remember(&Question::NodePlatforms, &platforms);
            }
        }
        assert_eq!(recorded.nodes.len(), 1, "{:?}", recorded.nodes);
        let again = files(&recorded.to_yaml().unwrap());
        let expected = Some(Holder::Node("nodes[0]".to_owned()));
        assert_eq!(holder(&again, "a.b/c:1").await, expected);
        assert_eq!(again.nodes.is_some(), asks_platforms);
    }
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
    let question = || Question::Definition {
        group: "x.io".to_owned(),
        plural: "things".to_owned(),
    };
    let found = async |files: &Files| {
        let evidence = ask(files, question()).await;
        evidence.definition("x.io", "things").cloned()
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
    assert_eq!(found(&files).await, Ok(spec));
    let absent = found(&Files::default().complete()).await;
    assert!(matches!(absent, Err(Unknown::Unavailable(_))), "{absent:?}");
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
