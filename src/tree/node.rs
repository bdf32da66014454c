//! Looking into a tree, and writing what is there.

use std::borrow::Cow;
use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::fmt;

use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};
use serde_json::Value;

use super::{Builder, Node, Slot, Tree};

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

    /// The string under a key of a map.
    #[must_use]
    pub(crate) fn text(self, key: &str) -> Option<&'t str> {
        self.get(key)?.as_str()
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

    /// How a boolean or a number is written in YAML, where that is not how JSON writes it: `y` for
    /// true, `0644` for 420.
    #[must_use]
    pub fn spelling(self) -> Option<&'t str> {
        let spellings = &self.tree.spellings;
        let found = spellings.binary_search_by_key(&self.index, |(index, _)| *index);
        found.ok().map(|found| &*spellings[found].1)
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

    pub(super) fn slot(self) -> Slot {
        self.tree.slots[self.index]
    }

    /// Whether two maps are equal but for the values under these keys. Each value is compared once, so
    /// that it takes no longer than the maps are long, however deep they are.
    #[must_use]
    pub(crate) fn equals_without(self, other: Self, keys: &[&str]) -> bool {
        let compared = |map: Self| map.entries().filter(|(key, _)| !keys.contains(key));
        let by_key = |map: Self| -> BTreeMap<&str, Self> { compared(map).collect() };
        let in_order = |map: Self| compared(map).map(|(key, _)| key);
        // Two versions of one object are nearly always written in the same order.
        if !in_order(self).eq(in_order(other)) {
            return by_key(self) == by_key(other);
        }
        // Of equal keys only the last counts.
        let last = LazyCell::new(|| by_key(self));
        compared(self)
            .zip(compared(other))
            .all(|((key, one), (_, other))| one == other || last[key].index != one.index)
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
            (Slot::Map { .. }, Slot::Map { .. }) => self.equals_without(*other, &[]),
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
