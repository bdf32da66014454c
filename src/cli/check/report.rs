//! What `check` found, as it is written in JSON.

use json_patch::Patch;
use serde::Serialize;

use super::inputs::Source;
use super::problem::{Position, Problem};
use crate::config::Config;
use crate::manifest::Document;
use crate::review::Subject;
use crate::rules::Certainty;
use crate::verdict::{Action, Verdict};

/// The version of this form. A new key is no new version; a changed or removed one is.
const SCHEMA_VERSION: u32 = 1;

/// Everything that is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) schema_version: u32,
    pub(super) findings: Vec<Found>,
    pub(super) abstained: Vec<NotJudged>,
    pub(super) errors: Vec<Problem>,
    /// What is wrong with annotations that should allow something.
    #[serde(skip)]
    pub(super) notices: Vec<Problem>,
    /// How many objects were judged.
    #[serde(skip)]
    pub(super) objects: usize,
}

/// How bad a finding is, whatever the mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Error,
    Warning,
}

/// A finding.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    pub(super) rule: &'static str,
    pub(super) level: Level,
    pub(super) certainty: Certainty,
    pub(super) object: Object,
    pub(super) path: String,
    pub(super) message: String,
    pub(super) help: String,
    pub(super) fix: Option<Patch>,
    pub(super) source: Position,
}

/// What could not be judged.
#[derive(Debug, Serialize)]
pub(super) struct NotJudged {
    pub(super) rule: &'static str,
    pub(super) object: Object,
    pub(super) reason: String,
    /// What of the object, and why, apart.
    #[serde(skip)]
    pub(super) parts: (String, String),
    #[serde(skip)]
    place: Position,
}

/// An object.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Object {
    api_version: String,
    kind: String,
    namespace: Option<String>,
    name: String,
}

// === impl Report ===

impl Default for Report {
    fn default() -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            findings: Vec::new(),
            abstained: Vec::new(),
            errors: Vec::new(),
            notices: Vec::new(),
            objects: 0,
        }
    }
}

impl Report {
    /// Adds the verdict on one object. What somebody accepted is no finding.
    pub(super) fn add(
        &mut self,
        source: &Source,
        document: &Document,
        subject: &Subject,
        verdict: Verdict,
        config: &Config,
    ) {
        self.objects += 1;
        for record in verdict.records {
            if matches!(record.action, Action::Exempt(_)) {
                continue;
            }
            let level = if record.is_error(config) {
                Level::Error
            } else {
                Level::Warning
            };
            let finding = record.finding;
            self.findings.push(Found {
                rule: record.meta.name,
                level,
                certainty: finding.certainty,
                object: Object::of(subject),
                source: Position::of(&source.name, document.locate(&finding.path)),
                path: finding.path,
                message: finding.message,
                help: finding.help,
                fix: finding.response.patch().cloned(),
            });
        }
        let annotations = document.locate("/metadata/annotations");
        for notice in verdict.notices {
            let notice = format!("warning: {notice}");
            self.notices
                .push(Problem::at(&source.name, annotations, &notice));
        }
        for abstained in verdict.abstained {
            let item = abstained.abstention.item;
            let reason = abstained.abstention.reason.to_string();
            self.abstained.push(NotJudged {
                rule: abstained.meta.name,
                object: Object::of(subject),
                reason: format!("{item}: {reason}"),
                parts: (item, reason),
                place: Position::of(&source.name, document.locate("")),
            });
        }
    }

    /// Puts everything in order: by file, line and guardrail.
    pub(super) fn sort(&mut self) {
        self.findings.sort_by(|a, b| a.order().cmp(&b.order()));
        self.abstained.sort_by(|a, b| a.order().cmp(&b.order()));
        self.errors.sort_by(|a, b| a.source.cmp(&b.source));
    }

    /// How many findings there are of a level.
    pub(super) fn count(&self, level: Level) -> usize {
        let findings = self.findings.iter();
        findings.filter(|finding| finding.level == level).count()
    }
}

impl Found {
    fn order(&self) -> impl Ord + '_ {
        let Position { file, line, column } = &self.source;
        (file, line, self.rule, column, &self.path)
    }
}

impl NotJudged {
    fn order(&self) -> impl Ord + '_ {
        let Position { file, line, .. } = &self.place;
        (file, line, self.rule, &self.reason)
    }
}

impl Object {
    fn of(subject: &Subject) -> Self {
        Self {
            api_version: subject.api_version(),
            kind: subject.kind.clone(),
            namespace: subject.namespace.clone(),
            name: subject.name.clone(),
        }
    }
}
