//! What is asked: one object that somebody wants in the cluster, with what it replaces.
//!
//! A [`Review`] comes from an AdmissionRequest, a manifest or a live object, and looks the same
//! from all three doors. It knows where pod templates lie, not what is wrong with them.

pub mod custom_resource;
pub mod patch;
pub(crate) mod puller;
pub mod scheduling;
pub mod workload;

use std::sync::{Arc, OnceLock};

use self::workload::Pod;
use crate::tree::{Node, Tree};
use crate::unknown::Unknown;

/// What is being done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The object is new.
    Create,
    /// The object replaces another one ([`Review::replaced`]).
    Update,
}

/// Where the object came from. Guardrails may look at it only where the doors differ on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The API server asks; defaults are already filled in.
    Admission,
    /// It is in the cluster already: nothing is asked, and nothing can be answered.
    Cluster,
    /// A manifest, as somebody wrote it.
    Files,
}

/// The identity of the object under review.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// API group, empty for the core group.
    pub group: String,
    /// Version within the group.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; `None` for cluster-scoped objects.
    pub namespace: Option<String>,
    /// Name; the generateName prefix where the name is not known yet.
    pub name: String,
}

/// One object to judge.
#[derive(Clone, Debug)]
pub struct Review {
    /// What is done.
    pub operation: Operation,
    /// To what.
    pub subject: Subject,
    /// `ephemeralcontainers` or `resize`, where the request is for such a part of a Pod.
    pub sub_resource: Option<String>,
    /// The object as it would be stored.
    pub object: Arc<Tree>,
    /// How it came to us.
    pub door: Door,
    /// The object that it replaces.
    previous: Option<Arc<Tree>>,
    /// The review of that object, made when the first asks.
    replaced: OnceLock<Option<Arc<Review>>>,
    /// What several guardrails want of the pod template, made when the first asks.
    pod: OnceLock<Result<Pod, Unknown>>,
}

/// A kind of objects, as the API server names it.
///
/// The names live as long as the program: those of the catalogue are in it, and those that an
/// operator adds are few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchedKind {
    /// API group, empty for the core group.
    pub group: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Resource name in URLs and webhook rules.
    pub plural: &'static str,
    /// Whether its objects are in namespaces.
    pub scope: Scope,
}

/// Whether the objects of a kind are in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Each is in one.
    Namespaced,
    /// None is.
    Cluster,
}

// === impl WatchedKind ===

impl WatchedKind {
    /// A kind whose objects are in namespaces.
    #[must_use]
    pub const fn namespaced(group: &'static str, kind: &'static str, plural: &'static str) -> Self {
        Self {
            group,
            kind,
            plural,
            scope: Scope::Namespaced,
        }
    }

    /// A kind whose objects are in no namespace.
    #[must_use]
    pub const fn cluster(group: &'static str, kind: &'static str, plural: &'static str) -> Self {
        Self {
            scope: Scope::Cluster,
            ..Self::namespaced(group, kind, plural)
        }
    }

    /// `deployments.apps`, or `pods` in the core group.
    #[must_use]
    pub fn resource(self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }
}

// === impl Scope ===

impl Scope {
    /// As a webhook configuration writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespaced => "Namespaced",
            Self::Cluster => "Cluster",
        }
    }
}

// === impl Subject ===

impl Subject {
    /// Reads the identity out of an object.
    ///
    /// # Errors
    /// Names the field that is missing.
    pub fn of(object: Node<'_>) -> Result<Self, &'static str> {
        let text = |pointer| object.text_at(pointer);
        let api_version = text("/apiVersion").ok_or("apiVersion is missing")?;
        let kind = text("/kind").ok_or("kind is missing")?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let name = text("/metadata/name").or_else(|| text("/metadata/generateName"));
        Ok(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            namespace: text("/metadata/namespace")
                .filter(|namespace| !namespace.is_empty())
                .map(ToOwned::to_owned),
            name: name.unwrap_or_default().to_owned(),
        })
    }

    /// `apps/v1`, or `v1` in the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether this is the group and kind named.
    #[must_use]
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }
}

// === impl Review ===

impl Review {
    /// A review of an object that replaces nothing.
    #[must_use]
    pub fn new(operation: Operation, subject: Subject, object: Arc<Tree>, door: Door) -> Self {
        Self {
            operation,
            subject,
            sub_resource: None,
            object,
            door,
            previous: None,
            replaced: OnceLock::new(),
            pod: OnceLock::new(),
        }
    }

