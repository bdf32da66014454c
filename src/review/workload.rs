//! Where pods are described: every kind that carries a pod template, and the containers in it.

use std::borrow::Cow;
use std::cell::LazyCell;
use std::collections::BTreeSet;

use super::{Review, WatchedKind};
use crate::image::{DEFAULT_TAG, ImageReference, InvalidReference};
use crate::tree::Node;
use crate::unknown::Unknown;

/// A kind whose objects describe pods.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Template {
    pub(crate) kind: WatchedKind,
    /// The versions in which it is served.
    pub(crate) versions: &'static [&'static str],
    /// Where the PodSpec lies.
    pod_spec: &'static str,
}

/// The kinds that carry a pod template, and Pods themselves.
pub(crate) const TEMPLATES: &[Template] = &[
    Template {
        pod_spec: "/spec",
        ..template("", "Pod", "pods")
    },
    template("", "ReplicationController", "replicationcontrollers"),
    template("apps", "Deployment", "deployments"),
    template("apps", "ReplicaSet", "replicasets"),
    template("apps", "StatefulSet", "statefulsets"),
    template("apps", "DaemonSet", "daemonsets"),
    template("batch", "Job", "jobs"),
    Template {
        pod_spec: "/spec/jobTemplate/spec/template/spec",
        ..template("batch", "CronJob", "cronjobs")
    },
    Template {
        versions: &["v1alpha1"],
        ..template("argoproj.io", "Rollout", "rollouts")
    },
];

const fn template(group: &'static str, kind: &'static str, plural: &'static str) -> Template {
    Template {
        kind: WatchedKind::namespaced(group, kind, plural),
        versions: &["v1"],
        pod_spec: "/spec/template/spec",
    }
}

/// Every kind in which [`Review::containers`] finds something.
pub const WORKLOADS: &[WatchedKind] = &{
    let mut kinds = [TEMPLATES[0].kind; TEMPLATES.len()];
    let mut index = 0;
    while index < TEMPLATES.len() {
        kinds[index] = TEMPLATES[index].kind;
        index += 1;
    }
    kinds
};

/// Where a container or a PodSpec has its memory limit, and what it requests.
const MEMORY_LIMIT: &str = "/resources/limits/memory";
const MEMORY_REQUEST: &str = "/resources/requests/memory";

/// Where a volume has the image that it shows.
const VOLUME_REFERENCE: &str = "/image/reference";

/// No node has so much memory, in bytes: a million gigabytes.
pub const MOST_MEMORY_BYTES: i128 = 1_000_000_000_000_000;

/// Bytes of an image reference that guardrails look at; the longest that is one has some 800. What is
/// longer is in no cluster, and would be copied into everything that is said of it.
pub(crate) const LONGEST_TEXT: usize = 1024;

/// Bytes of a name: those of a DNS subdomain (RFC 1123), the longest of any object.
pub(crate) const LONGEST_NAME: usize = 253;

/// Bytes of a memory limit: three times the digits of the greatest `i64`, and a unit.
const LONGEST_LIMIT: usize = 64;

/// Containers of one object that are looked at, and images. A node runs 110 pods by default, and a pod
/// with a hundred containers was never seen.
pub(crate) const MOST_CONTAINERS: usize = 250;

/// Where something lies in the lists of a PodSpec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ContainerPath {
    base: &'static str,
    list: &'static str,
    index: usize,
}

/// A memory limit as it is written: that of a container, or of the whole pod.
#[derive(Clone, Debug)]
pub struct MemoryLimit<'a> {
    /// What it limits, as a sentence begins: `container app`, or `the pod`.
    pub holder: String,
    /// The same by name, which stays when a list is reordered.
    pub item: Cow<'a, str>,
    /// The limit.
    pub value: Node<'a>,
    /// The memory that the same container or pod requests.
    pub request: Option<Node<'a>>,
    /// Where the limit lies in the object.
    pub pointer: String,
}

/// One container of a pod template.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    /// Its name; empty where it has none.
    pub name: &'a str,
    /// The container itself.
    pub value: Node<'a>,
    place: ContainerPath,
}

