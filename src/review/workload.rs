//! Where pods are described: every kind that carries a pod template, and the containers in it.

use std::borrow::Cow;

use serde_json::Value;

use super::{Review, WatchedKind, at, keys, text};
use crate::evidence::{Puller, Unknown};
use crate::image::{DEFAULT_TAG, ImageReference};

/// The kinds that carry a pod template, and Pods themselves, with where the PodSpec lies.
const TEMPLATES: &[(WatchedKind, &str)] = &[
    (kind("", "Pod", "pods"), "/spec"),
    (
        kind("", "ReplicationController", "replicationcontrollers"),
        TEMPLATE,
    ),
    (kind("apps", "Deployment", "deployments"), TEMPLATE),
    (kind("apps", "ReplicaSet", "replicasets"), TEMPLATE),
    (kind("apps", "StatefulSet", "statefulsets"), TEMPLATE),
    (kind("apps", "DaemonSet", "daemonsets"), TEMPLATE),
    (kind("batch", "Job", "jobs"), TEMPLATE),
    (
        kind("batch", "CronJob", "cronjobs"),
        "/spec/jobTemplate/spec/template/spec",
    ),
    (kind("argoproj.io", "Rollout", "rollouts"), TEMPLATE),
];

/// Where the PodSpec lies in most of them.
const TEMPLATE: &str = "/spec/template/spec";

/// Every kind in which [`Review::containers`] finds something.
pub const WORKLOADS: &[WatchedKind] = &{
    let mut kinds = [kind("", "", ""); TEMPLATES.len()];
    let mut index = 0;
    while index < TEMPLATES.len() {
        kinds[index] = TEMPLATES[index].0;
        index += 1;
    }
    kinds
};

const fn kind(group: &'static str, kind: &'static str, plural: &'static str) -> WatchedKind {
    WatchedKind {
        group,
        kind,
        plural,
    }
}

/// The service account of a pod that names none (Kubernetes,
/// plugin/pkg/admission/serviceaccount `DefaultServiceAccountName`).
pub const DEFAULT_ACCOUNT: &str = "default";

/// Where a container has its memory limit.
const MEMORY_LIMIT: &str = "/resources/limits/memory";

/// No node has so much memory, in bytes: a million gigabytes.
pub const MOST_MEMORY_BYTES: i128 = 1_000_000_000_000_000;

/// Bytes of a name, an image reference or a limit that guardrails look at: 63, 450 and some ten are
/// enough. What is longer is in no cluster, and would be copied into everything that is said of it.
pub(super) const LONGEST_TEXT: usize = 4096;

/// Where something lies in the lists of a PodSpec.
#[derive(Clone, Copy, Debug)]
struct Place {
    base: &'static str,
    list: &'static str,
    index: usize,
}

/// One container of a pod template.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    /// Its name; empty where it has none.
    pub name: &'a str,
    /// The container itself.
    pub value: &'a Value,
    place: Place,
}

/// One place in an object that names an image.
#[derive(Clone, Debug)]
pub struct ImageUse<'a> {
    /// The container, the volume or the field that uses it, which stays when a list is reordered.
    pub item: Cow<'a, str>,
    /// The reference as written.
    pub reference: &'a str,
    /// The pull policy as written.
    pub pull_policy: Option<&'a str>,
    at: At,
}

/// Where an image is written.
#[derive(Clone, Debug)]
enum At {
    /// In a field of an item of a PodSpec.
    Item(Place, &'static str),
    Pointer(String),
}

// === impl Place ===

impl Place {
    fn pointer(self) -> String {
        let Self { base, list, index } = self;
        format!("{base}/{list}/{index}")
    }
}

// === impl Container ===

impl<'a> Container<'a> {
    /// Its memory limit as written, where it has one.
    #[must_use]
    pub fn memory_limit(&self) -> Option<&'a Value> {
        at(self.value, MEMORY_LIMIT).filter(|limit| !limit.is_null())
    }

    fn mounts(&self, volume: &str) -> bool {
        let mounts = self.value.get("volumeMounts").and_then(Value::as_array);
        let mut mounts = mounts.into_iter().flatten();
        mounts.any(|mount| text(mount, "/name") == Some(volume))
    }

    /// Where its memory limit lies in the object.
    #[must_use]
    pub fn memory_limit_pointer(&self) -> String {
        format!("{}{MEMORY_LIMIT}", self.place.pointer())
    }
}

// === impl ImageUse ===

impl<'a> ImageUse<'a> {
    /// An image that is named outside of a PodSpec.
    pub(super) fn at(
        item: String,
        reference: &'a str,
        pull_policy: Option<&'a str>,
        pointer: String,
    ) -> Self {
        Self {
            item: item.into(),
            reference,
            pull_policy,
            at: At::Pointer(pointer),
        }
    }

    /// Where the reference is written.
    #[must_use]
    pub fn pointer(&self) -> String {
        match &self.at {
            At::Item(place, field) => format!("{}{field}", place.pointer()),
            At::Pointer(pointer) => pointer.clone(),
        }
    }

