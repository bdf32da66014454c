//! The facts in files: other manifests and the evidence file of `forestall check`.
//!
//! What the files do not hold is asked of a live lookup, where there is one.

mod evidence_file;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::time::Instant;

pub use self::evidence_file::{ArgoCdEvidence, EvidenceFile, ImageAnswer};
use self::evidence_file::{SERVER_SIDE_DIFF, repository};
use super::live::Live;
use super::{Lookup, MODE_LABEL, mode_of_label};
use crate::config::{Config, NamespaceLabel};
use crate::evidence::{
    Evidence, Fact, ImageState, MemoryRecord, Missing, MissingPart, Question, Unknown,
};
use crate::review::image::{ImageReference, Repository};
use crate::review::{Subject, text};

/// Answers from files.
#[derive(Default)]
pub struct Files {
    images: BTreeMap<ImageReference, ImageAnswer>,
    tags: BTreeMap<Repository, Arc<Vec<String>>>,
    memory: Option<Arc<Vec<MemoryRecord>>>,
    definitions: BTreeMap<(String, String), Arc<Value>>,
    labels: BTreeMap<String, Option<String>>,
    /// Configured or given as evidence; holds over what manifests show.
    argocd_version: Option<String>,
    server_side_diff: Option<bool>,
    seen_version: Option<String>,
    seen_diff: Option<bool>,
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
            ("", "ConfigMap") if subject.name == "argocd-cmd-params-cm" => {
                let data = object.pointer("/data");
                let value = data.and_then(|data| data.get(SERVER_SIDE_DIFF)?.as_str());
                self.seen_diff = Some(value == Some("true"));
            }
            ("apps", "StatefulSet") => {
                if let Some(version) = argocd_version(object) {
                    self.seen_version = Some(version);
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
            Question::Image(image) => self.image(image),
            Question::Definition { group, plural } => {
                let spec = self.definitions.get(&(group.clone(), plural.clone()));
                spec.map(|spec| Ok(Fact::Definition(Arc::clone(spec))))
            }
            Question::ArgoCdVersion => {
                let version = self.argocd_version.as_ref().or(self.seen_version.as_ref());
                version.map(|version| Ok(Fact::Version(version.clone())))
            }
            Question::ArgoCdServerSideDiff => {
                let flag = self.server_side_diff.or(self.seen_diff);
                flag.map(|flag| Ok(Fact::Flag(flag)))
            }
            Question::MemoryHistory => {
                let rows = self.memory.as_ref();
                rows.map(|rows| Ok(Fact::Memory(Arc::clone(rows))))
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
            Question::Image(_) => live.registry.is_some(),
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
            Question::Image(_) => Err(Unknown::Unavailable(
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

/// The version in the image tag of Argo CD's application controller.
fn argocd_version(stateful_set: &Value) -> Option<String> {
    let name = text(stateful_set, "/metadata/name")?;
    if !name.ends_with("argocd-application-controller") {
        return None;
    }
    let containers = stateful_set.pointer("/spec/template/spec/containers")?;
    let images = containers.as_array()?.iter();
    images
        .filter_map(|container| ImageReference::parse(text(container, "/image")?).ok())
        .find(|image| image.repository.path.ends_with("argocd"))?
        .tag
}
