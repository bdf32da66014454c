//! The join: questions, evidence, judgements, verdict. The webhook and `check` both come through
//! here, so they cannot differ.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jiff::civil::Date;
use json_patch::Patch;
use tokio::time::Instant;

use crate::config::{Config, Mode, NamespaceLabel};
use crate::evidence::{Evidence, Questions, Unknown};
use crate::lookup::Lookup;
use crate::review::{Door, Operation, Review, Subject, WatchedKind, patch};
use crate::rules::{Finding, Guardrail, Judgement, Mistake};
use crate::verdict::{Action, Judged, Phase, Record, Scales, Verdict, Weighed, weigh};

/// The parts of an object that are judged beside the whole: all other subresources are let through.
pub(crate) const SUB_RESOURCES: &[&str] = &["ephemeralcontainers", "resize"];

/// Questions of one review that cost requests to a registry. Real pods have a handful of images; an
/// object made to hurt has as many as 3 MiB hold. What is answered from memory is not counted.
const MOST_REQUESTS: usize = 64;

/// All guardrails, the operator's decisions, and where the facts come from.
pub struct Guard<L> {
    config: Config,
    guardrails: Vec<Guardrail>,
    lookup: L,
}

/// What is to be found out before an object can be judged, and by what it is judged then.
pub(crate) struct Inquiry {
    phase: Phase,
    today: Date,
    label: NamespaceLabel,
    questions: Questions,
}

impl<L: Lookup> Guard<L> {
    /// Builds every guardrail of the catalogue.
    ///
    /// # Errors
    /// A setting that a guardrail cannot use; a [`Config`] that was parsed has none.
    pub fn new(config: Config, lookup: L) -> Result<Self, Mistake> {
        let guardrails = config.guardrails()?;
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

    /// The kind as the catalogue has it, where a guardrail watches it.
    #[must_use]
    pub fn watched(&self, group: &str, kind: &str) -> Option<WatchedKind> {
        self.guardrails
            .iter()
            .find_map(|guardrail| guardrail.watches(group, kind))
    }

    /// The kinds that guardrails watch which are on somewhere.
    #[must_use]
    pub fn kinds(&self) -> BTreeSet<WatchedKind> {
        let on = self
            .guardrails
            .iter()
            .filter(|guardrail| self.config.may_be_on(guardrail.meta.name));
        on.flat_map(Guardrail::kinds).collect()
    }

    /// The guardrails, whether they are on or not.
    pub(crate) fn guardrails(&self) -> &[Guardrail] {
        &self.guardrails
    }

    /// Whether any guardrail that watches this kind has work in this phase, whatever the modes are.
    #[must_use]
    pub fn has_a_say(&self, group: &str, kind: &str, phase: Phase) -> bool {
        self.watchers(group, kind, phase).next().is_some()
    }

    /// The highest mode among those guardrails: it says whether a client may be told that its
    /// object could not be judged at all.
    #[must_use]
    pub fn loudest(&self, subject: &Subject, phase: Phase) -> Mode {
        let namespace = subject.namespace.as_deref();
        let label = self.label(namespace);
        self.watchers(&subject.group, &subject.kind, phase)
            .map(|guardrail| self.config.mode(guardrail.meta.name, namespace, label))
            .max()
            .unwrap_or(Mode::Off)
    }

    fn watchers(&self, group: &str, kind: &str, phase: Phase) -> impl Iterator<Item = &Guardrail> {
        self.guardrails.iter().filter(move |guardrail| {
            guardrail.watches(group, kind).is_some()
                && (phase == Phase::Validate || guardrail.meta.repairs)
        })
    }

    /// Cluster-scoped objects are in no namespace, so no label speaks for them.
    fn label(&self, namespace: Option<&str>) -> NamespaceLabel {
        namespace.map_or(NamespaceLabel::Known(None), |namespace| {
            self.lookup.label(namespace)
        })
    }

    /// Judges one object. Facts that do not arrive by `by` are unknown.
    pub async fn consider(
        &self,
        review: &Review,
        phase: Phase,
        today: Date,
        by: Instant,
    ) -> Verdict {
        let Some(mut inquiry) = self.inquire(review, phase, today) else {
            return Verdict::default();
        };
        let questions = inquiry.take_questions();
        let evidence = self.gather(questions, review.door, by).await;
        self.judge(review, &inquiry, &evidence)
    }

    /// Who is to judge an object, and what they must know; `None` where nobody is to.
    pub(crate) fn inquire(&self, review: &Review, phase: Phase, today: Date) -> Option<Inquiry> {
        if is_never_refused(review) {
            return None;
        }
        let mut inquiry = Inquiry {
            phase,
            today,
            label: self.label(review.subject.namespace.as_deref()),
            questions: Questions::default(),
        };
        let asked = self.asked(review, &self.scales(&inquiry));
        if asked.is_empty() {
            return None;
        }
        for review in [Some(review), review.replaced()].into_iter().flatten() {
            for guardrail in &asked {
                inquiry.questions.append(questions(guardrail, review));
            }
        }
        Some(inquiry)
    }

    /// Judges an object on what is known.
    pub(crate) fn judge(&self, review: &Review, inquiry: &Inquiry, evidence: &Evidence) -> Verdict {
        let scales = self.scales(inquiry);
        let asked = self.asked(review, &scales);
        let before = review.replaced();
        let judged = asked
            .iter()
            .map(|guardrail| Judged {
                meta: guardrail.meta,
                now: judge(guardrail, review, evidence),
                before: before
                    .map(|before| judge(guardrail, before, evidence))
                    .unwrap_or_default(),
            })
            .collect();
        let mut weighed = weigh(review, judged, &scales);
        let patch = repair(review, &asked, evidence, &mut weighed);
        weighed.verdict(review, inquiry.phase, patch)
    }

    fn scales(&self, inquiry: &Inquiry) -> Scales<'_> {
        Scales {
            phase: inquiry.phase,
            config: &self.config,
            label: inquiry.label,
            today: inquiry.today,
        }
    }

