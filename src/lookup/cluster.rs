//! What is seen of the cluster: watches over the few kinds that guardrails ask for.
//!
//! Each kind is listed once and then followed, and only what is asked is kept of each object: of a
//! namespace a label, of a Pod some hashes. Answers come from memory, at once. A kind that cannot be
//! seen makes its answers unknown, and stops nothing else.

pub(super) mod argocd;
mod images;
mod permissions;
mod pull_secrets;
mod watched;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use self::images::Images;
pub use self::permissions::permissions;
use self::pull_secrets::{Named, PullSecrets};
use self::watched::Watched;
pub(crate) use self::watched::{LONGEST_PAUSE, status_code};
use super::MODE_LABEL;
use crate::config::Config;
use crate::evidence::{Platform, Puller, Unknown};
use crate::report::metrics::Metrics;
use crate::rules::Reads;
use crate::rules::catalogue::CATALOGUE;

/// How long one watch request lasts, in seconds. kube drops a connection that has been silent for
/// five seconds more, so this also bounds how long a dead one goes unseen.
pub(crate) const WATCH_SECONDS: u32 = 60;

/// How long the view waits for the API server.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the first list of every kind, before the view counts as ready all the same.
    pub first_list: Duration,
    /// Before a kind that is not served or forbidden is tried again.
    pub retry: Duration,
    /// For which the last state counts after the API server was last heard.
    pub stale: Duration,
    /// Between two looks whether the API server still answers.
    pub pulse: Duration,
}

/// The view. Cheap to clone; the watches end with the last clone.
#[derive(Clone)]
pub struct ClusterView {
    kinds: Arc<Kinds>,
    /// Watched from the start where a guardrail that reads them is on, else from the first question
    /// on: there may be many.
    images: Arc<OnceLock<Images>>,
    client: Client,
    metrics: Arc<Metrics>,
    pull_secrets: Arc<PullSecrets>,
    patience: Patience,
    _tasks: Arc<JoinSet<()>>,
}

/// What is known of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceState {
    /// The namespaces have not been listed, or not been followed for too long.
    NotSynced,
    /// There is none of that name, or it is too new.
    Absent,
    /// It is there, with this value of the mode label.
    Known(Option<String>),
}

/// Everything that is watched.
#[derive(Debug)]
struct Kinds {
    /// When the API server last answered.
    heard: RwLock<Instant>,
    namespaces: Arc<Watched<Option<String>>>,
    definitions: Vec<DefinitionWatched>,
    argocd: Option<ArgoCd>,
}

#[derive(Debug)]
struct DefinitionWatched {
    group: &'static str,
    plural: &'static str,
    spec: Arc<Watched<Arc<Value>>>,
}

#[derive(Debug)]
struct ArgoCd {
    controllers: [Arc<Watched<argocd::Version>>; 2],
    server_side_diff: Arc<Watched<bool>>,
}

/// Starts watches, and remembers who must be waited for.
struct Starter {
    client: Client,
    metrics: Arc<Metrics>,
    retry: Duration,
    tasks: JoinSet<()>,
    first_lists: Vec<oneshot::Receiver<()>>,
}

// === impl Patience ===

impl Default for Patience {
    fn default() -> Self {
        Self {
            first_list: Duration::from_secs(20),
            retry: Duration::from_mins(1),
            stale: Duration::from_mins(1),
            pulse: Duration::from_secs(15),
        }
    }
}

// === impl ClusterView ===

