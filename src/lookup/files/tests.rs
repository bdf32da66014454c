use std::time::Duration;

use serde_json::json;

use super::*;
use crate::config::Mode;

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

#[tokio::test]
async fn the_version_of_argo_cd_is_configured_or_given_or_seen() {
    let mut none = Files::default();
    assert_eq!(version(&none).await, Err(Unknown::NotAsked));
    none.add(&controller("quay.io/argoproj/argocd:v2.10.3"));
    assert_eq!(version(&none).await, Ok("v2.10.3".to_owned()));
    // What is under check replaces what is in the cluster.
    none.add(&controller("quay.io/argoproj/argocd:v2.11.0"));
    assert_eq!(version(&none).await, Ok("v2.11.0".to_owned()));
    let mut given = files("argocd: {version: 2.12}");
    given.add(&controller("quay.io/argoproj/argocd:v2.10.3"));
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
    seen.add(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cmd-params-cm"},
        "data": {"controller.diff.server.side": "true"},
    }));
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
    files.add(&json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.x.io"}, "spec": spec,
    }));
    assert_eq!(found(&files).await, Ok(spec));
    let absent = found(&Files::default().complete()).await;
    assert!(matches!(absent, Err(Unknown::Unavailable(_))), "{absent:?}");
}

#[test]
fn a_namespace_says_its_mode() {
    let mut files = Files::default();
    let namespace = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    files.add(&namespace("a", json!({(MODE_LABEL): "audit"})));
    files.add(&namespace("b", Value::Null));
    assert_eq!(files.label("a"), NamespaceLabel::Known(Some(Mode::Audit)));
    assert_eq!(files.label("b"), NamespaceLabel::Known(None));
    assert_eq!(files.label("absent"), NamespaceLabel::Known(None));
}
