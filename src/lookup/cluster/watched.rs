//! One kind of objects: listed, then followed, with only what is asked kept of each.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::ResourceExt;
use kube::runtime::watcher::{self, Event};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::evidence::Unknown;
use crate::report::metrics::{Metrics, ResourceLabel};

/// The longest pause of kube's own backoff, should that ever run out.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What was last seen of a kind.
#[derive(Debug)]
pub(super) struct Watched<T> {
    resource: &'static str,
    seen: RwLock<Seen<T>>,
}

/// Objects by `namespace/name`, or by name where they have no namespace.
#[derive(Debug)]
struct Seen<T> {
    objects: BTreeMap<String, T>,
    health: Health,
}

/// How far the objects can be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Health {
    /// No list has ended yet.
    Waiting,
    /// The API server does not show this kind, for this reason.
    Withheld(String),
    /// Listed, and followed since.
    Followed,
    /// Listed once, but the watch fails since then; the reason where it is withheld now.
    Lost {
        since: Instant,
        withheld: Option<String>,
    },
}

// === impl Watched ===

impl<T> Watched<T> {
    pub(super) fn new(resource: &'static str) -> Self {
        let seen = Seen {
            objects: BTreeMap::new(),
            health: Health::Waiting,
        };
        Self {
            resource,
            seen: RwLock::new(seen),
        }
    }

    /// Looks at the objects, where they are known, or were until less than `stale` ago.
    pub(super) fn read<R>(
        &self,
        now: Instant,
        stale: Duration,
        look: impl FnOnce(&BTreeMap<String, T>) -> R,
    ) -> Result<R, Unknown> {
        let seen = self.seen();
        match &seen.health {
            Health::Followed => Ok(look(&seen.objects)),
            Health::Lost { since, .. } if now.duration_since(*since) <= stale => {
                Ok(look(&seen.objects))
            }
            Health::Withheld(reason)
            | Health::Lost {
                withheld: Some(reason),
                ..
            } => Err(Unknown::Unavailable(reason.clone())),
            Health::Waiting | Health::Lost { withheld: None, .. } => Err(Unknown::NotSynced),
        }
    }

    /// Lists and follows for ever. `listed` hears of the first list, or that there can be none yet.
    ///
    /// After an error all is listed anew: a watch that resumes in silence could not be told from one
    /// that still fails, and these lists are short.
    pub(super) async fn follow<K, S>(
        self: Arc<Self>,
        start: impl Fn() -> S,
        keep: impl Fn(K) -> T,
        retry: Duration,
        metrics: Arc<Metrics>,
        listed: oneshot::Sender<()>,
    ) where
        K: ResourceExt,
        S: Stream<Item = watcher::Result<Event<K>>>,
    {
        let mut listed = Some(listed);
        let mut backoff = watcher::DefaultBackoff::default();
        loop {
            let mut events = pin!(start());
            let mut listing = BTreeMap::new();
            let error = loop {
                match events.next().await {
                    Some(Ok(Event::InitDone)) => {
                        self.replace(std::mem::take(&mut listing));
                        self.available(&metrics, true);
                        listed.take().map(|listed| listed.send(()));
                    }
                    Some(Ok(Event::Init)) => listing.clear(),
                    Some(Ok(Event::InitApply(object))) => {
                        listing.insert(key(&object), keep(object));
                    }
                    Some(Ok(Event::Apply(object))) => {
                        self.write().objects.insert(key(&object), keep(object));
                    }
                    Some(Ok(Event::Delete(object))) => {
                        self.write().objects.remove(&key(&object));
                    }
                    Some(Err(error)) => break Some(error),
                    None => break None,
                }
            };
            let withheld = error.as_ref().and_then(|error| self.withheld(error));
            tracing::debug!(resource = self.resource, ?error, "the watch has ended");
            let answered = withheld.is_some();
            let ever_listed = self.lose(withheld, Instant::now());
            if answered {
                self.available(&metrics, false);
                listed.take().map(|listed| listed.send(()));
            }
            // What was listed once is worth more haste: an API server that starts forbids everything
            // for a moment.
            let pause = if answered && !ever_listed {
                Some(retry)
            } else {
                backoff.next()
            };
            sleep(pause.unwrap_or(LONGEST_PAUSE)).await;
        }
    }

    /// Why the kind is not shown, where the error is no failure but an answer.
    fn withheld(&self, error: &watcher::Error) -> Option<String> {
        let resource = self.resource;
        match status_code(error) {
            403 => Some(format!(
                "Forestall may not read {resource} (403); grant it list and watch"
            )),
            404 => Some(format!("the API server does not serve {resource} (404)")),
            _ => None,
        }
    }

    fn replace(&self, objects: BTreeMap<String, T>) {
        let mut seen = self.write();
        if seen.health != Health::Followed {
            tracing::info!(
                resource = self.resource,
                objects = objects.len(),
                "listed and followed"
            );
        }
        *seen = Seen {
            objects,
            health: Health::Followed,
        };
    }

    /// Notes that the watch has ended. True where there was ever a list.
    fn lose(&self, withheld: Option<String>, now: Instant) -> bool {
        let mut seen = self.write();
        let since = match &seen.health {
            Health::Waiting | Health::Withheld(_) => None,
            Health::Followed => Some(now),
            Health::Lost { since, .. } => Some(*since),
        };
        let before = seen.health.clone();
        match (since, withheld) {
            (Some(since), withheld) => seen.health = Health::Lost { since, withheld },
            (None, Some(reason)) => seen.health = Health::Withheld(reason),
            (None, None) => {}
        }
        if before != seen.health {
            tracing::warn!(resource = self.resource, health = ?seen.health, "not followed");
        }
        since.is_some()
    }

