//! Making a tree: out of JSON text, of another value, or piece by piece.

use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{Bound, Node, Slot, Tree, text_in};

/// A tree that is being made: values are added in the order of the text.
#[derive(Default)]
pub(crate) struct Builder {
    source: Arc<String>,
    unescaped: String,
    slots: Vec<Slot>,
    spellings: Vec<(usize, Box<str>)>,
}

/// A list or map that is still open.
#[must_use]
pub(crate) struct Open(usize);

/// Keys that are read over: those of a map, and those of one map in it.
#[derive(Clone, Copy)]
pub(crate) struct Skipped {
    /// Keys of the map itself.
    pub(crate) keys: &'static [&'static str],
    /// A key of it whose value is a map, and keys of that.
    pub(crate) inner: Option<(&'static str, &'static [&'static str])>,
}

/// What becomes of a value.
enum Part {
    Skipped,
    /// It is read, but for these keys.
    Read(Skipped),
}

/// Reads one value into a tree.
pub(crate) struct TreeSeed {
    builder: Builder,
    skipped: Skipped,
}

/// Reads one value into a builder.
struct ValueSeed<'b> {
    builder: &'b mut Builder,
    skipped: Skipped,
}

/// Reads one key into a builder.
struct KeySeed<'b>(&'b mut Builder);

/// Reads a whole text, which the tree then shares.
pub(super) fn parse(source: &Arc<String>) -> Result<Tree, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(source);
    let builder = Builder::over(source).with_room_for(Bound::of(source.as_bytes()));
    let tree = builder.read(&mut reader)?;
    reader.end()?;
    Ok(tree)
}

// === impl Skipped ===

impl Skipped {
    /// Everything is read.
    pub(crate) const NOTHING: Self = Self {
        keys: &[],
        inner: None,
    };

    /// What becomes of the value under the key that was read last.
    fn of_last_key(self, builder: &Builder) -> Part {
        if self.keys.is_empty() && self.inner.is_none() {
            return Part::Read(Self::NOTHING);
        }
        let key = builder.last_text();
        if self.keys.contains(&key) {
            return Part::Skipped;
        }
        let inner = self.inner.filter(|(name, _)| *name == key);
        Part::Read(inner.map_or(Self::NOTHING, |(_, keys)| Self { keys, inner: None }))
    }
}

// === impl Builder ===

impl Builder {
    /// A tree whose strings may lie in this text.
    pub(crate) fn over(source: &Arc<String>) -> Self {
        Self {
            source: Arc::clone(source),
            ..Self::default()
        }
    }

    /// Makes room for all that a text can hold, so that the tree never moves while it grows. Memory
    /// that is never written to is never there.
    pub(crate) fn with_room_for(mut self, bound: Bound) -> Self {
        self.slots.reserve_exact(bound.nodes);
        self.unescaped.reserve_exact(bound.unescaped);
        self
    }

    /// Reads the value that a deserializer comes to next, without what is skipped.
    pub(crate) fn seed(self, skipped: Skipped) -> TreeSeed {
        TreeSeed {
            builder: self,
            skipped,
        }
    }

