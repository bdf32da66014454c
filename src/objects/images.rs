//! Of Nodes and Pods: the images that are there already.
//!
//! There are many Pods, and each replica watches them all, so of each image there is only a hash, by a
//! key of this process. A wrong match takes some 2⁶⁴ tries, and would soften a refusal to a warning.

use super::{Projection, ReadableKind, Selector, keyed_hash};
use crate::image::ImageReference;
use crate::image::Platform;
use crate::review::WatchedKind;
use crate::review::scheduling::{ARCHITECTURE_LABEL, OS_LABEL};
use crate::tree::Node;
use crate::unknown::Unknown;

/// What cri-dockerd writes before the digest of an image (Kubernetes, "Container Images").
const DOCKER_PREFIX: &str = "docker-pullable://";

/// How the version of CRI-O begins, as it tells kubelet: `cri-o://1.34.0`.
const CRI_O: &str = "cri-o://";

/// The lists of containers in a Pod, with the lists of what became of them.
const CONTAINERS: [(&str, &str); 3] = [
    ("/spec/containers", "/status/containerStatuses"),
    ("/spec/initContainers", "/status/initContainerStatuses"),
    (
        "/spec/ephemeralContainers",
        "/status/ephemeralContainerStatuses",
    ),
];

/// Images, each as a hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSet(Box<[ImageHash]>);

/// The hash of an image, as [`ImageReference::pulled`] gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageHash(u64);

/// What is kept of a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// As kubelet labels its node (Kubernetes, "Well-Known Labels").
    pub platform: Option<Platform>,
    /// The images that it lists.
    pub images: ImageSet,
    /// Whether CRI-O runs its containers, with crun more often than with runc.
    pub has_crio: bool,
}

/// The images that the containers of a Pod were started with, unless the Pod has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodImages(pub ImageSet);

// === impl ImageSet ===

impl ImageSet {
    /// Whether an image of this hash is among them.
    #[must_use]
    pub fn has(&self, image: ImageHash) -> bool {
        self.0.binary_search(&image).is_ok()
    }

    /// The images of these names; what is no name of an image is left out.
    pub(crate) fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        // A bare ID would be read as a repository of that name.
        let names = names
            .into_iter()
            .filter(|name| !name.starts_with("sha256:"));
        let images = names.filter_map(|name| ImageReference::parse(name).ok());
        let hashes = images.map(|image| ImageHash::of(&image.pulled()));
        let mut hashes: Vec<_> = hashes.collect();
        hashes.sort_unstable();
        hashes.dedup();
        Self(hashes.into())
    }
}

// === impl ImageHash ===

impl ImageHash {
    /// The hash of an image.
    #[must_use]
    pub fn of(image: &ImageReference) -> Self {
        Self(keyed_hash(image))
    }
}

// === impl NodeState ===

impl Projection for NodeState {
    const KINDS: &'static [ReadableKind] =
        &[ReadableKind::v1(WatchedKind::cluster("", "Node", "nodes"))];

    fn of(node: Node<'_>, _: WatchedKind) -> Result<Option<Self>, Unknown> {
        let label = |name| Some(node.at("/metadata/labels")?.get(name)?.as_str()?.to_owned());
        let platform = label(OS_LABEL).zip(label(ARCHITECTURE_LABEL));
        let images = items(node, "/status/images");
        let runtime = node.text_at("/status/nodeInfo/containerRuntimeVersion");
        // An image without a name is written as null.
        let names = images.flat_map(|image| items(image, "/names"));
        Ok(Some(Self {
            platform: platform.map(|(os, architecture)| Platform { os, architecture }),
            images: ImageSet::of(names.filter_map(Node::as_str)),
            has_crio: runtime.is_some_and(|runtime| runtime.starts_with(CRI_O)),
        }))
    }
}

// === impl PodImages ===

impl Projection for PodImages {
    const KINDS: &'static [ReadableKind] =
        &[ReadableKind::v1(WatchedKind::namespaced("", "Pod", "pods"))];

    /// Pods that have ended hold no image, and there may be more of them than of others.
    const SELECTOR: Selector = Selector {
        fields: "status.phase!=Succeeded,status.phase!=Failed",
        ..Selector::ALL
    };

    /// A runtime may call an image by another of its names, so what the Pod asked for counts too.
    /// A node pulls image volumes before it starts the first container.
    fn of(pod: Node<'_>, _: WatchedKind) -> Result<Option<Self>, Unknown> {
        if matches!(pod.text_at("/status/phase"), Some("Succeeded" | "Failed")) {
            return Ok(None);
        }
        let mut names = Vec::new();
        for (containers, statuses) in CONTAINERS {
            for status in items(pod, statuses).filter(|status| has_started(*status)) {
                let name = status.text_at("/name");
                let mut asked = items(pod, containers);
                let asked = asked.find(|asked| asked.text_at("/name") == name);
                names.extend(asked.and_then(|asked| asked.text_at("/image")));
                names.extend(status.text_at("/image"));
                let id = status.text_at("/imageID").unwrap_or_default();
                names.push(id.strip_prefix(DOCKER_PREFIX).unwrap_or(id));
            }
        }
        if !names.is_empty() {
            let volumes = items(pod, "/spec/volumes");
            names.extend(volumes.filter_map(|volume| volume.text_at("/image/reference")));
        }
        Ok(Some(Self(ImageSet::of(names))))
    }
}

fn has_started(status: Node<'_>) -> bool {
    let waiting = status.at("/state/waiting");
    status.text_at("/imageID").is_some_and(|id| !id.is_empty()) && waiting.is_none_or(Node::is_null)
}

fn items<'t>(object: Node<'t>, pointer: &str) -> impl Iterator<Item = Node<'t>> + use<'t> {
    object.at(pointer).into_iter().flat_map(Node::items)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tree::Tree;

    fn assert_has(images: &ImageSet, expected: &[&str]) {
        assert_eq!(*images, ImageSet::of(expected.iter().copied()));
        assert_eq!(images.0.len(), expected.len());
        for image in expected {
            let hash = ImageHash::of(&ImageReference::parse(image).unwrap().pulled());
            assert!(images.has(hash), "{image}");
        }
    }

    fn project<P: Projection>(object: Value) -> Option<P> {
        P::of(Tree::from(object).root(), P::KINDS[0].kind).unwrap()
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
        let node: NodeState = project(node).unwrap();
        let by_digest = format!("nginx@{digest}");
        assert_has(
            &node.images,
            &["nginx:1.27", &by_digest, "quay.io/team/app:v1"],
        );
        assert_eq!(node.platform, None);
    }

    #[test]
    fn the_platform_of_a_node_stands_in_its_labels() {
        let labels = json!({OS_LABEL: "linux", ARCHITECTURE_LABEL: "arm64"});
        let node: NodeState = project(json!({"metadata": {"labels": labels}})).unwrap();
        assert_eq!(node.platform.unwrap().to_string(), "linux/arm64");
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
            "busybox:1",
            "nginx:1.27",
            "nginx:latest",
            &format!("nginx@{digest}"),
            "shell:1",
            &format!("shell@{digest}"),
            "team/model:3",
        ];
        let images: PodImages = project(pod("Running")).unwrap();
        assert_has(&images.0, &expected);
        for ended in ["Succeeded", "Failed"] {
            assert_eq!(project::<PodImages>(pod(ended)), None, "{ended}");
        }
        let mut waiting = pod("Pending");
        waiting["status"] = json!({"phase": "Pending"});
        let images: PodImages = project(waiting).unwrap();
        assert_has(&images.0, &[]);
    }
}
