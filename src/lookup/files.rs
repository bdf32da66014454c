//! The facts in files: other manifests and the evidence file of `forestall check`.
//!
//! What the files do not hold is asked of a live lookup, where there is one.

mod evidence_file;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kube::api::DynamicObject;
use serde::Deserialize as _;
use serde_json::Value;
use tokio::time::Instant;
use zeroize::Zeroizing;

pub use self::evidence_file::{ArgoCdEvidence, EvidenceFile, ImageAnswer};
use self::evidence_file::{SERVER_SIDE_DIFF, node_platforms, platforms, repository};
use super::cluster::argocd;
use super::live::Live;
use super::pull_secrets::Content;
use super::{Lookup, MODE_LABEL, mode_of_label};
use crate::config::{Config, NamespaceLabel};
use crate::evidence::{
    Evidence, Fact, ImagePlatforms, ImageState, MemoryRecord, Missing, MissingPart, Platform,
    PullSecret, PullSecretState, Puller, Question, Unknown,
};
use crate::review::image::{ImageReference, Repository};
use crate::review::workload::DEFAULT_ACCOUNT;
use crate::review::{Subject, text};

/// Answers from files.
#[derive(Default)]
pub struct Files {
    images: BTreeMap<ImageReference, ImageAnswer>,
    tags: BTreeMap<Repository, Arc<Vec<String>>>,
    platforms: BTreeMap<ImageReference, ImagePlatforms>,
    nodes: Option<BTreeSet<Platform>>,
    memory: Option<Arc<Vec<MemoryRecord>>>,
    definitions: BTreeMap<(String, String), Arc<Value>>,
    labels: BTreeMap<String, Option<String>>,
    /// Configured or given as evidence; holds over what manifests show.
    argocd_version: Option<String>,
    server_side_diff: Option<bool>,
    /// What manifests show, by object.
    controllers: BTreeMap<Subject, argocd::Version>,
    /// What kubelet would make of each Secret, and the pull secrets of each service account, by
    /// namespace and name.
    pull_secrets: BTreeMap<(String, String), PullSecretState>,
    accounts: BTreeMap<(String, String), Vec<String>>,
    parameters: BTreeMap<Subject, bool>,
    complete: bool,
    live: Option<Live>,
    learnt: Mutex<EvidenceFile>,
}

impl Files {
    /// Knows what the operator configured, and the evidence where some is given.
    #[must_use]
    pub fn new(config: &Config, evidence: Option<EvidenceFile>) -> Self {
        let mut files = Self::default();
        let configured = config.argocd.version.as_ref();
        files.argocd_version = configured.map(|version| version.0.clone());
        if let Some(evidence) = evidence {
            files.believe(evidence);
        }
        files
    }

    fn believe(&mut self, evidence: EvidenceFile) {
        let image = |(key, answer): (&String, &ImageAnswer)| {
            Some((ImageReference::parse(key).ok()?.pulled(), *answer))
        };
        self.images = evidence.images.iter().filter_map(image).collect();
        for (key, tags) in &evidence.tags {
            if let Ok(repository) = repository(key) {
                let tags = tags.iter().map(|tag| tag.0.clone()).collect();
                self.tags.insert(repository, Arc::new(tags));
            }
        }
        for (key, config) in &evidence.image_configs {
            if let (Ok(image), Some(platforms)) = (ImageReference::parse(key), platforms(config)) {
                self.platforms.insert(image.pulled(), platforms);
            }
        }
        self.nodes = node_platforms(&evidence.nodes);
        self.memory = Some(Arc::new(evidence.memory.clone()));
        let version = evidence.argocd.version.as_ref();
        self.argocd_version = self
            .argocd_version
            .take()
            .or_else(|| version.map(|version| version.0.clone()));
        let params = evidence.argocd.cmd_params.as_ref();
        self.server_side_diff = params.map(|params| {
            params
                .get(SERVER_SIDE_DIFF)
                .is_some_and(|value| value.0 == "true")
        });
        self.learnt = Mutex::new(evidence);
    }

    /// Takes the files as the whole cluster: an object that is not among them does not exist.
    ///
    /// Images stay unknown: they are in registries, not in the cluster.
    #[must_use]
    pub fn complete(mut self) -> Self {
        self.complete = true;
        self
    }

    /// Asks this lookup what the files do not say.
    #[must_use]
    pub fn with_live(mut self, live: Live) -> Self {
        self.live = Some(live);
        self
    }

