//! JSON objects one after the other, and where their values are written.

use std::sync::Arc;

use super::marked::Marked;
use super::{Mark, Position, Problem};
use crate::tree::Builder;

/// What could be read.
pub(super) struct Objects {
    pub(super) values: Vec<Marked>,
    /// Bytes of the file up to the end of the last of them.
    pub(super) end: usize,
    /// Why the next cannot be read.
    pub(super) problem: Option<Problem>,
}

/// Walks over text that `serde_json` has read, and so is known to be JSON.
struct Walker<'a> {
    rest: &'a str,
    position: Position,
    /// Of the values and keys so far, in their order.
    marks: Vec<Mark>,
}

/// Reads as far as the text is JSON.
pub(super) fn read(source: &Arc<String>) -> Objects {
    let mut walker = Walker {
        rest: source,
        position: Position { line: 1, column: 1 },
        marks: Vec::new(),
    };
    let mut objects = Objects {
        values: Vec::new(),
        end: 0,
        problem: None,
    };
    loop {
        walker.skip_space();
        if walker.rest.is_empty() {
            return objects;
        }
        let mut reader = serde_json::Deserializer::from_str(walker.rest);
        let tree = match Builder::over(source).read(&mut reader) {
            Ok(tree) => tree,
            Err(error) => {
                objects.problem = Some(problem(walker.rest, walker.position, &error));
                return objects;
            }
        };
        walker.value();
        objects.end = source.len() - walker.rest.len();
        objects.values.push(Marked {
            tree: tree.compact(),
            marks: walker.marks.as_slice().into(),
        });
        walker.marks.clear();
    }
}

/// What is wrong with a text that begins at this place of the file.
fn problem(text: &str, start: Position, error: &serde_json::Error) -> Problem {
    let line = text.lines().nth(error.line().saturating_sub(1));
    let before = line.and_then(|line| line.get(..error.column().saturating_sub(1)));
    let column = before.map_or(error.column(), |before| before.chars().count() + 1);
    let message = error.to_string();
    let what = message.split(" at line ").next().unwrap_or_default();
    let cure = if what.starts_with("control character") {
        "write it as \\n, \\t or \\u and four hexadecimal digits"
    } else {
        "check commas, quotes and braces"
    };
    let before = if error.line() > 1 {
        0
    } else {
        start.column - 1
    };
    Problem {
        position: Position {
            line: start.line + error.line().max(1) - 1,
            column: before + column.max(1),
        },
        message: format!("this is no JSON: {what}; {cure}"),
    }
}

// === impl Walker ===

impl Walker<'_> {
    fn value(&mut self) {
        self.skip_space();
        self.marks.push(self.position.into());
        match self.rest.as_bytes().first() {
            Some(b'{') => self.map(),
            Some(b'[') => self.list(),
            Some(b'"') => self.string(),
            _ => {
                let end = self
                    .rest
                    .find([',', ']', '}', ' ', '\t', '\r', '\n', '{', '[', '"']);
                self.advance(end.unwrap_or(self.rest.len()).max(1));
            }
        }
    }

    fn map(&mut self) {
        self.advance(1);
        loop {
            self.skip_space();
            match self.rest.as_bytes().first() {
                Some(b'"') => {
                    self.marks.push(self.position.into());
                    self.string();
                    self.skip_space();
                    self.advance(1);
                    self.value();
                }
                Some(b',') => self.advance(1),
                _ => return self.advance(1),
            }
        }
    }

    fn list(&mut self) {
        self.advance(1);
        loop {
            self.skip_space();
            match self.rest.as_bytes().first() {
                Some(b',') => self.advance(1),
                Some(b']') | None => return self.advance(1),
                Some(_) => self.value(),
            }
        }
    }

    /// The string that begins here, with its quotes.
    fn string(&mut self) {
        let mut escaped = false;
        let end = self.rest[1..].find(|char| {
            let closes = char == '"' && !escaped;
            escaped = char == '\\' && !escaped;
            closes
        });
        self.advance(end.map_or(self.rest.len(), |end| end + 2));
    }

    fn skip_space(&mut self) {
        let rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        self.advance(self.rest.len() - rest.len());
    }

    fn advance(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        for char in passed.chars() {
            if char == '\n' {
                self.position.line += 1;
                self.position.column = 1;
            } else {
                self.position.column += 1;
            }
        }
        self.rest = rest;
    }
}
