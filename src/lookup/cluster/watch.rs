//! The one loop that lists a kind of objects and follows it, and keeps of each what its row says.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::api::ApiResource;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::raw_object::RawObject;
use crate::evidence::ProjectedObject;
use crate::lookup::store::{Collection, Objects, Store};
use crate::objects::ObjectName;
use crate::report::metrics::{Metrics, ResourceLabel};

/// How long one watch request lasts, in seconds. kube drops a connection that has been silent for
/// five seconds more, so this also bounds how long a dead one goes unseen.
pub(crate) const WATCH_SECONDS: u32 = 60;

/// The longest pause of kube's own backoff, should that ever run out.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Objects of one page of a list. Few, as nothing but their number bounds a page, and an object may
/// have 1.5 MiB: a page is held three times over while it is read.
pub(crate) const PAGE: u32 = 25;

/// Lists and follows one kind.
pub(super) struct Watch {
    pub(super) collection: Arc<Collection>,
    pub(super) store: Arc<Store>,
    /// Before a kind that is not served or forbidden is tried again.
    pub(super) retry: Duration,
    pub(super) metrics: Arc<Metrics>,
    /// Hears of the first list, or that there can be none yet.
    pub(super) listed: Option<oneshot::Sender<()>>,
}

// === impl Watch ===

impl Watch {
    /// Goes on for ever.
    pub(super) async fn run(self, client: Client) {
        let collection = Arc::clone(&self.collection);
        self.follow(|version| events(client.clone(), &collection, version))
            .await;
    }

    /// After an error all is listed anew: a watch that resumes in silence could not be told from one
    /// that still fails, and of most objects little is kept.
    async fn follow<S>(mut self, start: impl Fn(&'static str) -> S)
    where
        S: Stream<Item = watcher::Result<Event<RawObject>>>,
    {
        let mut backoff = watcher::DefaultBackoff::default();
        let versions = self.collection.readable().versions;
        let mut version = 0;
        loop {
            let error = self.take_all(start(versions[version])).await;
            let resource = self.collection.kind().resource();
            tracing::debug!(resource, ?error, "the watch has ended");
            let withheld = error.as_ref().and_then(|error| withheld(error, &resource));
            if error
                .as_ref()
                .is_some_and(|error| status_code(error) == 404)
            {
                version = (version + 1) % versions.len();
                if version > 0 {
                    continue;
                }
            }
            let answered = withheld.is_some();
            let ever_listed = self.collection.lose(withheld, Instant::now());
            if answered {
                self.tell();
            }
            // What was listed once is worth more haste: an API server that starts forbids everything
            // for a moment.
            let pause = if answered && !ever_listed {
                Some(self.retry)
            } else {
                backoff.next()
            };
            sleep(pause.unwrap_or(LONGEST_PAUSE)).await;
        }
    }

    /// Takes events until there is an error, or no more.
    async fn take_all<S>(&mut self, events: S) -> Option<watcher::Error>
    where
        S: Stream<Item = watcher::Result<Event<RawObject>>>,
    {
        let mut events = pin!(events);
        let mut listing = Objects::default();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listing.clear(),
                Ok(Event::InitApply(object)) => {
                    let (name, kept) = self.keep(object);
                    listing.set(name, kept);
                }
                Ok(Event::InitDone) => self.replace(std::mem::take(&mut listing)),
                Ok(Event::Apply(object)) => {
                    let (name, kept) = self.keep(object);
                    self.collection.set(name, kept);
                }
                Ok(Event::Delete(object)) => {
                    let name = object.name(self.collection.kind());
                    self.collection.set(name, None);
                }
                Err(error) => return Some(error),
            }
        }
        None
    }

    /// What is kept of an object. Its text and its tree are gone then.
    fn keep(&self, object: RawObject) -> (ObjectName, Option<ProjectedObject>) {
        let kind = self.collection.kind();
        let name = object.name(kind);
        let kept = match object.tree() {
            Ok(tree) => self.collection.project(tree.root()),
            Err(unknown) => Some(Err(Box::new(unknown))),
        };
        if let Some(Err(unknown)) = &kept {
            let resource = kind.resource();
            tracing::warn!(resource, object = %name, %unknown, "what an object says is not known");
            let unreadable = &self.metrics.objects_unreadable;
            unreadable.get_or_create(&ResourceLabel { resource }).inc();
        }
        (name, kept)
    }

