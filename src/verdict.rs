//! From what was found to what is answered. The only place that knows modes and exemptions.
//!
//! [`weigh`] decides what becomes of each finding; the guard tries the patches that it allows; then
//! [`Weighed::verdict`] puts the answer into words.

pub mod allowance;
pub mod wording;

use std::collections::BTreeMap;

use jiff::civil::Date;
use json_patch::Patch;

use crate::config::{Config, Mode, NamespaceLabel};
use crate::review::Review;
use crate::rules::{Abstention, Certainty, Finding, Judgement, Meta, Response};
use allowance::Allowance;

/// Which of the two webhooks asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The mutating webhook: it patches and says nothing of what it cannot repair.
    Mutate,
    /// The validating webhook, and `check`: it refuses and warns.
    Validate,
}

impl Phase {
    /// The webhook, as metrics and logs have it.
    #[must_use]
    pub fn webhook(self) -> &'static str {
        match self {
            Self::Mutate => "mutating",
            Self::Validate => "validating",
        }
    }
}

/// What one guardrail says of an object and of what it replaces.
#[derive(Debug)]
pub struct Judged {
    /// The guardrail.
    pub meta: &'static Meta,
    /// What it says of the object.
    pub now: Judgement,
    /// What it says of the object that is replaced, on the same evidence.
    pub before: Judgement,
}

/// What is weighed against.
#[derive(Clone, Copy, Debug)]
pub struct Scales<'a> {
    /// Which webhook asks.
    pub phase: Phase,
    /// The operator's decisions.
    pub config: &'a Config,
    /// What the namespace's label says.
    pub label: NamespaceLabel,
    /// Today (UTC), for exemptions that end.
    pub today: Date,
}

/// What becomes of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Somebody accepted it, for this reason.
    Exempt(String),
    /// It is recorded; under enforce it would be refused where `would_refuse`.
    Record {
        /// Whether enforce would refuse it.
        would_refuse: bool,
    },
    /// The client is told.
    Warn,
    /// The request is refused.
    Refuse,
    /// The object is patched.
    Patch,
    /// It was to be patched, but the patch does no good, for this reason.
    DropPatch(String),
}

/// One finding and what becomes of it.
#[derive(Clone, Debug)]
pub struct Record {
    /// The guardrail.
    pub meta: &'static Meta,
    /// The mode that held.
    pub mode: Mode,
    /// What was found.
    pub finding: Finding,
    /// What becomes of it.
    pub action: Action,
    /// Whether the replaced object has it too, or worse.
    pub unchanged: bool,
}

/// One item that was not judged.
#[derive(Clone, Debug)]
pub struct Abstained {
    /// The guardrail.
    pub meta: &'static Meta,
    /// The mode that held.
    pub mode: Mode,
    /// The item and the reason.
    pub abstention: Abstention,
    /// Whether the same item of the replaced object is not known either, so that whoever changed
    /// something else need not hear of it.
    pub unchanged: bool,
}

/// Everything that was found, decided upon.
#[derive(Debug, Default)]
pub struct Weighed {
    /// Findings, by guardrail and place.
    pub records: Vec<Record>,
    /// What was not judged.
    pub abstained: Vec<Abstained>,
    /// What is wrong with the annotations that should allow something.
    pub notices: Vec<String>,
}

/// What is answered and what is remembered.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Why the request is refused; `None` admits it.
    pub refusal: Option<String>,
    /// What is changed.
    pub patch: Option<Patch>,
    /// What the client is told.
    pub warnings: Vec<String>,
    /// What is wrong with the annotations that should allow something; the warnings have it too.
    pub notices: Vec<String>,
    /// What the API server's audit log shall hold.
    pub audit: BTreeMap<String, String>,
    /// Findings, by guardrail and place.
    pub records: Vec<Record>,
    /// What was not judged.
    pub abstained: Vec<Abstained>,
}

