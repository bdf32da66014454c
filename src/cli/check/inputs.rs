//! The files that `check` is given.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::encoding::Text;
use super::foreign::{self, Foreign, directory_of};
use super::kustomization::{self, Kustomization, normal};
use super::placeholder::Surroundings;
use super::problem::Problem;
use super::walk::{Listing, Selection};
use crate::manifest::{self, Document, ManifestError};
use crate::review::Subject;

/// A longer file is no manifest: etcd takes 1.5 MiB for an object.
const LONGEST_FILE: u64 = 64 * 1024 * 1024;
/// Directories of one kind that are named without being asked for.
const NAMED_DIRECTORIES: usize = 3;
/// The group of what kustomize reads itself.
const KUSTOMIZE_GROUP: &str = "kustomize.config.k8s.io";

/// A file and the objects in it.
#[derive(Debug)]
pub(super) struct Source {
    /// As the user calls it; `-` for standard input.
    pub(super) name: String,
    /// Its text, for excerpts.
    pub(super) text: Arc<String>,
    /// The objects that could be read.
    pub(super) documents: Vec<Document>,
    /// What replaces values in it before they are applied.
    pub(super) surroundings: Surroundings,
}

/// All files, and what could not be read.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    pub(super) sources: Vec<Source>,
    pub(super) errors: Vec<Problem>,
    /// What is no error.
    pub(super) notices: Vec<Problem>,
    /// Files of directories, and documents of such files, that are no manifests.
    pub(super) left_out: Vec<Problem>,
    /// Directories from which something else makes manifests.
    charts: Vec<PathBuf>,
    kustomizations: Vec<PathBuf>,
}

/// What the files of a directory say of each other.
#[derive(Debug, Default)]
struct Tree {
    /// Files that are parts of a kustomization, and its directory.
    parts: BTreeMap<PathBuf, PathBuf>,
    /// Directories that are kustomizations.
    kustomized: BTreeSet<PathBuf>,
    /// Images that they write anew.
    images: Arc<BTreeSet<String>>,
    /// Images that Skaffold builds.
    built: Arc<BTreeSet<String>>,
}

/// A file that was read.
struct Content {
    text: Arc<String>,
    documents: Vec<Document>,
    errors: Vec<ManifestError>,
    /// Whether it was UTF-16.
    is_utf16: bool,
}

// === impl Inputs ===

