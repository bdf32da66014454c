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

pub use self::evidence_file::{ArgoCdEvidence, EvidenceFile, ImageAnswer, ImageConfigEvidence};
use self::evidence_file::{SERVER_SIDE_DIFF, holdings, node_platforms, repository};
use super::cluster::argocd;
use super::holdings::Holdings;
use super::live::Live;
use super::pull_secrets::Content;
use super::{Lookup, MODE_LABEL, mode_of_label};
use crate::config::{Config, NamespaceLabel};
use crate::evidence::{
    Evidence, Fact, Holder, ImageConfig, ImagePlatforms, ImageState, MemoryRecord, Missing,
    MissingPart, Platform, PullSecret, PullSecretState, Puller, Question, Unknown,
};
use crate::image::{ImageReference, Repository};
use crate::review::puller::DEFAULT_ACCOUNT;
use crate::review::{Door, Subject};
use crate::tree::Node;

/// Answers from files.
#[derive(Default)]
pub struct Files {
    images: BTreeMap<ImageReference, ImageAnswer>,
    tags: BTreeMap<Repository, Arc<Vec<String>>>,
    platforms: BTreeMap<ImageReference, ImagePlatforms>,
    configs: BTreeMap<ImageReference, Arc<ImageConfig>>,
    nodes: Option<BTreeSet<Platform>>,
    /// The images that nodes and Pods have.
    holdings: BTreeMap<Holder, Vec<ImageReference>>,
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
            let Ok(image) = ImageReference::parse(key).map(|image| image.pulled()) else {
                continue;
            };
            if let Some(platforms) = config.platforms() {
                self.platforms.insert(image.clone(), platforms);
            }
            if let Some(config) = config.config() {
                self.configs.insert(image, Arc::new(config));
            }
        }
        self.nodes = node_platforms(&evidence.nodes);
        self.holdings = holdings(&evidence.nodes).collect();
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
    pub fn add(&mut self, object: Node<'_>) {
        let Ok(subject) = Subject::of(object) else {
            return;
        };
        match (subject.group.as_str(), subject.kind.as_str()) {
            ("apiextensions.k8s.io", "CustomResourceDefinition") => self.add_definition(object),
            ("", "Namespace") => {
                let labels = object.at("/metadata/labels");
                let label = labels
                    .and_then(|labels| labels.get(MODE_LABEL)?.as_str())
                    .map(ToOwned::to_owned);
                self.labels.insert(subject.name, label);
            }
            ("", "Secret") => {
                let namespace = subject.namespace.unwrap_or_default();
                let kind = object.text_at("/type").unwrap_or_default();
                let content = Content::read(&namespace, &subject.name, kind, &secret_data(object));
                self.pull_secrets
                    .insert((namespace, subject.name), content.state());
            }
            ("", "ServiceAccount") => {
                let secrets = object.get("imagePullSecrets");
                let names = secrets.into_iter().flat_map(Node::items);
                let names = names.filter_map(|secret| secret.text_at("/name"));
                let names = names.map(ToOwned::to_owned).collect();
                let namespace = subject.namespace.unwrap_or_default();
                self.accounts.insert((namespace, subject.name), names);
            }
            ("", "Node") => self.add_holdings(Holder::Node(subject.name), object),
            ("", "Pod") => {
                let namespace = subject.namespace.unwrap_or_default();
                let name = subject.name;
                self.add_holdings(Holder::Pod { namespace, name }, object);
            }
            ("", "ConfigMap") if subject.name == argocd::PARAMETERS => {
                if let Ok(parameters) = DynamicObject::deserialize(object.to_value()) {
                    let flag = argocd::server_side_diff(&parameters);
                    self.parameters.insert(subject, flag);
                }
            }
            ("apps", "StatefulSet" | "Deployment") if is_controller(object) => {
                if let Ok(controller) = DynamicObject::deserialize(object.to_value()) {
                    let version = argocd::version(&controller);
                    self.controllers.insert(subject, version);
                }
            }
            _ => {}
        }
    }

    fn add_definition(&mut self, object: Node<'_>) {
        let names = [
            object.text_at("/spec/group"),
            object.text_at("/spec/names/plural"),
        ];
        if let ([Some(group), Some(plural)], Some(spec)) = (names, object.get("spec")) {
            let key = (group.to_owned(), plural.to_owned());
            self.definitions.insert(key, Arc::new(spec.to_value()));
        }
    }

    /// What is not as the API server would have it says nothing.
    fn add_holdings(&mut self, holder: Holder, object: Node<'_>) {
        let images = Holdings::deserialize(object.to_value()).map(|holdings| holdings.images());
        self.holdings.insert(holder, images.unwrap_or_default());
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
            Question::ImageConfig { image, .. } => {
                let config = self.configs.get(image);
                config.map(|config| Ok(Fact::ImageConfig(Arc::clone(config))))
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
            holder: self
                .live
                .as_ref()
                .map_or(Ok(None), |live| live.holder(image)),
        }
    }

    /// The answer, with who has a missing image by these files.
    fn held(&self, question: &Question, answer: Result<Fact, Unknown>) -> Result<Fact, Unknown> {
        let (Question::Image { image, .. }, Ok(Fact::Image(ImageState::Missing(missing)))) =
            (question, &answer)
        else {
            return answer;
        };
        let mut holdings = self.holdings.iter();
        let Some((holder, _)) = holdings.find(|(_, images)| images.contains(image)) else {
            return answer;
        };
        Ok(Fact::Image(ImageState::Missing(Missing {
            holder: Ok(Some(holder.clone())),
            ..missing.clone()
        })))
    }

    /// Whether there is somebody to ask: a registry for images, a cluster for all else.
    fn is_live(&self, question: &Question) -> bool {
        self.live.as_ref().is_some_and(|live| match question {
            Question::Image { .. }
            | Question::ImagePlatforms { .. }
            | Question::ImageConfig { .. } => live.registry.is_some(),
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
            Question::Image { .. }
            | Question::ImagePlatforms { .. }
            | Question::ImageConfig { .. } => Err(Unknown::Unavailable(
                "registries are not asked, and no evidence names it".to_owned(),
            )),
            _ => Err(Unknown::NotAsked),
        }
    }
}

