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

/// What prometheus-client writes (OpenMetrics 1.0, section "Content-Type").
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
    match is_ready {
        true => (StatusCode::OK, text + "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, text + "not ready\n"),
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