    /// Whether a node that has the image starts it without asking a registry.
    ///
    /// Where no policy is written, the API server writes one later: `Always` for the tag `latest`,
    /// said or meant, else this one (Kubernetes, pkg/apis/core/v1/defaults.go
    /// `SetDefaults_Container`; the same for image volumes).
    #[must_use]
    pub fn is_pulled_once(&self, reference: &ImageReference) -> bool {
        match self.pull_policy {
            None | Some("") => match &reference.tag {
                Some(tag) => tag != DEFAULT_TAG,
                None => reference.digest.is_some(),
            },
            Some(policy) => policy == "IfNotPresent",
        }
    }
}

// === impl Review ===

impl Review {
    /// Where the PodSpec lies, and the PodSpec. `None` for kinds that have none, and for a
    /// workload that leaves its template to another object (a Rollout with `workloadRef`).
    ///
    /// # Errors
    /// [`Unknown::Unreadable`] where something else lies on the way to it.
    pub fn pod_spec(&self) -> Result<Option<(&'static str, &Value)>, Unknown> {
        let mut templates = TEMPLATES.iter();
        let template = templates.find(|(kind, _)| self.subject.is(kind.group, kind.kind));
        let Some((_, pointer)) = template else {
            return Ok(None);
        };
        let mut here = &*self.object;
        let mut passed = 0;
        for key in keys(pointer) {
            passed += 1 + key.len();
            here = match here.get(key) {
                None | Some(Value::Null) => return Ok(None),
                Some(next) if next.is_object() => next,
                Some(_) => return Err(Unknown::unreadable(&pointer[..passed], "is no object")),
            };
        }
        Ok(Some((pointer, here)))
    }

    /// All containers: init containers and sidecars, ephemeral and ordinary ones.
    ///
    /// # Errors
    /// [`Unknown::Unreadable`] where a list of containers is something else, or a text in one is
    /// far too long.
    pub fn containers(&self) -> Result<Vec<Container<'_>>, Unknown> {
        let Some((base, spec)) = self.pod_spec()? else {
            return Ok(Vec::new());
        };
        let mut containers = Vec::new();
        for list in ["initContainers", "containers", "ephemeralContainers"] {
            let items = match spec.get(list) {
                None | Some(Value::Null) => continue,
                Some(Value::Array(items)) => items,
                Some(_) => {
                    let pointer = format!("{base}/{list}");
                    return Err(Unknown::unreadable(&pointer, "is not a list"));
                }
            };
            for (index, value) in items.iter().enumerate() {
                let place = Place { base, list, index };
                if !value.is_object() {
                    return Err(Unknown::unreadable(&place.pointer(), "is not a container"));
                }
                for field in ["/name", "/image", MEMORY_LIMIT] {
                    short(value, place, field)?;
                }
                let name = text(value, "/name").unwrap_or_default();
                containers.push(Container { name, value, place });
            }
        }
        Ok(containers)
    }

    /// What the pods say that decides with which pull secrets their images are pulled.
    ///
    /// # Errors
    /// As [`Review::pod_spec`].
    pub fn puller(&self) -> Result<Option<Puller>, Unknown> {
        let Some((_, spec)) = self.pod_spec()? else {
            return Ok(None);
        };
        let account = ["/serviceAccountName", "/serviceAccount"].into_iter();
        let mut account = account.filter_map(|pointer| text(spec, pointer));
        let named = spec.get("imagePullSecrets").and_then(Value::as_array);
        let named = named.into_iter().flatten();
        let name = |secret| text(secret, "/name").unwrap_or_default().to_owned();
        Ok(Some(Puller {
            namespace: self.subject.namespace.clone().unwrap_or_default(),
            service_account: account
                .find(|name| !name.is_empty())
                .unwrap_or(DEFAULT_ACCOUNT)
                .to_owned(),
            named: named.map(name).collect(),
        }))
    }

    /// Every image without which a container does not start: its own, and those of the image volumes
    /// that it mounts.
    ///
    /// # Errors
    /// As [`Review::containers`].
    pub fn images(&self) -> Result<Vec<ImageUse<'_>>, Unknown> {
        let mut images = Vec::new();
        let containers = self.containers()?;
        for &Container { name, value, place } in &containers {
            let Some(image) = value.get("image").filter(|image| !image.is_null()) else {
                continue;
            };
            let unreadable =
                || Unknown::unreadable(&format!("{}/image", place.pointer()), "is no text");
            images.push(ImageUse {
                item: name.into(),
                reference: image.as_str().ok_or_else(unreadable)?,
                pull_policy: text(value, "/imagePullPolicy"),
                at: At::Item(place, "/image"),
            });
        }
        let Some((base, spec)) = self.pod_spec()? else {
            return Ok(images);
        };
        let volumes = spec.get("volumes").and_then(Value::as_array);
        for (index, volume) in volumes.into_iter().flatten().enumerate() {
            let Some(reference) = text(volume, "/image/reference") else {
                continue;
            };
            // kubelet starts a container whose mounts it has, whatever became of other volumes
            // (Kubernetes 1.37, pkg/kubelet/kuberuntime `toKubeContainerImageVolumes`).
            let name = text(volume, "/name").unwrap_or_default();
            if !containers.iter().any(|container| container.mounts(name)) {
                continue;
            }
            let list = "volumes";
            let place = Place { base, list, index };
            for field in ["/name", "/image/reference"] {
                short(volume, place, field)?;
            }
            images.push(ImageUse {
                reference,
                item: format!("volume {name}").into(),
                pull_policy: text(volume, "/image/pullPolicy"),
                at: At::Item(place, "/image/reference"),
            });
        }
        Ok(images)
    }
}

