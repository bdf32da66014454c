//! Files that people write for Forestall: one YAML document, and a place for each mistake in it.

use serde::{Deserialize, Serialize};

use crate::manifest::{self, Position};

/// A mistake in a configuration or evidence file.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{file}{}: {message}", place.map(|place| format!(":{}:{}", place.line, place.column)).unwrap_or_default())]
pub struct YamlFileError {
    /// The file.
    pub file: String,
    /// Where in it, where that is known.
    pub place: Option<Position>,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// A scalar that is read as text, however it is written: `512`, `512Mi` or `"512"`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Scalar(pub String);

// === impl YamlFileError ===

impl YamlFileError {
    /// A mistake at a JSON pointer into the text of a file.
    #[must_use]
    pub fn at(file: &str, text: &str, pointer: &str, message: String) -> Self {
        let (documents, _) = manifest::read(file, text.as_bytes());
        Self {
            file: file.to_owned(),
            place: documents.first().map(|document| document.locate(pointer)),
            message,
        }
    }
}

/// Reads one YAML document into a type; the error has line and column.
///
/// # Errors
/// What does not fit, where.
pub fn parse<T: serde::de::DeserializeOwned + Default>(
    file: &str,
    text: &str,
) -> Result<T, YamlFileError> {
    // An empty file, or one of comments only, leaves everything at its default.
    if text
        .lines()
        .all(|line| matches!(line.trim(), "" | "---") || line.trim_start().starts_with('#'))
    {
        return Ok(T::default());
    }
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let mut path = String::new();
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, |document| {
        serde_path_to_error::deserialize(document).map_err(|error| {
            path = error.path().to_string();
            error.into_inner()
        })
    });
    read.map_err(|error| {
        let place = error.location().map(|location| {
            let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
            Position {
                line: number(location.line()),
                column: number(location.column()),
            }
        });
        YamlFileError {
            file: file.to_owned(),
            place,
            message: with_path(&path, without_place(&error.to_string())),
        }
    })
}

/// The library appends the place to its message; ours stands in front.
fn without_place(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    let text = first.rfind(" at line ").map_or(first, |end| &first[..end]);
    text.strip_prefix("error: ").unwrap_or(text).to_owned()
}

/// The message begins with the way to the key, unless it names the key itself.
fn with_path(path: &str, message: String) -> String {
    let key = path.rsplit('.').next().unwrap_or_default();
    let key = key.split('[').next().unwrap_or_default();
    if message.contains(key) {
        message
    } else {
        format!("{path}: {message}")
    }
}

// === impl Scalar ===

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // YAML gives the text as it is written, so that 2.10 does not become 2.1.
        String::deserialize(deserializer).map(Self)
    }
}

impl schemars::JsonSchema for Scalar {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": ["string", "number", "boolean"]})
    }
}