/// What several guardrails want of one pod template.
#[derive(Clone, Debug, Default)]
pub(super) struct Pod {
    /// Where each container lies, and its node in the object.
    containers: Vec<(ContainerPath, usize)>,
    images: Vec<ImageUse>,
}

/// One place in an object that names an image.
#[derive(Clone, Debug)]
pub struct ImageUse {
    /// The container, the volume or the field that uses it, which stays when a list is reordered.
    pub item: String,
    /// The reference as written.
    pub written: String,
    /// The same, read.
    pub reference: Result<ImageReference, InvalidReference>,
    /// The pull policy as written.
    pub pull_policy: Option<String>,
    at: At,
}

/// Where an image is written.
#[derive(Clone, Debug)]
enum At {
    /// In a field of an item of a PodSpec.
    Item(ContainerPath, &'static str),
    Pointer(String),
}

// === impl ContainerPath ===

impl ContainerPath {
    fn pointer(self) -> String {
        let Self { base, list, index } = self;
        format!("{base}/{list}/{index}")
    }
}

// === impl Container ===

impl<'a> Container<'a> {
    fn new(place: ContainerPath, value: Node<'a>) -> Self {
        Self {
            name: value.text("name").unwrap_or_default(),
            value,
            place,
        }
    }

    fn image(&self) -> Result<Option<ImageUse>, Unknown> {
        let image = self.value.get("image").filter(|image| !image.is_null());
        let Some(image) = image else {
            return Ok(None);
        };
        let mut used = ImageUse::new(
            self.item().into_owned(),
            &image.plain(),
            self.value.text("imagePullPolicy"),
            At::Item(self.place, "/image"),
        );
        if let Some(kind) = scalar_kind(image) {
            let seen = image.spelling().unwrap_or(&used.written).to_owned();
            used.reference = Err(InvalidReference::NotText { seen, kind });
        } else if !image.is_string() {
            let pointer = format!("{}/image", self.place.pointer());
            return Err(Unknown::unreadable(&pointer, "is no text"));
        }
        Ok(Some(used))
    }

    /// What tells it from others: its name, or where it stands and what it has for a name.
    #[must_use]
    pub fn item(&self) -> Cow<'a, str> {
        if !self.name.is_empty() {
            return Cow::Borrowed(self.name);
        }
        let ContainerPath { list, index, .. } = self.place;
        let name = self.value.get("name");
        let name = name.and_then(|name| Some((name, scalar_kind(name)?)));
        let Some((name, kind)) = name else {
            return Cow::Owned(format!("{list}[{index}]"));
        };
        let why = match name.spelling() {
            Some(written) => format!("{written} is a {kind} in YAML"),
            None => format!("a {kind}"),
        };
        Cow::Owned(format!("{list}[{index}], name: {name} ({why})"))
    }

    /// Its memory limit, where it has one.
    #[must_use]
    pub fn memory_limit(&self) -> Option<MemoryLimit<'a>> {
        // Most have none, or are asked by several guardrails: names are made for those that have one.
        self.value.at(MEMORY_LIMIT)?;
        let item = self.item();
        let holder = if self.name.is_empty() {
            item.clone().into_owned()
        } else {
            format!("container {item}")
        };
        MemoryLimit::of(self.value, &self.place.pointer(), holder, item)
    }

    /// The names of the volumes that it mounts.
    fn mounts(&self) -> impl Iterator<Item = &'a str> {
        let mounts = self.value.get("volumeMounts");
        let mounts = mounts.into_iter().flat_map(Node::items);
        mounts.filter_map(|mount| mount.text("name"))
    }
}

// === impl MemoryLimit ===

impl<'a> MemoryLimit<'a> {
    /// The limit in the resources of a container or a PodSpec, which lies at this pointer.
    fn of(value: Node<'a>, base: &str, holder: String, item: Cow<'a, str>) -> Option<Self> {
        let limit = value.at(MEMORY_LIMIT).filter(|limit| !limit.is_null())?;
        Some(Self {
            holder,
            item,
            value: limit,
            request: value
                .at(MEMORY_REQUEST)
                .filter(|request| !request.is_null()),
            pointer: format!("{base}{MEMORY_LIMIT}"),
        })
    }

