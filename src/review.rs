//! What is asked: one object that somebody wants in the cluster, with what it replaces.
//!
//! A [`Review`] comes from an AdmissionRequest, a manifest or a live object, and looks the same
//! from all three doors. It knows where pod templates lie, not what is wrong with them.

pub mod custom_resource;
pub mod patch;
pub mod scheduling;
pub mod workload;

use std::sync::Arc;

use serde_json::Value;

/// What is being done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The object is new.
    Create,
    /// The object replaces [`Review::previous`].
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
    pub object: Arc<Value>,
    /// The object that it replaces.
    pub previous: Option<Arc<Value>>,
    /// How it came to us.
    pub door: Door,
}

/// A group and kind that a guardrail watches. All of them are namespaced, and the webhook is
/// registered for that scope alone; the first that is not needs a field for its scope here.
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
}

// === impl Subject ===

impl Subject {
    /// Reads the identity out of an object.
    ///
    /// # Errors
    /// Names the field that is missing.
    pub fn of(object: &Value) -> Result<Self, &'static str> {
        let api_version = text(object, "/apiVersion").ok_or("apiVersion is missing")?;
        let kind = text(object, "/kind").ok_or("kind is missing")?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let name =
            text(object, "/metadata/name").or_else(|| text(object, "/metadata/generateName"));
        Ok(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            namespace: text(object, "/metadata/namespace")
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
    /// A review of an object that is new, as a file holds it.
    ///
    /// # Errors
    /// Names the field that is missing.
    pub fn of_manifest(object: Value) -> Result<Self, &'static str> {
        Ok(Self {
            operation: Operation::Create,
            subject: Subject::of(&object)?,
            sub_resource: None,
            object: Arc::new(object),
            previous: None,
            door: Door::Files,
        })
    }

    /// The same request seen from the object that is replaced, so that it can be judged alike.
    #[must_use]
    pub fn of_previous(&self) -> Option<Self> {
        self.previous.as_ref().map(|previous| Self {
            operation: self.operation,
            subject: self.subject.clone(),
            sub_resource: self.sub_resource.clone(),
            object: previous.clone(),
            previous: None,
            door: self.door,
        })
    }

    /// Whether nothing but metadata or status differs from what is replaced.
    ///
    /// Finalizers, labels and a controller's status must always be writable.
    #[must_use]
    pub fn leaves_content_alone(&self) -> bool {
        let Some(previous) = &self.previous else {
            return false;
        };
        let (Value::Object(now), Value::Object(before)) = (&*self.object, &**previous) else {
            return false;
        };
        let content = |key: &&String| !matches!(key.as_str(), "metadata" | "status");
        now.keys()
            .filter(content)
            .all(|key| now.get(key) == before.get(key))
            && before
                .keys()
                .filter(content)
                .all(|key| now.contains_key(key))
    }

    /// Whether a controller makes this object from another one, which was judged itself.
    #[must_use]
    pub fn has_controller(&self) -> bool {
        self.owner_references()
            .any(|owner| owner.get("controller") == Some(&Value::Bool(true)))
    }

    /// The entries of metadata.ownerReferences.
    pub fn owner_references(&self) -> impl Iterator<Item = &Value> {
        at(&self.object, "/metadata/ownerReferences")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    }

    /// The value of an annotation.
    #[must_use]
    pub fn annotation(&self, name: &str) -> Option<&str> {
        at(&self.object, "/metadata/annotations")?
            .get(name)?
            .as_str()
    }
}

/// The value at a JSON pointer that leads through maps only, by keys without `~`. Every review takes
/// many such looks, and [`Value::pointer`] copies each key.
#[must_use]
pub fn at<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    keys(pointer).try_fold(value, |here, key| here.get(key))
}

/// The keys of such a pointer. They are short, so looking at each byte takes less than half of what the
/// search of [`str::split`] takes.
fn keys(pointer: &str) -> impl Iterator<Item = &str> {
    let mut rest = pointer.strip_prefix('/');
    std::iter::from_fn(move || {
        let here = rest?;
        let end = here.bytes().position(|byte| byte == b'/');
        rest = end.map(|end| &here[end + 1..]);
        Some(end.map_or(here, |end| &here[..end]))
    })
}

/// The string at such a pointer.
#[must_use]
pub fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    at(value, pointer).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn update(previous: Value, object: Value) -> Review {
        let mut review = Review::of_manifest(object).unwrap();
        review.operation = Operation::Update;
        review.previous = Some(Arc::new(previous));
        review
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
    fn a_pointer_leads_through_maps_only() {
        let value = json!({"a": {"b": "c", "": 1}, "l": ["x"]});
        assert_eq!(text(&value, "/a/b"), Some("c"));
        assert_eq!(at(&value, "/a/"), Some(&json!(1)));
        assert_eq!(at(&value, ""), Some(&value));
        assert_eq!((at(&value, "/l/0"), at(&value, "/a/b/c")), (None, None));
    }

    #[test]
    fn a_removed_part_is_a_change() {
        let before = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}});
        let after = json!({"apiVersion": "v1", "kind": "ConfigMap"});
        assert!(!update(before, after).leaves_content_alone());
    }

    #[test]
    fn the_subject_of_a_core_object_has_no_group() {
        let subject = Subject::of(
            &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "a-"}}),
        );
        let subject = subject.unwrap();
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