impl Inputs {
    /// Reads files, directories and standard input.
    pub(super) fn read<'a>(
        &mut self,
        paths: impl Iterator<Item = &'a PathBuf>,
        selection: &Selection,
    ) {
        for path in paths {
            if path == Path::new("-") {
                self.add_named(path, read_to_limit(io::stdin().lock(), 0));
            } else if path.is_dir() {
                self.read_directory(path, selection);
            } else if !selection.excludes(path) {
                self.add_named(path, read_bounded(path));
            }
        }
    }

    /// All objects of all files.
    pub(super) fn documents(&self) -> impl Iterator<Item = &Document> {
        self.sources.iter().flat_map(|source| &source.documents)
    }

    /// Says how the directories are rendered from which something else makes manifests.
    pub(super) fn say_how_to_render(&mut self, all: bool) {
        let charts = std::mem::take(&mut self.charts);
        let kustomizations = std::mem::take(&mut self.kustomizations);
        for (directories, what, command) in [
            (
                charts,
                "a Helm chart",
                foreign::rendered_by_helm as fn(&Path) -> String,
            ),
            (
                kustomizations,
                "a kustomization",
                foreign::rendered_by_kustomize,
            ),
        ] {
            let shown = if all {
                directories.len()
            } else {
                NAMED_DIRECTORIES
            };
            for directory in directories.iter().take(shown) {
                let message = format!("{what}; check what it renders to: {}", command(directory));
                let name = directory.display().to_string();
                self.notices.push(Problem::new(&name, &message));
            }
            if let Some(more) = directories.get(shown) {
                let name = more.display().to_string();
                let message = format!(
                    "{what}, as {} more are; check what they render to as well (-v names them)",
                    directories.len() - shown - 1
                );
                self.notices.push(Problem::new(&name, &message));
            }
        }
    }

    fn read_directory(&mut self, directory: &Path, selection: &Selection) {
        let name = directory.display().to_string();
        let Listing {
            files,
            mut left_out,
            mut errors,
        } = selection.list(directory);
        let before = (self.sources.len(), self.errors.len() + errors.len());
        let left_out_before = self.left_out.len();
        self.left_out.append(&mut left_out);
        self.errors.append(&mut errors);
        let tree = self.look_around(&files);
        for file in &files {
            self.add_found(file, &tree);
        }
        if (self.sources.len(), self.errors.len()) != before {
            return;
        }
        // Nothing was judged, and a pipeline that is green for that would prove nothing.
        let hint = if selection.recursive {
            ""
        } else {
            "; -R looks deeper"
        };
        let left_out = self.left_out.len() - left_out_before;
        if files.is_empty() {
            let message = format!(
                "no *.yaml, *.yml or *.json in this directory, besides what .gitignore and --exclude \
                 name{hint}"
            );
            self.errors.push(Problem::new(&name, &message));
        } else if left_out > 0 {
            let message = format!(
                "no Kubernetes manifest in this directory: {left_out} files are left out, which are \
                 named below{hint}"
            );
            self.errors.push(Problem::new(&name, &message));
        }
    }

    /// Reads the files that say something of others.
    fn look_around(&mut self, files: &[PathBuf]) -> Tree {
        let mut tree = Tree::default();
        let (mut images, mut built) = (BTreeSet::new(), BTreeSet::new());
        for file in files {
            let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
            let directory = directory_of(file);
            if name == foreign::CHART {
                // A chart within a chart is rendered with it.
                let mut above = directory.ancestors().skip(1);
                if !above.any(|above| above.join(foreign::CHART).is_file()) {
                    self.charts.push(directory.to_owned());
                }
            } else if foreign::KUSTOMIZATIONS.contains(&name) {
                let read = Kustomization::read(file, &text_of(file));
                let parts = read.parts.into_iter();
                tree.parts
                    .extend(parts.map(|part| (part, directory.to_owned())));
                images.extend(read.images);
                tree.kustomized.insert(directory.to_owned());
                if !read.is_component {
                    self.kustomizations.push(directory.to_owned());
                }
            } else if matches!(name, "skaffold.yaml" | "skaffold.yml") {
                built.extend(kustomization::built_by_skaffold(&text_of(file)));
            }
        }
        tree.images = Arc::new(images);
        tree.built = Arc::new(built);
        tree
    }

    /// Adds a file of a directory: what is no manifest is left out.
    fn add_found(&mut self, path: &Path, tree: &Tree) {
        let name = path.display().to_string();
        let bytes = match read_bounded(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return self.left_out.push(Problem::new(&name, &error));
            }
            Err(error) => return self.errors.push(Problem::new(&name, &error)),
        };
        let part_of = tree.parts.get(&normal(path));
        let (text, is_utf16) = match Text::of(bytes) {
            Text::Utf8(text) => (text, false),
            Text::Utf16(text) => (text, true),
            Text::Other(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                if foreign::may_be_manifest(&text) {
                    let content = Content::of_bytes(&name, &bytes);
                    return self.add_if_manifest(path, content, tree);
                }
                return self.left_out.push(Problem::new(&name, &Foreign::unknown()));
            }
        };
        let foreign = match part_of {
            Some(directory) => Some(Foreign::part_of_kustomization(directory)),
            None => Foreign::of(path, &text),
        };
        if let Some(foreign) = foreign {
            return self.left_out.push(Problem::new(&name, &foreign));
        }
        let chart = foreign::chart_of(path).filter(|_| text.contains("{{"));
        if chart.is_some() {
            return self
                .left_out
                .push(Problem::new(&name, &Foreign::template(chart)));
        }
        if foreign::may_be_manifest(&text) {
            self.add_if_manifest(path, Content::of_text(&name, text, is_utf16), tree);
        } else if !is_empty(&text) {
            self.left_out.push(Problem::new(&name, &Foreign::unknown()));
        }
    }

    fn add_if_manifest(&mut self, path: &Path, content: Content, tree: &Tree) {
        let name = path.display().to_string();
        let Content {
            text,
            documents,
            errors,
            is_utf16,
        } = content;
        if foreign::is_template(&text, &documents, &errors) {
            return self
                .left_out
                .push(Problem::new(&name, &Foreign::template(None)));
        }
        let (of_kustomize, documents): (Vec<_>, Vec<_>) =
            documents.into_iter().partition(is_of_kustomize);
        let (manifests, others): (Vec<_>, Vec<_>) = documents.into_iter().partition(is_manifest);
        if manifests.is_empty() {
            let is_broken = errors.iter().any(|error| !error.is_no_object);
            if is_broken && foreign::is_meant_as_manifest(&text) {
                self.errors.extend(errors.into_iter().map(Problem::from));
            } else if !of_kustomize.is_empty() {
                let foreign = Foreign::of_kustomize(path);
                self.left_out.push(Problem::new(&name, &foreign));
            } else if !others.is_empty() || !errors.is_empty() {
                self.left_out.push(Problem::new(&name, &Foreign::unknown()));
            }
            return;
        }
        let lines: Vec<_> = text.lines().collect();
        for error in errors {
            let is_foreign =
                error.is_no_object || !foreign::is_about_object(&lines, error.position.line);
            let list = if is_foreign {
                &mut self.left_out
            } else {
                &mut self.errors
            };
            list.push(error.into());
        }
        for document in of_kustomize.iter().chain(&others) {
            let message = "this document is no object with apiVersion and kind for a cluster";
            self.left_out
                .push(Problem::at(&name, document.start, message));
        }
        self.notice_utf16(&name, is_utf16);
        let is_kustomized = tree.kustomized.contains(directory_of(path));
        self.sources.push(Source {
            name,
            text,
            documents: manifests,
            surroundings: Surroundings {
                kustomized: is_kustomized.then(|| Arc::clone(&tree.images)),
                built: Arc::clone(&tree.built),
            },
        });
    }

    /// Adds a file that was named itself: it has to be a manifest.
    fn add_named(&mut self, path: &Path, bytes: io::Result<Vec<u8>>) {
        let name = path.display().to_string();
        let content = match bytes {
            Ok(bytes) => match Text::of(bytes) {
                Text::Utf8(text) => Content::of_text(&name, text, false),
                Text::Utf16(text) => Content::of_text(&name, text, true),
                Text::Other(bytes) => Content::of_bytes(&name, &bytes),
            },
            Err(error) => return self.errors.push(Problem::new(&name, &error)),
        };
        if let Some(foreign) = content.foreign(path) {
            return self.errors.push(Problem::new(&name, &foreign));
        }
        let errors = content.errors.into_iter();
        self.errors.extend(errors.map(Problem::from));
        self.notice_utf16(&name, content.is_utf16);
        self.sources.push(Source {
            name,
            text: content.text,
            documents: content.documents,
            surroundings: Surroundings::default(),
        });
    }

    fn notice_utf16(&mut self, name: &str, is_utf16: bool) {
        if is_utf16 {
            let message = "warning: the file is UTF-16; save it as UTF-8, which every tool reads";
            self.notices.push(Problem::new(name, &message));
        }
    }
}

