//! A real Kubernetes of one node, the image of the Dockerfile in its registry, and the packed chart.

use std::fs::File;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::control_plane::{ControlPlane, Output, run};
use crate::go::go_program;

/// Where images are pushed to from within the node's network, and asked for over HTTP.
pub const REGISTRY: &str = "10.123.0.1:5000";
/// What the node calls the same registry.
pub const REGISTRY_NAME: &str = "registry.test:5000";
/// The tag of the image of the Dockerfile, in the repository `forestall`.
pub const TAG: &str = "test";
/// What else the registry has; everything else is missing.
const IMAGES: [&str; 7] = [
    "grafana/alloy:v1.5.0",
    "grafana/loki:2.9.17",
    "grafana/loki:3.0.0",
    "otel/opentelemetry-collector-contrib:0.116.0",
    "prom/prometheus:v2.54.1",
    "prom/prometheus:v2.55.0",
    "prom/prometheus:v2.55.1",
];

static NODE: Mutex<Option<Node>> = Mutex::new(None);

/// The node with what was brought to it.
pub struct Node {
    pub cluster: ControlPlane,
    /// The chart, as it is published.
    pub chart: PathBuf,
    helm: PathBuf,
    files: TempDir,
}

/// The node, for one test at a time: it has few processors, and webhooks are registered for all of it.
/// Until the turn ends, what this thread and its children open is in the node's network.
pub struct Turn {
    node: MutexGuard<'static, Option<Node>>,
    outside: File,
}

impl Turn {
    /// Waits for the turn.
    pub fn wait() -> Self {
        // A test that failed has left no less than one that passed.
        let mut node = NODE.lock().unwrap_or_else(PoisonError::into_inner);
        let outside = File::open("/proc/thread-self/ns/net").unwrap();
        let network = node.get_or_insert_with(Node::start).network();
        enter_network(&network);
        Self { node, outside }
    }

    /// Takes the node down, and waits until that is done. The turn goes on, so that no other node comes
    /// up meanwhile; the next turn brings up another.
    pub fn end_node(&mut self) {
        enter_network(&self.outside);
        self.node.take();
    }
}

impl Deref for Turn {
    type Target = Node;

    fn deref(&self) -> &Node {
        self.node
            .as_ref()
            .expect("a turn has a node until it ends it")
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        enter_network(&self.outside);
    }
}

impl Node {
    fn start() -> Self {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let helm = go_program("helm");
        let files = tempfile::tempdir().unwrap();
        let mut package = Command::new(&helm);
        package.arg("package").arg(project.join("charts/forestall"));
        let packed = run(package.arg("--destination").arg(files.path()), "");
        assert!(packed.success, "helm package: {}", packed.stderr);
        let chart = packed.stdout.trim_end().rsplit(' ').next().unwrap();
        let node = Self {
            cluster: ControlPlane::by_script("node.sh", IMAGES),
            chart: PathBuf::from(chart),
            helm,
            files,
        };
        enter_network(&node.network());
        push_image(&format!("{REGISTRY}/forestall:{TAG}"));
        node
    }

    /// The network namespace.
    fn network(&self) -> File {
        File::open(self.state().join("netns")).unwrap()
    }

    /// The folder of tests/support/node.sh.
    pub fn state(&self) -> &Path {
        self.cluster.kubeconfig().ancestors().nth(2).unwrap()
    }

    /// Runs Helm as administrator.
    pub fn helm(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(&self.helm);
        command
            .args(arguments)
            .env("KUBECONFIG", self.cluster.kubeconfig());
        for place in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(place, self.files.path().join(place));
        }
        run(&mut command, input)
    }
}

/// Pushes the image that the Makefile has built; see tests/support/image.sh.
fn push_image(reference: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/image.sh");
    let pushed = run(Command::new(script).args(["push", reference]), "");
    assert!(pushed.success, "tests/support/image.sh: {}", pushed.stderr);
}

/// For this thread, and for what it starts from now on.
fn enter_network(namespace: &File) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}
