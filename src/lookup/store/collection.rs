//! The objects of one kind that one row keeps, and how far they can be trusted.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::evidence::{ObjectQuestion, ProjectedObject, Wanted};
use crate::objects::{ObjectName, ReadableKind, Reads};
use crate::review::WatchedKind;
use crate::tree::Node;
use crate::unknown::Unknown;

/// The objects of one kind, as one row keeps them.
#[derive(Debug)]
pub(in crate::lookup) struct Collection {
    reads: Reads,
    kind: ReadableKind,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    objects: Objects,
    health: Health,
}

/// What was kept of objects, by name.
#[derive(Debug, Default)]
pub(in crate::lookup) struct Objects(BTreeMap<ObjectName, ProjectedObject>);

/// How far the objects can be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Health {
    /// No list has ended yet.
    Waiting,
    /// Some are known, such as those in files. Whether there are others is not.
    Partial,
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

// === impl Collection ===

impl Collection {
    pub(super) fn new(reads: Reads, kind: ReadableKind) -> Self {
        let state = State {
            objects: Objects::default(),
            health: Health::Waiting,
        };
        Self {
            reads,
            kind,
            state: RwLock::new(state),
        }
    }

    pub(in crate::lookup) fn reads(&self) -> Reads {
        self.reads
    }

    pub(in crate::lookup) fn readable(&self) -> ReadableKind {
        self.kind
    }

    pub(in crate::lookup) fn kind(&self) -> WatchedKind {
        self.kind.kind
    }

    /// Looks at the objects, where they are followed, or were until not longer ago than this; and says
    /// why there may be others.
    pub(super) fn read<R>(
        &self,
        now: Instant,
        longest_loss: Duration,
        look: impl FnOnce(&Objects) -> R,
    ) -> (Option<R>, Result<(), Unknown>) {
        let state = self.state();
        let unknown = match &state.health {
            Health::Followed => return (Some(look(&state.objects)), Ok(())),
            Health::Lost { since, .. } if now.duration_since(*since) <= longest_loss => {
                return (Some(look(&state.objects)), Ok(()));
            }
            Health::Partial => return (Some(look(&state.objects)), Err(Unknown::NotAsked)),
            Health::Withheld(reason)
            | Health::Lost {
                withheld: Some(reason),
                ..
            } => Unknown::Unavailable(reason.clone()),
            Health::Waiting | Health::Lost { withheld: None, .. } => Unknown::NotSynced,
        };
        (None, Err(unknown))
    }

    /// What is kept of an object of this kind; `None` of one that is not to be kept.
    pub(in crate::lookup) fn project(&self, object: Node<'_>) -> Option<ProjectedObject> {
        let kept = self.reads.row().project(object, self.kind());
        kept.map_err(Box::new).transpose()
    }

    /// What is known of an object now.
    pub(in crate::lookup) fn set(&self, name: ObjectName, kept: Option<ProjectedObject>) {
        self.write().objects.set(name, kept);
    }

    /// Whether something is known of an object, if only that it cannot be read.
    pub(in crate::lookup) fn has(&self, name: &ObjectName) -> bool {
        self.state().objects.0.contains_key(name)
    }

    /// These are all the objects now, and they are followed. True where they were not before.
    pub(in crate::lookup) fn replace(&self, objects: Objects) -> bool {
        let mut state = self.write();
        let is_news = state.health != Health::Followed;
        *state = State {
            objects,
            health: Health::Followed,
        };
        is_news
    }

    /// The objects so far are some, or all that there are.
    pub(in crate::lookup) fn settle(&self, are_all: bool) {
        self.write().health = if are_all {
            Health::Followed
        } else {
            Health::Partial
        };
    }

    /// Notes that the watch has ended. True where there was ever a list.
    pub(in crate::lookup) fn lose(&self, withheld: Option<String>, now: Instant) -> bool {
        let mut state = self.write();
        let since = match &state.health {
            Health::Waiting | Health::Partial | Health::Withheld(_) => None,
            Health::Followed => Some(now),
            Health::Lost { since, .. } => Some(*since),
        };
        let before = state.health.clone();
        match (since, withheld) {
            (Some(since), withheld) => state.health = Health::Lost { since, withheld },
            (None, Some(reason)) => state.health = Health::Withheld(reason),
            (None, None) => {}
        }
        if before != state.health {
            let resource = self.kind().resource();
            tracing::warn!(resource, health = ?state.health, "not followed");
        }
        since.is_some()
    }