    /// The same review as an update of this object.
    #[must_use]
    pub fn replacing(self, previous: Arc<Tree>) -> Self {
        Self {
            operation: Operation::Update,
            previous: Some(previous),
            replaced: OnceLock::new(),
            ..self
        }
    }

    /// A review of an object that is new, as a file holds it.
    ///
    /// # Errors
    /// Names the field that is missing.
    pub fn of_manifest(object: impl Into<Tree>) -> Result<Self, &'static str> {
        Self::of_shared(&Arc::new(object.into()))
    }

    /// The same for an object that others hold too.
    ///
    /// # Errors
    /// As [`Review::of_manifest`].
    pub fn of_shared(object: &Arc<Tree>) -> Result<Self, &'static str> {
        let (operation, object) = (Operation::Create, Arc::clone(object));
        let subject = Subject::of(object.root())?;
        Ok(Self::new(operation, subject, object, Door::Files))
    }

    /// The same request with another object.
    #[must_use]
    pub fn with_object(&self, object: Arc<Tree>) -> Self {
        Self {
            operation: self.operation,
            subject: self.subject.clone(),
            sub_resource: self.sub_resource.clone(),
            object,
            door: self.door,
            previous: self.previous.clone(),
            replaced: self.replaced.clone(),
            pod: OnceLock::new(),
        }
    }

    /// The same request seen from the object that is replaced, so that it can be judged alike.
    #[must_use]
    pub fn replaced(&self) -> Option<&Self> {
        let made = self.replaced.get_or_init(|| {
            let previous = Arc::clone(self.previous.as_ref()?);
            let review = Self::new(self.operation, self.subject.clone(), previous, self.door);
            Some(Arc::new(Self {
                sub_resource: self.sub_resource.clone(),
                ..review
            }))
        });
        made.as_deref()
    }

    /// Changes the object as a test wants it.
    #[cfg(test)]
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut serde_json::Value)) {
        let mut object = self.root().to_value();
        change(&mut object);
        *self = self.with_object(Arc::new(object.into()));
    }

    /// The object.
    #[must_use]
    pub fn root(&self) -> Node<'_> {
        self.object.root()
    }

    /// Whether nothing but metadata or status differs from what is replaced.
    ///
    /// Finalizers, labels and a controller's status must always be writable.
    #[must_use]
    pub fn leaves_content_alone(&self) -> bool {
        let Some(previous) = &self.previous else {
            return false;
        };
        let (now, before) = (self.root(), previous.root());
        let are_maps = now.is_map() && before.is_map();
        are_maps && now.equals_without(before, &["metadata", "status"])
    }

    /// Whether a controller makes this object from another one, which was judged itself.
    #[must_use]
    pub fn has_controller(&self) -> bool {
        let owners = self.owner_references();
        let is_true = |owner: Node<'_>| owner.get("controller").and_then(Node::as_bool);
        owners
            .filter_map(is_true)
            .any(|is_controller| is_controller)
    }

    /// The entries of metadata.ownerReferences.
    pub fn owner_references(&self) -> impl Iterator<Item = Node<'_>> {
        let owners = self.root().at("/metadata/ownerReferences");
        owners.into_iter().flat_map(Node::items)
    }

    /// The value of an annotation.
    #[must_use]
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.root().at("/metadata/annotations")?.get(name)?.as_str()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn update(previous: Value, object: Value) -> Review {
        let review = Review::of_manifest(object).unwrap();
        review.replacing(Arc::new(previous.into()))
    }

    #[test]
    fn a_label_or_a_status_leaves_the_content_alone() {
        let before = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"a": 1}});
        let mut after = before.clone();
        after["metadata"] = json!({"labels": {"a": "b"}});
        after["status"] = json!({"replicas": 3});
        assert!(update(before.clone(), after.clone()).leaves_content_alone());
        after["spec"]["a"] = json!(2);
        assert!(!update(before, after).leaves_content_alone());
    }

    #[test]
    fn a_removed_part_is_a_change() {
        let before = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}});
        let after = json!({"apiVersion": "v1", "kind": "ConfigMap"});
        assert!(!update(before, after).leaves_content_alone());
    }

    #[test]
    fn the_subject_of_a_core_object_has_no_group() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "a-"}});
        let subject = Subject::of(Tree::from(pod).root()).unwrap();
        assert_eq!(
            (
                subject.group.as_str(),
                subject.api_version().as_str(),
                subject.name.as_str()
            ),
            ("", "v1", "a-")
        );
    }
}