impl ClusterView {
    /// Starts to watch what the catalogue reads, without the images of guardrails that are off. The
    /// future ends when every kind was listed once, or could not be, or after 20 s.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        client: Client,
        metrics: Arc<Metrics>,
        config: &Config,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let mut reads = Vec::new();
        for entry in CATALOGUE {
            let is_on = config.may_be_on(entry.meta.name);
            let wanted = |read: &&Reads| is_on || **read != Reads::Images;
            reads.extend(entry.meta.reads.iter().filter(wanted));
        }
        Self::watch(client, metrics, &reads, Patience::default())
    }

    /// Starts to watch the namespaces and what is named.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn watch(
        client: Client,
        metrics: Arc<Metrics>,
        reads: &[Reads],
        patience: Patience,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let mut starter = Starter::new(client.clone(), Arc::clone(&metrics), patience.retry);
        let kinds = Arc::new(Kinds::start(&mut starter, reads));
        let pull_secrets = Arc::new(PullSecrets::new(client.clone()));
        starter
            .tasks
            .spawn(listen(client.clone(), Arc::clone(&kinds), patience.pulse));
        let mut first_lists = starter.first_lists;
        let images = OnceLock::new();
        if reads.contains(&Reads::Images) {
            let mut starter = Starter::new(client.clone(), Arc::clone(&metrics), patience.retry);
            images.get_or_init(|| Images::start(&mut starter));
            first_lists.append(&mut starter.first_lists);
        }
        let view = Self {
            kinds,
            images: Arc::new(images),
            client,
            metrics,
            pull_secrets,
            patience,
            _tasks: Arc::new(starter.tasks),
        };
        let all = join_all(first_lists);
        let listed = async move {
            if timeout(patience.first_list, all).await.is_err() {
                tracing::warn!("the cluster has not been listed in time; what it knows is unknown");
            }
        };
        (view, listed)
    }

    /// What is known of a namespace.
    #[must_use]
    pub fn namespace(&self, name: &str) -> NamespaceState {
        let label = self.read(&self.kinds.namespaces, |labels| labels.get(name).cloned());
        match label {
            Ok(Some(label)) => NamespaceState::Known(label),
            Ok(None) => NamespaceState::Absent,
            Err(_) => NamespaceState::NotSynced,
        }
    }

    /// The spec of a `CustomResourceDefinition`, without the descriptions in its schemas.
    ///
    /// # Errors
    /// It is not there, or cannot be seen.
    pub fn definition(&self, group: &str, plural: &str) -> Result<Arc<Value>, Unknown> {
        let watched = self
            .kinds
            .definitions
            .iter()
            .find(|watched| watched.group == group && watched.plural == plural)
            .ok_or(Unknown::NotAsked)?;
        let spec = self.read(&watched.spec, |specs| specs.values().next().cloned())?;
        spec.ok_or_else(|| {
            Unknown::Unavailable(format!(
                "the cluster has no CustomResourceDefinition {plural}.{group}"
            ))
        })
    }

    /// The platforms of the nodes.
    ///
    /// # Errors
    /// They have not been listed yet, or cannot be seen.
    pub fn node_platforms(&self) -> Result<BTreeSet<Platform>, Unknown> {
        self.read(&self.images().nodes, |nodes| {
            let platforms = nodes.values().filter_map(|node| node.platform.as_ref());
            platforms.cloned().collect()
        })
    }

    /// The version of Argo CD that runs here.
    ///
    /// # Errors
    /// None is seen, or several.
    pub fn argocd_version(&self) -> Result<String, Unknown> {
        let [stateful, deployed] = &self.argocd()?.controllers;
        let versions = |watched| {
            self.read(watched, |versions: &BTreeMap<String, argocd::Version>| {
                versions.values().cloned().collect::<Vec<_>>()
            })
        };
        match (versions(stateful), versions(deployed)) {
            (Ok(mut versions), Ok(others)) => {
                versions.extend(others);
                argocd::one_version(versions)
            }
            // It can only be one of the two; what is seen of it is enough.
            (Ok(versions), Err(Unknown::Unavailable(reason)))
            | (Err(Unknown::Unavailable(reason)), Ok(versions)) => {
                if versions.is_empty() {
                    Err(Unknown::Unavailable(reason))
                } else {
                    argocd::one_version(versions)
                }
            }
            (Err(unknown), _) | (_, Err(unknown)) => Err(unknown),
        }
    }

    /// Whether `controller.diff.server.side` is true. A cluster that does not say so has Argo CD's
    /// own default, which is no.
    ///
    /// # Errors
    /// The settings cannot be seen, or contradict each other.
    pub fn argocd_server_side_diff(&self) -> Result<bool, Unknown> {
        let watched = &self.argocd()?.server_side_diff;
        let flags: BTreeSet<bool> =
            self.read(watched, |flags| flags.values().copied().collect())?;
        argocd::one_flag(&flags)
    }

    /// The pull secrets of a pod, in the order in which kubelet tries them.
    pub(super) async fn pull_secrets(
        &self,
        puller: &Puller,
        by: Instant,
    ) -> Result<Vec<Named>, Unknown> {
        self.pull_secrets.of(puller, by).await
    }

    fn images(&self) -> &Images {
        self.images.get_or_init(|| {
            let (client, metrics) = (self.client.clone(), Arc::clone(&self.metrics));
            Images::start(&mut Starter::new(client, metrics, self.patience.retry))
        })
    }

    fn argocd(&self) -> Result<&ArgoCd, Unknown> {
        self.kinds.argocd.as_ref().ok_or(Unknown::NotAsked)
    }

    fn read<T, R>(
        &self,
        watched: &Watched<T>,
        look: impl FnOnce(&BTreeMap<String, T>) -> R,
    ) -> Result<R, Unknown> {
        let now = Instant::now();
        let heard = *self
            .kinds
            .heard
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(heard) > self.patience.stale {
            return Err(Unknown::NotSynced);
        }
        watched.read(now, self.patience.stale, look)
    }
}

