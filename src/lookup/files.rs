//! The facts in files: other manifests and the evidence file of `forestall check`.
//!
//! What the files do not hold is asked of a live lookup, where there is one.

mod evidence_file;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use self::evidence_file::{ArgoCdEvidence, EvidenceFile, ImageAnswer, ImageConfigEvidence};
use self::evidence_file::{node_states, repository};
use super::live::Live;
use super::made_secret::MadeSecret;
use super::store::{Collection, Store};
use super::{Lookup, mode_of_label};
use crate::config::{Config, NamespaceLabel};
use crate::evidence::{
    ConfigOf, Evidence, ImageConfig, ImagePlatforms, ImageState, Listed, Listing, MemoryHistory,
    MemoryOf, Missing, MissingPart, ObjectQuestion, ObjectsOf, PlatformsOf, PresenceOf, PullSecret,
    PullSecretState, PullSecretsOf, Puller, Questions,
};
use crate::image::{ImageReference, Repository};
use crate::objects::{
    ArgoCdController, ArgoCdParameters, DEFAULT_NAMESPACE, NamespaceMode, NodeState, ObjectName,
    PARAMETERS, Projection, ROWS, Reads, Row, SERVER_SIDE_DIFF, ServiceAccount, is_true,
};
use crate::review::puller::DEFAULT_ACCOUNT;
use crate::review::{Door, Subject};
use crate::tree::Node;
use crate::unknown::Unknown;

/// Answers from files.
pub struct Files {
    images: BTreeMap<ImageReference, ImageAnswer>,
    tags: BTreeMap<Repository, Arc<Vec<String>>>,
    platforms: BTreeMap<ImageReference, ImagePlatforms>,
    configs: BTreeMap<ImageReference, Arc<ImageConfig>>,
    memory: Option<MemoryHistory>,
    /// What manifests show.
    store: Store,
    /// The namespace of objects that name none.
    namespace: String,
    /// What is configured or given as evidence: it holds over what manifests show.
    stated: Vec<Stated>,
    live: Option<Live>,
    learnt: Mutex<EvidenceFile>,
    /// The registries whose "denied" holds for nodes, too.
    trusts_denied: BTreeSet<String>,
}

/// All objects of a row, as somebody states them.
struct Stated {
    row: &'static Row,
    listing: Listing,
}

/// What the files say, and what they leave to others.
struct Answered {
    known: Evidence,
    rest: Questions,
}

/// The same for questions of one type.
struct Sorted<Q, A> {
    known: BTreeMap<Q, Result<A, Unknown>>,
    rest: BTreeSet<Q>,
}

impl Default for Files {
    fn default() -> Self {
        // Files do not grow stale.
        let store = Store::new(Duration::MAX);
        let rows = ROWS
            .iter()
            .copied()
            .chain([Row::of::<PullSecretState>(), Row::of::<MadeSecret>()]);
        for row in rows {
            for collection in store.open(Reads::whole(row)) {
                collection.settle(false);
            }
        }
        Self {
            images: BTreeMap::new(),
            tags: BTreeMap::new(),
            platforms: BTreeMap::new(),
            configs: BTreeMap::new(),
            memory: None,
            store,
            namespace: DEFAULT_NAMESPACE.to_owned(),
            stated: Vec::new(),
            live: None,
            learnt: Mutex::default(),
            trusts_denied: BTreeSet::new(),
        }
    }
}

impl Files {
    /// Knows what the operator configured, and the evidence where some is given.
    #[must_use]
    pub fn new(config: &Config, evidence: Option<EvidenceFile>) -> Self {
        let trusting = config.registries.iter();
        let trusting = trusting.filter(|(_, settings)| settings.trust_denied);
        let mut files = Self {
            trusts_denied: trusting.map(|(host, _)| host.clone()).collect(),
            ..Self::default()
        };
        if let Some(version) = &config.argocd.version {
            let version = Ok(version.0.clone());
            files.state("argocd.version", ArgoCdController { version });
        }
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
        self.add_nodes(&evidence);
        self.memory = Some(evidence.memory.clone());
        if let Some(version) = &evidence.argocd.version {
            let version = Ok(version.0.clone());
            self.state("argocd.version", ArgoCdController { version });
        }
        if let Some(parameters) = &evidence.argocd.cmd_params {
            let value = parameters.get(SERVER_SIDE_DIFF);
            let server_side_diff = value.is_some_and(|value| is_true(&value.0));
            self.state(PARAMETERS, ArgoCdParameters { server_side_diff });
        }
        self.learnt = Mutex::new(evidence);
    }

    /// The nodes of the evidence are all that there are, if each says its platform.
    fn add_nodes(&mut self, evidence: &EvidenceFile) {
        let nodes: Vec<_> = node_states(&evidence.nodes).collect();
        let say_all = nodes.iter().all(|(_, node)| node.platform.is_some());
        let is_of_nodes = |open: &Collection| open.reads().row() == Row::of::<NodeState>();
        for collection in self.store.collections(is_of_nodes) {
            for (name, node) in &nodes {
                let name = ObjectName::new(collection.kind(), None, name);
                collection.set(name, Some(Ok(Arc::new(node.clone()))));
            }
            collection.settle(say_all && !nodes.is_empty());
        }
    }

