//! What `check` found, as it is written in JSON.

use json_patch::Patch;
use serde::{Serialize, Serializer};

use super::inputs::Source;
use super::placeholder::Placeholder;
use super::problem::{Position, Problem};
use crate::config::Config;
use crate::manifest::Document;
use crate::review::Subject;
use crate::rules::{Certainty, Finding};
use crate::verdict::{Action, Verdict};

/// The version of this form. A new key is no new version; a changed or removed one is.
const SCHEMA_VERSION: u32 = 1;

/// Everything that is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) schema_version: u32,
    pub(super) findings: Vec<Found>,
    /// Findings that the object in the cluster has too: they are nobody's new mistake.
    pub(super) unchanged: Vec<Found>,
    pub(super) abstained: Vec<NotJudged>,
    pub(super) errors: Vec<Problem>,
    /// Files and documents of directories that are no manifests.
    pub(super) left_out: Vec<Problem>,
    /// How many objects were not judged because a controller makes them from others.
    pub(super) controlled: usize,
    /// What is no error, such as an annotation that should allow something and does not.
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
    /// What of the object, and why.
    #[serde(rename = "reason", serialize_with = "with_colon")]
    pub(super) parts: (String, String),
    /// What stands there that something else replaces; then that is the reason.
    #[serde(skip)]
    pub(super) placeholder: Option<Placeholder>,
    #[serde(skip)]
    pub(super) place: Position,
}

fn with_colon<S: Serializer>(
    (item, reason): &(String, String),
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{item}: {reason}"))
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
            unchanged: Vec::new(),
            abstained: Vec::new(),
            errors: Vec::new(),
            left_out: Vec::new(),
            controlled: 0,
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
            let place = Position::of(&source.name, document.locate(&finding.path));
            // What is written is not what will be applied, so it proves nothing.
            if let Some(placeholder) = placeholder(source, document, &finding) {
                let reason = format!(
                    "{} is not rendered; check {}",
                    placeholder.text,
                    placeholder.by.advice(&source.name)
                );
                self.abstained.push(NotJudged {
                    rule: record.meta.name,
                    object: Object::of(subject),
                    parts: (finding.item, reason),
                    placeholder: Some(placeholder),
                    place,
                });
                continue;
            }
            let found = Found {
                rule: record.meta.name,
                level,
                certainty: finding.certainty,
                object: Object::of(subject),
                source: place,
                path: finding.path,
                message: finding.message,
                help: finding.help,
                fix: finding.response.patch().cloned(),
            };
            if record.unchanged {
                self.unchanged.push(found);
            } else {
                self.findings.push(found);
            }
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
                parts: (item, reason),
                placeholder: None,
                place: Position::of(&source.name, document.locate("")),
            });
        }
    }

    /// Counts an object that is not judged, as a controller makes it from another one.
    pub(super) fn leave_to_controller(&mut self) {
        self.objects += 1;
        self.controlled += 1;
    }

    /// Puts everything in order: by file, line and guardrail.
    pub(super) fn sort(&mut self) {
        self.findings.sort_by(|a, b| a.order().cmp(&b.order()));
        self.unchanged.sort_by(|a, b| a.order().cmp(&b.order()));
        self.abstained.sort_by(|a, b| a.order().cmp(&b.order()));
        self.errors.sort_by(|a, b| a.source.cmp(&b.source));
        self.left_out.sort_by(|a, b| a.source.cmp(&b.source));
    }

    /// How many findings there are of a level.
    pub(super) fn count(&self, level: Level) -> usize {
        let findings = self.findings.iter();
        findings.filter(|finding| finding.level == level).count()
    }
}

/// What stands in the place of a finding, if something else replaces it before it is applied.
fn placeholder(source: &Source, document: &Document, finding: &Finding) -> Option<Placeholder> {
    let written = document.object.root().text_at(&finding.path);
    let mut seen = written.into_iter().chain([finding.value.as_str()]);
    seen.find_map(|value| Placeholder::find(value, &source.surroundings))
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
        (file, line, self.rule, &self.parts)
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
