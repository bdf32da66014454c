//! Where images are already: the nodes that list them, and the Pods that were started with them.
//!
//! There are many Pods, and each replica watches them all, so of each image there is only a hash, by a
//! key of this process. A wrong match takes some 2⁶⁴ tries, and would soften a refusal to a warning.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::watcher;
use tokio::task::JoinSet;

use super::watched::Watched;
use super::{ClusterView, Starter, config};
use crate::evidence::{Holder, Platform, Unknown};
use crate::image::ImageReference;
use crate::lookup::holdings::Holdings;
use crate::review::scheduling::{ARCHITECTURE_LABEL, OS_LABEL};

/// Objects of one page of a list, which is held as text while it is read. A node with fifty images is
/// some 30 KB, and an object may have 1.5 MiB.
const PAGE: u32 = 25;
/// Pods that have ended hold no image, and there may be more of them than of others.
const NOT_ENDED: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// The nodes and Pods, watched.
pub(super) struct Images {
    pub(super) nodes: Arc<Watched<NodeSeen>>,
    pods: Arc<Watched<Marks>>,
    hasher: RandomState,
    _tasks: JoinSet<()>,
}

/// What is kept of a node.
#[derive(Debug)]
pub(super) struct NodeSeen {
    /// As kubelet labels its node (Kubernetes, "Well-Known Labels").
    pub(super) platform: Option<Platform>,
    images: Marks,
}

/// The hashes of images.
type Marks = Box<[u64]>;

// === impl Images ===

impl Images {
    pub(super) fn start(starter: &mut Starter) -> Self {
        let hasher = RandomState::new();
        let marks = {
            let hasher = hasher.clone();
            move |held: &Holdings| -> Marks {
                let images = held.images();
                images.iter().map(|image| hasher.hash_one(image)).collect()
            }
        };
        let of_node = marks.clone();
        let nodes =
            starter.objects::<Node, _, _>("nodes", paged(), move |mut node: Holdings| NodeSeen {
                images: of_node(&node),
                platform: platform(&mut node),
            });
        let running = paged().fields(NOT_ENDED);
        let pods = starter.objects::<Pod, _, _>("pods", running, move |pod: Holdings| marks(&pod));
        Self {
            nodes,
            pods,
            hasher,
            _tasks: std::mem::take(&mut starter.tasks),
        }
    }
}

fn paged() -> watcher::Config {
    config().page_size(PAGE)
}

fn platform(node: &mut Holdings) -> Option<Platform> {
    let labels = node.metadata.labels.as_mut()?;
    Some(Platform {
        os: labels.remove(OS_LABEL)?,
        architecture: labels.remove(ARCHITECTURE_LABEL)?,
    })
}

// === impl ClusterView ===

impl ClusterView {
    /// Who has an image without a registry, of those that can be seen: what Forestall may not list
    /// has none.
    ///
    /// # Errors
    /// Somebody may have it: not all have been listed yet.
    pub fn holder(&self, image: &ImageReference) -> Result<Option<Holder>, Unknown> {
        let images = self.images();
        let mark = images.hasher.hash_one(image);
        let node = self.read(&images.nodes, |nodes| {
            first(nodes, |node| node.images.contains(&mark)).map(Holder::Node)
        });
        let pod = || {
            self.read(&images.pods, |pods| {
                let pod = first(pods, |pod| pod.contains(&mark))?;
                let (namespace, name) = pod.split_once('/')?;
                let [namespace, name] = [namespace, name].map(ToOwned::to_owned);
                Some(Holder::Pod { namespace, name })
            })
        };
        let mut may_be_there = None;
        for seen in [node, pod()] {
            match seen {
                Ok(Some(holder)) => return Ok(Some(holder)),
                Ok(None) => {}
                Err(unknown) if unknown.is_lasting() => {}
                Err(unknown) => may_be_there = Some(unknown),
            }
        }
        may_be_there.map_or(Ok(None), Err)
    }
}

/// The name of the first that has it.
fn first<T>(objects: &BTreeMap<String, T>, has: impl Fn(&T) -> bool) -> Option<String> {
    let mut objects = objects.iter();
    objects
        .find(|(_, object)| has(object))
        .map(|(name, _)| name.clone())
}
