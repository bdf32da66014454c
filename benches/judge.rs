//! How long one review takes: to decode it, to judge it, and from request to response.
//!
//! `cargo bench --bench judge`
//!
//! `make bench` measures the whole server instead, against a bare echo.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use criterion::{Criterion, criterion_group, criterion_main};
use forestall::config::{Config, NamespaceLabel};
use forestall::evidence::{Evidence, ImageState, MemoryHistory, MemoryRecord, Questions};
use forestall::guard::Guard;
use forestall::lookup::Lookup;
use forestall::report::metrics::Metrics;
use forestall::review::{Door, Operation, Review};
use forestall::tree::Bound;
use forestall::verdict::Phase;
use forestall::webhook::envelope::{Envelope, text_of};
use forestall::webhook::{self, ReviewLimits, Webhook};
use http_body_util::BodyExt;
use jiff::civil::date;
use tokio::runtime::{Handle, Runtime};
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tower::ServiceExt;

// The allocator of `forestall serve`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What an API server sends of a Deployment of two containers that Argo CD applies.
const REVIEW: &str = include_str!("review.json");

/// Answers from memory: every image exists, and some containers were killed.
#[derive(Clone)]
struct Known(Arc<MemoryHistory>);

impl Lookup for Known {
    async fn gather(&self, asked: Questions, _: Door, _: Instant) -> Evidence {
        let presence = asked.presence.into_iter();
        let memory = asked.memory.into_iter();
        Evidence {
            presence: presence
                .map(|asked| (asked, Ok(ImageState::Exists)))
                .collect(),
            memory: memory
                .map(|asked| {
                    let known = self.0.of(&asked.namespace, &asked.owner);
                    (asked, Ok(known))
                })
                .collect(),
            ..Evidence::default()
        }
    }

    fn label(&self, _namespace: &str) -> NamespaceLabel {
        NamespaceLabel::Known(None)
    }
}

fn review(body: &Arc<String>) -> Review {
    let bound = Bound::of(body.as_bytes());
    let mut envelope = Envelope::parse(body, bound).expect("an envelope");
    envelope.review(Operation::Create).expect("a review")
}

/// From the bytes to the object.
fn decode(criterion: &mut Criterion) {
    criterion.bench_function("decode", |bencher| {
        bencher.iter(|| {
            let body = black_box(REVIEW.as_bytes()).to_vec();
            review(&text_of(body).expect("a text"))
        });
    });
}

/// One Deployment through every guardrail that watches it, all facts at hand.
fn judge(criterion: &mut Criterion) {
    let runtime = runtime();
    let guard = guard();
    let review = review(&Arc::new(REVIEW.to_owned()));
    let today = date(2026, 1, 6);
    let consider = || {
        let by = Instant::now() + Duration::from_secs(1);
        runtime.block_on(guard.consider(&review, Phase::Validate, today, by))
    };
    let verdict = consider();
    assert!(verdict.refusal.is_none() && verdict.abstained.is_empty());
    criterion.bench_function("judge", |bencher| bencher.iter(consider));
}

/// The same review judged by a task on a worker, as `judging/executor.rs` does it with usual reviews,
/// and on a thread beside the workers, which is the plain way: what the hop there and back costs.
fn places(criterion: &mut Criterion) {
    let runtime = runtime();
    let guard = Arc::new(guard());
    let review = Arc::new(review(&Arc::new(REVIEW.to_owned())));
    let today = date(2026, 1, 6);
    let judged = move || {
        let (guard, review) = (Arc::clone(&guard), Arc::clone(&review));
        async move {
            let by = Instant::now() + Duration::from_secs(1);
            black_box(guard.consider(&review, Phase::Validate, today, by).await);
        }
    };
    criterion.bench_function("judge on a worker", |bencher| {
        let judged = judged.clone();
        bencher.iter_custom(|times| {
            let judged = judged.clone();
            let task = runtime.spawn(async move {
                let began = Instant::now();
                for _ in 0..times {
                    judged().await;
                }
                began.elapsed()
            });
            runtime.block_on(task).expect("a measurement")
        });
    });
    criterion.bench_function("judge beside the workers", |bencher| {
        let judged = judged.clone();
        bencher.iter_custom(|times| {
            let judged = judged.clone();
            let task = runtime.spawn(async move {
                let began = Instant::now();
                for _ in 0..times {
                    let judged = judged();
                    let beside = Handle::current();
                    let beside = spawn_blocking(move || beside.block_on(judged));
                    beside.await.expect("a judgement");
                }
                began.elapsed()
            });
            runtime.block_on(task).expect("a measurement")
        });
    });
}

/// The whole router, from request to response: all but TLS and HTTP.
fn router(criterion: &mut Criterion) {
    let runtime = runtime();
    let metrics = Arc::new(Metrics::default());
    let webhook = Webhook::new(guard(), metrics, ReviewLimits::default());
    let router = webhook::router(Arc::new(webhook));
    let allowed = runtime.block_on(answer(router.clone()));
    assert!(std::str::from_utf8(&allowed).is_ok_and(|text| text.contains("\"allowed\":true")));
    criterion.bench_function("router", |bencher| {
        bencher.iter_custom(|times| {
            let router = router.clone();
            // On a worker, as a connection is: a hop from another thread would be measured too.
            let task = runtime.spawn(async move {
                let began = Instant::now();
                for _ in 0..times {
                    black_box(answer(router.clone()).await);
                }
                began.elapsed()
            });
            runtime.block_on(task).expect("a measurement")
        });
    });
}

async fn answer(router: Router) -> Bytes {
    let request = Request::post("/validate?timeout=5s")
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(REVIEW))
        .expect("a request");
    let Ok(response) = router.oneshot(request).await;
    let body = response.into_body().collect().await;
    body.expect("a body").to_bytes()
}

fn guard() -> Guard<Known> {
    Guard::new(Config::default(), known()).expect("the defaults can be used")
}

fn known() -> Known {
    let row = |image: &str, limit: &str| -> MemoryRecord {
        let row = serde_json::json!({"image": image, "limit": limit, "outcome": "oomKilled"});
        serde_json::from_value(row).expect("a row")
    };
    let known: MemoryHistory = [
        row("prom/prometheus", "512Mi"),
        row("grafana/tempo", "3Gi"),
        row("grafana/mimir", "2Gi"),
    ]
    .into_iter()
    .collect();
    Known(Arc::new(known))
}

/// As `forestall serve` has it: with workers, so that reviews are judged where they would be.
fn runtime() -> Runtime {
    Runtime::new().expect("a runtime")
}

criterion_group!(benches, decode, judge, places, router);
criterion_main!(benches);
