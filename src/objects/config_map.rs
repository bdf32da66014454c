//! Of a ConfigMap: its keys, and whether two values are the same.

use super::{Projection, ReadableKind, keyed_hash};
use crate::review::WatchedKind;
use crate::tree::Node;
use crate::unknown::Unknown;

/// The keys of a ConfigMap, in order, each with a hash of its value.
///
/// A guardrail that must read whole values keeps those in a projection of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMapKeys(Box<[(Box<str>, ValueHash)]>);

/// The hash of a value: two that are equal stand for equal values, but for one case in 2⁶⁴.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValueHash(u64);

// === impl ConfigMapKeys ===

impl ConfigMapKeys {
    /// The hash of the value under a key, where there is one.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<ValueHash> {
        let index = self.0.binary_search_by(|(other, _)| (**other).cmp(key));
        index.ok().map(|index| self.0[index].1)
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| &**key)
    }
}

impl Projection for ConfigMapKeys {
    const KINDS: &'static [ReadableKind] = &[ReadableKind::v1(WatchedKind::namespaced(
        "",
        "ConfigMap",
        "configmaps",
    ))];

    fn of(config_map: Node<'_>, _: WatchedKind) -> Result<Option<Self>, Unknown> {
        let mut keys = Vec::new();
        for (field, is_text) in [("data", true), ("binaryData", false)] {
            for (key, value) in config_map.get(field).into_iter().flat_map(Node::entries) {
                let value = value.as_str().ok_or_else(|| {
                    Unknown::unreadable(&format!("/{field}"), "has a value that is no text")
                })?;
                keys.push((key.into(), ValueHash::of(is_text, value)));
            }
        }
        keys.sort_unstable();
        keys.dedup_by(|later, earlier| later.0 == earlier.0);
        Ok(Some(Self(keys.into())))
    }
}

// === impl ValueHash ===

impl ValueHash {
    /// The hash of a text.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        Self::of(true, text)
    }

    /// Encoded bytes are never taken for the same as a text.
    fn of(is_text: bool, value: &str) -> Self {
        Self(keyed_hash((is_text, value)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tree::Tree;

    fn read(config_map: Value) -> Result<Option<ConfigMapKeys>, Unknown> {
        let kind = ConfigMapKeys::KINDS[0].kind;
        ConfigMapKeys::of(Tree::from(config_map).root(), kind)
    }

    #[test]
    fn keys_are_kept_with_a_hash_of_each_value() {
        let config_map = json!({"data": {"b": "1", "a": "2"}, "binaryData": {"c": "1"}});
        let keys = read(config_map).unwrap().unwrap();
        assert_eq!(keys.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(keys.get("b"), Some(ValueHash::of_text("1")));
        assert_ne!(keys.get("a"), keys.get("b"));
        assert_ne!(keys.get("c"), keys.get("b"), "other bytes");
        assert_eq!(keys.get("d"), None);
        assert_eq!(read(json!({})).unwrap(), Some(ConfigMapKeys::default()));
    }

    #[test]
    fn a_value_that_is_no_text_cannot_be_read() {
        let error = read(json!({"data": {"a": 1}})).unwrap_err();
        assert_eq!(error.to_string(), "/data has a value that is no text");
    }
}
