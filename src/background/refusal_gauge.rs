//! How many objects each guardrail would refuse, as a gauge that is complete or not there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::report::metrics::{Metrics, ResourceLabel, RuleLabel};
use crate::review::WatchedKind;

/// The count. Its gauges go when it goes.
#[derive(Debug)]
pub(super) struct RefusalGauge {
    kinds: BTreeSet<WatchedKind>,
    /// The kinds that each guardrail judges.
    guardrails: BTreeMap<&'static str, Vec<WatchedKind>>,
    metrics: Arc<Metrics>,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    /// Kinds of which not every object was looked at once.
    waiting: BTreeSet<WatchedKind>,
    refused: BTreeMap<&'static str, i64>,
}

// === impl RefusalGauge ===

impl RefusalGauge {
    pub(super) fn new(
        kinds: BTreeSet<WatchedKind>,
        guardrails: BTreeMap<&'static str, Vec<WatchedKind>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let counts = Counts {
            waiting: kinds.clone(),
            refused: BTreeMap::new(),
        };
        let gauge = Self {
            kinds,
            guardrails,
            metrics,
            counts: Mutex::new(counts),
        };
        // A guardrail that is off everywhere refuses nothing.
        gauge.update(|_| {});
        gauge
    }

    /// One object that was refused by some guardrails is refused by others now.
    pub(super) fn change(&self, before: &[&'static str], after: &[&'static str]) {
        if before == after {
            return;
        }
        self.update(|counts| {
            for rule in before {
                *counts.refused.entry(rule).or_default() -= 1;
            }
            for rule in after {
                *counts.refused.entry(rule).or_default() += 1;
            }
        });
    }

    /// All objects of a kind were looked at, or there are none, or they are not shown.
    pub(super) fn looked_at(&self, kind: WatchedKind) {
        self.update(|counts| {
            counts.waiting.remove(&kind);
        });
    }

    /// Whether a kind can be listed; `None` where there is no such kind.
    pub(super) fn available(&self, kind: WatchedKind, available: Option<bool>) {
        let label = label(kind);
        let gauge = &self.metrics.kind_available;
        match available {
            Some(available) => {
                gauge.get_or_create(&label).set(i64::from(available));
            }
            None => {
                gauge.remove(&label);
            }
        }
    }

    /// Changes the counts, and shows those that are complete.
    fn update(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut counts);
        for (rule, kinds) in &self.guardrails {
            if kinds.iter().any(|kind| counts.waiting.contains(kind)) {
                continue;
            }
            let refused = counts.refused.get(rule).copied().unwrap_or_default();
            let label = RuleLabel { rule };
            self.metrics.would_refuse.get_or_create(&label).set(refused);
        }
    }
}

impl Drop for RefusalGauge {
    fn drop(&mut self) {
        self.metrics.would_refuse.clear();
        // Nobody tries them any more, so nobody would say that they are there again.
        for kind in &self.kinds {
            let label = label(*kind);
            let gauge = &self.metrics.kind_available;
            if gauge.get_or_create(&label).get() == 0 {
                gauge.remove(&label);
            }
        }
    }
}

fn label(kind: WatchedKind) -> ResourceLabel {
    ResourceLabel {
        resource: kind.resource(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::workload::WORKLOADS;
    use crate::rules::catalogue::CATALOGUE;

    fn gauge(metrics: &Arc<Metrics>) -> RefusalGauge {
        let kinds = WORKLOADS.iter().copied().collect();
        let guardrails = CATALOGUE
            .iter()
            .map(|meta| (meta.name, meta.watches.to_vec()));
        RefusalGauge::new(kinds, guardrails.collect(), Arc::clone(metrics))
    }

    fn series(metrics: &Metrics) -> BTreeMap<String, String> {
        let text = metrics.encode();
        let lines = text.lines();
        lines
            .filter_map(|line| {
                line.strip_prefix("forestall_would_refuse{rule=\"")?
                    .split_once("\"} ")
            })
            .map(|(rule, value)| (rule.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn a_number_is_shown_when_all_kinds_were_looked_at_and_goes_with_the_leader() {
        let metrics = Arc::new(Metrics::default());
        let (last, others) = WORKLOADS.split_last().unwrap();
        let gauge = gauge(&metrics);
        gauge.change(&[], &["missing-image", "impossible-memory-limit"]);
        for kind in others {
            gauge.looked_at(*kind);
        }
        let shown = series(&metrics);
        assert_eq!(shown.get("missing-image"), None);
        assert_eq!(
            shown.get("unignored-live-fields").map(String::as_str),
            Some("0"),
            "nothing of its kinds is waited for"
        );
        gauge.looked_at(*last);
        let shown = series(&metrics);
        assert_eq!(shown.len(), CATALOGUE.len(), "{shown:?}");
        assert_eq!(shown["missing-image"], "1");
        gauge.change(
            &["missing-image", "impossible-memory-limit"],
            &["missing-image"],
        );
        assert_eq!(series(&metrics)["impossible-memory-limit"], "0");
        drop(gauge);
        assert!(series(&metrics).is_empty(), "{:?}", series(&metrics));
    }

    #[test]
    fn a_kind_that_was_withheld_is_not_named_when_nobody_tries_it_any_more() {
        let metrics = Arc::new(Metrics::default());
        let gauge = gauge(&metrics);
        let [pods, controllers, deployments, ..] = WORKLOADS else {
            panic!("{WORKLOADS:?}")
        };
        gauge.available(*pods, Some(false));
        gauge.available(*controllers, Some(false));
        gauge.available(*controllers, None);
        gauge.available(*deployments, Some(true));
        let text = metrics.encode();
        assert!(
            text.contains("resource=\"pods\"} 0") && !text.contains("replicationcontrollers"),
            "{text}"
        );
        drop(gauge);
        let text = metrics.encode();
        assert!(
            !text.contains("\"pods\"") && text.contains("resource=\"deployments.apps\"} 1"),
            "{text}"
        );
    }
}
