//! What a guardrail is: the trait, what it finds, and how it abstains.

pub mod argocd;
pub mod catalogue;
pub mod implicit_external_secret_defaults;
pub mod impossible_memory_limit;
pub mod missing_image;
pub mod nearest_tag;
pub mod oom_killed_memory_limit;
mod schema_defaults;
pub mod unignored_live_fields;

use std::panic::RefUnwindSafe;

use json_patch::Patch;
use serde::{Deserialize, Serialize};

use crate::evidence::{Evidence, Questions};
use crate::objects::Reads;
use crate::review::{Review, WatchedKind};
use crate::unknown::Unknown;

/// A guardrail: one way to fail, known in one file.
///
/// It is pure: no clock, no file, no environment, no socket. It asks before, and judges after.
pub trait Rule: Send + Sync + RefUnwindSafe {
    /// The kinds that its settings add to those of its [`Meta`].
    fn also_watches(&self) -> &[WatchedKind] {
        &[]
    }

    /// What this guardrail must know before it can judge.
    fn questions(&self, _review: &Review) -> Questions {
        Questions::default()
    }

    /// The same review and evidence always give the same judgement.
    fn judge(&self, review: &Review, evidence: &Evidence) -> Judgement;
}

/// What the catalogue says of a guardrail.
#[derive(Debug)]
pub struct Meta {
    /// Kebab-case; the bad thing, so that it reads after "allow".
    pub name: &'static str,
    /// One line: what is wrong where this guardrail finds something.
    pub summary: &'static str,
    /// The incident that it would have prevented.
    pub incident: &'static str,
    /// The kinds of objects that it judges, whatever its settings are.
    pub watches: &'static [WatchedKind],
    /// Whether it has patches, and so is asked by the mutating webhook too.
    pub repairs: bool,
    /// What it reads beside the object: what is watched in the cluster for it.
    pub reads: &'static [Reads],
    /// The keys of its settings beside those that every guardrail has.
    pub settings: &'static [&'static str],
    /// The page of this guardrail: docs/rules/NAME.md.
    pub page: &'static str,
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// It cannot work; provable from the object and the facts.
    Proven,
    /// It failed here before; the evidence is at hand.
    Observed,
    /// Published or well-founded, but it may work.
    Likely,
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// How sure it is.
    pub certainty: Certainty,
    /// Where: a JSON pointer into the object.
    pub path: String,
    /// What it is about by name (a container, a field), which stays when a list is reordered.
    pub item: String,
    /// The value seen. A finding that the replaced object has too, with the same item and value,
    /// is nobody's new mistake.
    pub value: String,
    /// How far from broken, where that can be said; a change that raises it is a repair.
    pub magnitude: Option<i128>,
    /// What, where, the value seen.
    pub message: String,
    /// What to write instead.
    pub help: String,
    /// The values among it that may be written at `path`, each whole. The guardrail finds nothing in
    /// any of them.
    pub offers: Vec<String>,
    /// The patch that repairs it.
    pub fix: Option<Patch>,
}

/// Why an item of an object was not judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abstention {
    /// What could not be judged, such as `container app (nginx:1)`.
    pub item: String,
    /// Why not.
    pub reason: Unknown,
}

/// What a guardrail says of one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What could not be judged.
    pub abstained: Vec<Abstention>,
}

// === impl Judgement ===

impl Judgement {
    /// A judgement that knows nothing, and why.
    #[must_use]
    pub fn abstain(item: impl Into<String>, reason: Unknown) -> Self {
        Self {
            findings: Vec::new(),
            abstained: vec![Abstention {
                item: item.into(),
                reason,
            }],
        }
    }

    /// Adds a finding, nothing, or an abstention for one item.
    pub fn add(&mut self, item: impl Into<String>, result: Result<Option<Finding>, Unknown>) {
        match result {
            Ok(finding) => self.findings.extend(finding),
            Err(reason) => self.abstained.push(Abstention {
                item: item.into(),
                reason,
            }),
        }
    }
}

impl<Item: Into<String>> FromIterator<(Item, Result<Option<Finding>, Unknown>)> for Judgement {
    fn from_iter<T: IntoIterator<Item = (Item, Result<Option<Finding>, Unknown>)>>(
        items: T,
    ) -> Self {
        let mut judgement = Self::default();
        for (item, result) in items {
            judgement.add(item, result);
        }
        judgement
    }
}
