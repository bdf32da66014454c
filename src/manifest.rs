//! Manifests in YAML or JSON, read as kubectl reads them.
use serde_json::Value;

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// One object of a file. The items of a List are documents of their own.
#[derive(Clone, Debug)]
pub struct Document {
    /// The object.
    pub object: Value,
}

/// Why a file, or a document in it, cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{}:{}: {message}", position.line, position.column)]
pub struct ManifestError {
    /// The file.
    pub file: String,
    /// Where.
    pub position: Position,
    /// What, and what to write instead.
    pub message: String,
}

impl Document {
    /// Where the value at a JSON pointer is written; the nearest parent where it is not.
    #[must_use]
    pub fn locate(&self, _pointer: &str) -> Position {
        unimplemented!()
    }
}

/// Reads all documents of a file; what cannot be read is an error, and the rest is still read.
#[must_use]
pub fn read(_file: &str, _bytes: &[u8]) -> (Vec<Document>, Vec<ManifestError>) {
    unimplemented!()
}
