//! A JSON value as one flat list of nodes, in the order of its text.
//!
//! A review reads an object once, looks at few of its values, and drops it. A tree of maps and strings
//! spends most of that time in the allocator. Here, a map or list knows where it ends, so its next
//! sibling is one step away; a string without escapes stays where it lies in the text; and the whole is
//! dropped by freeing one vector. `serde_json` still reads, so numbers, depth and errors are its own.
//!
//! A map keeps equal keys, as they were written. The last of them counts, as in Go and in `serde_json`.

mod read;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};
use serde_json::Value;

pub(crate) use self::read::{Builder, Open, Skipped};

/// A JSON value that owns its text.
#[derive(Clone)]
pub struct Tree {
    source: Arc<String>,
    /// Strings that do not lie in the source as they are: those with escapes.
    unescaped: String,
    slots: Vec<Slot>,
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

    /// The same, with no more memory than it needs.
    #[must_use]
    pub(crate) fn shrunk(mut self) -> Self {
        self.slots.shrink_to_fit();
        self.unescaped.shrink_to_fit();
        self
    }

    /// Bytes of memory that it holds, without the text that it shares with others.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + self.unescaped.capacity()
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

// === impl Node ===

impl<'t> Node<'t> {
    /// Where it is in its tree, for [`Tree::node`].
    #[must_use]
    pub(crate) fn index(self) -> usize {
        self.index
    }

    /// The index after it and all that is in it.
    #[must_use]
    pub(crate) fn end(self) -> usize {
        self.tree.after(self.index)
    }

    /// The value under a key of a map; the last, where the key is there several times.
    #[must_use]
    pub fn get(self, key: &str) -> Option<Self> {
        let Slot::Map { end } = self.slot() else {
            return None;
        };
        let mut found = None;
        let mut index = self.index + 1;
        while index < end {
            if let Slot::Text { start, length } = self.tree.slots[index]
                && length as usize == key.len()
                && self.tree.text(start, length) == key
            {
                found = Some(index + 1);
            }
            index = self.tree.after(index + 1);
        }
        found.map(|index| self.tree.node(index))
    }

    /// The item of a list at an index, from 0.
    #[must_use]
    pub fn item(self, index: usize) -> Option<Self> {
        self.items().nth(index)
    }

    /// The value at a JSON pointer (RFC 6901); itself, where the pointer is empty.
    #[must_use]
    pub fn at(self, pointer: &str) -> Option<Self> {
        let mut here = self;
        let mut rest = pointer;
        while !rest.is_empty() {
            rest = rest.strip_prefix('/')?;
            // Keys are short, so looking at each byte takes less than half of what `str::find` takes.
            let end = rest.bytes().position(|byte| byte == b'/');
            let (key, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = after;
            here = match here.slot() {
                Slot::List { .. } => here.item(list_index(key)?)?,
                _ if key.contains('~') => here.get(&key.replace("~1", "/").replace("~0", "~"))?,
                _ => here.get(key)?,
            };
        }
        Some(here)
    }

    /// The string at a JSON pointer.
    #[must_use]
    pub fn text_at(self, pointer: &str) -> Option<&'t str> {
        self.at(pointer)?.as_str()
    }

    /// The items of a list; none of anything else.
    pub fn items(self) -> impl Iterator<Item = Node<'t>> + Clone {
        let end = match self.slot() {
            Slot::List { end } => end,
            _ => 0,
        };
        let mut index = self.index + 1;
        std::iter::from_fn(move || {
            let here = (index < end).then(|| self.tree.node(index))?;
            index = self.tree.after(index);
            Some(here)
        })
    }

    /// The keys and values of a map in the order of the text, equal keys included; none of anything
    /// else.
    pub fn entries(self) -> impl Iterator<Item = (&'t str, Node<'t>)> + Clone {
        let end = match self.slot() {
            Slot::Map { end } => end,
            _ => 0,
        };
        let mut index = self.index + 1;
        std::iter::from_fn(move || {
            let key = (index < end).then(|| self.tree.node(index).as_str())??;
            let value = self.tree.node(index + 1);
            index = self.tree.after(index + 1);
            Some((key, value))
        })
    }

