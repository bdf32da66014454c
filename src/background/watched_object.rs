//! An object as a list or a watch shows it: its identity, a hash of its content, and its text.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::api::{ApiResource, ObjectMeta};
use kube::core::DynamicResourceScope;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::judging::existing::ExistingObject;
use crate::review::Subject;

/// Annotations that are part of what is judged; all other metadata may change as it likes.
const OWN_ANNOTATIONS: &str = "forestall.dev/";

/// An object of any kind. It stays text until it is judged: most need not be.
#[derive(Clone)]
pub(super) struct WatchedObject {
    /// Name, namespace, uid and version only.
    metadata: ObjectMeta,
    /// Whether a controller makes it of another object, which is judged itself. Then the rest is
    /// empty.
    pub(super) has_controller: bool,
    /// A hash of what is judged: no status, and of the metadata only what exempts.
    pub(super) content: u64,
    json: Box<str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct RawMetadata {
    name: String,
    namespace: Option<String>,
    uid: String,
    resource_version: Option<String>,
    annotations: BTreeMap<String, String>,
    owner_references: Vec<RawOwner>,
}

#[derive(Deserialize)]
struct RawOwner {
    #[serde(default)]
    controller: bool,
}

// === impl WatchedObject ===

impl WatchedObject {
    fn read(json: &str) -> serde_json::Result<Self> {
        let fields: BTreeMap<&str, &RawValue> = serde_json::from_str(json)?;
        let metadata = fields.get("metadata");
        let metadata: RawMetadata = metadata
            .map(|metadata| serde_json::from_str(metadata.get()))
            .transpose()?
            .unwrap_or_default();
        let mut owners = metadata.owner_references.iter();
        let has_controller = owners.any(|owner| owner.controller);
        let mut hasher = DefaultHasher::new();
        let content = fields.iter().filter(|(key, _)| {
            // The items of a list have neither version nor kind, and a watch gives both.
            !has_controller && !matches!(**key, "apiVersion" | "kind" | "metadata" | "status")
        });
        for (key, value) in content {
            (key, value.get()).hash(&mut hasher);
        }
        let annotations = metadata.annotations.iter();
        for annotation in annotations.filter(|(key, _)| key.starts_with(OWN_ANNOTATIONS)) {
            annotation.hash(&mut hasher);
        }
        Ok(Self {
            has_controller,
            content: hasher.finish(),
            json: if has_controller { "" } else { json }.into(),
            metadata: ObjectMeta {
                name: Some(metadata.name),
                namespace: metadata.namespace.filter(|name| !name.is_empty()),
                uid: Some(metadata.uid),
                resource_version: metadata.resource_version,
                ..ObjectMeta::default()
            },
        })
    }

    pub(super) fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(super) fn namespace(&self) -> Option<&str> {
        self.metadata.namespace.as_deref()
    }

    pub(super) fn subject(&self, resource: &ApiResource) -> Subject {
        Subject {
            group: resource.group.clone(),
            version: resource.version.clone(),
            kind: resource.kind.clone(),
            namespace: self.metadata.namespace.clone(),
            name: self.metadata.name.clone().unwrap_or_default(),
        }
    }

    pub(super) fn reference(&self, resource: &ApiResource) -> ObjectReference {
        self.object_ref(resource)
    }

    pub(super) fn stored(self, resource: &ApiResource) -> ExistingObject {
        ExistingObject {
            subject: self.subject(resource),
            json: self.json,
        }
    }
}

impl<'de> Deserialize<'de> for WatchedObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // No text of an object may end up in an error, which is logged.
        let json = Box::<RawValue>::deserialize(deserializer)?;
        Self::read(json.get()).map_err(|_| Error::custom("an object without usable metadata"))
    }
}

impl fmt::Debug for WatchedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WatchedObject")
            .field(&self.metadata.uid)
            .finish()
    }
}

impl Resource for WatchedObject {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> std::borrow::Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> std::borrow::Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> std::borrow::Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> std::borrow::Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> std::borrow::Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "resourceVersion": "1",
                         "generation": 1, "annotations": {"forestall.dev/allow": "missing-image"}},
            "spec": {"replicas": 1},
            "status": {"replicas": 0},
        })
    }

    fn content(object: &Value) -> u64 {
        serde_json::from_str::<WatchedObject>(&object.to_string())
            .unwrap()
            .content
    }

    #[test]
    fn status_and_metadata_are_no_change_but_spec_and_exemptions_are() {
        let before = content(&deployment());
        let changed = |pointer: &str, value: Value| {
            let mut object = deployment();
            *object.pointer_mut(pointer).unwrap() = value;
            content(&object) != before
        };
        assert!(!changed("/status", json!({"replicas": 1})));
        assert!(!changed("/metadata/resourceVersion", json!("2")));
        assert!(changed("/spec/replicas", json!(2)));
        assert!(changed(
            "/metadata/annotations/forestall.dev~1allow",
            json!("")
        ));
        let mut listed = deployment();
        listed.as_object_mut().unwrap().remove("apiVersion");
        listed["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("2");
        listed["metadata"]["labels"] = json!({"a": "b"});
        assert_eq!(content(&listed), before);
    }

    #[test]
    fn what_has_a_controller_is_not_kept() {
        let mut object = deployment();
        object["metadata"]["ownerReferences"] = json!([{"name": "a"}, {"controller": true}]);
        let shown = WatchedObject::read(&object.to_string()).unwrap();
        assert!(shown.has_controller && shown.json.is_empty());
        object["metadata"]["ownerReferences"] = json!([{"controller": false}]);
        let shown = WatchedObject::read(&object.to_string()).unwrap();
        assert!(!shown.has_controller && !shown.json.is_empty());
    }

    #[test]
    fn an_object_that_no_library_reads_does_not_hide_the_others_of_its_list() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let mut text = deployment().to_string();
        text.insert_str(text.len() - 1, &format!(",\"deep\":{deep}"));
        let list = format!("[{text},{}]", deployment());
        let shown: Vec<WatchedObject> = serde_json::from_str(&list).unwrap();
        assert_eq!(shown.len(), 2);
        assert_eq!(shown[1].uid(), "u-1");
    }
}