// === impl Content ===

impl Content {
    fn of_text(name: &str, text: String, is_utf16: bool) -> Self {
        let text = Arc::new(text);
        let (documents, errors) = manifest::read_text(name, &text);
        Self {
            text,
            documents,
            errors,
            is_utf16,
        }
    }

    fn of_bytes(name: &str, bytes: &[u8]) -> Self {
        let (documents, errors) = manifest::read(name, bytes);
        Self {
            text: Arc::new(String::from_utf8_lossy(bytes).into_owned()),
            documents,
            errors,
            is_utf16: false,
        }
    }

    /// What a file that was named is, where it is something else than a manifest.
    fn foreign(&self, path: &Path) -> Option<Foreign> {
        // What comes from a pipe is rendered: there, braces that can be read are meant.
        let is_piped = path == Path::new("-");
        let is_broken = self.errors.iter().any(|error| !error.is_no_object);
        let chart = foreign::chart_of(path).filter(|_| self.text.contains("{{"));
        let is_template = || foreign::is_template(&self.text, &self.documents, &self.errors);
        if chart.is_some() || (!is_piped || is_broken) && is_template() {
            return Some(Foreign::template(chart));
        }
        if self.documents.iter().any(is_of_kustomize) && !is_piped {
            return Some(Foreign::of_kustomize(path));
        }
        Foreign::of(path, &self.text)
    }
}

/// Whether a document says what it is.
fn is_manifest(document: &Document) -> bool {
    Subject::of(document.object.root()).is_ok()
}

/// Whether a document is for kustomize, and not for a cluster.
fn is_of_kustomize(document: &Document) -> bool {
    let subject = Subject::of(document.object.root());
    subject.is_ok_and(|subject| subject.group == KUSTOMIZE_GROUP || subject.version == "builtin")
}

/// Whether there is nothing but comments and separators.
fn is_empty(text: &str) -> bool {
    let mut lines = text.lines();
    lines.all(|line| {
        let line = line.trim_start_matches('\u{feff}').trim();
        line.is_empty() || line.starts_with('#') || line == "---"
    })
}

/// The text of a file that says something of others; of one that cannot be read, nothing.
fn text_of(path: &Path) -> String {
    match read_bounded(path).map(Text::of) {
        Ok(Text::Utf8(text) | Text::Utf16(text)) => text,
        _ => String::new(),
    }
}

/// Reads a file that may be a device or a pipe without end.
pub(super) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    read_to_limit(file, length)
}

/// Reads what probably has this length, so that the text has no more memory than it needs.
fn read_to_limit(reader: impl Read, length: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length.min(LONGEST_FILE)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(length);
    reader.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST_FILE {
        let message = format!("longer than {} MiB, so no manifest", LONGEST_FILE >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}
