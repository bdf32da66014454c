//! Questions about other objects, each for the projection that it gives.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::{Evidence, Platform, Question, Questions};
use crate::objects::{NodeState, ObjectName, Projected, Projection, Reads, Reference, Row};
use crate::review::WatchedKind;
use crate::unknown::Unknown;

/// The object of a name.
#[derive(Clone, Debug)]
pub struct ObjectOf<P>(ObjectQuestion, PhantomData<fn() -> P>);

/// All objects of a projection, or those of one namespace.
#[derive(Clone, Debug)]
pub struct ObjectsOf<P>(ObjectQuestion, PhantomData<fn() -> P>);

/// The objects of a projection that name another object: who mounts this ConfigMap, say.
#[derive(Clone, Debug)]
pub struct ReferrersOf<P>(ObjectQuestion, PhantomData<fn() -> P>);

/// A question about objects without the type of its answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectQuestion {
    pub(crate) row: &'static Row,
    pub(crate) wanted: Wanted,
}

/// Which objects are asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    /// One.
    Named(WatchedKind, ObjectName),
    /// All, in one namespace where it is said.
    All { namespace: Option<String> },
    /// All in a namespace that name another object there.
    Referring { namespace: String, other: Reference },
}

/// The objects that were found, without their types.
#[derive(Clone, Debug)]
pub struct Listing {
    pub(crate) objects: Vec<Listed>,
    /// Why there may be more; nothing where these are all.
    pub(crate) rest: Result<(), Unknown>,
}

/// One object that was found.
#[derive(Clone)]
pub(crate) struct Listed {
    pub(crate) kind: WatchedKind,
    pub(crate) name: ObjectName,
    pub(crate) kept: ProjectedObject,
}

/// What was kept of an object, or why it cannot be read.
pub(crate) type ProjectedObject = Result<Projected, Box<Unknown>>;

/// The objects that were found.
#[derive(Debug)]
pub struct Found<'e, P> {
    listing: &'e Listing,
    projection: PhantomData<fn() -> P>,
}

// === impl ObjectOf ===

impl<P: Projection> ObjectOf<P> {
    /// The object of this name, of the first kind of the projection.
    #[must_use]
    pub fn named(namespace: Option<&str>, name: &str) -> Self {
        Self::of_kind(P::KINDS[0].kind, namespace, name)
    }

    /// The object of this kind and name.
    #[must_use]
    pub fn of_kind(kind: WatchedKind, namespace: Option<&str>, name: &str) -> Self {
        let wanted = Wanted::Named(kind, ObjectName::new(kind, namespace, name));
        Self(ObjectQuestion::of::<P>(wanted), PhantomData)
    }
}

impl<P> From<ObjectOf<P>> for ObjectQuestion {
    fn from(question: ObjectOf<P>) -> Self {
        question.0
    }
}

impl<P: Projection> Question for ObjectOf<P> {
    /// `None`: there is none.
    type Answer<'e> = Option<&'e P>;

    fn ask(&self, questions: &mut Questions) {
        self.0.ask(questions);
    }

    fn answer<'e>(&self, evidence: &'e Evidence) -> Result<Option<&'e P>, Unknown> {
        let found = Found::<P>::new(self.0.answer(evidence)?);
        let object = found.iter().next();
        match object {
            Some((_, object)) => object.map(Some).map_err(Clone::clone),
            None => found.rest().map(|()| None),
        }
    }
}

// === impl ObjectsOf ===

impl<P: Projection> ObjectsOf<P> {
    /// All that there are.
    #[must_use]
    pub fn all() -> Self {
        let wanted = Wanted::All { namespace: None };
        Self(ObjectQuestion::of::<P>(wanted), PhantomData)
    }

    /// All in a namespace.
    #[must_use]
    pub fn in_namespace(namespace: &str) -> Self {
        let namespace = Some(namespace.to_owned());
        Self(
            ObjectQuestion::of::<P>(Wanted::All { namespace }),
            PhantomData,
        )
    }
}

impl<P> From<ObjectsOf<P>> for ObjectQuestion {
    fn from(question: ObjectsOf<P>) -> Self {
        question.0
    }
}

impl<P: Projection> Question for ObjectsOf<P> {
    type Answer<'e> = Found<'e, P>;

    fn ask(&self, questions: &mut Questions) {
        self.0.ask(questions);
    }

    fn answer<'e>(&self, evidence: &'e Evidence) -> Result<Found<'e, P>, Unknown> {
        self.0.answer(evidence).map(Found::new)
    }
}

