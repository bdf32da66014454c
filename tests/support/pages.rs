//! The cases in docs/rules/*.md, each a test of its guardrail.
//!
//! Under `## Cases`, a heading `### Caught: …`, `### Clean: …` or `### Unknown: …` begins a case, and
//! its blocks say what is judged on what:
//!
//! | block | what it is |
//! |---|---|
//! | `yaml` | the object, as a file holds it |
//! | `yaml admission` | the object, as the API server sends it |
//! | `yaml previous` | what it replaces |
//! | `yaml evidence` | an evidence file |
//! | `yaml cluster` | objects that are in the cluster |
//! | `yaml config` | a configuration; all other guardrails are off whatever it says |
//! | `yaml expect` | `findings: [{certainty, path, message, help, fix}]` and `abstained: NUMBER` |

use std::sync::Arc;

use forestall::config::{Config, Mode};
use forestall::guard::Guard;
use forestall::lookup::files::{EvidenceFile, Files};
use forestall::manifest;
use forestall::review::{Door, Review};
use forestall::rules::catalogue::CATALOGUE;
use forestall::rules::{Certainty, Finding};
use forestall::tree::Tree;
use serde::Deserialize;
use serde_json::Value;

/// One case of a page.
pub struct Case {
    /// The guardrail.
    pub rule: &'static str,
    /// Page, line and heading.
    pub title: String,
    /// What the heading promises.
    pub outcome: Outcome,
    /// What is judged.
    pub review: Review,
    /// What is known.
    pub evidence: Option<EvidenceFile>,
    /// What is in the cluster.
    pub cluster: Vec<Value>,
    /// What the operator decided; only this guardrail is on.
    pub config: Config,
    /// What must come out.
    pub expect: Expect,
}

/// What the heading of a case promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At least one finding.
    Caught,
    /// No finding.
    Clean,
    /// No finding, and something that could not be judged.
    Unknown,
}

/// What must come out of a case.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// All findings, in any order.
    pub findings: Vec<Expected>,
    /// How many items could not be judged.
    pub abstained: Option<usize>,
}

/// A finding; what is left out may be anything.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expected {
    pub certainty: Option<Certainty>,
    pub path: Option<String>,
    /// A part of the message.
    pub message: String,
    /// A part of the help.
    pub help: String,
    /// Whether there is a fix.
    pub fix: Option<bool>,
}

/// The cases of all pages.
///
/// # Panics
/// Where a page cannot be read as one.
pub fn cases() -> Vec<Case> {
    let pages = CATALOGUE.iter().map(|meta| (meta.name, meta.page));
    pages
        .flat_map(|(rule, page)| cases_of(rule, page))
        .collect()
}

/// The cases of one page.
pub fn cases_of(rule: &'static str, page: &str) -> Vec<Case> {
    let lines = page.lines().enumerate();
    let mut lines = lines.skip_while(|(_, line)| *line != "## Cases");
    let mut cases: Vec<Draft> = Vec::new();
    while let Some((index, line)) = lines.next() {
        if let Some(heading) = line.strip_prefix("### ") {
            let title = format!("docs/rules/{rule}.md:{}: {heading}", index + 1);
            cases.push(Draft::new(title, heading));
        } else if let Some(kind) = line.strip_prefix("```") {
            let block: Vec<_> = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| *line != "```")
                .collect();
            let case = cases.last_mut();
            let case = case.unwrap_or_else(|| panic!("{rule}: a block before the first case"));
            case.take(kind, &block.join("\n"));
        }
    }
    cases.into_iter().map(|draft| draft.finish(rule)).collect()
}

/// A case of which not all blocks have been read.
struct Draft {
    title: String,
    outcome: Outcome,
    object: Option<(Value, Door)>,
    previous: Option<Value>,
    evidence: Option<EvidenceFile>,
    cluster: Vec<Value>,
    config: Config,
    expect: Expect,
}

