//! Where pods are described: every kind that carries a pod template, and the containers in it.

use serde_json::Value;

use super::{Review, WatchedKind, text};
use crate::evidence::Unknown;

/// The kinds that carry a pod template, and Pods themselves, with where the PodSpec lies.
const TEMPLATES: &[(WatchedKind, &str)] = &[
    (kind("", "Pod", "pods"), ""),
    (
        kind("", "ReplicationController", "replicationcontrollers"),
        "/spec/template",
    ),
    (kind("apps", "Deployment", "deployments"), "/spec/template"),
    (kind("apps", "ReplicaSet", "replicasets"), "/spec/template"),
    (
        kind("apps", "StatefulSet", "statefulsets"),
        "/spec/template",
    ),
    (kind("apps", "DaemonSet", "daemonsets"), "/spec/template"),
    (kind("batch", "Job", "jobs"), "/spec/template"),
    (
        kind("batch", "CronJob", "cronjobs"),
        "/spec/jobTemplate/spec/template",
    ),
    (kind("argoproj.io", "Rollout", "rollouts"), "/spec/template"),
];

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

/// One container of a pod template.
#[derive(Clone, Debug)]
pub struct Container<'a> {
    /// Its name, or its pointer where it has none.
    pub name: &'a str,
    /// Where it lies in the object.
    pub pointer: String,
    /// The container itself.
    pub value: &'a Value,
}

/// One place in an object that names an image.
#[derive(Clone, Debug)]
pub struct ImageUse<'a> {
    /// The container, or the volume, that uses it; unique within an object.
    pub item: String,
    /// Where the reference is written.
    pub pointer: String,
    /// The reference as written.
    pub reference: &'a str,
    /// The pull policy as written.
    pub pull_policy: Option<&'a str>,
}

impl Review {
    /// Where the PodSpec lies, and the PodSpec. `None` for kinds that have none, and for a
    /// workload that leaves its template to another object (a Rollout with `workloadRef`).
    ///
    /// # Errors
    /// [`Unknown::Unreadable`] where something else lies on the way to it.
    pub fn pod_spec(&self) -> Result<Option<(String, &Value)>, Unknown> {
        let mut templates = TEMPLATES.iter();
        let template = templates.find(|(kind, _)| self.subject.is(kind.group, kind.kind));
        let Some((_, template)) = template else {
            return Ok(None);
        };
        let mut pointer = String::new();
        let mut here = &self.object;
        for key in template.split('/').skip(1).chain(["spec"]) {
            pointer = format!("{pointer}/{key}");
            here = match here.get(key) {
                None | Some(Value::Null) => return Ok(None),
                Some(next) if next.is_object() => next,
                Some(_) => return Err(Unknown::unreadable(&pointer, "is no object")),
            };
        }
        Ok(Some((pointer, here)))
    }

    /// All containers: init containers and sidecars, ephemeral and ordinary ones.
    ///
    /// # Errors
    /// [`Unknown::Unreadable`] where a list of containers is something else.
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
                    return Err(Unknown::unreadable(
                        &format!("{base}/{list}"),
                        "is not a list",
                    ));
                }
            };
            for (index, value) in items.iter().enumerate() {
                let pointer = format!("{base}/{list}/{index}");
                if !value.is_object() {
                    return Err(Unknown::unreadable(&pointer, "is not a container"));
                }
                let name = value
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                containers.push(Container {
                    name,
                    pointer,
                    value,
                });
            }
        }
        Ok(containers)
    }

    /// Every image that the node would pull: containers and image volumes.
    ///
    /// # Errors
    /// As [`Review::containers`].
    pub fn images(&self) -> Result<Vec<ImageUse<'_>>, Unknown> {
        let mut images = Vec::new();
        for container in self.containers()? {
            let pointer = format!("{}/image", container.pointer);
            let Some(image) = container
                .value
                .get("image")
                .filter(|image| !image.is_null())
            else {
                continue;
            };
            images.push(ImageUse {
                item: container.name.to_owned(),
                reference: image
                    .as_str()
                    .ok_or_else(|| Unknown::unreadable(&pointer, "is no text"))?,
                pointer,
                pull_policy: text(container.value, "/imagePullPolicy"),
            });
        }
        let Some((base, spec)) = self.pod_spec()? else {
            return Ok(images);
        };
        let volumes = spec
            .get("volumes")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        images.extend(volumes.enumerate().filter_map(|(index, volume)| {
            let image = volume.get("image")?;
            let name = volume
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            Some(ImageUse {
                item: format!("volume {name}"),
                pointer: format!("{base}/volumes/{index}/image/reference"),
                reference: image.get("reference")?.as_str()?,
                pull_policy: image.get("pullPolicy").and_then(Value::as_str),
            })
        }));
        Ok(images)
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
                "containers": [{"name": "main", "image": "c", "imagePullPolicy": "Never"}],
                "ephemeralContainers": [{"name": "debug", "image": "d"}],
                "volumes": [{"name": "empty", "emptyDir": {}}, {"name": "model", "image": {"reference": "e"}}],
            }}}}},
        })).unwrap();
        let images = review.images().unwrap();
        let seen: Vec<_> = images
            .iter()
            .map(|image| (image.item.as_str(), image.reference))
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
                review.object.pointer(&image.pointer).unwrap(),
                image.reference
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
