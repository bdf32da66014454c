//! The files that `check` is given.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::problem::Problem;
use crate::manifest::{self, Document};

/// What kubectl takes from a directory.
const EXTENSIONS: &[&str] = &["json", "yaml", "yml"];
/// A longer file is no manifest: etcd takes 1.5 MiB for an object.
const LONGEST_FILE: u64 = 64 * 1024 * 1024;

/// A file and the objects in it.
#[derive(Debug)]
pub(super) struct Source {
    /// As the user calls it; `-` for standard input.
    pub(super) name: String,
    /// Its text, for excerpts.
    pub(super) text: Arc<String>,
    /// The objects that could be read.
    pub(super) documents: Vec<Document>,
}

/// All files, and what could not be read.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    pub(super) sources: Vec<Source>,
    pub(super) errors: Vec<Problem>,
}

// === impl Inputs ===

impl Inputs {
    /// Reads files, directories and standard input.
    pub(super) fn read(&mut self, paths: &[PathBuf], recursive: bool) {
        for path in paths {
            if path == Path::new("-") {
                self.add(path, read_to_limit(io::stdin().lock(), 0));
            } else {
                self.read_path(path, recursive);
            }
        }
    }

    /// Reads files and directories.
    pub(super) fn read_state(&mut self, paths: &[PathBuf], recursive: bool) {
        for path in paths {
            self.read_path(path, recursive);
        }
    }

    /// All objects of all files.
    pub(super) fn documents(&self) -> impl Iterator<Item = &Document> {
        self.sources.iter().flat_map(|source| &source.documents)
    }

    fn read_path(&mut self, path: &Path, recursive: bool) {
        if !path.is_dir() {
            self.add(path, read_bounded(path));
            return;
        }
        let mut found = Vec::new();
        self.list(path, recursive, &mut found);
        if found.is_empty() {
            let hint = if recursive { "" } else { "; -R looks deeper" };
            let message = format!("no *.yaml, *.yml or *.json in this directory{hint}");
            self.errors
                .push(Problem::new(&path.display().to_string(), &message));
        }
        for file in found {
            self.add(&file, read_bounded(&file));
        }
    }

    /// Lists the manifests of a directory. A link to a directory is not followed: it may lead back.
    fn list(&mut self, directory: &Path, recursive: bool, found: &mut Vec<PathBuf>) {
        let entries = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                let name = directory.display().to_string();
                self.errors.push(Problem::new(&name, &error));
                return;
            }
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if recursive {
                    self.list(&path, recursive, found);
                }
            } else if is_manifest(&path) && !path.is_dir() {
                found.push(path);
            }
        }
    }

    fn add(&mut self, path: &Path, bytes: io::Result<Vec<u8>>) {
        let name = path.display().to_string();
        match bytes {
            Ok(bytes) => {
                let (text, (documents, errors)) = match String::from_utf8(bytes) {
                    Ok(text) => {
                        let text = Arc::new(text);
                        let read = manifest::read_text(&name, &text);
                        (text, read)
                    }
                    Err(error) => {
                        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                        (Arc::new(text), manifest::read(&name, error.as_bytes()))
                    }
                };
                self.errors.extend(errors.into_iter().map(Problem::from));
                self.sources.push(Source {
                    name,
                    text,
                    documents,
                });
            }
            Err(error) => self.errors.push(Problem::new(&name, &error)),
        }
    }
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
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