    /// Takes an object as being in the cluster. A later one of the same name replaces it.
    pub fn add(&mut self, object: &Value) {
        let Ok(subject) = Subject::of(object) else {
            return;
        };
        match (subject.group.as_str(), subject.kind.as_str()) {
            ("apiextensions.k8s.io", "CustomResourceDefinition") => self.add_definition(object),
            ("", "Namespace") => {
                let labels = object.pointer("/metadata/labels");
                let label = labels
                    .and_then(|labels| labels.get(MODE_LABEL)?.as_str())
                    .map(ToOwned::to_owned);
                self.labels.insert(subject.name, label);
            }
            ("", "Secret") => {
                let namespace = subject.namespace.unwrap_or_default();
                let kind = text(object, "/type").unwrap_or_default();
                let content = Content::read(&namespace, &subject.name, kind, &secret_data(object));
                self.pull_secrets
                    .insert((namespace, subject.name), content.state());
            }
            ("", "ServiceAccount") => {
                let secrets = object.get("imagePullSecrets").and_then(Value::as_array);
                let names = secrets.into_iter().flatten();
                let names = names.filter_map(|secret| text(secret, "/name"));
                let names = names.map(ToOwned::to_owned).collect();
                let namespace = subject.namespace.unwrap_or_default();
                self.accounts.insert((namespace, subject.name), names);
            }
            ("", "ConfigMap") if subject.name == argocd::PARAMETERS => {
                if let Ok(parameters) = DynamicObject::deserialize(object) {
                    let flag = argocd::server_side_diff(&parameters);
                    self.parameters.insert(subject, flag);
                }
            }
            ("apps", "StatefulSet" | "Deployment") if is_controller(object) => {
                if let Ok(controller) = DynamicObject::deserialize(object) {
                    let version = argocd::version(&controller);
                    self.controllers.insert(subject, version);
                }
            }
            _ => {}
        }
    }

    fn add_definition(&mut self, object: &Value) {
        let names = [
            text(object, "/spec/group"),
            text(object, "/spec/names/plural"),
        ];
        if let ([Some(group), Some(plural)], Some(spec)) = (names, object.get("spec")) {
            let key = (group.to_owned(), plural.to_owned());
            self.definitions.insert(key, Arc::new(spec.clone()));
        }
    }