// === impl Kinds ===

impl Kinds {
    fn start(starter: &mut Starter, reads: &[Reads]) -> Self {
        let mut kinds = Self {
            heard: RwLock::new(Instant::now()),
            namespaces: starter.namespaces(),
            definitions: Vec::new(),
            argocd: None,
        };
        for read in reads {
            match *read {
                Reads::Definition { group, plural } => {
                    let known = |watched: &DefinitionWatched| (watched.group, watched.plural);
                    if kinds
                        .definitions
                        .iter()
                        .all(|other| known(other) != (group, plural))
                    {
                        let spec = starter.definition(group, plural);
                        kinds.definitions.push(DefinitionWatched {
                            group,
                            plural,
                            spec,
                        });
                    }
                }
                Reads::ArgoCd => {
                    kinds.argocd.get_or_insert_with(|| starter.argocd());
                }
                // They may be started later too.
                Reads::Images => {}
            }
        }
        kinds
    }
}

// === impl Starter ===

impl Starter {
    fn new(client: Client, metrics: Arc<Metrics>, retry: Duration) -> Self {
        Self {
            client,
            metrics,
            retry,
            tasks: JoinSet::new(),
            first_lists: Vec::new(),
        }
    }

    /// Namespaces by metadata alone.
    fn namespaces(&mut self) -> Arc<Watched<Option<String>>> {
        let api: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
        let mode =
            |namespace: PartialObjectMeta<Namespace>| namespace.metadata.labels?.remove(MODE_LABEL);
        self.follow("namespaces", move || watcher(api.clone(), config()), mode)
    }

    /// One definition. RBAC can grant this by `resourceNames`, as it is asked for by name.
    fn definition(&mut self, group: &str, plural: &str) -> Arc<Watched<Arc<Value>>> {
        let only = config().fields(&format!("metadata.name={plural}.{group}"));
        let spec = |mut definition: DynamicObject| {
            let mut spec = definition.data["spec"].take();
            forget_descriptions(&mut spec);
            Arc::new(spec)
        };
        let resource = "customresourcedefinitions.apiextensions.k8s.io";
        self.objects::<CustomResourceDefinition, _, _>(resource, only, spec)
    }

    fn argocd(&mut self) -> ArgoCd {
        let labelled = config().labels(argocd::CONTROLLERS);
        let named = config()
            .labels(argocd::PART_OF)
            .fields(&format!("metadata.name={}", argocd::PARAMETERS));
        let version = |controller: DynamicObject| argocd::version(&controller);
        let flag = |parameters: DynamicObject| argocd::server_side_diff(&parameters);
        ArgoCd {
            controllers: [
                self.objects::<StatefulSet, _, _>("statefulsets.apps", labelled.clone(), version),
                self.objects::<Deployment, _, _>("deployments.apps", labelled, version),
            ],
            server_side_diff: self.objects::<ConfigMap, _, _>("configmaps", named, flag),
        }
    }