    /// Whether the API server does not show it.
    pub(super) fn is_withheld(&self) -> bool {
        matches!(
            self.state().health,
            Health::Withheld(_)
                | Health::Lost {
                    withheld: Some(_),
                    ..
                }
        )
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Objects ===

impl Objects {
    pub(in crate::lookup) fn len(&self) -> usize {
        self.0.len()
    }

    pub(in crate::lookup) fn clear(&mut self) {
        self.0.clear();
    }

    /// All of them, by name.
    pub(super) fn all(&self) -> impl Iterator<Item = (&ObjectName, &ProjectedObject)> {
        self.0.iter()
    }

    /// Hands on those that a question asks for.
    pub(super) fn wanted(
        &self,
        question: &ObjectQuestion,
        mut hand: impl FnMut(&ObjectName, &ProjectedObject),
    ) {
        match &question.wanted {
            Wanted::Named(_, name) => {
                if let Some((name, kept)) = self.0.get_key_value(name) {
                    hand(name, kept);
                }
            }
            Wanted::All { namespace: None } => self.all().for_each(|(name, kept)| hand(name, kept)),
            Wanted::All {
                namespace: Some(namespace),
            } => self
                .in_namespace(namespace)
                .for_each(|(name, kept)| hand(name, kept)),
            Wanted::Referring { namespace, other } => {
                let may_refer = |(_, kept): &(&ObjectName, &ProjectedObject)| match kept {
                    Ok(kept) => question.row.refers(kept, other),
                    Err(_) => true,
                };
                let objects = self.in_namespace(namespace).filter(may_refer);
                objects.for_each(|(name, kept)| hand(name, kept));
            }
        }
    }

    fn in_namespace<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a ObjectName, &'a ProjectedObject)> {
        let first = ObjectName {
            namespace: Some(namespace.into()),
            name: "".into(),
        };
        let objects = self.0.range(first..);
        objects.take_while(move |(name, _)| name.namespace.as_deref() == Some(namespace))
    }

    pub(in crate::lookup) fn set(&mut self, mut name: ObjectName, kept: Option<ProjectedObject>) {
        let Some(kept) = kept else {
            self.0.remove(&name);
            return;
        };
        // Neighbours are in the same namespace, so its name is in memory once.
        let before = self.0.range(..&name).next_back();
        if let Some((before, _)) = before.filter(|(before, _)| before.namespace == name.namespace) {
            name.namespace.clone_from(&before.namespace);
        }
        self.0.insert(name, kept);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::objects::{NamespaceMode, Projection};
    use crate::tree::Tree;

    const STALE: Duration = Duration::from_mins(1);

    fn collection() -> Collection {
        Collection::new(Reads::all::<NamespaceMode>(), NamespaceMode::KINDS[0])
    }

    fn names(collection: &Collection, now: Instant) -> Result<Vec<String>, Unknown> {
        let look = |objects: &Objects| objects.all().map(|(name, _)| name.to_string()).collect();
        let (seen, rest) = collection.read(now, STALE, look);
        rest.map(|()| seen.unwrap())
    }

    #[test]
    fn case_82_what_is_lost_counts_for_a_while_and_then_is_unknown() {
        let watched = collection();
        let start = Instant::now();
        assert_eq!(names(&watched, start), Err(Unknown::NotSynced));
        let mut objects = Objects::default();
        let tree = Tree::from(json!({"metadata": {"name": "a"}}));
        let name = ObjectName::new(watched.kind(), None, "a");
        objects.set(name, watched.project(tree.root()));
        watched.replace(objects);
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
        watched.replace(Objects::default());
        assert_eq!(names(&watched, late), Ok(vec![]));
    }

    #[test]
    fn the_name_of_a_namespace_is_in_memory_once() {
        let mut objects = Objects::default();
        let name = |name: &str| ObjectName {
            namespace: Some("shop".into()),
            name: name.into(),
        };
        for each in ["a", "b"] {
            objects.set(name(each), Some(Err(Box::new(Unknown::NotAsked))));
        }
        let namespaces: Vec<_> = objects
            .all()
            .map(|(name, _)| name.namespace.clone())
            .collect();
        let [Some(one), Some(other)] = &namespaces[..] else {
            panic!("{namespaces:?}");
        };
        assert!(Arc::ptr_eq(one, other));
    }
}