    /// Reads the value that a deserializer comes to next.
    pub(crate) fn read<'de, D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        self.seed(Skipped::NOTHING).deserialize(deserializer)
    }

    /// The tree; null, where nothing was added.
    pub(crate) fn finish(mut self) -> Tree {
        if self.slots.is_empty() {
            self.null();
        }
        Tree {
            source: self.source,
            unescaped: self.unescaped,
            slots: self.slots,
            spellings: self.spellings,
        }
    }

    pub(crate) fn null(&mut self) {
        self.slots.push(Slot::Null);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.slots.push(Slot::Bool(value));
    }

    pub(crate) fn unsigned(&mut self, value: u64) {
        self.slots.push(Slot::Unsigned(value));
    }

    /// A whole number; one that is not negative is kept as the same number without a sign.
    pub(crate) fn signed(&mut self, value: i64) {
        let unsigned = u64::try_from(value).map(Slot::Unsigned);
        self.slots.push(unsigned.unwrap_or(Slot::Signed(value)));
    }

    /// A number; one that JSON cannot write is null, as in `serde_json`.
    pub(crate) fn float(&mut self, value: f64) {
        let number = value.is_finite().then_some(Slot::Float(value));
        self.slots.push(number.unwrap_or(Slot::Null));
    }

    /// How the last value is written, where it is a boolean or a number in other words than JSON's.
    pub(crate) fn spelled(&mut self, text: &str) {
        if let Some(last) = self.slots.len().checked_sub(1) {
            self.spellings.push((last, text.into()));
        }
    }

    /// A string, or a key of a map.
    pub(crate) fn text(&mut self, text: &str) {
        let start = self.source.len() + self.unescaped.len();
        self.unescaped.push_str(text);
        self.push_text(start, text.len());
    }

    /// A string that may lie in the source as it is.
    pub(crate) fn borrowed_text(&mut self, text: &str) {
        let start = text
            .as_ptr()
            .addr()
            .checked_sub(self.source.as_ptr().addr());
        match start.filter(|start| start + text.len() <= self.source.len()) {
            Some(start) => self.push_text(start, text.len()),
            None => self.text(text),
        }
    }

    fn push_text(&mut self, start: usize, length: usize) {
        // Bodies and files have at most 32 MiB, so a text of 4 GiB is in none.
        let text = u32::try_from(length).map(|length| Slot::Text { start, length });
        self.slots.push(text.unwrap_or(Slot::Null));
    }

    fn last_text(&self) -> &str {
        match self.slots.last() {
            Some(Slot::Text { start, length }) => {
                text_in(&self.source, &self.unescaped, *start, *length)
            }
            _ => "",
        }
    }

    pub(crate) fn open_list(&mut self) -> Open {
        self.slots.push(Slot::List { end: 0 });
        Open(self.slots.len() - 1)
    }

    /// Keys and values are added by turns.
    pub(crate) fn open_map(&mut self) -> Open {
        self.slots.push(Slot::Map { end: 0 });
        Open(self.slots.len() - 1)
    }

    pub(crate) fn close(&mut self, Open(start): Open) {
        let now = self.slots.len();
        if let Slot::List { end } | Slot::Map { end } = &mut self.slots[start] {
            *end = now;
        }
    }

    /// A copy of a value.
    pub(crate) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.null(),
            Value::Bool(value) => self.bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => self.unsigned(number),
                (None, Some(number)) => self.signed(number),
                (None, None) => self.float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                let list = self.open_list();
                for item in items {
                    self.value(item);
                }
                self.close(list);
            }
            Value::Object(entries) => {
                let map = self.open_map();
                for (key, value) in entries {
                    self.text(key);
                    self.value(value);
                }
                self.close(map);
            }
        }
    }

    /// A copy of a value of another tree. Where that lies in the same source, its strings are not
    /// copied.
    pub(crate) fn node(&mut self, node: Node<'_>) {
        match node.slot() {
            Slot::Text { .. } => self.borrowed_text(node.as_str().unwrap_or_default()),
            Slot::List { .. } => {
                let list = self.open_list();
                for item in node.items() {
                    self.node(item);
                }
                self.close(list);
            }
            Slot::Map { .. } => {
                let map = self.open_map();
                for (key, value) in node.entries() {
                    self.borrowed_text(key);
                    self.node(value);
                }
                self.close(map);
            }
            scalar => {
                self.slots.push(scalar);
                if let Some(text) = node.spelling() {
                    self.spelled(text);
                }
            }
        }
    }
}

// === impl TreeSeed ===

impl<'de> DeserializeSeed<'de> for TreeSeed {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<Tree, D::Error> {
        let seed = ValueSeed {
            builder: &mut self.builder,
            skipped: self.skipped,
        };
        seed.deserialize(deserializer)?;
        Ok(self.builder.finish())
    }
}

// === impl ValueSeed ===

impl ValueSeed<'_> {
    fn inside(builder: &mut Builder) -> ValueSeed<'_> {
        ValueSeed {
            builder,
            skipped: Skipped::NOTHING,
        }
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.builder.null();
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.builder.bool(value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.builder.unsigned(value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.builder.signed(value);
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.builder.float(value);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.builder.text(text);
        Ok(())
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        self.builder.borrowed_text(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let list = self.builder.open_list();
        while items
            .next_element_seed(Self::inside(self.builder))?
            .is_some()
        {}
        self.builder.close(list);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Self { builder, skipped } = self;
        let map = builder.open_map();
        while entries.next_key_seed(KeySeed(builder))?.is_some() {
            let inner = match skipped.of_last_key(builder) {
                Part::Skipped => {
                    builder.slots.pop();
                    entries.next_value::<IgnoredAny>()?;
                    continue;
                }
                Part::Read(skipped) => skipped,
            };
            entries.next_value_seed(ValueSeed {
                builder,
                skipped: inner,
            })?;
        }
        builder.close(map);
        Ok(())
    }
}

// === impl KeySeed ===

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<(), E> {
        self.0.text(key);
        Ok(())
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<(), E> {
        self.0.borrowed_text(key);
        Ok(())
    }
}