    fn replace(&mut self, objects: Objects) {
        let count = objects.len();
        if self.collection.replace(objects) {
            let resource = self.collection.kind().resource();
            tracing::info!(resource, objects = count, "listed and followed");
        }
        self.tell();
    }

    /// Says whether the kind can be listed.
    fn tell(&mut self) {
        let kind = self.collection.kind();
        let resource = kind.resource();
        let available = &self.metrics.kind_available;
        let available = available.get_or_create(&ResourceLabel { resource });
        available.set(i64::from(self.store.is_available(kind)));
        self.listed.take().map(|listed| listed.send(()));
    }
}

/// The events of a kind in one of its versions.
fn events(
    client: Client,
    collection: &Collection,
    version: &str,
) -> impl Stream<Item = watcher::Result<Event<RawObject>>> + Send + use<> {
    let kind = collection.kind();
    let resource = ApiResource {
        group: kind.group.to_owned(),
        version: version.to_owned(),
        api_version: match kind.group {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        },
        kind: kind.kind.to_owned(),
        plural: kind.plural.to_owned(),
    };
    let selector = collection.reads().row().selector;
    let name = collection.reads().name();
    let name = name.map(|name| format!("metadata.name={name}"));
    let fields = name.as_deref().into_iter().chain([selector.fields]);
    let fields: Vec<_> = fields.filter(|fields| !fields.is_empty()).collect();
    let mut config = watcher::Config::default()
        .timeout(WATCH_SECONDS)
        .page_size(PAGE);
    if !selector.labels.is_empty() {
        config = config.labels(selector.labels);
    }
    if !fields.is_empty() {
        config = config.fields(&fields.join(","));
    }
    watcher(Api::all_with(client, &resource), config)
}

/// Why the kind is not shown, where the error is no failure but an answer.
fn withheld(error: &watcher::Error, resource: &str) -> Option<String> {
    match status_code(error) {
        403 => Some(format!(
            "Forestall may not read {resource} (403); grant it list and watch"
        )),
        404 => Some(format!("the API server does not serve {resource} (404)")),
        _ => None,
    }
}

