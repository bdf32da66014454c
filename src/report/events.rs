//! Events on objects in the cluster: what was found in them, where `kubectl describe` shows it.
//!
//! An Event has a name that follows from what it says, so it is written once, however often it is
//! found, and whoever leads. Writing is slow on purpose, one after another; what comes too fast, or
//! is not taken by the API server, is dropped and counted. Nothing waits for it.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::core::Status;
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::metrics::Metrics;
use super::visible::{cut, one_line};
use crate::verdict::Record;

/// Who reports, in the field of that name.
const CONTROLLER: &str = "forestall.dev/webhook";
/// What was done to the object.
const ACTION: &str = "Judging";
/// The namespace of Events about objects that have none (k8s.io/kubernetes, pkg/apis/core/validation).
const CLUSTER_SCOPED: &str = "default";
/// Bytes of a note (same place).
const LONGEST_NOTE: usize = 1024;
/// Characters of the reporting instance (same place).
const LONGEST_INSTANCE: usize = 128;
/// Characters of the object's name in an Event's name, which may have 253 with what follows.
const LONGEST_NAME: usize = 200;
/// Events that wait.
const MOST_WAITING: usize = 512;
/// Events that are known to be written. More than this, and some are asked for twice.
const MOST_WRITTEN: usize = 65_536;
/// Between two Events: a cluster with a thousand findings has them all in a few minutes.
const PAUSE: Duration = Duration::from_millis(100);
/// For one answer of the API server.
const ANSWER: Duration = Duration::from_secs(5);

/// Takes Events.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<(u64, Event)>,
    known: Known,
    instance: String,
    metrics: Arc<Metrics>,
}

/// Writes Events.
pub struct Writer {
    queue: mpsc::Receiver<(u64, Event)>,
    known: Known,
    client: Client,
    metrics: Arc<Metrics>,
}

/// What waits or is written, by its hash.
#[derive(Clone, Debug, Default)]
struct Known(Arc<Mutex<BTreeSet<u64>>>);

/// A recorder and its writer. `instance` names this process.
#[must_use]
pub fn recorder(client: Client, instance: &str, metrics: Arc<Metrics>) -> (Recorder, Writer) {
    let (sender, receiver) = mpsc::channel(MOST_WAITING);
    let known = Known::default();
    let recorder = Recorder {
        queue: sender,
        known: known.clone(),
        instance: cut(instance, LONGEST_INSTANCE).to_owned(),
        metrics: Arc::clone(&metrics),
    };
    let writer = Writer {
        queue: receiver,
        known,
        client,
        metrics,
    };
    (recorder, writer)
}

// === impl Recorder ===

impl Recorder {
    /// Records a finding in an object, unless that is done already. Where there is no room it is
    /// dropped; whoever finds it again may try again.
    pub fn record(&self, object: &ObjectReference, record: &Record, would_refuse: bool) {
        let hash = hash(object, record);
        if !self.known.add(hash) {
            return;
        }
        let event = event(object, record, would_refuse, hash, &self.instance);
        if self.queue.try_send((hash, event)).is_err() {
            self.known.forget(hash);
            self.metrics.events_dropped.inc();
        }
    }
}

// === impl Writer ===

impl Writer {
    /// Writes until the last recorder is gone.
    pub async fn run(mut self) {
        let mut complaint = None;
        while let Some((hash, event)) = self.queue.recv().await {
            match self.write(&event).await {
                Ok(()) => complaint = None,
                Err(problem) => {
                    self.metrics.events_dropped.inc();
                    self.known.forget(hash);
                    if complaint.as_ref() != Some(&problem) {
                        tracing::warn!(
                            "an Event was dropped: {problem}; Forestall needs create on events of events.k8s.io"
                        );
                    }
                    complaint = Some(problem);
                }
            }
            sleep(PAUSE).await;
        }
    }

    async fn write(&self, event: &Event) -> Result<(), String> {
        let namespace = event.metadata.namespace.as_deref();
        let events: Api<Event> =
            Api::namespaced(self.client.clone(), namespace.unwrap_or(CLUSTER_SCOPED));
        let parameters = PostParams::default();
        match timeout(ANSWER, events.create(&parameters, event)).await {
            Ok(Ok(_)) => Ok(()),
            // It is there: from an earlier leader, say.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(()),
            Ok(Err(kube::Error::Api(status))) if is_gone(&status) => Ok(()),
            // The reason names no object, so that the same one is said once.
            Ok(Err(kube::Error::Api(status))) => Err(format!(
                "the API server says {} ({})",
                status.code, status.reason
            )),
            Ok(Err(_)) | Err(_) => Err("the API server does not answer".to_owned()),
        }
    }
}

/// Whether the namespace is gone or going, and with it whoever should be told.
fn is_gone(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 404 || causes.any(|cause| cause.reason == "NamespaceTerminating")
}

// === impl Known ===

impl Known {
    /// False where it is there already.
    fn add(&self, hash: u64) -> bool {
        let mut known = self.lock();
        if known.len() >= MOST_WRITTEN {
            known.clear();
        }
        known.insert(hash)
    }

