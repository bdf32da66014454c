//! What is kept of other objects: the table of kinds that guardrails read.
//!
//! A guardrail that looks at two objects gets the second one as a [`Projection`]: the few values of it
//! that matter, in a type of their own. The table ([`ROWS`]) has a [`Row`] for each projection, and
//! everything else follows from it: what is watched, what RBAC must allow, and what is kept of the
//! objects in files.

mod application;
mod argocd;
mod config_map;
mod definition;
mod external_secret;
mod images;
mod namespace;
mod references;
mod service_account;

use std::any::{Any, TypeId};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, LazyLock};

pub use self::application::ArgoCdApplication;
pub(crate) use self::application::{compares_by_structure, has_compare_option, managed};
pub use self::argocd::{ArgoCdController, ArgoCdParameters, PARAMETERS};
pub(crate) use self::argocd::{SERVER_SIDE_DIFF, is_true};
pub use self::config_map::{ConfigMapKeys, ValueHash};
pub use self::definition::Definition;
pub use self::external_secret::{CreationPolicy, ExternalSecret, ListFields};
pub use self::images::{ImageHash, ImageSet, NodeState, PodImages};
pub use self::namespace::{MODE_LABEL, NamespaceMode};
pub use self::references::PodReferences;
pub use self::service_account::ServiceAccount;
use crate::review::{Scope, WatchedKind};
use crate::tree::Node;
use crate::unknown::Unknown;

/// All projections that can be watched. Each is watched only while a guardrail that reads it is on.
pub const ROWS: &[&Row] = &[
    Row::of::<ArgoCdApplication>(),
    Row::of::<ArgoCdController>(),
    Row::of::<ArgoCdParameters>(),
    Row::of::<ConfigMapKeys>(),
    Row::of::<Definition>(),
    Row::of::<ExternalSecret>(),
    Row::of::<NamespaceMode>(),
    Row::of::<NodeState>(),
    Row::of::<PodImages>(),
    Row::of::<PodReferences>(),
    Row::of::<ServiceAccount>(),
];

/// The namespace of an object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// What is kept of one object.
///
/// There may be ten thousand of them, so a projection is small: hashes where values are only
/// compared, boxed texts where they are shown.
pub trait Projection: Any + fmt::Debug + Send + Sync + Sized {
    /// The kinds that it is made from.
    const KINDS: &'static [ReadableKind];

    /// The objects that the API server is asked for. Files hold others, too, so [`Projection::of`] has
    /// to leave them out itself.
    const SELECTOR: Selector = Selector::ALL;

    /// Reads an object of one of these kinds; `None` of one that is not to be kept.
    ///
    /// # Errors
    /// Why the object cannot be read. It is unknown then, and no other is.
    fn of(object: Node<'_>, kind: WatchedKind) -> Result<Option<Self>, Unknown>;

    /// Whether the object names another one, in its own namespace.
    fn refers_to(&self, _other: &Reference) -> bool {
        false
    }
}

/// A kind that can be read, and where.
#[derive(Clone, Copy, Debug)]
pub struct ReadableKind {
    /// The kind.
    pub kind: WatchedKind,
    /// The versions in which it may be served, the preferred one first.
    pub versions: &'static [&'static str],
}

/// Which objects of a kind the API server is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Selector {
    /// The only name that they have. RBAC can allow it alone.
    pub name: Option<&'static str>,
    /// A label selector; empty selects all.
    pub labels: &'static str,
    /// A field selector; empty selects all.
    pub fields: &'static str,
}

/// A projection without its type.
#[derive(Debug)]
pub struct Row {
    /// The kinds that it is made from.
    pub kinds: &'static [ReadableKind],
    /// Which of their objects are asked for.
    pub selector: Selector,
    id: TypeId,
    project: fn(Node<'_>, WatchedKind) -> Result<Option<Projected>, Unknown>,
    refers: fn(&Projected, &Reference) -> bool,
}

/// What was kept of an object, whatever its type.
pub(crate) type Projected = Arc<dyn Any + Send + Sync>;

/// What a guardrail reads of the cluster: all objects of a row, or one of them by name.
#[derive(Clone, Copy, Debug)]
pub struct Reads {
    row: &'static Row,
    name: Option<&'static str>,
    is_on_demand: bool,
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    /// Its namespace; none for kinds of cluster scope.
    pub namespace: Option<Arc<str>>,
    /// Its name.
    pub name: Box<str>,
}

/// An object that another one names, in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Its kind.
    pub kind: Referent,
    /// Its name.
    pub name: Box<str>,
}

