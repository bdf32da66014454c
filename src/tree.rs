//! A JSON value as one flat list of nodes, in the order of its text.
//!
//! A review reads an object once, looks at few of its values, and drops it. A tree of maps and strings
//! spends most of that time in the allocator. Here, a map or list knows where it ends, so its next
//! sibling is one step away; a string without escapes stays where it lies in the text; and the whole is
//! dropped by freeing one vector. `serde_json` still reads, so numbers, depth and errors are its own.
//!
//! A map keeps equal keys, as they were written. The last of them counts, as in Go and in `serde_json`.

mod node;
mod read;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

pub(crate) use self::read::{Builder, Open, Skipped};

/// A JSON value that owns its text.
#[derive(Clone)]
pub struct Tree {
    source: Arc<String>,
    /// Strings that do not lie in the source as they are: those with escapes.
    unescaped: String,
    slots: Vec<Slot>,
    /// How booleans and numbers are written whose text in JSON is another, by their index.
    spellings: Vec<(usize, Box<str>)>,
}

/// A value in a tree.
#[derive(Clone, Copy)]
pub struct Node<'t> {
    tree: &'t Tree,
    index: usize,
}

/// What is kept of a value or a key: 16 bytes.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    /// Bytes of the source, or beyond its end of the unescaped strings.
    Text {
        start: usize,
        length: u32,
    },
    /// The items follow, up to this index.
    List {
        end: usize,
    },
    /// Keys and values follow by turns, up to this index.
    Map {
        end: usize,
    },
}

/// What a JSON text becomes at most, counted before it is read. What stands in strings counts as if it
/// were JSON too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Keys and values: each but the first comes after a comma, a colon or an opening bracket.
    pub nodes: usize,
    /// Bytes of strings with escapes, once they are read. An escape stands for at least one byte less
    /// than it has; one by number, of six bytes, for at most three.
    pub unescaped: usize,
}

/// How often the strings with escapes exist while they are read: in the tree, and in the reader, whose
/// scratch space grows by doubling.
const COPIES_OF_UNESCAPED: usize = 4;

/// Bytes that are counted at a time: as many as a byte can count, in whole vector registers.
const CHUNK: usize = 224;

// === impl Bound ===

impl Bound {
    /// Counts what is in a text. It need not be JSON.
    #[must_use]
    pub fn of(json: &[u8]) -> Self {
        let next = json.get(1..).unwrap_or_default();
        let (mut nodes, mut escapes, mut numbers) = (1, 0, 0);
        for (chunk, next) in json.chunks(CHUNK).zip(next.chunks(CHUNK).chain([&[][..]])) {
            let (mut separators, mut backslashes, mut by_number) = (0_u8, 0_u8, 0_u8);
            for byte in chunk {
                // Without branches, which would take ten times as long.
                separators += u8::from(*byte == b',')
                    | u8::from(*byte == b':')
                    | u8::from(*byte == b'[')
                    | u8::from(*byte == b'{');
                backslashes += u8::from(*byte == b'\\');
            }
            for (byte, next) in chunk.iter().zip(next) {
                by_number += u8::from(*byte == b'\\') & u8::from(*next == b'u');
            }
            nodes += usize::from(separators);
            escapes += usize::from(backslashes);
            numbers += usize::from(by_number);
        }
        let shortened = escapes + 2 * numbers;
        Self {
            nodes,
            unescaped: if escapes == 0 {
                0
            } else {
                json.len().saturating_sub(shortened)
            },
        }
    }

    /// Bytes that reading takes, beside the text.
    pub(crate) fn bytes(self) -> usize {
        self.nodes * size_of::<Slot>() + self.unescaped * COPIES_OF_UNESCAPED
    }
}

fn text_in<'t>(source: &'t str, unescaped: &'t str, start: usize, length: u32) -> &'t str {
    let length = length as usize;
    match start.checked_sub(source.len()) {
        None => &source[start..start + length],
        Some(start) => &unescaped[start..start + length],
    }
}

// === impl Tree ===

impl Tree {
    /// Reads a JSON text.
    ///
    /// # Errors
    /// Where and why `serde_json` does not read it.
    pub fn parse(text: impl Into<String>) -> Result<Self, serde_json::Error> {
        read::parse(&Arc::new(text.into()))
    }

    /// The value itself.
    #[must_use]
    pub fn root(&self) -> Node<'_> {
        Node {
            tree: self,
            index: 0,
        }
    }

    /// The value at this index of a node of this tree ([`Node::index`]).
    #[must_use]
    pub(crate) fn node(&self, index: usize) -> Node<'_> {
        Node { tree: self, index }
    }

    /// The text that it lies in.
    #[must_use]
    pub(crate) fn source(&self) -> &Arc<String> {
        &self.source
    }

    /// A copy that takes no more memory than it needs. Shrinking the vector would not do: mimalloc
    /// leaves a block as it is while half of it is used.
    #[must_use]
    pub(crate) fn compact(&self) -> Self {
        self.clone()
    }

    /// Bytes of memory that it holds, without the text that it shares with others.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let spelled = self.spellings.iter().map(|(_, text)| text.len());
        self.slots.capacity() * size_of::<Slot>()
            + self.unescaped.capacity()
            + self.spellings.capacity() * size_of::<(usize, Box<str>)>()
            + spelled.sum::<usize>()
    }

    fn text(&self, start: usize, length: u32) -> &str {
        text_in(&self.source, &self.unescaped, start, length)
    }

    /// The index after a value and all that is in it.
    fn after(&self, index: usize) -> usize {
        match self.slots[index] {
            Slot::List { end } | Slot::Map { end } => end,
            _ => index + 1,
        }
    }
}

impl From<&Value> for Tree {
    fn from(value: &Value) -> Self {
        let mut builder = Builder::default();
        builder.value(value);
        builder.finish()
    }
}

impl From<Value> for Tree {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.root() == other.root()
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root().fmt(f)
    }
}

#[cfg(test)]
mod tests;
