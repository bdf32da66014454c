//! What became of a request, counted and told in one line.

use std::sync::Arc;
use std::time::Duration;

use super::envelope::Head;
use crate::config::{Mode, NamespaceLabel};
use crate::evidence::Unknown;
use crate::guard::Guard;
use crate::judging::{Held, Judged};
use crate::lookup::Lookup;
use crate::report::log::{self, Line};
use crate::report::metrics::{
    Boolean, Metrics, PatchLabels, ReviewLabels, RuleLabel, RuleLabels, WebhookLabel,
};
use crate::verdict::{Action, Phase, Record, Verdict};

/// What becomes of a request.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    /// Why it could not be judged as a whole.
    error: Option<String>,
    /// What the verdict takes of the memory.
    _held: Option<Arc<Held>>,
}

impl Outcome {
    /// It is admitted without a word.
    pub(super) fn admit() -> Self {
        Self::default()
    }

    pub(super) fn judged(judged: Judged) -> Self {
        Self {
            verdict: judged.verdict,
            error: None,
            _held: Some(judged.held),
        }
    }

    /// Law 1: what is unknown admits, and is said.
    pub(super) fn give_up(reason: String, tell: bool) -> Self {
        let mut verdict = Verdict::default();
        if tell {
            verdict
                .warnings
                .push(format!("forestall: could not evaluate ({reason})"));
        }
        verdict
            .audit
            .insert("decision".to_owned(), "error".to_owned());
        verdict.audit.insert("unknown".to_owned(), reason.clone());
        Self {
            verdict,
            error: Some(reason),
            _held: None,
        }
    }

    /// Counts and tells it.
    pub(super) fn report<L: Lookup>(
        &self,
        guard: &Guard<L>,
        metrics: &Metrics,
        phase: Phase,
        head: &Head,
        elapsed: Duration,
    ) {
        let webhook = phase.webhook();
        let kind = guard.watched(&head.subject.group, &head.subject.kind);
        let decision = self.decision();
        let labels = ReviewLabels {
            webhook,
            resource_kind: kind.map_or("other", |kind| kind.kind),
            operation: head.verb.name(),
            decision,
            dry_run: Boolean(head.dry_run),
        };
        metrics.reviews.get_or_create(&labels).inc();
        let seconds = metrics
            .review_seconds
            .get_or_create(&WebhookLabel { webhook });
        seconds.observe(elapsed.as_secs_f64());
        if let (Some(_), Some(namespace)) = (kind, head.subject.namespace.as_deref())
            && guard.lookup().label(namespace) == NamespaceLabel::Absent
        {
            metrics.unknown_namespaces.inc();
        }
        count(metrics, phase, &self.verdict);
        log::review(&Line {
            webhook,
            uid: &head.uid,
            operation: head.verb.name(),
            subject: &head.subject,
            user: &head.user,
            dry_run: head.dry_run,
            decision,
            verdict: &self.verdict,
            error: self.error.as_deref(),
            elapsed,
        });
    }

    fn decision(&self) -> &'static str {
        let Verdict {
            refusal,
            patch,
            warnings,
            records,
            ..
        } = &self.verdict;
        let would_refuse = |record: &Record| record.action == Action::Record { would_refuse: true };
        if self.error.is_some() {
            "error"
        } else if refusal.is_some() {
            "deny"
        } else if patch.is_some() {
            "patch"
        } else if records.iter().any(would_refuse) {
            "would_deny"
        } else if warnings.is_empty() {
            "allow"
        } else {
            "warn"
        }
    }
}

fn count(metrics: &Metrics, phase: Phase, verdict: &Verdict) {
    for Record {
        meta, mode, action, ..
    } in &verdict.records
    {
        let applied = match action {
            Action::Patch => Some(true),
            Action::DropPatch(_) => Some(false),
            _ => None,
        };
        if let Some(applied) = applied {
            let labels = PatchLabels {
                rule: meta.name,
                applied: Boolean(applied),
            };
            metrics.patches.get_or_create(&labels).inc();
        }
        let result = match action {
            Action::Exempt(_) => "exempt",
            Action::Record { would_refuse: true } => "would_deny",
            Action::Record {
                would_refuse: false,
            } => "record",
            Action::Warn | Action::DropPatch(_) => "warn",
            Action::Refuse => "fail",
            Action::Patch => "patch",
        };
        count_rule(metrics, meta.name, *mode, result);
    }
    for abstained in &verdict.abstained {
        let rule = abstained.meta.name;
        if abstained.abstention.reason == Unknown::Panicked {
            metrics.panics.get_or_create(&RuleLabel { rule }).inc();
        }
        // The validating webhook judges the same object again, and says it then.
        if phase == Phase::Validate {
            count_rule(metrics, rule, abstained.mode, "unknown");
        }
    }
}

fn count_rule(metrics: &Metrics, rule: &'static str, mode: Mode, result: &'static str) {
    let labels = RuleLabels {
        rule,
        mode: mode.name(),
        result,
    };
    metrics.rule_results.get_or_create(&labels).inc();
}
