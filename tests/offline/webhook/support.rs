//! A webhook with a table of facts for a cluster, and guardrails that do one thing each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use base64::Engine;
use forestall::config::{Config, Mode, NamespaceLabel};
use forestall::evidence::{Evidence, Questions, Unknown};
use forestall::guard::Guard;
use forestall::lookup::Lookup;
use forestall::report::metrics::Metrics;
use forestall::review::{self, Review, WatchedKind};
use forestall::rules::Guardrail;
use forestall::rules::{Certainty, Finding, Judgement, Meta, Rule};
use forestall::webhook::{ReviewLimits, Webhook, router};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;

pub const UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";

/// What the cluster and the registries would say.
#[derive(Clone, Default)]
pub struct Table {
    pub facts: Evidence,
    pub labels: BTreeMap<String, NamespaceLabel>,
    pub delay: Duration,
}

impl Lookup for Table {
    async fn gather(&self, asked: Questions, _: review::Door, by: Instant) -> Evidence {
        if tokio::time::timeout_at(by, tokio::time::sleep(self.delay))
            .await
            .is_err()
        {
            return asked.unknown(&Unknown::TimedOut);
        }
        self.facts.clone()
    }

    fn label(&self, namespace: &str) -> NamespaceLabel {
        self.labels
            .get(namespace)
            .copied()
            .unwrap_or(NamespaceLabel::Known(None))
    }
}

pub const POD: WatchedKind = WatchedKind::namespaced("", "Pod", "pods");
pub const DEPLOYMENT: WatchedKind = WatchedKind::namespaced("apps", "Deployment", "deployments");
pub const EXTERNAL_SECRET: WatchedKind =
    WatchedKind::namespaced("external-secrets.io", "ExternalSecret", "externalsecrets");

/// What a guardrail of a test is.
pub const fn meta(name: &'static str, repairs: bool) -> Meta {
    Meta {
        name,
        summary: "a guardrail of a test",
        incident: "none",
        watches: &[POD, DEPLOYMENT, EXTERNAL_SECRET],
        repairs,
        reads: &[],
        page: "",
    }
}

struct Judges<F>(F);

impl<F> Rule for Judges<F>
where
    F: Fn(&Review) -> Judgement + Send + Sync + std::panic::RefUnwindSafe,
{
    fn judge(&self, review: &Review, _: &Evidence) -> Judgement {
        self.0(review)
    }
}

/// A guardrail that judges by a function.
pub fn guardrail<F>(meta: &'static Meta, judge: F) -> Guardrail
where
    F: Fn(&Review) -> Judgement + Send + Sync + std::panic::RefUnwindSafe + 'static,
{
    Guardrail {
        meta,
        rule: Box::new(Judges(judge)),
    }
}

/// A proven finding about one item.
pub fn finding(item: &str, value: &str) -> Finding {
    Finding {
        certainty: Certainty::Proven,
        path: "/spec".to_owned(),
        item: item.to_owned(),
        value: value.to_owned(),
        magnitude: None,
        message: format!("{item} has {value:?}"),
        help: "write something else".to_owned(),
        offers: Vec::new(),
        response: forestall::rules::Response::Refuse,
    }
}

pub fn findings(findings: impl IntoIterator<Item = Finding>) -> Judgement {
    Judgement {
        findings: findings.into_iter().collect(),
        abstained: Vec::new(),
    }
}

/// A finding with a patch, unless the object is repaired.
pub fn repair(item: &str, patch: Value) -> Finding {
    Finding {
        certainty: Certainty::Likely,
        response: forestall::rules::Response::Repair(serde_json::from_value(patch).unwrap()),
        ..finding(item, "nothing")
    }
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn review(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/json");
        let review: Value = serde_json::from_str(&self.text).unwrap();
        assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(review["kind"], "AdmissionReview");
        review["response"].clone()
    }

    pub fn allowed(&self) -> bool {
        self.review()["allowed"].as_bool().unwrap()
    }

    pub fn message(&self) -> String {
        let response = self.review();
        assert_eq!(response["allowed"], false, "{response}");
        assert_eq!(response["status"]["code"], 403);
        assert_eq!(response["status"]["reason"], "Forbidden");
        response["status"]["message"].as_str().unwrap().to_owned()
    }

    pub fn warnings(&self) -> Vec<String> {
        let warnings = self.review()["warnings"].clone();
        serde_json::from_value::<Option<Vec<String>>>(warnings)
            .unwrap()
            .unwrap_or_default()
    }

    pub fn patch(&self) -> Option<json_patch::Patch> {
        let response = self.review();
        let patch = response.get("patch")?.as_str().unwrap();
        assert_eq!(response["patchType"], "JSONPatch");
        assert_eq!(response["allowed"], true);
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(patch)
            .unwrap();
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    /// Admitted with nothing to say, under the right uid.
    #[track_caller]
    pub fn is_plain(&self) {
        assert_eq!(self.review(), json!({"uid": UID, "allowed": true}));
    }

    /// Admitted, and said why it was not judged.
    #[track_caller]
    pub fn gave_up(&self, reason: &str) {
        let response = self.review();
        assert_eq!(response["uid"], UID);
        assert_eq!(response["allowed"], true, "{response}");
        let warning = response["warnings"][0].as_str().unwrap_or_default();
        assert!(
            warning.starts_with("forestall: could not evaluate ("),
            "{response}"
        );
        assert!(warning.contains(reason), "{response}");
        let noted = response["auditAnnotations"]["unknown"]
            .as_str()
            .unwrap_or_default();
        assert!(noted.contains(reason), "{response}");
    }
}

/// A webhook under test.
#[derive(Clone)]
pub struct Door<L = Table> {
    pub router: Router,
    pub webhook: Arc<Webhook<L>>,
    pub metrics: Arc<Metrics>,
}

impl<L: Lookup + 'static> Door<L> {
    pub fn new(guard: Guard<L>) -> Self {
        Self::limited(guard, ReviewLimits::default())
    }

    pub fn limited(guard: Guard<L>, limits: ReviewLimits) -> Self {
        let metrics = Arc::new(Metrics::default());
        let webhook = Arc::new(Webhook::new(guard, metrics.clone(), limits));
        Self {
            router: router(webhook.clone()),
            webhook,
            metrics,
        }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        Answer {
            status: head.status,
            headers: head.headers,
            text,
        }
    }

    pub async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.send(post(path, body)).await
    }

    pub async fn validate(&self, review: &Value) -> Answer {
        self.post("/validate?timeout=5s", review.to_string()).await
    }

    pub async fn mutate(&self, review: &Value) -> Answer {
        self.post("/mutate?timeout=2s", review.to_string()).await
    }

    /// Whether /metrics has this line.
    #[track_caller]
    pub fn counted(&self, line: &str) {
        let text = self.metrics.encode();
        assert!(
            text.lines().any(|found| found == line),
            "no {line} in\n{text}"
        );
    }
}

