//! The webhook: an AdmissionReview in, an AdmissionReview out.
//!
//! ```text
//! request ─body─► bytes ─envelope─► Review ─► Judging::judge ─► Verdict ─answer─► response
//! ```
//!
//! Whatever goes wrong after the uid is known is answered with `allowed: true` and said there. Only
//! what is no AdmissionReview, or too much, is an HTTP error, which the failurePolicy decides upon.

pub mod answer;
mod body;
pub mod envelope;
pub mod handler;
mod outcome;
pub mod server;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use tokio::sync::Semaphore;

use crate::guard::Guard;
use crate::judging::{Judging, memory};
use crate::lookup::Lookup;
use crate::report::metrics::Metrics;

/// What one process takes on. A test may lower them; the defaults are made for production.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReviewLimits {
    /// Bytes of one body. 32 MiB: a request of 3 MiB, which is the most that an API server takes, was
    /// seen to arrive as 18.6 MB, because Go writes `<`, `>` and `&` in six characters each.
    pub body_bytes: usize,
    /// Bytes of memory that all reviews in flight may take, bodies and what is made of them. 128 MiB.
    pub memory: usize,
    /// Reviews that are being read or judged. 512: what two cores do in about 20 ms.
    pub reviews_in_flight: usize,
    /// From the head of a request to the last byte of its body. 10 s.
    pub body_time: Duration,
    /// The timeoutSeconds that the mutating webhook is registered with. 2 s.
    pub mutate_time: Duration,
    /// The timeoutSeconds that the validating webhook is registered with. 5 s.
    pub validate_time: Duration,
}

/// Both webhooks: one engine, what it may use, and what it counts.
pub struct Webhook<L> {
    judging: Arc<Judging<L>>,
    metrics: Arc<Metrics>,
    limits: ReviewLimits,
    reviews: Arc<Semaphore>,
}

/// The webhook's paths: POST /mutate and POST /validate. Others are 404, other methods 405.
pub fn router<L: Lookup + 'static>(webhook: Arc<Webhook<L>>) -> Router {
    Router::new()
        .route("/mutate", post(handler::mutate::<L>))
        .route("/validate", post(handler::validate::<L>))
        .with_state(webhook)
}

// === impl ReviewLimits ===

impl ReviewLimits {
    /// What a process takes on that may have so many bytes of memory: reviews get half of it, but no
    /// more than 1 GiB, since nobody waits for as much to be read.
    #[must_use]
    pub fn for_memory(bytes: usize) -> Self {
        let memory = (bytes / 2).min(1 << 30);
        Self {
            body_bytes: memory::large_part(memory).min(32 << 20),
            memory,
            ..Self::default()
        }
    }
}

impl Default for ReviewLimits {
    fn default() -> Self {
        Self {
            body_bytes: 32 << 20,
            memory: 128 << 20,
            reviews_in_flight: 512,
            body_time: Duration::from_secs(10),
            mutate_time: Duration::from_secs(2),
            validate_time: Duration::from_secs(5),
        }
    }
}

// === impl Webhook ===

impl<L: Lookup + 'static> Webhook<L> {
    /// A webhook that judges by this guard until it is replaced.
    #[must_use]
    pub fn new(guard: Guard<L>, metrics: Arc<Metrics>, limits: ReviewLimits) -> Self {
        Self {
            judging: Arc::new(Judging::new(guard, limits.memory)),
            metrics,
            limits,
            reviews: Arc::new(Semaphore::new(limits.reviews_in_flight)),
        }
    }

    /// Where its reviews are judged.
    #[must_use]
    pub fn judging(&self) -> &Arc<Judging<L>> {
        &self.judging
    }
}
