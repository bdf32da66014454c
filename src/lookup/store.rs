//! The one store of objects: what is kept of them by the rows of [`crate::objects`], whether a cluster
//! shows them or files do.

mod collection;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

pub(super) use self::collection::{Collection, Objects};
use crate::evidence::{Holder, Listed, Listing, ObjectQuestion, ProjectedObject, Wanted};
use crate::image::ImageReference;
use crate::objects::{ImageHash, NodeState, ObjectName, PodImages, Projection, Reads, Row};
use crate::review::WatchedKind;
use crate::tree::Node;
use crate::unknown::Unknown;

/// Objects of several kinds.
#[derive(Debug)]
pub(super) struct Store {
    collections: RwLock<Vec<Arc<Collection>>>,
    /// When the API server last answered.
    heard: RwLock<Instant>,
    /// How long after that what it said counts.
    stale: Duration,
}

// === impl Store ===

impl Store {
    /// A store whose content counts for so long after its source was last heard.
    pub(super) fn new(stale: Duration) -> Self {
        Self {
            collections: RwLock::default(),
            heard: RwLock::new(Instant::now()),
            stale,
        }
    }

    /// Notes that the source of all objects is there.
    pub(super) fn hear(&self) {
        *self.heard.write().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Makes room for what is read, one collection for each kind; none, where there is room already.
    pub(super) fn open(&self, reads: Reads) -> Vec<Arc<Collection>> {
        let collections = self.collections.write();
        let mut collections = collections.unwrap_or_else(PoisonError::into_inner);
        if collections.iter().any(|open| open.reads().covers(&reads)) {
            return Vec::new();
        }
        let kinds = reads.row().kinds.iter();
        let opened: Vec<_> = kinds
            .map(|kind| Arc::new(Collection::new(reads, *kind)))
            .collect();
        collections.extend(opened.iter().cloned());
        opened
    }

    /// The collections for which this holds.
    pub(super) fn collections(&self, holds: impl Fn(&Collection) -> bool) -> Vec<Arc<Collection>> {
        let collections = self.collections.read();
        let collections = collections.unwrap_or_else(PoisonError::into_inner);
        let collections = collections.iter();
        collections.filter(|open| holds(open)).cloned().collect()
    }

    /// The objects that are asked for.
    ///
    /// # Errors
    /// [`Unknown::NotAsked`] where nobody reads them.
    pub(super) fn answer(&self, question: &ObjectQuestion) -> Result<Listing, Unknown> {
        let mut collections = self.collections(|open| may_hold(open, question));
        if collections.is_empty() {
            return Err(Unknown::NotAsked);
        }
        // One that is watched by name may be watched among all others, too.
        let has_all = collections.iter().any(|open| open.reads().name().is_none());
        collections.retain(|open| open.reads().name().is_none() == has_all);
        let mut objects = Vec::new();
        let mut rest = Ok(());
        for collection in collections {
            let kind = collection.kind();
            let (_, others) = self.read(&collection, |found| {
                found.wanted(question, |name, kept| {
                    let (name, kept) = (name.clone(), kept.clone());
                    objects.push(Listed { kind, name, kept });
                });
            });
            // What may pass in a moment is said before what lasts.
            if let Err(unknown) = others
                && rest.as_ref().err().is_none_or(Unknown::is_lasting)
            {
                rest = Err(unknown);
            }
        }
        Ok(Listing { objects, rest })
    }

    /// The object of a name.
    ///
    /// # Errors
    /// Why it is not known.
    pub(super) fn get<P: Projection>(
        &self,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<P>>, Unknown> {
        let kind = P::KINDS[0].kind;
        let name = ObjectName::new(kind, namespace, name);
        let row = Row::of::<P>();
        let wanted = Wanted::Named(kind, name);
        let Listing { objects, rest } = self.answer(&ObjectQuestion { row, wanted })?;
        match objects.into_iter().next() {
            // Of another type there is none: the row made it.
            Some(listed) => Ok(listed.kept.map_err(|unknown| *unknown)?.downcast().ok()),
            None => rest.map(|()| None),
        }
    }

    /// The first object for which this holds.
    ///
    /// # Errors
    /// Why it may hold for one that is not known.
    pub(super) fn find<P: Projection>(
        &self,
        holds: impl Fn(&P) -> bool,
    ) -> Result<Option<ObjectName>, Unknown> {
        let row = Row::of::<P>();
        let mut rest = Ok(None);
        for collection in self.collections(|open| open.reads().row() == row) {
            let mut unreadable = None;
            let (found, others) = self.read(&collection, |objects| {
                let mut all = objects.all();
                let is_it = |(_, kept): &(&ObjectName, &ProjectedObject)| match kept {
                    Ok(kept) => kept.downcast_ref().is_some_and(&holds),
                    Err(unknown) => {
                        unreadable = Some((**unknown).clone());
                        false
                    }
                };
                all.find(is_it).map(|(name, _)| name.clone())
            });
            if let Some(Some(name)) = found {
                return Ok(Some(name));
            }
            if let Some(unknown) = others.err().or(unreadable) {
                rest = Err(unknown);
            }
        }
        rest
    }

    /// A Node and a Pod that have an image.
    ///
    /// # Errors
    /// Why one may have it that is not known.
    pub(super) fn holders(&self, image: &ImageReference) -> [Result<Option<Holder>, Unknown>; 2] {
        let image = ImageHash::of(image);
        let node = self.find(|node: &NodeState| node.images.has(image));
        let pod = self.find(|pod: &PodImages| pod.0.has(image));
        let holder = |found: Option<ObjectName>| {
            let ObjectName { namespace, name } = found?;
            let name = name.into_string();
            Some(match namespace {
                None => Holder::Node(name),
                Some(namespace) => Holder::Pod {
                    namespace: namespace.as_ref().to_owned(),
                    name,
                },
            })
        };
        [node.map(holder), pod.map(holder)]
    }

    /// Takes an object, wherever there is room for it; one that names no namespace is in this one.
    pub(super) fn add(&self, group: &str, kind: &str, object: Node<'_>, namespace: &str) {
        let is_of = |open: &Collection| (open.kind().group, open.kind().kind) == (group, kind);
        for collection in self.collections(is_of) {
            let text = |pointer| object.text_at(pointer).filter(|text| !text.is_empty());
            let namespace = text("/metadata/namespace").unwrap_or(namespace);
            let name = text("/metadata/name").unwrap_or_default();
            let name = ObjectName::new(collection.kind(), Some(namespace), name);
            collection.set(name, collection.project(object));
        }
    }

    /// Whether the API server shows all that is read of this kind.
    pub(super) fn is_available(&self, kind: WatchedKind) -> bool {
        let is_withheld = |open: &Collection| open.kind() == kind && open.is_withheld();
        self.collections(is_withheld).is_empty()
    }

    fn read<R>(
        &self,
        collection: &Collection,
        look: impl FnOnce(&Objects) -> R,
    ) -> (Option<R>, Result<(), Unknown>) {
        let now = Instant::now();
        let heard = *self.heard.read().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(heard) > self.stale {
            return (None, Err(Unknown::NotSynced));
        }
        collection.read(now, self.stale, look)
    }
}

/// Whether an object that is asked for may be in a collection.
fn may_hold(collection: &Collection, question: &ObjectQuestion) -> bool {
    let is_of_kind = match &question.wanted {
        Wanted::Named(kind, _) => collection.kind() == *kind,
        Wanted::All { .. } | Wanted::Referring { .. } => true,
    };
    is_of_kind && question.is_read_by(&collection.reads())
}
