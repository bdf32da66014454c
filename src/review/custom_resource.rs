//! Where custom resources name images.
//!
//! What an operator makes of a custom resource has a controller, and is never refused. So the custom
//! resource is the only object whose author can be told that an image is missing.

mod built_in;
pub mod image_path;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use self::built_in::BUILT_IN;
use self::image_path::{ImagePath, InvalidPath, Walk};
use super::workload::{ImageUse, WORKLOADS};
use super::{Review, Subject, WatchedKind};
use crate::unknown::Unknown;

/// Kinds that an operator may add. Each costs a watch at the API server.
const MOST_KINDS: usize = 64;
/// Paths that an operator may give for one kind.
const MOST_PATHS: usize = 32;
/// Bytes of an API group (a DNS subdomain), and of a kind and a plural name (DNS labels).
const LONGEST_GROUP: usize = 253;
const LONGEST_NAME: usize = 63;

/// The kinds that are known without configuration.
pub const CUSTOM_RESOURCES: &[WatchedKind] = &{
    let mut kinds = [BUILT_IN[0].kind; BUILT_IN.len()];
    let mut index = 0;
    while index < BUILT_IN.len() {
        kinds[index] = BUILT_IN[index].kind;
        index += 1;
    }
    kinds
};

/// A kind of custom resources whose objects name images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CustomResourceSettings {
    /// API group, such as monitoring.coreos.com.
    #[schemars(regex(pattern = r"^[a-z0-9-]+(\.[a-z0-9-]+)+$"))]
    pub group: String,
    /// Kind, such as Prometheus. It must be namespaced.
    #[schemars(regex(pattern = r"^[A-Z][A-Za-z0-9]*$"))]
    pub kind: String,
    /// Resource name in URLs, such as prometheuses (`kubectl api-resources` lists them).
    #[schemars(regex(pattern = r"^[a-z0-9-]+$"))]
    pub plural: String,
    /// Where its objects name images that nodes pull as they are written, such as spec.image or
    /// `spec.containers[*].image`. A kind that is built in keeps the paths that it has.
    #[schemars(length(min = 1))]
    pub paths: Vec<String>,
}

