//! Judging within bounds: in how much memory, where, and for how long. The webhook and the leader's
//! background judgement both judge here, so neither takes from the other what it needs.

pub(crate) mod executor;
pub(crate) mod existing;
pub(crate) mod memory;
pub(crate) mod object;
pub(crate) mod weight;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use tokio::time::Instant;

use self::executor::{Cut, Executor, Size};
use self::memory::{Budget, Share};
use crate::guard::Guard;
use crate::lookup::Lookup;
use crate::review::Review;
use crate::verdict::{Phase, Verdict};

/// The guard that judges at the time, and what judging may take.
pub struct Judging<L> {
    guard: ArcSwap<Guard<L>>,
    memory: Arc<Budget>,
    /// Made by the first review, because it depends on the runtime that serves.
    executor: OnceLock<Executor>,
}

/// A review to judge.
pub(crate) struct Work<L> {
    pub(crate) guard: Arc<Guard<L>>,
    pub(crate) review: Review,
    /// What it takes of the memory, until all that is made of it is gone.
    pub(crate) share: Share,
    pub(crate) phase: Phase,
    pub(crate) size: Size,
    /// When facts are no longer waited for.
    pub(crate) facts_by: Instant,
}

/// A verdict, and what it takes of the memory.
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    pub(crate) held: Arc<Held>,
}

/// What stays until the last part of a judgement has ended, also one that nobody waits for any more.
pub(crate) struct Held {
    review: Review,
    _share: Share,
}

// === impl Judging ===

impl<L: Lookup + 'static> Judging<L> {
    /// Judges by this guard until it is replaced, in so many bytes of memory.
    #[must_use]
    pub fn new(guard: Guard<L>, memory: usize) -> Self {
        Self {
            guard: ArcSwap::from_pointee(guard),
            memory: Budget::new(memory),
            executor: OnceLock::new(),
        }
    }

    /// Judges by another guard from the next review on. A review that has begun keeps its own.
    pub fn replace(&self, guard: Guard<L>) {
        self.guard.store(Arc::new(guard));
    }

    /// The guard that the next review is judged by.
    #[must_use]
    pub fn guard(&self) -> Arc<Guard<L>> {
        self.guard.load_full()
    }

    /// The memory that reviews may take.
    pub(crate) fn memory(&self) -> &Arc<Budget> {
        &self.memory
    }

    /// Judges a review; what is not done by then is cut off.
    pub(crate) async fn judge(&self, work: Work<L>, by: Instant) -> Result<Judged, Cut> {
        Executor::until(by, work.run(self.executor().clone())).await
    }

    fn executor(&self) -> &Executor {
        self.executor.get_or_init(Executor::of_this_runtime)
    }
}

// === impl Work ===

impl<L: Lookup + 'static> Work<L> {
    async fn run(self, executor: Executor) -> Result<Judged, Cut> {
        let Self {
            guard,
            review,
            share,
            phase,
            size,
            facts_by,
        } = self;
        let held = Arc::new(Held {
            review,
            _share: share,
        });
        let inquiry = {
            let (guard, held) = (Arc::clone(&guard), Arc::clone(&held));
            executor.run(size, move || guard.inquire(&held.review, phase, today()))
        };
        let Some(mut inquiry) = inquiry.await? else {
            return Ok(Judged {
                verdict: Verdict::default(),
                held,
            });
        };
        let questions = inquiry.take_questions();
        let evidence = guard.gather(questions, held.review.door, facts_by).await;
        let judge = move || Judged {
            verdict: guard.judge(&held.review, &inquiry, &evidence),
            held,
        };
        executor.run(size, judge).await
    }
}

/// Today, for exemptions that end.
fn today() -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}
