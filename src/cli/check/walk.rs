//! The files of a directory: which of them may be manifests.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use ignore::{DirEntry, WalkBuilder};

use super::problem::Problem;

/// What kubectl takes from a directory.
const EXTENSIONS: &[&str] = &["json", "yaml", "yml"];

/// Which files are taken.
#[derive(Debug)]
pub(super) struct Selection {
    /// Whether directories in directories are looked into.
    pub(super) recursive: bool,
    excluded: Gitignore,
}

/// What is in a directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// In the order of their names, directory by directory.
    pub(super) files: Vec<PathBuf>,
    /// What has the name of a manifest, and is no file.
    pub(super) left_out: Vec<Problem>,
    /// What could not be looked into.
    pub(super) errors: Vec<Problem>,
}

// === impl Selection ===

impl Selection {
    /// Leaves out what these globs name, in the form of .gitignore.
    pub(super) fn new(recursive: bool, globs: &[String]) -> Result<Self, Problem> {
        let failed = |error: ignore::Error| Problem::new("--exclude", &error);
        let mut builder = GitignoreBuilder::new("");
        for glob in globs {
            builder.add_line(None, glob).map_err(failed)?;
        }
        let excluded = builder.build().map_err(failed)?;
        Ok(Self {
            recursive,
            excluded,
        })
    }

    /// Whether a file that was named is left out: by its own name, or by that of a directory.
    pub(super) fn excludes(&self, path: &Path) -> bool {
        let is_excluded =
            |path, is_directory| self.excluded.matched(path, is_directory).is_ignore();
        is_excluded(path, path.is_dir())
            || path.ancestors().skip(1).any(|path| is_excluded(path, true))
    }

    /// Lists a directory. A link to a directory is not followed: it may lead back.
    pub(super) fn list(&self, directory: &Path) -> Listing {
        let mut listing = Listing::default();
        for entry in self.walk(directory) {
            match entry {
                Ok(entry) => listing.add(&entry),
                Err(error) => listing.errors.push(unreadable(directory, &error)),
            }
        }
        listing
    }

    fn walk(&self, directory: &Path) -> ignore::Walk {
        let excluded = self.excluded.clone();
        let root = directory.to_owned();
        let is_taken = move |entry: &DirEntry| {
            let is_directory = entry.file_type().is_some_and(|kind| kind.is_dir());
            let is_excluded = |path: &Path| excluded.matched(path, is_directory).is_ignore();
            // A glob may be meant from here, or from the directory that was named.
            let path = entry.path();
            let below = path.strip_prefix(&root).unwrap_or(path);
            entry.depth() == 0
                || entry.file_name() != ".git" && !is_excluded(path) && !is_excluded(below)
        };
        WalkBuilder::new(directory)
            .standard_filters(false)
            .git_ignore(true)
            .require_git(false)
            // Outside of a repository, a .gitignore above is about something else: many homes have one.
            .parents(is_in_repository(directory))
            .max_depth((!self.recursive).then_some(1))
            .sort_by_file_name(OsStr::cmp)
            .filter_entry(is_taken)
            .build()
    }
}

// === impl Listing ===

impl Listing {
    fn add(&mut self, entry: &DirEntry) {
        let path = entry.path();
        let is_link = entry.path_is_symlink();
        let is_directory = entry.file_type().is_some_and(|kind| kind.is_dir());
        if is_directory || !is_link && !has_manifest_name(path) {
            return;
        }
        let name = path.display().to_string();
        let mut leave_out = |why: &str| self.left_out.push(Problem::new(&name, &why));
        match fs::metadata(path) {
            Ok(target) if target.is_dir() => {
                leave_out("a link to a directory, which is not followed: it may lead back");
            }
            _ if !has_manifest_name(path) => {}
            // Reading a pipe would wait for whoever writes into it.
            Ok(target) if !target.is_file() => leave_out("no file, but a pipe, socket or device"),
            Ok(_) => self.files.push(path.to_owned()),
            Err(error) => self.errors.push(Problem::new(&name, &error)),
        }
    }
}

/// What kubectl takes, and the name that kustomize knows besides.
fn has_manifest_name(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
        || path.file_name() == Some(OsStr::new("Kustomization"))
}

fn is_in_repository(directory: &Path) -> bool {
    let directory = fs::canonicalize(directory);
    directory.is_ok_and(|directory| {
        let mut above = directory.ancestors();
        above.any(|directory| directory.join(".git").exists())
    })
}

/// Names the directory or file that could not be looked into.
fn unreadable(directory: &Path, error: &ignore::Error) -> Problem {
    let (mut path, mut error) = (directory, error);
    loop {
        error = match error {
            ignore::Error::WithPath { path: of, err } => {
                path = of;
                err
            }
            ignore::Error::WithDepth { err, .. } => err,
            _ => break,
        };
    }
    let name = path.display().to_string();
    match error.io_error() {
        // The rest of its text names the path once more.
        Some(error) => Problem::new(&name, &error.kind()),
        None => Problem::new(&name, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_looked_into_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let gone = directory.path().join("gone");
        let listing = Selection::new(true, &[]).unwrap().list(&gone);
        let errors: Vec<_> = listing.errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors, [format!("{}: entity not found", gone.display())]);
        assert!(listing.files.is_empty());
    }
}