/// An entry of the configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("customResources{}: {problem}", .place.as_deref().unwrap_or_default())]
pub struct CustomResourceError {
    /// Such as `[0].paths[1]`; none where it is about all entries.
    place: Option<String>,
    problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum Problem {
    #[error("there are more than {MOST_KINDS} kinds; remove those that are not used")]
    ManyKinds,
    #[error(
        "{0:?} is no API group of custom resources; write it as apiVersion has it before the slash, \
         such as monitoring.coreos.com"
    )]
    Group(String),
    #[error("{0:?} is no kind; write it as manifests do, such as Prometheus")]
    Kind(String),
    #[error(
        "{0:?} is no resource name; write it in lower case as `kubectl api-resources` does, such as \
         prometheuses"
    )]
    Plural(String),
    #[error(
        "{0} carries a pod template, whose images are looked at without this; remove the entry"
    )]
    Workload(String),
    #[error("the resource name of {kind} is {plural}; write that")]
    OtherPlural { kind: String, plural: &'static str },
    #[error("{0} has an entry already; write all its paths there")]
    Twice(String),
    #[error("there is no path; write where the images lie, such as spec.image")]
    NoPath,
    #[error("there are more than {MOST_PATHS} paths; remove some")]
    ManyPaths,
    #[error(transparent)]
    Path(#[from] InvalidPath),
}

/// Every kind of custom resources that is known to name images.
#[derive(Clone, Debug)]
pub struct CustomResources {
    kinds: Vec<CustomResource>,
    added: Vec<WatchedKind>,
}

/// One such kind.
#[derive(Clone, Debug)]
pub struct CustomResource {
    /// The kind.
    pub kind: WatchedKind,
    /// Where its objects name images.
    pub paths: Vec<ImagePath>,
    /// Whether its objects run steps, one of which may make the image of another.
    pub runs_steps: bool,
}

// === impl CustomResourceError ===

impl CustomResourceError {
    /// Where it is, as a JSON pointer into the settings of the guardrail.
    #[must_use]
    pub fn pointer(&self) -> String {
        let place = self.place.as_deref().unwrap_or_default();
        let place = place.replace(['.', '['], "/").replace(']', "");
        format!("/customResources{place}")
    }
}

// === impl CustomResources ===

impl CustomResources {
    /// The kinds that are built in, and those that an operator adds.
    ///
    /// # Errors
    /// The first entry that cannot be used, with the cure.
    pub fn parse(settings: &[CustomResourceSettings]) -> Result<Self, CustomResourceError> {
        let mut all = Self {
            kinds: Vec::new(),
            added: Vec::new(),
        };
        for built_in in BUILT_IN {
            let paths = built_in.paths.iter().map(|path| ImagePath::parse(path));
            let paths: Result<_, _> = paths.collect();
            all.kinds.push(CustomResource {
                kind: built_in.kind,
                paths: paths.map_err(|error| CustomResourceError {
                    place: None,
                    problem: Problem::Path(error),
                })?,
                runs_steps: built_in.runs_steps,
            });
        }
        if settings.len() > MOST_KINDS {
            return Err(CustomResourceError {
                place: None,
                problem: Problem::ManyKinds,
            });
        }
        let mut seen = BTreeSet::new();
        for (index, entry) in settings.iter().enumerate() {
            let failed = |(field, problem)| CustomResourceError {
                place: Some(format!("[{index}]{field}")),
                problem,
            };
            entry.check().map_err(failed)?;
            if !seen.insert((&entry.group, &entry.kind)) {
                let problem = Problem::Twice(entry.kind.clone());
                return Err(failed((".kind".to_owned(), problem)));
            }
            let paths = entry.paths().map_err(failed)?;
            all.add(entry, paths).map_err(failed)?;
        }
        Ok(all)
    }

    fn add(
        &mut self,
        entry: &CustomResourceSettings,
        paths: Vec<ImagePath>,
    ) -> Result<(), (String, Problem)> {
        let CustomResourceSettings {
            group,
            kind,
            plural,
            ..
        } = entry;
        let mut kinds = self.kinds.iter_mut();
        let known = kinds.find(|known| known.kind.group == group && known.kind.kind == kind);
        let Some(known) = known else {
            let kind = WatchedKind::namespaced(kept(group), kept(kind), kept(plural));
            self.added.push(kind);
            self.kinds.push(CustomResource {
                kind,
                paths,
                runs_steps: false,
            });
            return Ok(());
        };
        if known.kind.plural != plural {
            let (kind, plural) = (kind.clone(), known.kind.plural);
            return Err((".plural".to_owned(), Problem::OtherPlural { kind, plural }));
        }
        for path in paths {
            if !known.paths.contains(&path) {
                known.paths.push(path);
            }
        }
        Ok(())
    }

    /// The kinds that are not built in.
    #[must_use]
    pub fn added(&self) -> &[WatchedKind] {
        &self.added
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &CustomResource> {
        self.kinds.iter()
    }

    /// The kind of an object, where it is one of them.
    #[must_use]
    pub fn of(&self, subject: &Subject) -> Option<&CustomResource> {
        let mut kinds = self.kinds.iter();
        kinds.find(|known| subject.is(known.kind.group, known.kind.kind))
    }
}

// === impl CustomResource ===

impl CustomResource {
    /// Every image that such an object names.
    ///
    /// # Errors
    /// [`Unknown::Unreadable`] where something else lies on the way to one, [`Unknown::TooMany`]
    /// where there is more than one review looks at.
    pub fn images(&self, review: &Review) -> Result<Vec<ImageUse>, Unknown> {
        let mut walk = Walk::new();
        for path in &self.paths {
            path.find(review.root(), &mut walk)?;
        }
        Ok(walk.images)
    }
}

// === impl CustomResourceSettings ===

impl CustomResourceSettings {
    /// Whether it names a kind, and one that may be added. It becomes part of URLs and of metrics.
    fn check(&self) -> Result<(), (String, Problem)> {
        let Self {
            group,
            kind,
            plural,
            ..
        } = self;
        let fails = |field: &str, problem| Err((field.to_owned(), problem));
        let mut labels = group.split('.');
        let is_group = group.len() <= LONGEST_GROUP && group.contains('.') && labels.all(is_label);
        if !is_group {
            return fails(".group", Problem::Group(group.clone()));
        }
        let is_kind = kind.len() <= LONGEST_NAME
            && kind.starts_with(|first: char| first.is_ascii_uppercase())
            && kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_kind {
            return fails(".kind", Problem::Kind(kind.clone()));
        }
        if !is_label(plural) {
            return fails(".plural", Problem::Plural(plural.clone()));
        }
        let mut workloads = WORKLOADS.iter();
        if workloads.any(|workload| workload.group == group && workload.kind == kind) {
            return fails(".kind", Problem::Workload(kind.clone()));
        }
        Ok(())
    }

    fn paths(&self) -> Result<Vec<ImagePath>, (String, Problem)> {
        let fails = |problem| Err((".paths".to_owned(), problem));
        match self.paths.len() {
            0 => return fails(Problem::NoPath),
            1..=MOST_PATHS => {}
            _ => return fails(Problem::ManyPaths),
        }
        let paths = self.paths.iter().enumerate();
        let parse = |(index, path): (usize, &String)| {
            ImagePath::parse(path).map_err(|error| (format!(".paths[{index}]"), error.into()))
        };
        paths.map(parse).collect()
    }
}

/// Whether this is a DNS label (RFC 1123).
fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LONGEST_NAME).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The same text, kept for as long as the program runs. Kinds are compared and counted everywhere,
/// so their names are not copied. Each text is kept once, however often the configuration is read.
fn kept(text: &str) -> &'static str {
    static KEPT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = kept.get(text) {
        return known;
    }
    let new: &'static str = Box::leak(text.into());
    kept.insert(new);
    new
}

#[cfg(test)]
mod tests;
