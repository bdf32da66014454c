//! An object as a list or a watch shows it: its name, and its text.

use std::borrow::Cow;
use std::fmt;

use kube::Resource;
use kube::api::{ApiResource, ObjectMeta};
use kube::core::DynamicResourceScope;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::objects::ObjectName;
use crate::review::WatchedKind;
use crate::tree::Tree;
use crate::unknown::Unknown;

/// An object of any kind. Most of its bytes are never asked for (who manages which field, texts for
/// people), and no type of it is expected, so that one that is odd hides no other of its list.
#[derive(Clone)]
pub(super) struct RawObject {
    /// Name, namespace and version only.
    metadata: ObjectMeta,
    json: Box<str>,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
}

// === impl RawObject ===

impl RawObject {
    /// Its name, where it is of this kind.
    pub(super) fn name(&self, kind: WatchedKind) -> ObjectName {
        let ObjectMeta {
            name, namespace, ..
        } = &self.metadata;
        let name = name.as_deref().unwrap_or_default();
        ObjectName::new(kind, namespace.as_deref(), name)
    }

    /// The object itself.
    ///
    /// # Errors
    /// It cannot be read: it is nested deeper than any JSON library reads.
    pub(super) fn tree(self) -> Result<Tree, Unknown> {
        Tree::parse(self.json)
            .map_err(|_| Unknown::Unreadable("the object cannot be read".to_owned()))
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        // No text of an object may end up in an error, which is logged.
        let head: Head = serde_json::from_str(json.get())
            .map_err(|_| Error::custom("an object without usable metadata"))?;
        let Metadata {
            name,
            namespace,
            resource_version,
        } = head.metadata;
        Ok(Self {
            metadata: ObjectMeta {
                name,
                namespace,
                resource_version,
                ..ObjectMeta::default()
            },
            json: json.into(),
        })
    }
}

impl fmt::Debug for RawObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RawObject")
            .field(&self.metadata.name)
            .finish()
    }
}

impl Resource for RawObject {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