impl Door {
    /// The whole catalogue under enforce, with nothing known.
    pub fn of_catalogue() -> Self {
        Self::new(Guard::new(Config::default(), Table::default()).unwrap())
    }

    /// The same with time for large reviews: an unoptimized build takes seconds for one, and how fast a
    /// build is, is measured elsewhere.
    pub fn of_catalogue_with_time() -> Self {
        let limits = ReviewLimits {
            validate_time: Duration::from_mins(1),
            ..ReviewLimits::default()
        };
        let guard = Guard::new(Config::default(), Table::default()).unwrap();
        Self::limited(guard, limits)
    }

    /// These guardrails under this mode.
    pub fn of(mode: Mode, guardrails: Vec<Guardrail>) -> Self {
        let config = Config {
            mode: Some(mode),
            ..Config::default()
        };
        Self::new(Guard::with(config, guardrails, Table::default()))
    }

    /// A guardrail that finds something in every object, under this mode.
    pub fn that_objects(mode: Mode) -> Self {
        static OBJECTS: Meta = meta("test-objects", false);
        let judge = |_: &Review| findings([finding("the object", "anything")]);
        Self::of(mode, vec![guardrail(&OBJECTS, judge)])
    }
}

pub fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(body.into()).unwrap()
}

/// An AdmissionReview as kube-apiserver 1.37 sends it.
pub fn review_of(operation: &str, object: &Value, previous: &Value) -> Value {
    let seen = if object.is_null() { previous } else { object };
    let api_version = seen["apiVersion"].as_str().unwrap_or("v1");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = json!({"group": group, "version": version, "kind": seen["kind"]});
    let mut request = json!({
        "uid": UID,
        "kind": kind,
        "resource": {"group": group, "version": version, "resource": "things"},
        "requestKind": kind,
        "requestResource": {"group": group, "version": version, "resource": "things"},
        "namespace": "shop",
        "operation": operation,
        "userInfo": {"username": "kubernetes-admin", "groups": ["system:masters"]},
        "object": object,
        "oldObject": previous,
        "dryRun": false,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    });
    if let Some(name) = seen["metadata"]["name"].as_str() {
        request["name"] = json!(name);
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
}

pub fn create(object: &Value) -> Value {
    review_of("CREATE", object, &Value::Null)
}

pub fn update(object: &Value, previous: &Value) -> Value {
    review_of("UPDATE", object, previous)
}

/// A Deployment with one container under this memory limit.
pub fn deployment(memory: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"template": {"spec": {"containers": [{
            "name": "app",
            "image": "nginx:1.27",
            "resources": {"limits": {"memory": memory}},
        }]}}},
    })
}

/// The same as a Pod.
pub fn pod(memory: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": deployment(memory)["spec"]["template"]["spec"],
    })
}