    /// Takes an object for all that there are of its row, whatever manifests show. What was stated
    /// first holds.
    fn state<P: Projection>(&mut self, name: &str, object: P) {
        let row = Row::of::<P>();
        if self.stated.iter().all(|stated| stated.row != row) {
            let listing = Listing::of([(name, object)]);
            self.stated.push(Stated { row, listing });
        }
    }

    /// Takes the files as the whole cluster: an object that is not among them does not exist.
    ///
    /// Images stay unknown: they are in registries, not in the cluster. So do nodes, which nobody
    /// writes into files; evidence may list them.
    #[must_use]
    pub fn complete(self) -> Self {
        let node = Row::of::<NodeState>();
        for collection in self.store.collections(|open| open.reads().row() != node) {
            collection.settle(true);
        }
        self
    }

    /// The namespace of objects that name none.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
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
        if let Ok(subject) = Subject::of(object) {
            let namespace = &self.namespace;
            self.store
                .add(&subject.group, &subject.kind, object, namespace);
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

    /// What the files say, and what is to be asked of others.
    fn answer(&self, asked: Questions) -> Answered {
        let Questions {
            presence,
            platforms,
            configs,
            pull_secrets,
            memory,
            objects,
        } = asked;
        let live = self.live.as_ref();
        let registry = live.is_some_and(|live| live.registry.is_some());
        let cluster = live.is_some_and(|live| live.cluster.is_some());
        let offline =
            Unknown::Unavailable("registries are not asked, and no evidence names it".to_owned());
        let presence = Sorted::of(presence, registry, &offline, |PresenceOf(pull)| {
            self.presence(&pull.image)
        });
        let platforms = Sorted::of(platforms, registry, &offline, |PlatformsOf(pull)| {
            self.platforms.get(&pull.image).cloned().map(Ok)
        });
        let configs = Sorted::of(configs, registry, &offline, |ConfigOf(pull)| {
            self.configs.get(&pull.image).cloned().map(Ok)
        });
        let not_asked = &Unknown::NotAsked;
        let pull_secrets = Sorted::of(pull_secrets, cluster, not_asked, |PullSecretsOf(puller)| {
            self.pull_secrets(puller).map(Ok)
        });
        let memory = Sorted::of(memory, cluster, not_asked, |asked: &MemoryOf| {
            let history = self.memory.as_ref()?;
            Some(Ok(history.of(&asked.namespace, &asked.owner)))
        });
        let objects = Sorted::of(objects, cluster, not_asked, |question| {
            let answer = self.objects(question);
            let is_whole = |listing: &Listing| !cluster || listing.is_whole(question);
            Some(answer).filter(|answer| answer.as_ref().is_ok_and(is_whole))
        });
        Answered {
            known: Evidence {
                presence: presence.known,
                platforms: platforms.known,
                configs: configs.known,
                pull_secrets: pull_secrets.known,
                memory: memory.known,
                objects: objects.known,
            },
            rest: Questions {
                presence: presence.rest,
                platforms: platforms.rest,
                configs: configs.rest,
                pull_secrets: pull_secrets.rest,
                memory: memory.rest,
                objects: objects.rest,
            },
        }
    }

    fn objects(&self, question: &ObjectQuestion) -> Result<Listing, Unknown> {
        let mut stated = self.stated.iter();
        match stated.find(|stated| stated.row == question.row()) {
            Some(stated) => Ok(stated.listing.clone()),
            None => self.store.answer(question),
        }
    }

    /// What the cluster shows, with the objects of the files in place of those that they replace.
    fn over_live(
        &self,
        question: &ObjectQuestion,
        live: Result<Listing, Unknown>,
    ) -> Result<Listing, Unknown> {
        let mut listing = self.objects(question)?;
        match live {
            Ok(live) => {
                let others = live.objects.into_iter();
                let others = others.filter(|other| !self.has(question.row(), other));
                listing.objects.extend(others);
                listing.rest = live.rest;
            }
            Err(unknown) => listing.rest = Err(unknown),
        }
        Ok(listing)
    }

    fn has(&self, row: &Row, other: &Listed) -> bool {
        let holds = |open: &Collection| {
            open.reads().row() == row && open.kind() == other.kind && open.has(&other.name)
        };
        !self.store.collections(holds).is_empty()
    }

    fn pull_secrets(&self, puller: &Puller) -> Option<Vec<PullSecret>> {
        let namespace = Some(puller.namespace.as_str());
        let named = if puller.named.is_empty() {
            self.pull_secrets_of_account(puller)?
        } else {
            puller.named.clone()
        };
        let named = named.into_iter().filter(|name| !name.is_empty());
        let secrets = named.map(|name| {
            // What it will hold is only known to whoever makes it.
            let state = if self.is_made(&puller.namespace, &name) {
                PullSecretState::Usable
            } else {
                let state = self.store.get::<PullSecretState>(namespace, &name).ok()?;
                state.map_or(PullSecretState::Absent, Arc::unwrap_or_clone)
            };
            Some(PullSecret { name, state })
        });
        secrets.collect()
    }

    fn is_made(&self, namespace: &str, secret: &str) -> bool {
        let question = ObjectsOf::<MadeSecret>::in_namespace(namespace).into();
        let found = self.store.answer(&question);
        let found = found.iter().flat_map(|listing| &listing.objects);
        let mut made = found.filter_map(|listed| listed.kept.as_ref().ok()?.downcast_ref());
        made.any(|MadeSecret(name)| **name == *secret)
    }

    fn pull_secrets_of_account(&self, puller: &Puller) -> Option<Vec<String>> {
        let (namespace, name) = (&puller.namespace, &puller.service_account);
        let account = self.store.get::<ServiceAccount>(Some(namespace), name);
        match account.ok()? {
            Some(account) => {
                let names = account.pull_secrets.iter();
                Some(names.map(|name| name.clone().into_string()).collect())
            }
            // Every namespace has one of that name, which names none unless somebody changes it.
            None => (name == DEFAULT_ACCOUNT).then(Vec::new),
        }
    }

    fn presence(&self, image: &ImageReference) -> Option<Result<ImageState, Unknown>> {
        let unknown = |why: &str| {
            Err(Unknown::Registry {
                host: image.repository.domain.clone(),
                why: why.to_owned(),
                answered_before: false,
            })
        };
        Some(match self.images.get(image)? {
            ImageAnswer::Exists => Ok(ImageState::Exists),
            ImageAnswer::Schema1 => Ok(ImageState::Schema1),
            ImageAnswer::Missing => Ok(ImageState::Missing(self.missing(image))),
            ImageAnswer::MissingRepository => Ok(ImageState::Missing(Missing {
                what: MissingPart::Repository,
                ..self.missing(image)
            })),
            ImageAnswer::Denied if self.trusts_denied.contains(&image.repository.domain) => {
                Ok(ImageState::Denied {
                    asked: "the evidence".to_owned(),
                })
            }
            ImageAnswer::Denied => unknown("access is denied, says the evidence"),
            ImageAnswer::Unknown => unknown("no answer, says the evidence"),
        })
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

    /// Adds who has a missing image by these files.
    fn add_holders(&self, evidence: &mut Evidence) {
        for (PresenceOf(pull), answer) in &mut evidence.presence {
            if let Ok(ImageState::Missing(missing)) = answer {
                let mut holders = self.store.holders(&pull.image).into_iter();
                let holder = holders.find_map(|found| found.ok().flatten());
                if holder.is_some() {
                    missing.holder = Ok(holder);
                }
            }
        }
    }
}

impl Lookup for Files {
    async fn gather(&self, asked: Questions, door: Door, by: Instant) -> Evidence {
        let Answered { mut known, rest } = self.answer(asked);
        self.add_holders(&mut known);
        if let Some(live) = self.live.as_ref().filter(|_| !rest.is_empty()) {
            let mut learnt = live.gather(rest, door, by).await;
            self.add_holders(&mut learnt);
            let objects = std::mem::take(&mut learnt.objects).into_iter();
            learnt.objects = objects
                .map(|(question, answer)| {
                    let answer = self.over_live(&question, answer);
                    (question, answer)
                })
                .collect();
            self.lock().remember(&learnt);
            known.append(learnt);
        }
        known
    }

    fn label(&self, namespace: &str) -> NamespaceLabel {
        let seen = self.store.get::<NamespaceMode>(None, namespace);
        match (seen, &self.live) {
            (Ok(Some(seen)), _) => mode_of_label(seen.0.as_deref()),
            (_, Some(live)) => live.label(namespace),
            (_, None) => NamespaceLabel::Known(None),
        }
    }
}

// === impl Sorted ===

impl<Q: Ord, A> Sorted<Q, A> {
    /// What is known by files; if not, others are asked where there are any, else it stays unknown.
    fn of(
        asked: BTreeSet<Q>,
        is_live: bool,
        otherwise: &Unknown,
        answer: impl Fn(&Q) -> Option<Result<A, Unknown>>,
    ) -> Self {
        let mut sorted = Self {
            known: BTreeMap::new(),
            rest: BTreeSet::new(),
        };
        for question in asked {
            match answer(&question) {
                Some(answer) => {
                    sorted.known.insert(question, answer);
                }
                None if is_live => {
                    sorted.rest.insert(question);
                }
                None => {
                    sorted.known.insert(question, Err(otherwise.clone()));
                }
            }
        }
        sorted
    }
}

#[cfg(test)]
mod tests;