impl Lookup for Files {
    async fn gather(&self, asked: BTreeSet<Question>, door: Door, by: Instant) -> Evidence {
        let mut evidence = Evidence::default();
        let mut rest = BTreeSet::new();
        for question in asked {
            match self.answer(&question) {
                Some(answer) => {
                    let answer = self.held(&question, answer);
                    evidence.insert(question, answer);
                }
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
            for (question, answer) in live.gather(rest, door, by).await {
                let answer = self.held(&question, answer);
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
fn secret_data(object: Node<'_>) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
    let fields = |key: &str| object.get(key).into_iter().flat_map(Node::entries);
    let encoded = fields("data");
    let encoded = encoded.filter_map(|(key, value)| {
        let value = BASE64_STANDARD.decode(value.as_str()?).ok()?;
        Some((key.to_owned(), Zeroizing::new(value)))
    });
    let plain = fields("stringData");
    let plain = plain.filter_map(|(key, value)| {
        let value = value.as_str()?.as_bytes().to_vec();
        Some((key.to_owned(), Zeroizing::new(value)))
    });
    encoded.chain(plain).collect()
}

/// Whether this is the component of Argo CD that compares Applications with the cluster.
fn is_controller(object: Node<'_>) -> bool {
    let labels = object.at("/metadata/labels");
    labels
        .and_then(|labels| labels.get("app.kubernetes.io/name")?.as_str())
        .is_some_and(|name| name == "argocd-application-controller")
}

#[cfg(test)]
mod tests;
