//! What a Pod or a Node says of the images that are there already.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::ApiResource;
use kube::core::DynamicResourceScope;
use serde::{Deserialize, Deserializer};

use crate::image::ImageReference;

/// What cri-dockerd writes before the digest of an image (Kubernetes, "Container Images").
const DOCKER_PREFIX: &str = "docker-pullable://";

/// A Pod or a Node, as far as it tells of images and platforms. Most of its bytes are something else
/// (who manages which field, environments), and are never decoded.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Holdings {
    #[serde(default, deserialize_with = "identity")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Identity {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    ephemeral_containers: Vec<Container>,
    volumes: Vec<Volume>,
}

#[derive(Clone, Debug, Deserialize)]
struct Container {
    name: String,
    image: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Volume {
    image: Option<ImageVolume>,
}

#[derive(Clone, Debug, Deserialize)]
struct ImageVolume {
    reference: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: Option<String>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
    ephemeral_container_statuses: Vec<ContainerStatus>,
    images: Vec<NodeImage>,
}

#[derive(Clone, Debug, Deserialize)]
struct ContainerStatus {
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default, rename = "imageID")]
    image_id: String,
    #[serde(default)]
    state: State,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    waiting: Option<serde::de::IgnoredAny>,
}

#[derive(Clone, Debug, Deserialize)]
struct NodeImage {
    // An image without a name is written as null.
    names: Option<Vec<String>>,
}

// === impl Holdings ===

impl Holdings {
    /// The images that are there, as [`ImageReference::pulled`] gives them: those that a node lists,
    /// and those that the containers of a Pod were started with, unless the Pod has ended.
    ///
    /// A runtime may call an image by another of its names, so what the Pod asked for counts too.
    /// A node pulls image volumes before it starts the first container.
    pub(super) fn images(&self) -> Vec<ImageReference> {
        let Self { spec, status, .. } = self;
        let listed = status
            .images
            .iter()
            .filter_map(|image| image.names.as_ref());
        let mut names: Vec<&str> = listed.flatten().map(String::as_str).collect();
        let has_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        for (containers, statuses) in [
            (&spec.containers, &status.container_statuses),
            (&spec.init_containers, &status.init_container_statuses),
            (
                &spec.ephemeral_containers,
                &status.ephemeral_container_statuses,
            ),
        ] {
            let started = statuses.iter().filter(|status| {
                !has_ended && !status.image_id.is_empty() && status.state.waiting.is_none()
            });
            for status in started {
                let mut asked = containers.iter().filter(|asked| asked.name == status.name);
                names.extend(asked.next().and_then(|asked| asked.image.as_deref()));
                let id = status.image_id.as_str();
                let digest = id.strip_prefix(DOCKER_PREFIX).unwrap_or(id);
                names.extend([status.image.as_str(), digest]);
            }
        }
        if !names.is_empty() {
            let volumes = spec.volumes.iter();
            let volumes = volumes.filter_map(|volume| volume.image.as_ref()?.reference.as_deref());
            names.extend(volumes);
        }
        // A bare ID would be read as a repository of that name.
        let names = names
            .into_iter()
            .filter(|name| !name.starts_with("sha256:"));
        let images = names.filter_map(|name| ImageReference::parse(name).ok());
        let mut images: Vec<_> = images.map(|image| image.pulled()).collect();
        images.sort();
        images.dedup();
        images
    }
}

impl Resource for Holdings {
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

fn identity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let Identity {
        name,
        namespace,
        resource_version,
        labels,
    } = Identity::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name,
        namespace,
        resource_version,
        labels,
        ..ObjectMeta::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn images(object: Value) -> Vec<String> {
        let holdings: Holdings = serde_json::from_value(object).unwrap();
        let images = holdings.images();
        let mut images: Vec<_> = images.iter().map(ImageReference::familiar).collect();
        images.sort();
        images
    }

    #[test]
    fn a_node_has_what_it_lists_by_any_name() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
            "status": {"images": [
                {"names": [format!("docker.io/library/nginx@{digest}"), "docker.io/library/nginx:1.27"]},
                {"names": null, "sizeBytes": 1},
                {"names": ["<none>:<none>", "quay.io/team/app:v1"], "sizeBytes": 1},
            ]},
        });
        let expected = [
            "nginx:1.27".to_owned(),
            format!("nginx@{digest}"),
            "quay.io/team/app:v1".to_owned(),
        ];
        assert_eq!(images(node), expected);
    }

    #[test]
    fn a_pod_has_what_its_containers_were_started_with() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let id = format!("docker.io/library/nginx@{digest}");
        let running = |name: &str, image: &str, id: &str| json!({"name": name, "image": image, "imageID": id, "state": {"running": {}}});
        let pod = |phase: &str| {
            json!({
                "metadata": {"name": "web", "namespace": "shop"},
                "spec": {
                    "containers": [
                        {"name": "app", "image": "nginx"},
                        {"name": "new", "image": "nginx:9"},
                        {"name": "queued", "image": "nginx:8"},
                    ],
                    "initContainers": [{"name": "init", "image": "busybox:1"}],
                    "ephemeralContainers": [{"name": "debug", "image": "shell:1"}],
                    "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "model", "image": {"reference": "team/model:3"}}],
                },
                "status": {
                    "phase": phase,
                    "containerStatuses": [
                        // The runtime knows it by another of its names.
                        running("app", "docker.io/library/nginx:1.27", &id),
                        {"name": "new", "image": "nginx:9", "imageID": "", "state": {"waiting": {"reason": "ImagePullBackOff"}}},
                        {"name": "queued", "image": "nginx:8", "imageID": "", "state": {}},
                    ],
                    "initContainerStatuses": [{"name": "init", "image": "busybox:1", "imageID": "sha256:0", "state": {"terminated": {"exitCode": 0}}}],
                    "ephemeralContainerStatuses": [running("debug", "shell:1", &format!("docker-pullable://shell@{digest}"))],
                },
            })
        };
        let expected = [
            "busybox:1".to_owned(),
            "nginx:1.27".to_owned(),
            "nginx:latest".to_owned(),
            format!("nginx@{digest}"),
            "shell:1".to_owned(),
            format!("shell@{digest}"),
            "team/model:3".to_owned(),
        ];
        assert_eq!(images(pod("Running")), expected);
        for ended in ["Succeeded", "Failed"] {
            assert_eq!(images(pod(ended)), [""; 0], "{ended}");
        }
        let mut waiting = pod("Pending");
        waiting["status"] = json!({"phase": "Pending"});
        assert_eq!(images(waiting), [""; 0]);
    }
}