    /// Objects of kind `K`, read as `O`: one that asks little of their types, for a field of an
    /// unexpected type must not hide all others of the list.
    fn objects<K, O, T>(
        &mut self,
        resource: &'static str,
        config: watcher::Config,
        keep: impl Fn(O) -> T + Send + Sync + 'static,
    ) -> Arc<Watched<T>>
    where
        K: Resource<DynamicType = ()>,
        O: Resource<DynamicType = ApiResource>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
        T: Debug + Send + Sync + 'static,
    {
        let kind = ApiResource::erase::<K>(&());
        let api: Api<O> = Api::all_with(self.client.clone(), &kind);
        self.follow(resource, move || watcher(api.clone(), config.clone()), keep)
    }

    fn follow<K, S, T>(
        &mut self,
        resource: &'static str,
        start: impl Fn() -> S + Send + Sync + 'static,
        keep: impl Fn(K) -> T + Send + Sync + 'static,
    ) -> Arc<Watched<T>>
    where
        K: kube::ResourceExt + Send + Sync + 'static,
        S: futures::Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
        T: Debug + Send + Sync + 'static,
    {
        let watched = Arc::new(Watched::new(resource));
        let (listed, first_list) = oneshot::channel();
        self.first_lists.push(first_list);
        let metrics = Arc::clone(&self.metrics);
        self.tasks
            .spawn(Arc::clone(&watched).follow(start, keep, self.retry, metrics, listed));
        watched
    }
}

fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// Notes when the API server answers. A quiet watch looks like a dead one, so it does not tell.
async fn listen(client: Client, kinds: Arc<Kinds>, pulse: Duration) {
    loop {
        // Any answer will do: whether the view may read is for the watches to find out.
        if let Ok(Ok(_) | Err(kube::Error::Api(_))) =
            timeout(pulse, client.apiserver_version()).await
        {
            *kinds.heard.write().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        sleep(pulse).await;
    }
}

/// Removes the texts for people from the schemas of a definition; they are most of its bytes.
fn forget_descriptions(spec: &mut Value) {
    let versions = spec.get_mut("versions").and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten() {
        if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
            forget_description(schema);
        }
    }
}

/// Goes only where schemas are: a default or an example may have a description of its own.
fn forget_description(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    schema.remove("description");
    for (keyword, value) in schema {
        match (keyword.as_str(), value) {
            ("properties" | "patternProperties" | "definitions", Value::Object(schemas)) => {
                schemas.values_mut().for_each(forget_description);
            }
            ("items" | "additionalProperties" | "not", schema) => forget_description(schema),
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                schemas.iter_mut().for_each(forget_description);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_definition_is_kept_without_texts_for_people() {
        let schema = |text: Value| {
            json!({"type": "object", "description": text, "properties": {
                "description": {"type": "string", "description": text},
                "list": {"items": {"description": text, "default": {"description": "kept"}}},
                "any": {"anyOf": [{"description": text}], "additionalProperties": {"description": text}},
            }})
        };
        let spec = |text| json!({"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema(text)}}]});
        let mut pruned = spec(json!("a text for people"));
        forget_descriptions(&mut pruned);
        let text = pruned.to_string();
        assert!(!text.contains("people"), "{text}");
        assert!(
            text.contains(r#""default":{"description":"kept"}"#),
            "{text}"
        );
        assert!(
            text.contains(r#""properties":{"any""#) && text.contains(r#""description":{"type""#),
            "{text}"
        );
        for odd in [
            json!(null),
            json!({"versions": 1}),
            json!({"versions": [1, {"schema": []}]}),
        ] {
            let mut spec = odd.clone();
            forget_descriptions(&mut spec);
            assert_eq!(spec, odd);
        }
    }
}