    /// As a message shows it: in quotes, and where YAML reads a number otherwise than it is written,
    /// in both ways.
    #[must_use]
    pub fn shown(&self) -> String {
        let seen = format!("{:?}", self.value.plain());
        match self.value.spelling() {
            Some(written) => format!("{written}, which YAML reads as {seen}"),
            None => seen,
        }
    }
}

// === impl ImageUse ===

impl ImageUse {
    /// An image that is named outside of a PodSpec.
    pub(super) fn at(
        item: String,
        written: &str,
        pull_policy: Option<&str>,
        pointer: String,
    ) -> Self {
        Self::new(item, written, pull_policy, At::Pointer(pointer))
    }

    fn new(item: String, written: &str, pull_policy: Option<&str>, at: At) -> Self {
        Self {
            item,
            written: written.to_owned(),
            reference: ImageReference::parse(written),
            pull_policy: pull_policy.map(ToOwned::to_owned),
            at,
        }
    }

    /// Whether it is the image of this container.
    #[must_use]
    pub fn is_of(&self, container: &Container<'_>) -> bool {
        matches!(&self.at, At::Item(place, _) if *place == container.place)
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
        match self.pull_policy.as_deref() {
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
    pub fn pod_spec(&self) -> Result<Option<(&'static str, Node<'_>)>, Unknown> {
        pod_spec(&self.subject.group, &self.subject.kind, self.root())
    }

    /// All containers: init containers and sidecars, ephemeral and ordinary ones.
    ///
    /// # Errors
    /// [`Unknown::Unreadable`] where a list of containers is something else, or a text in one is
    /// far too long.
    pub fn containers(&self) -> Result<impl Iterator<Item = Container<'_>>, Unknown> {
        let containers = self.pod()?.containers.iter();
        Ok(containers.map(|(place, index)| Container::new(*place, self.object.node(*index))))
    }

    /// The memory limit of the whole pod, which all its containers share (Kubernetes, "Pod-level
    /// resources", on by default since 1.34).
    ///
    /// # Errors
    /// [`Unknown::Unreadable`] where something else lies on the way to it, or it is far too long.
    pub fn pod_memory_limit(&self) -> Result<Option<MemoryLimit<'_>>, Unknown> {
        let Some((base, spec)) = self.pod_spec()? else {
            return Ok(None);
        };
        short(spec, base, MEMORY_LIMIT, LONGEST_LIMIT)?;
        let the_pod = "the pod";
        let limit = MemoryLimit::of(spec, base, the_pod.to_owned(), the_pod.into());
        Ok(limit)
    }

    /// Every image without which a container does not start: its own, and those of the image volumes
    /// that it mounts.
    ///
    /// # Errors
    /// As [`Review::containers`], and where an image is no text.
    pub fn images(&self) -> Result<&[ImageUse], Unknown> {
        self.pod().map(|pod| &*pod.images)
    }

    fn pod(&self) -> Result<&Pod, Unknown> {
        let made = self.pod.get_or_init(|| match self.pod_spec()? {
            Some((base, spec)) => Pod::read(base, spec),
            None => Ok(Pod::default()),
        });
        made.as_ref().map_err(Clone::clone)
    }
}

/// The PodSpec of an object of this group and kind; see [`Review::pod_spec`].
pub(crate) fn pod_spec<'t>(
    group: &str,
    kind: &str,
    object: Node<'t>,
) -> Result<Option<(&'static str, Node<'t>)>, Unknown> {
    let mut templates = TEMPLATES.iter();
    let template =
        templates.find(|template| (template.kind.group, template.kind.kind) == (group, kind));
    let Some(Template { pod_spec, .. }) = template else {
        return Ok(None);
    };
    let mut here = object;
    let mut passed = 0;
    for key in pod_spec[1..].split('/') {
        passed += 1 + key.len();
        here = match here.get(key) {
            None => return Ok(None),
            Some(next) if next.is_null() => return Ok(None),
            Some(next) if next.is_map() => next,
            Some(_) => return Err(Unknown::unreadable(&pod_spec[..passed], "is no object")),
        };
    }
    Ok(Some((pod_spec, here)))
}

