//! The join: questions, evidence, judgements, verdict. The webhook and `check` both come through
//! here, so they cannot differ.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::civil::Date;
use json_patch::Patch;
use serde_json::Value;
use tokio::time::Instant;

use crate::config::{Config, ConfigError, Guardrail, Mode};
use crate::evidence::{Evidence, Question, Unknown};
use crate::lookup::Lookup;
use crate::review::{Door, Operation, Review, patch};
use crate::rules::{Finding, Judgement};
use crate::verdict::{Action, Judged, Phase, Record, Scales, Verdict, Weighed, weigh};

/// The parts of an object that are judged beside the whole: all other subresources are let through.
pub(crate) const SUB_RESOURCES: &[&str] = &["ephemeralcontainers", "resize"];

/// All guardrails, the operator's decisions, and where the facts come from.
pub struct Guard<L> {
    config: Config,
    guardrails: Vec<Guardrail>,
    lookup: L,
}

impl<L: Lookup> Guard<L> {
    /// Builds every guardrail of the catalogue.
    ///
    /// # Errors
    /// A setting that a guardrail cannot use; a [`Config`] that was parsed has none.
    pub fn new(config: Config, lookup: L) -> Result<Self, ConfigError> {
        let guardrails = config
            .guardrails()
            .map_err(|(_, message)| ConfigError::nowhere(message))?;
        Ok(Self {
            config,
            guardrails,
            lookup,
        })
    }

    /// A guard with these guardrails, for tests of the laws.
    pub fn with(config: Config, guardrails: Vec<Guardrail>, lookup: L) -> Self {
        Self {
            config,
            guardrails,
            lookup,
        }
    }

    /// The operator's decisions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where the facts come from.
    pub fn lookup(&self) -> &L {
        &self.lookup
    }

    /// Judges one object. Facts that do not arrive by `by` are unknown.
    pub async fn consider(
        &self,
        review: &Review,
        phase: Phase,
        today: Date,
        by: Instant,
    ) -> Verdict {
        if is_never_refused(review) {
            return Verdict::default();
        }
        let namespace = review.subject.namespace.as_deref();
        let label = namespace.map_or_else(no_label, |namespace| self.lookup.label(namespace));
        let scales = Scales {
            phase,
            config: &self.config,
            label,
            today,
        };
        let asked = self.asked(review, &scales);
        if asked.is_empty() {
            return Verdict::default();
        }
        let before = review.of_previous();
        let questions: BTreeSet<Question> = [Some(review), before.as_ref()]
            .into_iter()
            .flatten()
            .flat_map(|review| {
                asked
                    .iter()
                    .flat_map(move |guardrail| questions(guardrail, review))
            })
            .collect();
        let evidence = if questions.is_empty() {
            Evidence::default()
        } else {
            self.lookup.gather(questions, by).await
        };
        let judged = asked
            .iter()
            .map(|guardrail| Judged {
                meta: &guardrail.entry.meta,
                now: judge(guardrail, review, &evidence),
                before: before
                    .as_ref()
                    .map(|before| judge(guardrail, before, &evidence))
                    .unwrap_or_default(),
            })
            .collect();
        let mut weighed = weigh(review, judged, &scales);
        let patch = repair(review, &asked, &evidence, &mut weighed);
        weighed.verdict(review, phase, patch)
    }

    /// The guardrails that watch this kind, are on here, and have a say in this phase.
    fn asked(&self, review: &Review, scales: &Scales<'_>) -> Vec<&Guardrail> {
        self.guardrails
            .iter()
            .filter(|Guardrail { entry, .. }| {
                let mode = scales.mode(review, &entry.meta);
                let watches = &entry.meta.watches;
                watches
                    .iter()
                    .any(|kind| review.subject.is(kind.group, kind.kind))
                    && match scales.phase {
                        Phase::Mutate => entry.meta.repairs && mode == Mode::Enforce,
                        Phase::Validate => mode != Mode::Off,
                    }
            })
            .collect()
    }
}

/// Cluster-scoped objects are in no namespace, so no label speaks for them.
fn no_label() -> crate::config::NamespaceLabel {
    crate::config::NamespaceLabel::Known(None)
}

/// What must always be writable: what is going away, what a controller makes of an object that was
/// judged itself, and everything but the content.
fn is_never_refused(review: &Review) -> bool {
    let judged_part = review
        .sub_resource
        .as_deref()
        .is_none_or(|part| SUB_RESOURCES.contains(&part));
    let going = review
        .object
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|time| !time.is_null());
    !judged_part
        || review.door == Door::Admission
            && (review.has_controller()
                || going
                || review.operation == Operation::Update && review.leaves_content_alone())
}

fn questions(guardrail: &Guardrail, review: &Review) -> Vec<Question> {
    // A guardrail that panics here panics again when it judges, and abstains there.
    catch_unwind(AssertUnwindSafe(|| guardrail.rule.questions(review))).unwrap_or_default()
}

fn judge(guardrail: &Guardrail, review: &Review, evidence: &Evidence) -> Judgement {
    catch_unwind(AssertUnwindSafe(|| guardrail.rule.judge(review, evidence)))
        .unwrap_or_else(|_| Judgement::abstain("the object", Unknown::Panicked))
}

/// Tries the patches one after another and keeps those that apply and settle.
fn repair(
    review: &Review,
    asked: &[&Guardrail],
    evidence: &Evidence,
    weighed: &mut Weighed,
) -> Option<Patch> {
    let wanted = weighed
        .records
        .iter_mut()
        .filter(|record| record.action == Action::Patch);
    let mut current = review.clone();
    let mut operations = Vec::new();
    for record in wanted {
        match settled(&current, record, asked, evidence) {
            Ok((object, fix)) => {
                current.object = object;
                operations.extend(fix.0);
            }
            Err(reason) => record.action = Action::DropPatch(reason),
        }
    }
    (!operations.is_empty()).then_some(Patch(operations))
}

/// The object after the patch, if judging it again no longer gives the finding, and no new one.
fn settled(
    review: &Review,
    record: &Record,
    asked: &[&Guardrail],
    evidence: &Evidence,
) -> Result<(Value, Patch), String> {
    let fix = record.finding.fix.clone().unwrap_or_default();
    let object = patch::apply(&review.object, &fix).map_err(|error| error.to_string())?;
    let patched = Review {
        object,
        ..review.clone()
    };
    let identity = |finding: &Finding| (finding.item.clone(), finding.value.clone());
    for guardrail in asked {
        let name = guardrail.entry.meta.name;
        let before: BTreeSet<_> = judge(guardrail, review, evidence)
            .findings
            .iter()
            .map(identity)
            .collect();
        let after = judge(guardrail, &patched, evidence);
        if after
            .abstained
            .iter()
            .any(|abstention| abstention.reason == Unknown::Panicked)
        {
            return Err(format!("{name} failed on the repaired object"));
        }
        for finding in &after.findings {
            let same = name == record.meta.name && identity(finding) == identity(&record.finding);
            if same || !before.contains(&identity(finding)) {
                return Err(format!(
                    "the repair does not settle: {name} still finds {}",
                    finding.item
                ));
            }
        }
    }
    Ok((patched.object, fix))
}
