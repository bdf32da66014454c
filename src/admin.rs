//! The port for operators: /livez, /readyz, /metrics. Plain HTTP, nothing to change here.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::report::metrics::Metrics;

/// What prometheus-client writes (the `OpenMetrics` 1.0 specification names it).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What must be true before requests may come.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<BTreeMap<&'static str, bool>>);

/// GET /livez, /readyz and /metrics. Others are 404, other methods 405.
pub fn router(readiness: Arc<Readiness>, metrics: Arc<Metrics>) -> Router {
    let metrics = move || async move { ([(CONTENT_TYPE, OPEN_METRICS)], metrics.encode()) };
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(readiness)
        .route("/metrics", get(metrics))
}

/// 200 where every condition is met, else 503 with those that are not; `?verbose` lists all.
async fn readyz(State(readiness): State<Arc<Readiness>>, uri: Uri) -> impl IntoResponse {
    let conditions = readiness.conditions();
    let is_ready = conditions.values().all(|met| *met);
    let asked = |word: &str| word == "verbose" || word.starts_with("verbose=");
    let verbose = uri.query().is_some_and(|query| query.split('&').any(asked));
    let mut text = String::new();
    for (name, met) in conditions {
        let sign = match met {
            true if !verbose => continue,
            true => '+',
            false => '-',
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "[{sign}] {name}");
    }
    if is_ready {
        (StatusCode::OK, text + "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, text + "not ready\n")
    }
}

// === impl Readiness ===

impl Readiness {
    /// All of these are unmet at first.
    #[must_use]
    pub fn waiting_for(conditions: &[&'static str]) -> Self {
        Self(Mutex::new(
            conditions.iter().map(|name| (*name, false)).collect(),
        ))
    }

    /// Says whether a condition is met now.
    pub fn set(&self, condition: &'static str, met: bool) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(condition, met);
    }

    /// All conditions, and whether they are met.
    #[must_use]
    pub fn conditions(&self) -> BTreeMap<&'static str, bool> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The conditions that are not met.
    #[must_use]
    pub fn unmet(&self) -> Vec<&'static str> {
        let conditions = self.conditions().into_iter();
        conditions
            .filter(|(_, met)| !met)
            .map(|(name, _)| name)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn get(readiness: &Arc<Readiness>, path: &str) -> (StatusCode, String, String) {
        let router = router(readiness.clone(), Arc::default());
        let request = Request::get(path).body(Body::empty()).unwrap();
        let (head, body) = router.oneshot(request).await.unwrap().into_parts();
        let media_type = head.headers.get(CONTENT_TYPE);
        let media_type = media_type.map(|value| value.to_str().unwrap().to_owned());
        let text = to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        (head.status, media_type.unwrap_or_default(), text)
    }

    #[tokio::test]
    async fn readiness_names_what_it_waits_for() {
        let readiness = Arc::new(Readiness::waiting_for(&["cluster", "config"]));
        readiness.set("config", true);
        let (status, _, text) = get(&readiness, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text, "[-] cluster\nnot ready\n");
        let (_, _, text) = get(&readiness, "/readyz?verbose").await;
        assert_eq!(text, "[-] cluster\n[+] config\nnot ready\n");
        assert_eq!(readiness.unmet(), ["cluster"]);
        readiness.set("cluster", true);
        let (status, _, text) = get(&readiness, "/readyz").await;
        assert_eq!((status, text.as_str()), (StatusCode::OK, "ok\n"));
    }

    #[tokio::test]
    async fn liveness_does_not_wait_for_readiness() {
        let readiness = Arc::new(Readiness::waiting_for(&["cluster"]));
        assert_eq!(get(&readiness, "/livez").await.0, StatusCode::OK);
        assert_eq!(get(&readiness, "/other").await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn metrics_are_open_metrics() {
        let (status, media_type, text) = get(&Arc::default(), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        let expected = "application/openmetrics-text";
        assert!(media_type.starts_with(expected), "{media_type}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