/// Changes the object of a review.
pub fn edit(review: &mut Review, change: impl FnOnce(&mut Value)) {
    let mut object = review.root().to_value();
    change(&mut object);
    *review = review.with_object(Arc::new(object.into()));
}

// === impl Case ===

impl Case {
    /// The facts of this case.
    pub fn lookup(&self) -> Files {
        let mut files = Files::new(&self.config, self.evidence.clone());
        for object in &self.cluster {
            files.add(Tree::from(object).root());
        }
        files
    }

    /// A guard that knows these facts, with only this guardrail on.
    pub fn guard(&self) -> Guard<Files> {
        Guard::new(self.config.clone(), self.lookup()).unwrap()
    }
}

// === impl Draft ===

impl Draft {
    fn new(title: String, heading: &str) -> Self {
        let outcome = match heading.split(':').next() {
            Some("Caught") => Outcome::Caught,
            Some("Clean") => Outcome::Clean,
            Some("Unknown") => Outcome::Unknown,
            _ => panic!("{title}: write Caught:, Clean: or Unknown:"),
        };
        Self {
            title,
            outcome,
            object: None,
            previous: None,
            evidence: None,
            cluster: Vec::new(),
            config: Config::default(),
            expect: Expect::default(),
        }
    }

    fn take(&mut self, kind: &str, text: &str) {
        let title = self.title.clone();
        let one = |text: &str| {
            let mut objects = objects(&title, text);
            assert_eq!(objects.len(), 1, "{title}: one object in a block");
            objects.remove(0)
        };
        match kind {
            "yaml" => self.object = Some((one(text), Door::Files)),
            "yaml admission" => self.object = Some((one(text), Door::Admission)),
            "yaml previous" => self.previous = Some(one(text)),
            "yaml evidence" => {
                self.evidence = Some(EvidenceFile::parse(&title, text).unwrap());
            }
            "yaml cluster" => self.cluster.extend(objects(&title, text)),
            "yaml config" => self.config = Config::parse(&title, text).unwrap(),
            "yaml expect" => {
                let expect = serde_saphyr::from_str(text);
                self.expect = expect.unwrap_or_else(|error| panic!("{title}: {error}"));
            }
            _ => panic!("{title}: there is no block of the kind {kind:?}"),
        }
    }

    fn finish(self, rule: &'static str) -> Case {
        let Self { title, outcome, .. } = self;
        let (object, door) = self
            .object
            .unwrap_or_else(|| panic!("{title}: there is no object"));
        let mut review = Review::of_manifest(object).unwrap();
        review.door = door;
        if let Some(previous) = self.previous {
            review = review.replacing(Arc::new(previous.into()));
        }
        let mut config = self.config;
        for meta in CATALOGUE.iter().filter(|meta| meta.name != rule) {
            config.rules.get_mut(meta.name).unwrap().mode = Some(Mode::Off);
        }
        Case {
            rule,
            title,
            outcome,
            review,
            evidence: self.evidence,
            cluster: self.cluster,
            config,
            expect: self.expect,
        }
    }
}

fn objects(title: &str, text: &str) -> Vec<Value> {
    let (documents, errors) = manifest::read(title, text.as_bytes());
    assert!(errors.is_empty(), "{title}: {errors:?}");
    documents
        .into_iter()
        .map(|document| document.object.root().to_value())
        .collect()
}

// === impl Expected ===

impl Expected {
    /// Whether this is the finding that is meant.
    pub fn is_like(&self, finding: &Finding) -> bool {
        self.certainty
            .is_none_or(|wanted| wanted == finding.certainty)
            && self
                .path
                .as_ref()
                .is_none_or(|wanted| *wanted == finding.path)
            && finding.message.contains(&self.message)
            && finding.help.contains(&self.help)
            && self
                .fix
                .is_none_or(|wanted| wanted == finding.response.patch().is_some())
    }
}