// === impl ReferrersOf ===

impl<P: Projection> ReferrersOf<P> {
    /// All in this namespace that name the other object.
    #[must_use]
    pub fn new(namespace: &str, other: Reference) -> Self {
        let namespace = namespace.to_owned();
        let wanted = Wanted::Referring { namespace, other };
        Self(ObjectQuestion::of::<P>(wanted), PhantomData)
    }
}

impl<P> From<ReferrersOf<P>> for ObjectQuestion {
    fn from(question: ReferrersOf<P>) -> Self {
        question.0
    }
}

impl<P: Projection> Question for ReferrersOf<P> {
    type Answer<'e> = Found<'e, P>;

    fn ask(&self, questions: &mut Questions) {
        self.0.ask(questions);
    }

    fn answer<'e>(&self, evidence: &'e Evidence) -> Result<Found<'e, P>, Unknown> {
        self.0.answer(evidence).map(Found::new)
    }
}

// === impl ObjectQuestion ===

impl ObjectQuestion {
    fn of<P: Projection>(wanted: Wanted) -> Self {
        let row = Row::of::<P>();
        Self { row, wanted }
    }

    /// Whether the answer is among what is read here.
    #[must_use]
    pub fn is_read_by(&self, reads: &Reads) -> bool {
        let name = match &self.wanted {
            Wanted::Named(_, object) => Some(&*object.name),
            Wanted::All { .. } | Wanted::Referring { .. } => None,
        };
        let is_all = name.is_none() || reads.name().is_none();
        reads.row() == self.row && (is_all || reads.name() == name)
    }

    /// The row of the table that it asks for.
    #[must_use]
    pub fn row(&self) -> &'static Row {
        self.row
    }
}

// === impl Listing ===

impl Listing {
    /// No objects, and that is all.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            objects: Vec::new(),
            rest: Ok(()),
        }
    }

    /// Whether there is nothing more to find.
    pub(crate) fn is_whole(&self, question: &ObjectQuestion) -> bool {
        let is_found = matches!(question.wanted, Wanted::Named(..)) && !self.objects.is_empty();
        is_found || self.rest.is_ok()
    }

    /// These objects by name, and no others.
    pub fn of<'n, P: Projection>(objects: impl IntoIterator<Item = (&'n str, P)>) -> Self {
        let kind = P::KINDS[0].kind;
        let listed = objects.into_iter().map(|(name, object)| Listed {
            kind,
            name: ObjectName::new(kind, None, name),
            kept: Ok(Arc::new(object)),
        });
        Self {
            objects: listed.collect(),
            rest: Ok(()),
        }
    }
}

// === impl Listed ===

impl fmt::Debug for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.kind, self.name)
    }
}

// === impl Found ===

impl<'e, P: Projection> Found<'e, P> {
    fn new(listing: &'e Listing) -> Self {
        Self {
            listing,
            projection: PhantomData,
        }
    }

    /// The objects by name, or why one cannot be read.
    pub fn iter(&self) -> impl Iterator<Item = (&'e ObjectName, Result<&'e P, &'e Unknown>)> {
        self.listing.objects.iter().filter_map(|listed| {
            let kept = match &listed.kept {
                // Of another type there is none: the question's row made it.
                Ok(kept) => Ok(kept.downcast_ref()?),
                Err(unknown) => Err(&**unknown),
            };
            Some((&listed.name, kept))
        })
    }

    /// What was kept of the objects that can be read.
    pub fn readable(&self) -> impl Iterator<Item = &'e P> {
        self.iter().filter_map(|(_, object)| object.ok())
    }

    /// Whether these are all.
    ///
    /// # Errors
    /// Why there may be more.
    pub fn rest(&self) -> Result<(), Unknown> {
        self.listing.rest.clone()
    }

    /// All of them.
    ///
    /// # Errors
    /// Why one cannot be read, or why there may be more.
    pub fn all(&self) -> Result<Vec<(&'e ObjectName, &'e P)>, Unknown> {
        self.rest()?;
        let objects = self.iter();
        let objects = objects.map(|(name, object)| Ok((name, object.map_err(Clone::clone)?)));
        objects.collect()
    }
}

impl Found<'_, NodeState> {
    /// The platforms of the nodes that say theirs.
    ///
    /// # Errors
    /// Not all nodes are known.
    pub fn platforms(&self) -> Result<BTreeSet<Platform>, Unknown> {
        let nodes = self.all()?.into_iter();
        let platforms = nodes.filter_map(|(_, node)| node.platform.clone());
        Ok(platforms.collect())
    }
}