/// The HTTP status that the API server answered; 0 where it did not.
pub(crate) fn status_code(error: &watcher::Error) -> u16 {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status))
        | WatchError(status) => status.code,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::stream::{self, BoxStream};
    use kube::core::Status;
    use serde_json::json;

    use super::*;
    use crate::objects::{NamespaceMode, NodeState, Projection, Reads};
    use crate::unknown::Unknown;

    type Script = Vec<watcher::Result<Event<RawObject>>>;

    fn object(name: &str) -> RawObject {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        serde_json::from_str(&object.to_string()).unwrap()
    }

    fn listed(names: &[&str]) -> Script {
        let objects = names.iter().map(|name| Ok(Event::InitApply(object(name))));
        let mut script = vec![Ok(Event::Init)];
        script.extend(objects);
        script.push(Ok(Event::InitDone));
        script
    }

    fn refused(code: u16) -> watcher::Error {
        watcher::Error::InitialListFailed(kube::Error::Api(Box::new(
            Status::failure("no", "no").with_code(code),
        )))
    }

    /// Follows one script after another; the last one stays open.
    async fn followed<P: Projection>(scripts: Vec<Script>, metrics: &Arc<Metrics>) -> Arc<Store> {
        let store = Arc::new(Store::new(Duration::from_mins(1)));
        let [collection] = &store.open(Reads::all::<P>())[..] else {
            panic!("one kind");
        };
        let (send, receive) = oneshot::channel();
        let scripts = Mutex::new(scripts.into_iter());
        let start = move |_: &'static str| -> BoxStream<'static, _> {
            match scripts.lock().unwrap().next() {
                Some(script) => stream::iter(script).chain(stream::pending()).boxed(),
                None => stream::pending().boxed(),
            }
        };
        let watch = Watch {
            collection: Arc::clone(collection),
            store: Arc::clone(&store),
            retry: Duration::from_millis(10),
            metrics: Arc::clone(metrics),
            listed: Some(send),
        };
        tokio::spawn(watch.follow(start));
        receive.await.unwrap();
        store
    }

    /// Whether there is an object of this name.
    fn has(store: &Store, name: &str) -> Result<bool, Unknown> {
        let found = store.get::<NamespaceMode>(None, name);
        found.map(|found| found.is_some())
    }

    /// Waits until it is so; a test that waits in vain fails.
    async fn until(is: impl Fn() -> bool) {
        let ends = Instant::now() + Duration::from_secs(30);
        while !is() {
            assert!(Instant::now() < ends, "it never came");
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn changes_are_followed() {
        let mut script = listed(&["x", "y"]);
        script.push(Ok(Event::Apply(object("z"))));
        script.push(Ok(Event::Delete(object("x"))));
        let store = followed::<NamespaceMode>(vec![script], &Arc::default()).await;
        until(|| has(&store, "z") == Ok(true) && has(&store, "x") == Ok(false)).await;
        assert_eq!(has(&store, "y"), Ok(true));
    }

    #[tokio::test]
    async fn case_81_a_forbidden_kind_counts_as_listed_and_is_tried_again() {
        let metrics = Arc::new(Metrics::default());
        let available = |value: &str| {
            let line = format!("forestall_kind_available{{resource=\"namespaces\"}} {value}\n");
            metrics.encode().contains(&line)
        };
        for code in [403, 404] {
            let refused_twice = vec![vec![Err(refused(code))], vec![Err(refused(code))]];
            let store = followed::<NamespaceMode>(refused_twice, &metrics).await;
            let reason = has(&store, "x").unwrap_err();
            assert!(
                reason.to_string().contains(&format!("({code})")),
                "{reason}"
            );
            assert!(available("0"), "{}", metrics.encode());
            let scripts = vec![
                vec![Err(refused(code))],
                vec![Err(refused(code))],
                listed(&["x"]),
            ];
            let store = followed::<NamespaceMode>(scripts, &metrics).await;
            until(|| has(&store, "x") == Ok(true)).await;
            assert!(available("1"), "{}", metrics.encode());
        }
    }

    #[tokio::test]
    async fn case_81_after_410_all_is_listed_anew_and_what_is_gone_is_forgotten() {
        let mut script = listed(&["x", "y"]);
        let gone = Status::failure("too old", "Expired").with_code(410);
        script.push(Err(watcher::Error::WatchError(Box::new(gone))));
        let scripts = vec![script, listed(&["y"])];
        let store = followed::<NamespaceMode>(scripts, &Arc::default()).await;
        assert!(has(&store, "x").is_ok());
        until(|| has(&store, "x") == Ok(false) && has(&store, "y") == Ok(true)).await;
    }

    #[tokio::test]
    async fn an_object_that_cannot_be_read_is_unknown_and_counted_and_hides_no_other() {
        let metrics = Arc::new(Metrics::default());
        let deep = format!(
            r#"{{"metadata": {{"name": "deep"}}, "status": {}{}}}"#,
            "[".repeat(5000),
            "]".repeat(5000)
        );
        let mut script = listed(&["x"]);
        let deep = serde_json::from_str(&deep).unwrap();
        script.insert(1, Ok(Event::InitApply(deep)));
        let store = followed::<NodeState>(vec![script], &metrics).await;
        let get = |name| store.get::<NodeState>(None, name);
        assert_eq!(get("x").map(|node| node.is_some()), Ok(true));
        assert!(matches!(get("deep"), Err(Unknown::Unreadable(_))));
        // It may be the one that is looked for.
        assert!(store.find(|_: &NodeState| false).is_err());
        assert_eq!(
            store
                .find(|_: &NodeState| true)
                .unwrap()
                .unwrap()
                .to_string(),
            "x"
        );
        let counted = "forestall_objects_unreadable_total{resource=\"nodes\"} 1\n";
        assert!(metrics.encode().contains(counted), "{}", metrics.encode());
    }
}