// === impl Pod ===

impl Pod {
    fn read(base: &'static str, spec: Node<'_>) -> Result<Self, Unknown> {
        let containers = read_containers(base, spec)?;
        let images = read_images(base, spec, &containers)?;
        let places = containers.iter();
        let places = places.map(|container| (container.place, container.value.index()));
        Ok(Self {
            containers: places.collect(),
            images,
        })
    }
}

fn read_containers<'a>(base: &'static str, spec: Node<'a>) -> Result<Vec<Container<'a>>, Unknown> {
    let mut containers = Vec::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let items = match spec.get(list) {
            Some(items) if items.is_list() => items.items(),
            Some(other) if !other.is_null() => {
                let pointer = format!("{base}/{list}");
                return Err(Unknown::unreadable(&pointer, "is not a list"));
            }
            _ => continue,
        };
        for (index, value) in items.enumerate() {
            let place = ContainerPath { base, list, index };
            if !value.is_map() {
                return Err(Unknown::unreadable(&place.pointer(), "is not a container"));
            }
            let here = place.pointer();
            short(value, &here, "/name", LONGEST_NAME)?;
            short(value, &here, "/image", LONGEST_TEXT)?;
            short(value, &here, MEMORY_LIMIT, LONGEST_LIMIT)?;
            if containers.len() == MOST_CONTAINERS {
                return Err(Unknown::TooMany);
            }
            containers.push(Container::new(place, value));
        }
    }
    Ok(containers)
}

/// The images of containers, and of the image volumes that they mount.
fn read_images(
    base: &'static str,
    spec: Node<'_>,
    containers: &[Container<'_>],
) -> Result<Vec<ImageUse>, Unknown> {
    let mut images = Vec::new();
    for container in containers {
        images.extend(container.image()?);
    }
    // kubelet starts a container whose mounts it has, whatever became of other volumes
    // (Kubernetes 1.37, pkg/kubelet/kuberuntime `toKubeContainerImageVolumes`).
    let mounted: LazyCell<BTreeSet<&str>, _> =
        LazyCell::new(|| containers.iter().flat_map(Container::mounts).collect());
    let volumes = spec.get("volumes");
    for (index, volume) in volumes.into_iter().flat_map(Node::items).enumerate() {
        let Some(reference) = volume.text_at(VOLUME_REFERENCE) else {
            continue;
        };
        let name = volume.text("name").unwrap_or_default();
        if !mounted.contains(name) {
            continue;
        }
        if images.len() == MOST_CONTAINERS {
            return Err(Unknown::TooMany);
        }
        let list = "volumes";
        let place = ContainerPath { base, list, index };
        let here = place.pointer();
        short(volume, &here, "/name", LONGEST_NAME)?;
        short(volume, &here, VOLUME_REFERENCE, LONGEST_TEXT)?;
        images.push(ImageUse::new(
            format!("volume {name}"),
            reference,
            volume.text_at("/image/pullPolicy"),
            At::Item(place, VOLUME_REFERENCE),
        ));
    }
    Ok(images)
}

/// What a value is that should be text, as where YAML reads `1.10` as a number and `y` as a boolean.
fn scalar_kind(value: Node<'_>) -> Option<&'static str> {
    if value.is_number() {
        return Some("number");
    }
    value.as_bool().map(|_| "boolean")
}

/// Whether a text in what lies here has a length that guardrails may copy.
fn short(value: Node<'_>, here: &str, field: &str, longest: usize) -> Result<(), Unknown> {
    match value.text_at(field) {
        Some(text) if text.len() > longest => Err(Unknown::unreadable(
            &format!("{here}{field}"),
            &format!("is longer than {longest} bytes"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