    fn available(&self, metrics: &Metrics, available: bool) {
        let label = ResourceLabel {
            resource: self.resource.to_owned(),
        };
        metrics
            .kind_available
            .get_or_create(&label)
            .set(i64::from(available));
    }

    fn seen(&self) -> RwLockReadGuard<'_, Seen<T>> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Seen<T>> {
        self.seen.write().unwrap_or_else(PoisonError::into_inner)
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

fn key(object: &impl ResourceExt) -> String {
    match object.namespace() {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::stream::{self, BoxStream};
    use kube::api::DynamicObject;
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    const STALE: Duration = Duration::from_mins(1);

    type Script = Vec<watcher::Result<Event<DynamicObject>>>;

    fn object(name: &str) -> DynamicObject {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
                            "metadata": {"namespace": "a", "name": name}});
        serde_json::from_value(object).unwrap()
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
    async fn followed(scripts: Vec<Script>, metrics: &Arc<Metrics>) -> Arc<Watched<u8>> {
        let watched = Arc::new(Watched::new("configmaps"));
        let (send, receive) = oneshot::channel();
        let scripts = Mutex::new(scripts.into_iter());
        let start = move || -> BoxStream<'static, _> {
            match scripts.lock().unwrap().next() {
                Some(script) => stream::iter(script).chain(stream::pending()).boxed(),
                None => stream::pending().boxed(),
            }
        };
        let retry = Duration::from_millis(10);
        let follow = Arc::clone(&watched).follow(start, |_| 1, retry, Arc::clone(metrics), send);
        tokio::spawn(follow);
        receive.await.unwrap();
        watched
    }

    fn names<T>(watched: &Watched<T>, now: Instant) -> Result<Vec<String>, Unknown> {
        watched.read(now, STALE, |objects| objects.keys().cloned().collect())
    }

    /// Waits until it is so; a test that waits in vain fails.
    async fn until(is: impl Fn() -> bool) {
        let ends = Instant::now() + Duration::from_secs(30);
        while !is() {
            assert!(Instant::now() < ends, "it never came");
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[test]
    fn case_82_what_is_lost_counts_for_a_while_and_then_is_unknown() {
        let watched = Watched::new("namespaces");
        let start = Instant::now();
        assert_eq!(names(&watched, start), Err(Unknown::NotSynced));
        watched.replace(BTreeMap::from([("a".to_owned(), 1)]));
        assert!(watched.lose(None, start));
        // Failing again does not make it any fresher.
        assert!(watched.lose(None, start + STALE));
        assert_eq!(names(&watched, start + STALE), Ok(vec!["a".to_owned()]));
        let late = start + STALE + Duration::from_millis(1);
        assert_eq!(names(&watched, late), Err(Unknown::NotSynced));
        watched.lose(Some("forbidden".to_owned()), late);
        assert_eq!(
            names(&watched, late),
            Err(Unknown::Unavailable("forbidden".to_owned()))
        );
        watched.replace(BTreeMap::new());
        assert_eq!(names(&watched, late), Ok(vec![]));
    }

    #[tokio::test]
    async fn changes_are_followed() {
        let mut script = listed(&["x", "y"]);
        script.push(Ok(Event::Apply(object("z"))));
        script.push(Ok(Event::Delete(object("x"))));
        let watched = followed(vec![script], &Arc::default()).await;
        until(|| names(&watched, Instant::now()) == Ok(vec!["a/y".to_owned(), "a/z".to_owned()]))
            .await;
    }

    #[tokio::test]
    async fn case_81_a_forbidden_kind_counts_as_listed_and_is_tried_again() {
        let metrics = Arc::new(Metrics::default());
        let available = |value: &str| {
            let line = format!("forestall_kind_available{{resource=\"configmaps\"}} {value}\n");
            metrics.encode().contains(&line)
        };
        for code in [403, 404] {
            let scripts = vec![
                vec![Err(refused(code))],
                vec![Err(refused(code))],
                listed(&["x"]),
            ];
            let watched = Arc::new(Watched::<u8>::new("configmaps"));
            assert!(!watched.lose(watched.withheld(&refused(code)), Instant::now()));
            let reason = names(&watched, Instant::now()).unwrap_err();
            assert!(
                reason.to_string().contains(&format!("({code})")),
                "{reason}"
            );
            let watched = followed(scripts, &metrics).await;
            until(|| names(&watched, Instant::now()) == Ok(vec!["a/x".to_owned()])).await;
            assert!(available("1"), "{}", metrics.encode());
        }
        followed(vec![vec![Err(refused(403))]], &metrics).await;
        assert!(available("0"), "{}", metrics.encode());
    }

    #[tokio::test]
    async fn case_81_after_410_all_is_listed_anew_and_what_is_gone_is_forgotten() {
        let mut script = listed(&["x", "y"]);
        let gone = Status::failure("too old", "Expired").with_code(410);
        script.push(Err(watcher::Error::WatchError(Box::new(gone))));
        let watched = followed(vec![script, listed(&["y"])], &Arc::default()).await;
        assert!(names(&watched, Instant::now()).is_ok());
        until(|| names(&watched, Instant::now()) == Ok(vec!["a/y".to_owned()])).await;
    }
}
