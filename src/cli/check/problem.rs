//! What could not be read or written, and where.

use std::fmt;

use serde::Serialize;

use crate::manifest::{self, ManifestError};
use crate::yaml_file::YamlFileError;

/// A place in a file; a file that cannot be read at all has no line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Position {
    pub(super) file: String,
    pub(super) line: Option<usize>,
    pub(super) column: Option<usize>,
}

/// Something that could not be read or written.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    message: String,
    pub(super) source: Position,
}

// === impl Position ===

impl Position {
    pub(super) fn of(file: &str, position: manifest::Position) -> Self {
        Self {
            file: file.to_owned(),
            line: Some(position.line),
            column: Some(position.column),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        for number in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        Ok(())
    }
}

// === impl Problem ===

impl Problem {
    /// A file that cannot be read or written.
    pub(super) fn new(file: &str, error: &dyn fmt::Display) -> Self {
        let source = Position {
            file: file.to_owned(),
            line: None,
            column: None,
        };
        let message = error.to_string();
        Self { message, source }
    }

    /// A mistake at a place of a file.
    pub(super) fn at(file: &str, position: manifest::Position, message: &str) -> Self {
        Self {
            message: message.to_owned(),
            source: Position::of(file, position),
        }
    }
}

impl From<ManifestError> for Problem {
    fn from(error: ManifestError) -> Self {
        Self {
            source: Position::of(&error.file, error.position),
            message: error.message,
        }
    }
}

impl From<YamlFileError> for Problem {
    fn from(error: YamlFileError) -> Self {
        Self {
            source: Position {
                line: error.place.map(|place| place.line),
                column: error.place.map(|place| place.column),
                file: error.file,
            },
            message: error.message,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.message)
    }
}
