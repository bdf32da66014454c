//! JSON objects one after the other, and where their values are written.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Children, Marks, Position, Problem};

/// What could be read.
pub(super) struct Objects {
    pub(super) values: Vec<(Value, Marks)>,
    /// Bytes of the file up to the end of the last of them.
    pub(super) end: usize,
    /// Why the next cannot be read.
    pub(super) problem: Option<Problem>,
}

/// Walks over text that serde_json has read, and so is known to be JSON.
struct Walker<'a> {
    rest: &'a str,
    position: Position,
}

/// Reads as far as the file is JSON.
pub(super) fn read(bytes: &[u8]) -> Objects {
    // What is no UTF-8 is told where the file is read as YAML.
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    };
    let mut walker = Walker {
        rest: text,
        position: Position { line: 1, column: 1 },
    };
    let mut objects = Objects {
        values: Vec::new(),
        end: 0,
        problem: None,
    };
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    while let Some(next) = stream.next() {
        match next {
            Ok(value) => {
                objects.values.push((value, walker.value()));
                objects.end = stream.byte_offset();
            }
            Err(error) => {
                objects.problem = Some(problem(text, &error));
                break;
            }
        }
    }
    objects
}

fn problem(text: &str, error: &serde_json::Error) -> Problem {
    let line = text.lines().nth(error.line().saturating_sub(1));
    let before = line.and_then(|line| line.get(..error.column().saturating_sub(1)));
    let column = before.map_or(error.column(), |before| before.chars().count() + 1);
    let message = error.to_string();
    let what = message.split(" at line ").next().unwrap_or_default();
    Problem {
        position: Position {
            line: error.line().max(1),
            column: column.max(1),
        },
        message: format!("this is no JSON: {what}; check commas, quotes and braces"),
    }
}

// === impl Walker ===

impl<'a> Walker<'a> {
    fn value(&mut self) -> Marks {
        self.skip_space();
        let position = self.position;
        let children = match self.rest.as_bytes().first() {
            Some(b'{') => Children::Map(self.map()),
            Some(b'[') => Children::List(self.list()),
            Some(b'"') => {
                self.string();
                Children::None
            }
            _ => {
                let end = self
                    .rest
                    .find([',', ']', '}', ' ', '\t', '\r', '\n', '{', '[', '"']);
                self.advance(end.unwrap_or(self.rest.len()).max(1));
                Children::None
            }
        };
        Marks { position, children }
    }

    fn map(&mut self) -> BTreeMap<String, Marks> {
        let mut entries = BTreeMap::new();
        self.advance(1);
        loop {
            self.skip_space();
            match self.rest.as_bytes().first() {
                Some(b'"') => {
                    let key = self.string();
                    self.skip_space();
                    self.advance(1);
                    let value = self.value();
                    // Of two equal keys the last holds, for serde_json and for kubectl.
                    entries.insert(serde_json::from_str(key).unwrap_or_default(), value);
                }
                Some(b',') => self.advance(1),
                _ => {
                    self.advance(1);
                    return entries;
                }
            }
        }
    }

    fn list(&mut self) -> Vec<Marks> {
        let mut items = Vec::new();
        self.advance(1);
        loop {
            self.skip_space();
            match self.rest.as_bytes().first() {
                Some(b',') => self.advance(1),
                Some(b']') | None => {
                    self.advance(1);
                    return items;
                }
                Some(_) => items.push(self.value()),
            }
        }
    }

    /// The string that begins here, with its quotes.
    fn string(&mut self) -> &'a str {
        let mut escaped = false;
        let end = self.rest[1..].find(|char| {
            let closes = char == '"' && !escaped;
            escaped = char == '\\' && !escaped;
            closes
        });
        let (string, _) = self
            .rest
            .split_at(end.map_or(self.rest.len(), |end| end + 2));
        self.advance(string.len());
        string
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
