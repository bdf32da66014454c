//! What a JSON text takes in memory once it is read, reckoned before it is.
//!
//! A value takes many times its own length: `[0],` is four bytes, and a list of one number takes some
//! two hundred. The figures here are upper bounds for `serde_json` 1 on 64 bits, whose maps are the
//! standard library's B-trees: leaves of 11 entries, which are never less than half full but one.

/// Bytes for each comma: another value (32), twice, because lists grow by doubling, and once more
/// while one grows.
const ITEM: usize = 96;
/// Bytes for each colon, beside its comma: the key (24), and room in a leaf that is half full.
const ENTRY: usize = 48;
/// Bytes for a list that has anything: it begins with room for four values.
const LIST: usize = 128;
/// Bytes for a map that has anything: its first leaf, 11 keys and 11 values.
const MAP: usize = 640;

/// How often the values of a review exist at most: as they were read, and twice as much for what
/// judging makes of them. That is findings in words for each of many containers, or the copies that
/// patches are tried on.
const JUDGED: usize = 3;

/// How much longer than what it must hold the reader's scratch space is, while it grows by doubling.
const SCRATCH: usize = 3;

/// How deep the strings of the request itself lie: `{"request": {"userInfo": {"username": …`.
const REQUEST_DEPTH: usize = 3;

/// Bytes that are counted at a time: as many as a byte can count, in whole vector registers.
const CHUNK: usize = 224;

/// What the body of a review takes, in bytes, beside itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weight {
    /// To find its parts, such as the uid.
    pub(super) envelope: usize,
    /// To read its objects and judge them.
    pub(super) objects: usize,
}

/// The same for a body that is not large, in far less time: what stands in strings counts as if it
/// were JSON too, so it is never less.
pub(super) fn roughly(json: &[u8]) -> usize {
    let next = json.get(1..).unwrap_or_default();
    let (mut items, mut entries, mut lists, mut maps) = (0, 0, 0, 0);
    for (chunk, next) in json.chunks(CHUNK).zip(next.chunks(CHUNK)) {
        let (mut commas, mut colons, mut brackets, mut braces) = (0_u8, 0_u8, 0_u8, 0_u8);
        for (byte, next) in chunk.iter().zip(next) {
            commas += u8::from(*byte == b',');
            colons += u8::from(*byte == b':');
            brackets += u8::from(*byte == b'[');
            // Without a branch, which would take ten times as long.
            braces += u8::from(*byte == b'{') & u8::from(*next != b'}');
        }
        items += usize::from(commas);
        entries += usize::from(colons);
        lists += usize::from(brackets);
        maps += usize::from(braces);
    }
    let text = json.len() + json.len() / 8;
    let values = text + ITEM * items + ENTRY * entries + LIST * lists + MAP * maps;
    JUDGED * values
}

// === impl Weight ===

impl Weight {
    /// Reckons one body. It need not be JSON.
    pub(super) fn of(json: &[u8]) -> Self {
        let mut values = 0;
        let (mut depth, mut deepest) = (0_usize, 0);
        let (mut longest, mut longest_of_request) = (0, 0);
        let mut rest = json.iter();
        while let Some(byte) = rest.next() {
            values += match byte {
                b',' => ITEM,
                b':' => ENTRY,
                b'[' | b'{' => {
                    depth += 1;
                    deepest = deepest.max(depth);
                    match (byte, rest.as_slice().first()) {
                        (_, Some(b']' | b'}')) => 0,
                        (b'[', _) => LIST,
                        _ => MAP,
                    }
                }
                b']' | b'}' => {
                    depth = depth.saturating_sub(1);
                    0
                }
                b'"' => {
                    let (length, escaped) = string(&mut rest);
                    // A string without escapes is read where it lies.
                    if escaped {
                        longest = longest.max(length);
                        if depth <= REQUEST_DEPTH {
                            longest_of_request = longest_of_request.max(length);
                        }
                    }
                    // The allocator rounds up by an eighth at most; below that, what it adds is in
                    // the figures above.
                    length + length / 8
                }
                _ => 0,
            };
        }
        Self {
            envelope: SCRATCH * longest_of_request.max(deepest),
            objects: (values + SCRATCH * longest).max(JUDGED * values),
        }
    }
}