/// Decides what becomes of each finding.
#[must_use]
pub fn weigh(review: &Review, judged: Vec<Judged>, scales: &Scales<'_>) -> Weighed {
    let (allowance, mut notices) = Allowance::read(review, scales.today);
    let mut weighed = Weighed::default();
    let mut loudest = Mode::Off;
    for Judged { meta, now, before } in judged {
        let mode = scales.mode(review, meta);
        loudest = loudest.max(mode);
        if mode == Mode::Off {
            continue;
        }
        for finding in now.findings {
            let exempt = scales.exemption(review, meta, allowance.as_ref(), &mut notices);
            let action = match exempt {
                Some(reason) => Action::Exempt(reason),
                None => scales.action(meta, mode, &finding, &before),
            };
            if scales.phase == Phase::Validate || action == Action::Patch {
                weighed.records.push(Record {
                    unchanged: was_there(&finding, &before),
                    meta,
                    mode,
                    finding,
                    action,
                });
            }
        }
        weighed
            .abstained
            .extend(now.abstained.into_iter().map(|abstention| Abstained {
                unchanged: before.abstained.contains(&abstention),
                meta,
                mode,
                abstention,
            }));
    }
    weighed.records.sort_by(|a, b| a.place().cmp(&b.place()));
    weighed.abstained.sort_by(|a, b| a.place().cmp(&b.place()));
    notices.dedup();
    if scales.phase == Phase::Validate && loudest >= Mode::Warn {
        weighed.notices = notices;
    }
    weighed
}

// === impl Scales ===

impl Scales<'_> {
    /// The mode that holds for a guardrail on this object.
    #[must_use]
    pub fn mode(&self, review: &Review, meta: &Meta) -> Mode {
        self.config
            .mode(meta.name, review.subject.namespace.as_deref(), self.label)
    }

    fn exemption(
        &self,
        review: &Review,
        meta: &Meta,
        allowance: Option<&Allowance>,
        notices: &mut Vec<String>,
    ) -> Option<String> {
        if let Some(exemption) = self
            .config
            .exemption(meta.name, &review.subject, self.today)
        {
            let by = exemption
                .by
                .as_deref()
                .map(|by| format!(", {by}"))
                .unwrap_or_default();
            return Some(format!(
                "{} (until {}{by})",
                exemption.reason, exemption.until
            ));
        }
        let allowance = allowance.filter(|allowance| allowance.rules.contains(meta.name))?;
        if !self.config.allows_annotations(meta.name) {
            notices.push(format!(
                "the operator does not let annotations allow {}; ask for an exemption in the configuration",
                meta.name
            ));
            return None;
        }
        if allowance.until < self.today {
            notices.push(format!("{} ended on {}", allowance::ALLOW, allowance.until));
            return None;
        }
        Some(format!("{} (until {})", allowance.reason, allowance.until))
    }

    fn action(&self, meta: &Meta, mode: Mode, finding: &Finding, before: &Judgement) -> Action {
        let refusable = is_refusable(self.config, meta, finding) && !was_there(finding, before);
        match mode {
            Mode::Off | Mode::Audit => Action::Record {
                would_refuse: refusable,
            },
            Mode::Enforce if self.phase == Phase::Mutate && finding.response.patch().is_some() => {
                Action::Patch
            }
            Mode::Enforce if refusable => Action::Refuse,
            Mode::Warn | Mode::Enforce => Action::Warn,
        }
    }
}

/// Whether enforce refuses a new object for it.
fn is_refusable(config: &Config, meta: &Meta, finding: &Finding) -> bool {
    let is_firm = finding.certainty != Certainty::Likely || config.refuses_likely(meta.name);
    is_firm && finding.response == Response::Refuse
}

/// Whether the replaced object has the same mistake, or a worse one in the same place.
fn was_there(finding: &Finding, before: &Judgement) -> bool {
    let repaired = |old: &Finding| match (old.magnitude, finding.magnitude) {
        (Some(old), Some(new)) => new > old,
        _ => false,
    };
    let same_item = before
        .findings
        .iter()
        .filter(|old| old.item == finding.item);
    same_item
        .into_iter()
        .any(|old| old.value == finding.value || repaired(old))
}

