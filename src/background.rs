//! The leader's own judgement: every object of the kinds that guardrails watch, judged when it is
//! first shown and when it changes, by the engine that judges reviews.
//!
//! ```text
//! list and watch ─► WatchedObject ─► Follower ─► Judging::judge_existing ─► Verdict ─┬─► RefusalGauge (gauge)
//!                                                                          └─► Recorder (Events)
//! ```
//!
//! No object is kept: of each there is a hash of what was judged, and which guardrails would refuse
//! it. Each kind goes one object after another, and waits for the judgement before it takes the
//! next, so nothing piles up however large the cluster is. To judge anew what has not changed, the
//! kind is listed anew.
//!
//! What reviews say never comes here: a forged review writes no Event and moves no gauge.

mod follower;
mod refusal_gauge;
mod rounds;
mod watched_object;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kube::Client;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use self::follower::Follower;
use self::refusal_gauge::RefusalGauge;
use crate::config::NamespaceLabel;
use crate::guard::Guard;
use crate::judging::Judging;
use crate::lookup::Lookup;
use crate::report::events::{self, Recorder};
use crate::report::metrics::Metrics;

/// Objects that are judged at one time. Few, because nobody waits for them.
const JUDGED_AT_ONCE: usize = 2;

/// Some namespace, to ask whether namespaces are known at all.
const ANY: &str = "default";

/// When things are looked at again. A test may hurry; the defaults are made for production.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Everything is judged again, because evidence changes: a tag is removed, an exemption ends.
    pub everything: Duration,
    /// What was unknown is judged again, at first; each further time takes twice as long, up to
    /// `everything`.
    pub unknown: Duration,
    /// A kind that is not served or forbidden is tried again.
    pub retry: Duration,
    /// Between two looks at the configuration and at the labels of namespaces.
    pub look: Duration,
}

/// The judgement of what is in the cluster. It runs while this process leads.
pub struct Background<L> {
    client: Client,
    judging: Arc<Judging<L>>,
    instance: String,
    metrics: Arc<Metrics>,
    pace: Pace,
}

// === impl Pace ===

impl Default for Pace {
    fn default() -> Self {
        Self {
            everything: Duration::from_hours(1),
            unknown: Duration::from_mins(1),
            retry: Duration::from_mins(1),
            look: Duration::from_secs(2),
        }
    }
}

// === impl Background ===

impl<L: Lookup + 'static> Background<L> {
    /// Judges by the guard that judges reviews at the time. `instance` names this process in
    /// Events.
    #[must_use]
    pub fn new(
        client: Client,
        judging: Arc<Judging<L>>,
        instance: String,
        metrics: Arc<Metrics>,
        pace: Pace,
    ) -> Self {
        Self {
            client,
            judging,
            instance,
            metrics,
            pace,
        }
    }

    /// Judges until it is dropped. Then its gauges are gone, too: a number that nobody keeps right
    /// is worse than none.
    pub async fn run(&self) {
        let metrics = Arc::clone(&self.metrics);
        let (recorder, writer) = events::recorder(self.client.clone(), &self.instance, metrics);
        tokio::select! {
            () = writer.run() => {}
            () = self.judge(&recorder) => {}
        }
    }

    async fn judge(&self, recorder: &Recorder) {
        loop {
            let guard = self.judging.guard();
            // Before the labels are known nothing can be judged, and a number would be a lie.
            while guard.lookup().label(ANY) == NamespaceLabel::NotSynced {
                sleep(self.pace.look).await;
            }
            let kinds = guard.kinds();
            let guardrails = guard.guardrails().iter();
            let guardrails = guardrails.map(|each| (each.meta.name, each.kinds().collect()));
            let metrics = Arc::clone(&self.metrics);
            let gauge = RefusalGauge::new(kinds.clone(), guardrails.collect(), metrics);
            let places = Semaphore::new(JUDGED_AT_ONCE);
            let follow = |kind| {
                let follower = Follower::new(self, &guard, recorder, &places, &gauge, kind);
                Box::pin(follower.follow())
            };
            tokio::select! {
                _ = join_all(kinds.into_iter().map(follow)) => {}
                () = self.replaced(&guard) => {}
            }
        }
    }

    /// Waits until reviews are judged by another guard, after a change of the configuration.
    async fn replaced(&self, guard: &Arc<Guard<L>>) {
        while Arc::ptr_eq(guard, &self.judging.guard()) {
            sleep(self.pace.look).await;
        }
    }
}