/// Whether a text in a container or a volume has a length that guardrails may copy.
fn short(value: &Value, place: Place, field: &str) -> Result<(), Unknown> {
    match text(value, field) {
        Some(text) if text.len() > LONGEST_TEXT => Err(Unknown::unreadable(
            &format!("{}{field}", place.pointer()),
            &format!("is longer than {LONGEST_TEXT} bytes"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_container_and_image_volume_is_found() {
        let review = Review::of_manifest(json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "a"},
            "spec": {"jobTemplate": {"spec": {"template": {"spec": {
                "initContainers": [{"name": "init", "image": "a"}, {"name": "sidecar", "image": "b", "restartPolicy": "Always"}],
                "containers": [{"name": "main", "image": "c", "imagePullPolicy": "Never", "volumeMounts": [{"name": "model"}]}],
                "ephemeralContainers": [{"name": "debug", "image": "d"}],
                "volumes": [{"name": "empty", "emptyDir": {}}, {"name": "model", "image": {"reference": "e"}}, {"name": "unused", "image": {"reference": "f"}}],
            }}}}},
        })).unwrap();
        let images = review.images().unwrap();
        let seen: Vec<_> = images
            .iter()
            .map(|image| (&*image.item, image.reference))
            .collect();
        assert_eq!(
            seen,
            [
                ("init", "a"),
                ("sidecar", "b"),
                ("main", "c"),
                ("debug", "d"),
                ("volume model", "e")
            ]
        );
        for image in &images {
            assert_eq!(
                review.object.pointer(&image.pointer()).unwrap(),
                image.reference
            );
        }
    }

    #[test]
    fn without_a_policy_only_the_tag_latest_is_pulled_always() {
        let digest = format!("@sha256:{}", "a".repeat(64));
        let by_digest = |name: &str| format!("{name}{digest}");
        let policies = [
            json!(null),
            json!(""),
            json!("IfNotPresent"),
            json!("Always"),
        ];
        for (image, expected) in [
            ("nginx:1".to_owned(), [true, true, true, false]),
            ("nginx".to_owned(), [false, false, true, false]),
            ("nginx:latest".to_owned(), [false, false, true, false]),
            (by_digest("nginx"), [true, true, true, false]),
            (by_digest("nginx:latest"), [false, false, true, false]),
        ] {
            let seen = policies.each_ref().map(|policy| {
                let review = Review::of_manifest(json!({
                    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
                    "spec": {"containers": [{"name": "a", "image": image, "imagePullPolicy": policy}]},
                }))
                .unwrap();
                let reference = ImageReference::parse(&image).unwrap();
                review.images().unwrap()[0].is_pulled_once(&reference)
            });
            assert_eq!(seen, expected, "{image}");
        }
    }

    #[test]
    fn a_text_that_is_far_too_long_is_unreadable_and_is_not_copied() {
        let long = "x".repeat(LONGEST_TEXT + 1);
        for (container, place) in [
            (json!({"name": long}), "/name"),
            (json!({"image": long}), "/image"),
            (
                json!({"resources": {"limits": {"memory": long}}}),
                MEMORY_LIMIT,
            ),
        ] {
            let review = Review::of_manifest(json!({
                "apiVersion": "v1", "kind": "Pod", "spec": {"containers": [container]},
            }))
            .unwrap();
            let error = review.images().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("/spec/containers/0{place} is longer than 4096 bytes")
            );
        }
    }

    #[test]
    fn a_kind_of_the_same_name_in_another_group_has_no_containers() {
        let review = Review::of_manifest(json!({
            "apiVersion": "x.io/v1", "kind": "Deployment",
            "spec": {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}},
        }))
        .unwrap();
        assert!(review.containers().unwrap().is_empty());
    }

    #[test]
    fn a_list_of_the_wrong_type_is_unreadable_and_not_a_panic() {
        let review = Review::of_manifest(json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
            "spec": {"template": {"spec": {"containers": {}}}},
        }))
        .unwrap();
        let error = review.containers().unwrap_err();
        assert_eq!(
            error.to_string(),
            "/spec/template/spec/containers is not a list"
        );
    }
}