// === impl Record ===

impl Record {
    fn place(&self) -> (&str, &str, &str) {
        (self.meta.name, &self.finding.path, &self.finding.item)
    }

    /// Whether enforce would refuse a new object for it, whatever the mode is.
    #[must_use]
    pub fn would_refuse(&self, config: &Config) -> bool {
        !matches!(self.action, Action::Exempt(_)) && is_refusable(config, self.meta, &self.finding)
    }

    /// Whether it counts as an error where modes do not matter: all but likely findings, and those
    /// where the operator opted in.
    #[must_use]
    pub fn is_error(&self, config: &Config) -> bool {
        self.finding.certainty != Certainty::Likely
            || is_refusable(config, self.meta, &self.finding)
    }
}

impl Abstained {
    fn place(&self) -> (&str, &str) {
        (self.meta.name, &self.abstention.item)
    }
}

// === impl Weighed ===

impl Weighed {
    /// Puts the answer into words.
    #[must_use]
    pub fn verdict(self, review: &Review, phase: Phase, patch: Option<Patch>) -> Verdict {
        let refused: Vec<_> = self
            .records
            .iter()
            .filter(|record| record.action == Action::Refuse)
            .collect();
        let refusal = (!refused.is_empty()).then(|| wording::refusal(review, &refused));
        let mut warnings: Vec<_> = self.records.iter().filter_map(wording::warning).collect();
        warnings.extend(
            self.notices
                .iter()
                .map(|notice| format!("forestall: {notice}")),
        );
        if phase == Phase::Validate {
            warnings.extend(wording::unknown(&self.abstained));
        }
        let audit = wording::audit(
            &self,
            refusal.is_some(),
            patch.is_some(),
            !warnings.is_empty(),
        );
        let Self {
            records,
            abstained,
            notices,
        } = self;
        Verdict {
            refusal,
            patch,
            warnings,
            notices,
            audit,
            records,
            abstained,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::catalogue;

    #[test]
    fn what_enforce_would_refuse_does_not_depend_on_the_mode() {
        let record = |(rule, response), certainty, mode, action| Record {
            meta: catalogue::find(rule).unwrap(),
            mode,
            finding: Finding {
                certainty,
                path: String::new(),
                item: String::new(),
                value: String::new(),
                magnitude: None,
                message: String::new(),
                help: String::new(),
                offers: Vec::new(),
                response,
            },
            action,
            unchanged: false,
        };
        let config = Config::parse("test", "rules: {missing-image: {refuseLikely: true}}").unwrap();
        let opted_in = || ("missing-image", Response::Refuse);
        let other = || ("impossible-memory-limit", Response::Refuse);
        let warns = || ("impossible-memory-limit", Response::Warn);
        let repairs = || {
            (
                "impossible-memory-limit",
                Response::Repair(Patch::default()),
            )
        };
        let modes = [
            (Mode::Audit, Action::Record { would_refuse: true }),
            (Mode::Warn, Action::Warn),
            (Mode::Enforce, Action::Refuse),
        ];
        for (mode, action) in modes {
            let would_refuse = |rule, certainty| {
                record(rule, certainty, mode, action.clone()).would_refuse(&config)
            };
            assert!(would_refuse(other(), Certainty::Proven), "{mode}");
            assert!(would_refuse(other(), Certainty::Observed), "{mode}");
            assert!(would_refuse(opted_in(), Certainty::Likely), "{mode}");
            assert!(!would_refuse(other(), Certainty::Likely), "{mode}");
            assert!(!would_refuse(repairs(), Certainty::Proven), "{mode}");
            assert!(!would_refuse(warns(), Certainty::Proven), "{mode}");
        }
        let exempt = Action::Exempt("a test".to_owned());
        let exempt = record(other(), Certainty::Proven, Mode::Enforce, exempt);
        assert!(!exempt.would_refuse(&config));
    }
}
