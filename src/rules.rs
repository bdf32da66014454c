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
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
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

    /// Whether it reads the pull secrets of workloads, where its settings let it or not.
    fn reads_pull_secrets(&self) -> Option<bool> {
        None
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
    /// The page of this guardrail: docs/rules/NAME.md.
    pub page: &'static str,
}

/// What the configuration tells a guardrail beside mode and the like. The default is what holds where
/// nothing is said.
pub trait OwnSettings: Default + Serialize + DeserializeOwned + JsonSchema {
    /// Makes the guardrail.
    ///
    /// # Errors
    /// A setting that cannot be used.
    fn build(&self) -> Result<Box<dyn Rule>, Mistake>;
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Mistake {
    /// Where: a JSON pointer.
    pub pointer: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// A guardrail that is built and ready to judge.
pub struct Guardrail {
    /// What it is.
    pub meta: &'static Meta,
    /// The guardrail.
    pub rule: Box<dyn Rule>,
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
    /// What may be done about it.
    pub response: Response,
}

/// What may be done about a finding, where the mode is enforce and nobody accepts it.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// The request is refused, if the finding is sure enough.
    Refuse,
    /// The object is patched; what the patch does not mend is told.
    Repair(Patch),
    /// The client is told.
    Warn,
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

// === impl Mistake ===

impl Mistake {
    /// The same, as seen from the root of the configuration.
    pub(crate) fn of(self, rule: &str) -> Self {
        Self {
            pointer: format!("/rules/{rule}{}", self.pointer),
            message: format!("rules.{rule}.{}", self.message),
        }
    }
}

// === impl Guardrail ===

impl Guardrail {
    /// The kinds that it judges.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = WatchedKind> {
        let watches = self.meta.watches.iter();
        watches.chain(self.rule.also_watches()).copied()
    }

    /// The kind as this guardrail has it, where it watches it.
    pub(crate) fn watches(&self, group: &str, kind: &str) -> Option<WatchedKind> {
        self.kinds()
            .find(|watched| watched.group == group && watched.kind == kind)
    }
}

// === impl Response ===

impl Response {
    /// The patch, where it is one.
    #[must_use]
    pub fn patch(&self) -> Option<&Patch> {
        match self {
            Self::Repair(patch) => Some(patch),
            Self::Refuse | Self::Warn => None,
        }
    }
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