/// A kind that others name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Referent {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
    /// A ServiceAccount.
    ServiceAccount,
    /// A PersistentVolumeClaim.
    Claim,
}

/// A hash by a secret key of this process: two that are equal stand for equal values, but for one case
/// in 2⁶⁴.
fn keyed_hash(value: impl Hash) -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEY.hash_one(value)
}

// === impl ReadableKind ===

impl ReadableKind {
    /// A kind that is served in version v1.
    const fn v1(kind: WatchedKind) -> Self {
        Self {
            kind,
            versions: &["v1"],
        }
    }
}

// === impl Selector ===

impl Selector {
    /// All of them.
    pub const ALL: Self = Self {
        name: None,
        labels: "",
        fields: "",
    };
}

// === impl Row ===

impl Row {
    /// The row of a projection.
    #[must_use]
    pub const fn of<P: Projection>() -> &'static Self {
        const {
            &Self {
                kinds: P::KINDS,
                selector: P::SELECTOR,
                id: TypeId::of::<P>(),
                project: |object, kind| {
                    P::of(object, kind).map(|kept| kept.map(|kept| Arc::new(kept) as Projected))
                },
                refers: |kept, other| {
                    let kept = kept.downcast_ref::<P>();
                    kept.is_some_and(|kept| kept.refers_to(other))
                },
            }
        }
    }

    /// Reads an object of one of its kinds; `None` of one that is not to be kept.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(crate) fn project(
        &self,
        object: Node<'_>,
        kind: WatchedKind,
    ) -> Result<Option<Projected>, Unknown> {
        (self.project)(object, kind)
    }

    /// Whether what was kept of an object names another one.
    pub(crate) fn refers(&self, kept: &Projected, other: &Reference) -> bool {
        (self.refers)(kept, other)
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Row {}

impl PartialOrd for Row {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Row {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id.cmp(&other.id)
    }
}

// === impl Reads ===

impl Reads {
    /// All objects of a projection.
    #[must_use]
    pub const fn all<P: Projection>() -> Self {
        Self {
            row: Row::of::<P>(),
            name: None,
            is_on_demand: false,
        }
    }

    /// All objects of a projection, which are watched from the first question on: what only
    /// `check` asks for costs `serve` nothing.
    #[must_use]
    pub const fn on_demand<P: Projection>() -> Self {
        Self {
            row: Row::of::<P>(),
            name: None,
            is_on_demand: true,
        }
    }

    /// Those of this name.
    #[must_use]
    pub const fn named<P: Projection>(name: &'static str) -> Self {
        Self {
            row: Row::of::<P>(),
            name: Some(name),
            is_on_demand: false,
        }
    }

    /// All objects of a row.
    pub(crate) fn whole(row: &'static Row) -> Self {
        Self {
            row,
            name: None,
            is_on_demand: false,
        }
    }

    /// Whether it is watched only when somebody asks.
    pub(crate) fn is_on_demand(&self) -> bool {
        self.is_on_demand
    }

    /// The row of the projection.
    #[must_use]
    pub fn row(&self) -> &'static Row {
        self.row
    }

    /// The only name that is read, if any.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        self.name.or(self.row.selector.name)
    }

    /// Whether all that the other one reads is among what this one reads.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.row == other.row && (self.name().is_none() || self.name() == other.name())
    }
}

// === impl ObjectName ===

impl ObjectName {
    /// The name of an object of this kind; one that should have a namespace, and names none, is in the
    /// default one.
    #[must_use]
    pub fn new(kind: WatchedKind, namespace: Option<&str>, name: &str) -> Self {
        let namespace = namespace.filter(|namespace| !namespace.is_empty());
        let is_namespaced = kind.scope == Scope::Namespaced;
        let namespace = is_namespaced.then(|| namespace.unwrap_or(DEFAULT_NAMESPACE).into());
        Self {
            namespace,
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}