    /// Answers questions; what is not known by `by` is unknown.
    pub(crate) async fn gather(
        &self,
        mut questions: Questions,
        door: Door,
        by: Instant,
    ) -> Evidence {
        let left_out = questions.split_off_requests(MOST_REQUESTS);
        let mut evidence = if questions.is_empty() {
            Evidence::default()
        } else {
            self.lookup.gather(questions, door, by).await
        };
        evidence.append(left_out.unknown(&Unknown::TooMany));
        evidence
    }

    /// The guardrails that watch this kind, are on here, and have a say in this phase.
    fn asked(&self, review: &Review, scales: &Scales<'_>) -> Vec<&Guardrail> {
        let Subject { group, kind, .. } = &review.subject;
        self.watchers(group, kind, scales.phase)
            .filter(|guardrail| match scales.phase {
                Phase::Mutate => scales.mode(review, guardrail.meta) == Mode::Enforce,
                Phase::Validate => scales.mode(review, guardrail.meta) != Mode::Off,
            })
            .collect()
    }
}

// === impl Inquiry ===

impl Inquiry {
    /// The questions, once.
    pub(crate) fn take_questions(&mut self) -> Questions {
        std::mem::take(&mut self.questions)
    }
}

/// What must always be writable: what a controller makes of an object that was judged itself, and
/// everything but the content. An object that is going away is no exception: one with a finalizer
/// could be changed at leisure (the lesson of CVE-2023-34091).
fn is_never_refused(review: &Review) -> bool {
    let judged_part = review
        .sub_resource
        .as_deref()
        .is_none_or(|part| SUB_RESOURCES.contains(&part));
    !judged_part
        || review.door != Door::Files
            && (review.has_controller()
                || review.operation == Operation::Update && review.leaves_content_alone())
}

fn questions(guardrail: &Guardrail, review: &Review) -> Questions {
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
    let mut current = Cow::Borrowed(review);
    let mut operations = Vec::new();
    for record in wanted {
        match settled(&current, record, asked, evidence) {
            Ok((patched, fix)) => {
                current = Cow::Owned(patched);
                operations.extend(fix.0);
            }
            Err(reason) => record.action = Action::DropPatch(reason),
        }
    }
    (!operations.is_empty()).then_some(Patch(operations))
}

/// The review of the object after the patch, if judging it again no longer gives the finding, and no new one.
fn settled(
    review: &Review,
    record: &Record,
    asked: &[&Guardrail],
    evidence: &Evidence,
) -> Result<(Review, Patch), String> {
    let fix = record.finding.response.patch().cloned().unwrap_or_default();
    let object = patch::apply(&review.object, &fix).map_err(|error| error.to_string())?;
    let patched = review.with_object(Arc::new(object));
    let identity = |finding: &Finding| (finding.item.clone(), finding.value.clone());
    for guardrail in asked {
        let name = guardrail.meta.name;
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
    Ok((patched, fix))
}