    fn forget(&self, hash: u64) {
        self.lock().remove(&hash);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What makes an Event the same: the object, the guardrail, and what it found. The same in every
/// process of one version; another version may tell a finding once more.
fn hash(object: &ObjectReference, record: &Record) -> u64 {
    let finding = &record.finding;
    let mut hasher = DefaultHasher::new();
    object.uid.hash(&mut hasher);
    record.meta.name.hash(&mut hasher);
    (&finding.item, &finding.value, &finding.message).hash(&mut hasher);
    hasher.finish()
}

fn event(
    object: &ObjectReference,
    record: &Record,
    would_refuse: bool,
    hash: u64,
    instance: &str,
) -> Event {
    let finding = &record.finding;
    let note = format!(
        "{}: {}; {}",
        record.meta.name, finding.message, finding.help
    );
    let note = one_line(&note);
    let name = object.name.as_deref().unwrap_or_default();
    let name = cut(name, LONGEST_NAME).trim_end_matches(['.', '-']);
    let namespace = object.namespace.as_deref().unwrap_or(CLUSTER_SCOPED);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{hash:016x}")),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(Timestamp::now())),
        type_: Some("Warning".to_owned()),
        reason: Some(
            if would_refuse {
                "WouldRefuse"
            } else {
                "WouldWarn"
            }
            .to_owned(),
        ),
        action: Some(ACTION.to_owned()),
        note: Some(note[..note.floor_char_boundary(LONGEST_NOTE)].to_owned()),
        regarding: Some(object.clone()),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::http::{Request, Response};
    use kube::client::Body;

    use super::*;
    use crate::config::Mode;
    use crate::rules::catalogue;
    use crate::rules::{Certainty, Finding};
    use crate::verdict::Action;

    fn object(name: &str) -> ObjectReference {
        ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some("Deployment".to_owned()),
            namespace: Some("shop".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(format!("uid-of-{name}")),
            ..ObjectReference::default()
        }
    }

    fn record(message: &str) -> Record {
        Record {
            meta: catalogue::find("missing-image").unwrap(),
            mode: Mode::Audit,
            finding: Finding {
                certainty: Certainty::Proven,
                path: "/spec".to_owned(),
                item: "app".to_owned(),
                value: "a:1".to_owned(),
                magnitude: None,
                message: message.to_owned(),
                help: "write another".to_owned(),
                offers: Vec::new(),
                response: crate::rules::Response::Refuse,
            },
            action: Action::Record { would_refuse: true },
            unchanged: false,
        }
    }

    fn written(object: &ObjectReference, record: &Record, would_refuse: bool) -> Event {
        event(object, record, would_refuse, hash(object, record), "pod_1")
    }

    #[test]
    fn the_same_finding_has_the_same_name_and_another_one_has_not() {
        let web = object("web");
        let name = |object: &ObjectReference, message| {
            let event = written(object, &record(message), true);
            event.metadata.name.unwrap()
        };
        let first = name(&web, "gone");
        assert_eq!(name(&web, "gone"), first);
        assert!(
            first.starts_with("web.") && first.len() == "web.".len() + 16,
            "{first}"
        );
        assert_ne!(name(&web, "elsewhere"), first);
        let mut recreated = web.clone();
        recreated.uid = Some("another".to_owned());
        assert_ne!(name(&recreated, "gone"), first);
        let long = name(&object(&"a".repeat(253)), "gone");
        assert!(long.len() <= 253 && long.starts_with("aaa"), "{long}");
        let cut_at_a_dash = format!("{}-{}", "a".repeat(LONGEST_NAME - 1), "b".repeat(20));
        let name = name(&object(&cut_at_a_dash), "gone");
        assert!(!name.contains("-."), "{name}");
    }

    #[test]
    fn a_note_is_one_line_without_tricks_and_not_too_long() {
        let forged = record("a\nb \u{202e}c \u{1b}[2J");
        let note = written(&object("web"), &forged, true).note.unwrap();
        assert_eq!(
            note,
            "missing-image: a b \\u{202e}c \\u{1b}[2J; write another"
        );
        let note = written(&object("web"), &record(&"ä".repeat(1000)), true)
            .note
            .unwrap();
        assert!((1023..=1024).contains(&note.len()), "{}", note.len());
    }

    #[test]
    fn an_event_is_about_its_object_where_the_object_is() {
        let event = written(&object("web"), &record("gone"), false);
        assert_eq!(event.reason.as_deref(), Some("WouldWarn"));
        assert_eq!(event.regarding, Some(object("web")));
        assert_eq!(event.metadata.namespace.as_deref(), Some("shop"));
        let mut cluster_scoped = object("web");
        cluster_scoped.namespace = None;
        let event = written(&cluster_scoped, &record("gone"), true);
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(event.reason.as_deref(), Some("WouldRefuse"));
    }

    #[test]
    fn nobody_misses_an_event_in_a_namespace_that_goes() {
        let status = |value: serde_json::Value| serde_json::from_value(value).unwrap();
        let terminating = serde_json::json!({"code": 403, "reason": "Forbidden", "details": {
            "causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]}});
        assert!(is_gone(&status(terminating)));
        assert!(is_gone(&status(serde_json::json!({"code": 404}))));
        assert!(!is_gone(&status(
            serde_json::json!({"code": 403, "reason": "Forbidden"})
        )));
    }

    /// A client that is never asked.
    fn nobody() -> Client {
        let service = tower::service_fn(async |_: Request<Body>| {
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn case_87_what_waits_is_bounded_and_the_rest_is_counted_and_may_be_tried_again() {
        let metrics = Arc::new(Metrics::default());
        let (recorder, mut writer) = recorder(nobody(), "pod_1", Arc::clone(&metrics));
        let web = object("web");
        for number in 0..MOST_WAITING {
            recorder.record(&web, &record(&number.to_string()), true);
        }
        recorder.record(&web, &record("0"), true);
        assert_eq!(
            metrics.events_dropped.get(),
            0,
            "what waits already is not dropped"
        );
        recorder.record(&web, &record("one more"), true);
        assert_eq!(metrics.events_dropped.get(), 1);
        writer.queue.recv().await.unwrap();
        recorder.record(&web, &record("one more"), true);
        assert_eq!(metrics.events_dropped.get(), 1);
        assert_eq!(writer.queue.len(), MOST_WAITING);
    }
}