    /// The evidence given, and all that was learnt since: given as evidence, it leads to the same
    /// answers without a network.
    #[must_use]
    pub fn learnt(&self) -> EvidenceFile {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, EvidenceFile> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the files say; `None` where they do not.
    fn answer(&self, question: &Question) -> Option<Result<Fact, Unknown>> {
        match question {
            Question::Image { image, .. } => self.image(image),
            Question::ImagePlatforms { image, .. } => {
                let platforms = self.platforms.get(image);
                platforms.map(|platforms| Ok(Fact::ImagePlatforms(platforms.clone())))
            }
            Question::NodePlatforms => {
                let nodes = self.nodes.as_ref();
                nodes.map(|nodes| Ok(Fact::NodePlatforms(nodes.clone())))
            }
            Question::Definition { group, plural } => {
                let spec = self.definitions.get(&(group.clone(), plural.clone()));
                spec.map(|spec| Ok(Fact::Definition(Arc::clone(spec))))
            }
            Question::ArgoCdVersion => self.version().map(|version| version.map(Fact::Version)),
            Question::ArgoCdServerSideDiff => self.diff().map(|flag| flag.map(Fact::Flag)),
            Question::MemoryHistory => {
                let rows = self.memory.as_ref();
                rows.map(|rows| Ok(Fact::Memory(Arc::clone(rows))))
            }
            Question::PullSecrets(puller) => self.pull_secrets(puller).map(Ok),
        }
    }

    fn pull_secrets(&self, puller: &Puller) -> Option<Fact> {
        let key = |name: &String| (puller.namespace.clone(), name.clone());
        let names = if puller.named.is_empty() {
            let named = self.accounts.get(&key(&puller.service_account));
            // Every namespace has one of that name, which names none unless somebody changes it.
            let is_default = self.complete && puller.service_account == DEFAULT_ACCOUNT;
            named.or_else(|| is_default.then_some(&puller.named))?
        } else {
            &puller.named
        };
        let names = names.iter().filter(|name| !name.is_empty());
        let secrets = names.map(|name| {
            let known = self.pull_secrets.get(&key(name)).cloned();
            Some(PullSecret {
                name: name.clone(),
                state: known.or_else(|| self.complete.then_some(PullSecretState::Absent))?,
            })
        });
        secrets.collect::<Option<_>>().map(Fact::PullSecrets)
    }

    fn version(&self) -> Option<Result<String, Unknown>> {
        match &self.argocd_version {
            Some(version) => Some(Ok(version.clone())),
            None if self.controllers.is_empty() => None,
            None => {
                let seen = self.controllers.values().cloned();
                Some(argocd::one_version(seen.collect()))
            }
        }
    }

    fn diff(&self) -> Option<Result<bool, Unknown>> {
        match self.server_side_diff {
            Some(flag) => Some(Ok(flag)),
            None if self.parameters.is_empty() => None,
            None => {
                let seen = self.parameters.values().copied();
                Some(argocd::one_flag(&seen.collect()))
            }
        }
    }

    fn image(&self, image: &ImageReference) -> Option<Result<Fact, Unknown>> {
        let unknown = |why: &str| {
            Err(Unknown::Registry {
                host: image.repository.domain.clone(),
                why: why.to_owned(),
                answered_before: false,
            })
        };
        let state = match self.images.get(image)? {
            ImageAnswer::Exists => Ok(Fact::Image(ImageState::Exists)),
            ImageAnswer::Schema1 => Ok(Fact::Image(ImageState::Schema1)),
            ImageAnswer::Missing => Ok(Fact::Image(ImageState::Missing(self.missing(image)))),
            ImageAnswer::Denied => unknown("access is denied, says the evidence"),
            ImageAnswer::Unknown => unknown("no answer, says the evidence"),
        };
        Some(state)
    }

    fn missing(&self, image: &ImageReference) -> Missing {
        let what = match image.digest {
            Some(_) => MissingPart::Digest,
            None => MissingPart::Tag,
        };
        let tags = self.tags.get(&image.repository).cloned();
        Missing {
            what,
            asked: "the evidence".to_owned(),
            tags: tags.unwrap_or_default(),
        }
    }

    /// Whether there is somebody to ask: a registry for images, a cluster for all else.
    fn is_live(&self, question: &Question) -> bool {
        self.live.as_ref().is_some_and(|live| match question {
            Question::Image { .. } | Question::ImagePlatforms { .. } => live.registry.is_some(),
            _ => live.cluster.is_some(),
        })
    }

    /// What it means that the files do not say, and nobody else can be asked.
    fn absent(&self, question: &Question) -> Result<Fact, Unknown> {
        let absent = |what: String| Err(Unknown::Unavailable(format!("there is no {what}")));
        match question {
            Question::Definition { group, plural } if self.complete => {
                absent(format!("CustomResourceDefinition {plural}.{group}"))
            }
            Question::ArgoCdVersion if self.complete => absent("Argo CD".to_owned()),
            Question::ArgoCdServerSideDiff if self.complete => Ok(Fact::Flag(false)),
            Question::Image { .. } | Question::ImagePlatforms { .. } => Err(Unknown::Unavailable(
                "registries are not asked, and no evidence names it".to_owned(),
            )),
            _ => Err(Unknown::NotAsked),
        }
    }
}

impl Lookup for Files {
    async fn gather(&self, asked: BTreeSet<Question>, by: Instant) -> Evidence {
        let mut evidence = Evidence::default();
        let mut rest = BTreeSet::new();
        for question in asked {
            match self.answer(&question) {
                Some(answer) => evidence.insert(question, answer),
                None if self.is_live(&question) => {
                    rest.insert(question);
                }
                None => {
                    let answer = self.absent(&question);
                    evidence.insert(question, answer);
                }
            }
        }
        if let Some(live) = self.live.as_ref().filter(|_| !rest.is_empty()) {
            for (question, answer) in live.gather(rest, by).await {
                self.lock().remember(&question, &answer);
                evidence.insert(question, answer);
            }
        }
        evidence
    }

    fn label(&self, namespace: &str) -> NamespaceLabel {
        match (self.labels.get(namespace), &self.live) {
            (Some(label), _) => mode_of_label(label.as_deref()),
            (None, Some(live)) => live.label(namespace),
            (None, None) => NamespaceLabel::Known(None),
        }
    }
}

/// The data of a Secret, as the API server stores it: what is written as text holds.
fn secret_data(object: &Value) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
    let fields = |key: &str| object.get(key).and_then(Value::as_object);
    let encoded = fields("data").into_iter().flatten();
    let encoded = encoded.filter_map(|(key, value)| {
        let value = BASE64_STANDARD.decode(value.as_str()?).ok()?;
        Some((key.clone(), Zeroizing::new(value)))
    });
    let plain = fields("stringData").into_iter().flatten();
    let plain = plain.filter_map(|(key, value)| {
        let value = value.as_str()?.as_bytes().to_vec();
        Some((key.clone(), Zeroizing::new(value)))
    });
    encoded.chain(plain).collect()
}

/// Whether this is the component of Argo CD that compares Applications with the cluster.
fn is_controller(object: &Value) -> bool {
    let labels = object.pointer("/metadata/labels");
    labels
        .and_then(|labels| labels.get("app.kubernetes.io/name")?.as_str())
        .is_some_and(|name| name == "argocd-application-controller")
}

#[cfg(test)]
mod tests {
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
        files.gather(BTreeSet::from([question]), by).await
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
        let Ok(ImageState::Missing(missing)) = image(&files, &format!("a.b/c@{digest}")).await
        else {
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
}