    /// The string, where it is one.
    #[must_use]
    pub fn as_str(self) -> Option<&'t str> {
        match self.slot() {
            Slot::Text { start, length } => Some(self.tree.text(start, length)),
            _ => None,
        }
    }

    /// A string as it is, and anything else as JSON.
    #[must_use]
    pub fn plain(self) -> Cow<'t, str> {
        let text = self.as_str().map(Cow::Borrowed);
        text.unwrap_or_else(|| Cow::Owned(self.to_string()))
    }

    /// The boolean, where it is one.
    #[must_use]
    pub fn as_bool(self) -> Option<bool> {
        match self.slot() {
            Slot::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The integer, where it is one of this type.
    #[must_use]
    pub fn as_u64(self) -> Option<u64> {
        match self.slot() {
            Slot::Unsigned(value) => Some(value),
            _ => None,
        }
    }

    /// The integer, where it is one of this type.
    #[must_use]
    pub fn as_i64(self) -> Option<i64> {
        match self.slot() {
            Slot::Unsigned(value) => i64::try_from(value).ok(),
            Slot::Signed(value) => Some(value),
            _ => None,
        }
    }

    /// Whether it is null.
    #[must_use]
    pub fn is_null(self) -> bool {
        matches!(self.slot(), Slot::Null)
    }

    /// Whether it is a string.
    #[must_use]
    pub fn is_string(self) -> bool {
        matches!(self.slot(), Slot::Text { .. })
    }

    /// Whether it is a number.
    #[must_use]
    pub fn is_number(self) -> bool {
        matches!(
            self.slot(),
            Slot::Unsigned(_) | Slot::Signed(_) | Slot::Float(_)
        )
    }

    /// Whether it is a list.
    #[must_use]
    pub fn is_list(self) -> bool {
        matches!(self.slot(), Slot::List { .. })
    }

    /// Whether it is a map.
    #[must_use]
    pub fn is_map(self) -> bool {
        matches!(self.slot(), Slot::Map { .. })
    }

    /// A copy as a value of `serde_json`, for patches, schemas and output.
    #[must_use]
    pub fn to_value(self) -> Value {
        match self.slot() {
            Slot::Null => Value::Null,
            Slot::Bool(value) => value.into(),
            Slot::Unsigned(value) => value.into(),
            Slot::Signed(value) => value.into(),
            Slot::Float(value) => value.into(),
            Slot::Text { start, length } => self.tree.text(start, length).into(),
            Slot::List { .. } => self.items().map(Self::to_value).collect(),
            Slot::Map { .. } => self
                .entries()
                .map(|(key, value)| (key.to_owned(), value.to_value()))
                .collect(),
        }
    }

    /// A tree of its own, which does not hold the text of this one.
    #[must_use]
    pub fn to_tree(self) -> Tree {
        let mut builder = Builder::default();
        builder.node(self);
        builder.finish()
    }

    fn slot(self) -> Slot {
        self.tree.slots[self.index]
    }

    /// The entries of a map by key, of equal keys the last.
    fn by_key(self) -> BTreeMap<&'t str, Self> {
        self.entries().collect()
    }
}

/// An index as a JSON pointer has it: without signs or leading zeros.
fn list_index(key: &str) -> Option<usize> {
    let plain =
        key.bytes().all(|byte| byte.is_ascii_digit()) && (key == "0" || !key.starts_with('0'));
    plain.then(|| key.parse().ok())?
}

/// As `serde_json` compares values: the order of keys plays no part.
impl PartialEq for Node<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self.slot(), other.slot()) {
            (Slot::Null, Slot::Null) => true,
            (Slot::Bool(one), Slot::Bool(other)) => one == other,
            (Slot::Unsigned(one), Slot::Unsigned(other)) => one == other,
            (Slot::Signed(one), Slot::Signed(other)) => one == other,
            (Slot::Float(one), Slot::Float(other)) => one == other,
            (Slot::Text { .. }, Slot::Text { .. }) => self.as_str() == other.as_str(),
            (Slot::List { .. }, Slot::List { .. }) => self.items().eq(other.items()),
            // Two versions of one object are nearly always written in the same order.
            (Slot::Map { .. }, Slot::Map { .. }) => {
                self.entries().eq(other.entries()) || self.by_key() == other.by_key()
            }
            _ => false,
        }
    }
}

impl Serialize for Node<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.slot() {
            Slot::Null => serializer.serialize_unit(),
            Slot::Bool(value) => serializer.serialize_bool(value),
            Slot::Unsigned(value) => serializer.serialize_u64(value),
            Slot::Signed(value) => serializer.serialize_i64(value),
            Slot::Float(value) => serializer.serialize_f64(value),
            Slot::Text { start, length } => serializer.serialize_str(self.tree.text(start, length)),
            Slot::List { .. } => {
                let mut list = serializer.serialize_seq(None)?;
                for item in self.items() {
                    list.serialize_element(&item)?;
                }
                list.end()
            }
            Slot::Map { .. } => {
                let mut map = serializer.serialize_map(None)?;
                for (key, value) in self.entries() {
                    map.serialize_entry(key, &value)?;
                }
                map.end()
            }
        }
    }
}

/// As JSON.
impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
