//! How long one review takes, part by part: `cargo bench --bench judge`.
//!
//! `make bench` measures the whole server instead, against a bare echo.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use forestall::config::{Config, NamespaceLabel};
use forestall::evidence::{Evidence, Fact, ImageState, MemoryRecord, Question, Unknown};
use forestall::guard::Guard;
use forestall::lookup::Lookup;
use forestall::review::{Door, Review};
use forestall::verdict::Phase;
use jiff::civil::date;
use serde_json::Value;
use tokio::time::Instant;

/// What an API server sends of a Deployment of two containers that Argo CD applies.
const REVIEW: &str = include_str!("review.json");

/// Answers from memory: every image exists, and some containers were killed.
#[derive(Clone)]
struct Known(Arc<Vec<MemoryRecord>>);

impl Lookup for Known {
    async fn gather(&self, asked: BTreeSet<Question>, _by: Instant) -> Evidence {
        let answer = |question: Question| {
            let answer = match &question {
                Question::Image(_) => Ok(Fact::Image(ImageState::Exists)),
                Question::MemoryHistory => Ok(Fact::Memory(Arc::clone(&self.0))),
                _ => Err(Unknown::NotAsked),
            };
            (question, answer)
        };
        asked.into_iter().map(answer).collect()
    }

    fn label(&self, _namespace: &str) -> NamespaceLabel {
        NamespaceLabel::Known(None)
    }
}

/// One Deployment through every guardrail that watches it, all facts at hand.
fn judge(criterion: &mut Criterion) {
    let runtime = runtime();
    let envelope: Value = serde_json::from_str(REVIEW).expect("review.json is JSON");
    let object = envelope["request"]["object"].clone();
    let mut review = Review::of_manifest(object).expect("review.json holds an object");
    review.door = Door::Admission;
    let guard = Guard::new(Config::default(), known()).expect("the defaults can be used");
    let today = date(2026, 1, 6);
    criterion.bench_function("judge", |bencher| {
        bencher.iter(|| {
            let by = Instant::now() + Duration::from_secs(1);
            let verdict = runtime.block_on(guard.consider(&review, Phase::Validate, today, by));
            assert!(verdict.refusal.is_none() && verdict.abstained.is_empty());
            black_box(verdict)
        });
    });
}

fn known() -> Known {
    let row = |image: &str, limit: &str| {
        let row = serde_json::json!({"image": image, "limit": limit, "outcome": "oomKilled"});
        serde_json::from_value(row).expect("a row")
    };
    Known(Arc::new(vec![
        row("prom/prometheus", "512Mi"),
        row("grafana/tempo", "3Gi"),
        row("grafana/mimir", "2Gi"),
    ]))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

criterion_group!(benches, judge);
criterion_main!(benches);