/// Goes to the end of a string. Gives how long it is at most when it is read, and whether it has escapes.
fn string(rest: &mut std::slice::Iter<'_, u8>) -> (usize, bool) {
    let (mut length, mut escaped) = (0, false);
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => break,
            b'\\' => {
                escaped = true;
                if rest.next() == Some(&b'u') {
                    // Four digits for at most three bytes of UTF-8.
                    let digits = rest.as_slice().len().min(4);
                    *rest = rest.as_slice()[digits..].iter();
                    length += 3;
                } else {
                    length += 1;
                }
            }
            _ => length += 1,
        }
    }
    (length, escaped)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// What a value takes at least, without what the allocator adds.
    fn taken(value: &Value) -> usize {
        match value {
            Value::String(text) => text.capacity(),
            Value::Array(items) => {
                items.capacity() * size_of::<Value>() + items.iter().map(taken).sum::<usize>()
            }
            Value::Object(map) => {
                // Ascending keys, which Go writes, leave seven entries to a leaf with its part above; the
                // last leaf, which has five after a split, is split again by its twelfth.
                let leaf = 11 * (size_of::<String>() + size_of::<Value>()) + 16;
                let (leaves, above) = match map.len() {
                    0 => (0, 0),
                    1..12 => (1, 0),
                    many => (1 + (many - 5) / 7, 1 + many / 49),
                };
                let above = above * (leaf + 12 * size_of::<usize>());
                let entries = map.iter().map(|(key, value)| key.len() + taken(value));
                leaves * leaf + above + entries.sum::<usize>()
            }
            _ => 0,
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 256, 24, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..24).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..24)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn the_figures_are_those_of_the_library() {
        const { assert!(size_of::<Value>() <= 32) }
        const { assert!(ITEM >= 3 * size_of::<Value>() && LIST >= 4 * size_of::<Value>()) }
        const { assert!(MAP >= 11 * (size_of::<String>() + size_of::<Value>()) + 16) }
        // Seven entries to a leaf, and the part of what is above it.
        const { assert!(ITEM + ENTRY >= (MAP + (MAP + 96) / 7) / 7) }
        let one: Value = serde_json::from_str("[0]").unwrap();
        assert!(one.as_array().unwrap().capacity() * size_of::<Value>() <= LIST);
    }

    proptest! {
        #[test]
        fn a_value_takes_no_more_than_was_reckoned(value in any_json()) {
            let text = value.to_string();
            let read: Value = serde_json::from_str(&text).unwrap();
            let weight = Weight::of(text.as_bytes());
            prop_assert!(JUDGED * taken(&read) <= weight.objects, "{text}");
            prop_assert!(JUDGED * taken(&read) <= roughly(text.as_bytes()), "{text}");
        }

        #[test]
        fn whatever_the_bytes_are_they_are_reckoned(bytes: Vec<u8>) {
            Weight::of(&bytes);
        }
    }

    #[test]
    fn what_expands_most_is_known() {
        for (item, factor) in [
            ("[0],", 50),
            ("{},", 30),
            ("{\"\":0},", 100),
            ("\"a\",", 24),
        ] {
            let text = format!("[{}0]", item.repeat(10_000));
            let read: Value = serde_json::from_str(&text).unwrap();
            let weight = Weight::of(text.as_bytes()).objects / JUDGED;
            assert!(weight >= taken(&read), "{item}");
            assert!(weight >= factor * text.len(), "{item}: {weight}");
            assert!(roughly(text.as_bytes()) >= JUDGED * weight, "{item}");
        }
    }

    #[test]
    fn a_long_string_is_not_taken_for_more_than_it_is() {
        // As Go writes a `<`; three bytes are the most that such an escape stands for.
        let text = json!({"a": "@"})
            .to_string()
            .replace('@', &"\\u003c".repeat(1_000_000));
        let weight = Weight::of(text.as_bytes());
        assert!(
            (9_000_000..13_000_000).contains(&weight.objects),
            "{weight:?}"
        );
        let plain = Weight::of(json!({"a": "x".repeat(1_000_000)}).to_string().as_bytes());
        assert!((3_000_000..4_000_000).contains(&plain.objects), "{plain:?}");
        // Braces in a string are no structure.
        assert_eq!(
            Weight::of(br#"{"a": "{[,:\"{[,:"}"#).objects,
            Weight::of(br#"{"a": "xxxxxxxxx"}"#).objects
        );
    }

    #[test]
    fn the_envelope_takes_what_its_own_strings_and_the_depth_take() {
        let own = format!("{{\"request\":{{\"name\":\"\\n{}\"}}}}", "x".repeat(1000));
        assert!(Weight::of(own.as_bytes()).envelope >= 3_000);
        let object = format!("{{\"request\":{{\"object\":{{\"data\":{own}}}}}}}");
        assert!(Weight::of(object.as_bytes()).envelope < 100);
        let deep = "[".repeat(100_000);
        assert!(Weight::of(deep.as_bytes()).envelope >= 300_000);
    }
}
