//! What is seen of the cluster: watches over the few kinds that guardrails ask for.
//!
//! Each kind is listed once and then followed, and only what is asked is kept of each object: of a
//! namespace a label, of a Pod some hashes. Answers come from memory, at once. A kind that cannot be
//! seen makes its answers unknown, and stops nothing else.

mod permissions;
mod pull_secrets;
mod raw_object;
mod watch;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use kube::Client;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

pub use self::permissions::permissions;
use self::pull_secrets::{Named, PullSecrets};
use self::watch::Watch;
pub(crate) use self::watch::{LONGEST_PAUSE, PAGE, WATCH_SECONDS, status_code};
use super::store::Store;
use crate::config::Config;
use crate::evidence::{Holder, Listing, ObjectQuestion, Puller};
use crate::image::ImageReference;
use crate::objects::{NamespaceMode, NodeState, PodImages, Reads};
use crate::report::metrics::Metrics;
use crate::rules::Meta;
use crate::rules::catalogue::CATALOGUE;
use crate::unknown::Unknown;

/// The view itself reads the labels of namespaces.
const NAMESPACES: Reads = Reads::all::<NamespaceMode>();

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
pub struct ClusterView(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    /// All that may be read. What is not watched from the start is watched from the first question on:
    /// the guardrail that asks was off then.
    readable: Vec<Reads>,
    client: Client,
    metrics: Arc<Metrics>,
    pull_secrets: PullSecrets,
    patience: Patience,
    tasks: Mutex<JoinSet<()>>,
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
    /// Starts to watch what the guardrails read that are on somewhere. The future ends when every kind
    /// was listed once, or could not be, or after 20 s.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        client: Client,
        metrics: Arc<Metrics>,
        config: &Config,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let reads = CATALOGUE.iter().flat_map(|meta: &&Meta| {
            let is_on = config.may_be_on(meta.name);
            meta.reads.iter().map(move |reads| (is_on, *reads))
        });
        let (now, later): (Vec<_>, Vec<_>) =
            reads.partition(|(is_on, reads)| *is_on && !reads.is_on_demand());
        let [now, later] = [now, later].map(|reads| {
            reads
                .into_iter()
                .map(|(_, reads)| reads)
                .collect::<Vec<_>>()
        });
        Self::watch(client, metrics, &now, &later, Patience::default())
    }

    /// Starts to watch the namespaces and what is to be read now; what is to be read later is watched
    /// when it is first asked for.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn watch(
        client: Client,
        metrics: Arc<Metrics>,
        now: &[Reads],
        later: &[Reads],
        patience: Patience,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let inner = Inner {
            store: Arc::new(Store::new(patience.stale)),
            readable: now.iter().chain(later).copied().collect(),
            pull_secrets: PullSecrets::new(client.clone()),
            client,
            metrics,
            patience,
            tasks: Mutex::default(),
        };
        let (client, store) = (inner.client.clone(), Arc::clone(&inner.store));
        inner.spawn(listen(client, store, patience.pulse));
        // What is read by name only may be among all of its kind, which is watched then.
        let (named, all): (Vec<_>, Vec<_>) = now.iter().partition(|reads| reads.name().is_some());
        let first_lists = [NAMESPACES]
            .into_iter()
            .chain(all.into_iter().chain(named).copied());
        let first_lists: Vec<_> = first_lists.flat_map(|reads| inner.open(reads)).collect();
        let listed = async move {
            let all = join_all(first_lists);
            if timeout(patience.first_list, all).await.is_err() {
                tracing::warn!("the cluster has not been listed in time; what it knows is unknown");
            }
        };
        (Self(Arc::new(inner)), listed)
    }

    /// What is known of a namespace.
    #[must_use]
    pub fn namespace(&self, name: &str) -> NamespaceState {
        match self.0.store.get::<NamespaceMode>(None, name) {
            Ok(Some(namespace)) => {
                let label = namespace.0.as_deref().map(ToOwned::to_owned);
                NamespaceState::Known(label)
            }
            Ok(None) => NamespaceState::Absent,
            Err(_) => NamespaceState::NotSynced,
        }
    }

    /// The objects that are asked for.
    ///
    /// # Errors
    /// [`Unknown::NotAsked`] where no guardrail reads them.
    pub fn objects(&self, question: &ObjectQuestion) -> Result<Listing, Unknown> {
        for reads in &self.0.readable {
            if question.is_read_by(reads) {
                drop(self.0.open(*reads));
            }
        }
        self.0.store.answer(question)
    }

    /// Who has an image without a registry, of those that can be seen: what Forestall may not list
    /// has none.
    ///
    /// # Errors
    /// Somebody may have it: not all have been listed yet.
    pub fn holder(&self, image: &ImageReference) -> Result<Option<Holder>, Unknown> {
        self.0.open(Reads::all::<NodeState>());
        self.0.open(Reads::all::<PodImages>());
        let mut may_be_there = None;
        for seen in self.0.store.holders(image) {
            match seen {
                Ok(Some(holder)) => return Ok(Some(holder)),
                Ok(None) => {}
                Err(unknown) if unknown.is_lasting() => {}
                Err(unknown) => may_be_there = Some(unknown),
            }
        }
        may_be_there.map_or(Ok(None), Err)
    }

    /// The pull secrets of a pod, in the order in which kubelet tries them.
    pub(super) async fn pull_secrets(
        &self,
        puller: &Puller,
        by: Instant,
    ) -> Result<Vec<Named>, Unknown> {
        self.0.pull_secrets.of(puller, by).await
    }
}

// === impl Inner ===

impl Inner {
    /// Watches what is read, unless it is watched already. Each of the receivers hears of the first
    /// list of a kind.
    fn open(&self, reads: Reads) -> Vec<oneshot::Receiver<()>> {
        let opened = self.store.open(reads).into_iter();
        let watches = opened.map(|collection| {
            let (listed, first_list) = oneshot::channel();
            let watch = Watch {
                collection,
                store: Arc::clone(&self.store),
                retry: self.patience.retry,
                metrics: Arc::clone(&self.metrics),
                listed: Some(listed),
            };
            self.spawn(watch.run(self.client.clone()));
            first_list
        });
        watches.collect()
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn(task);
    }
}

/// Notes when the API server answers. A quiet watch looks like a dead one, so it does not tell.
async fn listen(client: Client, store: Arc<Store>, pulse: Duration) {
    loop {
        // Any answer will do: whether the view may read is for the watches to find out.
        if let Ok(Ok(_) | Err(kube::Error::Api(_))) =
            timeout(pulse, client.apiserver_version()).await
        {
            store.hear();
        }
        sleep(pulse).await;
    }
}
