//! Requests at an even pace, whatever becomes of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kube::api::{Api, DynamicObject, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::node_under_test::Node;

/// What became of one request.
#[derive(Debug)]
pub struct Sent {
    pub at: Instant,
    pub took: Duration,
    /// What the API server answered, where it was not yes.
    pub failure: Option<String>,
}

/// Requests that are sent until it is stopped, beside what the test does.
pub struct Load {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Vec<Sent>>,
}

/// What to send, and how often.
pub struct Pace<'text> {
    pub namespace: &'text str,
    pub object: Value,
    pub per_second: u32,
    /// The API server does everything but store it.
    pub dry_run: bool,
}

impl Load {
    /// Creates the object again and again, under new names. A late request is made up for, so that the
    /// pace holds over all.
    pub fn start(node: &Node, pace: Pace<'_>) -> Self {
        let Pace {
            namespace,
            mut object,
            per_second,
            dry_run,
        } = pace;
        object["metadata"] = json!({"generateName": "load-"});
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let kubeconfig = Kubeconfig::read_from(node.cluster.kubeconfig()).unwrap();
        let namespace = namespace.to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sending = async move {
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            let client = Client::try_from(config.unwrap()).unwrap();
            let api: Api<DynamicObject> =
                Api::namespaced_with(client, &namespace, &resource(&object));
            let parameters = PostParams {
                dry_run,
                ..PostParams::default()
            };
            let mut clock = interval(Duration::from_secs(1) / per_second);
            let mut requests = JoinSet::new();
            while !stopped.load(Ordering::Relaxed) {
                clock.tick().await;
                requests.spawn(send(api.clone(), object.clone(), parameters.clone()));
            }
            requests.join_all().await
        };
        // A thread takes the network of the one that starts it.
        let sender = std::thread::spawn(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(sending)
        });
        Self { stop, sender }
    }

    /// Waits for the last answers, and gives all.
    pub fn stop(self) -> Vec<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().unwrap()
    }
}

async fn send(api: Api<DynamicObject>, object: DynamicObject, parameters: PostParams) -> Sent {
    let at = Instant::now();
    let answer = api.create(&parameters, &object).await;
    Sent {
        at,
        took: at.elapsed(),
        failure: answer.err().map(|error| error.to_string()),
    }
}

fn resource(object: &DynamicObject) -> ApiResource {
    let types = object.types.as_ref().unwrap();
    let version = &types.api_version;
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind))
}

/// Those that failed.
pub fn failures(sent: &[Sent]) -> Vec<&Sent> {
    sent.iter().filter(|sent| sent.failure.is_some()).collect()
}
