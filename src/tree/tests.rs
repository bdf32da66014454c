use proptest::prelude::*;
use serde::de::DeserializeSeed;
use serde_json::json;

use super::*;

/// JSON of any form, as text: with escapes, odd keys, equal keys and spaces.
fn any_json() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        "[a-z/~0-9]{0,6}".prop_map(|text| format!("{text:?}")),
        Just(r#""\u00e4\ud83d\ude00\n""#.to_owned()),
        Just("\"\"".to_owned()),
    ];
    let number = prop_oneof![
        any::<u64>().prop_map(|number| number.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f32>()
            .prop_filter("JSON", |number| number.is_finite())
            .prop_map(|number| format!("{number:e}")),
        Just("-0".to_owned()),
    ];
    let scalar = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        number,
        text.clone(),
    ];
    scalar.prop_recursive(5, 64, 6, move |inner| {
        let entry = (text.clone(), inner.clone());
        prop_oneof![
            proptest::collection::vec(inner, 0..6)
                .prop_map(|items| format!("[{}]", items.join(" , "))),
            proptest::collection::vec(entry, 0..6).prop_map(|entries| {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|(key, value)| format!("{key}:{value}"))
                    .collect();
                format!("{{{}}}", entries.join(","))
            }),
        ]
    })
}

fn parse(text: &str) -> Tree {
    Tree::parse(text).unwrap()
}

proptest! {
    #[test]
    fn a_tree_is_what_serde_json_reads(text in any_json()) {
        let tree = parse(&text);
        let value: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(tree.root().to_value(), value.clone());
        prop_assert_eq!(&tree, &Tree::from(&value));
        prop_assert_eq!(&tree, &tree.root().to_tree());
        let again = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        prop_assert_eq!(again(tree.root().to_string()), again(value.to_string()));
        let bound = Bound::of(text.as_bytes());
        prop_assert!(tree.slots.len() <= bound.nodes && tree.unescaped.len() <= bound.unescaped);
    }

    #[test]
    fn two_trees_are_equal_where_their_values_are(one in any_json(), other in any_json()) {
        let values = [&one, &other].map(|text| serde_json::from_str::<Value>(text).unwrap());
        prop_assert_eq!(parse(&one) == parse(&other), values[0] == values[1]);
    }

    #[test]
    fn a_pointer_leads_where_it_leads_in_a_value(text in any_json(), pointer in "(/[a-z0-2~]{0,2}){0,3}") {
        let value: Value = serde_json::from_str(&text).unwrap();
        let found = parse(&text).root().at(&pointer).map(Node::to_value);
        prop_assert_eq!(found.as_ref(), value.pointer(&pointer), "{}", pointer);
    }

    #[test]
    fn a_text_that_is_no_json_fails_alike(text in r#"[\[\]{}:,"a0.e\\ -]{0,12}"#) {
        let expected = serde_json::from_str::<Value>(&text).map_err(|error| error.to_string());
        let seen = Tree::parse(text.as_str()).map_err(|error| error.to_string());
        prop_assert_eq!(seen.map(|tree| tree.root().to_value()), expected);
    }
}

#[test]
fn a_value_is_looked_up_by_key_index_and_pointer() {
    let tree = parse(r#"{"a": {"b": "c", "": 1, "x/y": 2}, "l": ["x", -1], "a~b": 3, "t": true}"#);
    let root = tree.root();
    assert_eq!(root.text_at("/a/b"), Some("c"));
    assert_eq!(root.at("/a/").and_then(Node::as_u64), Some(1));
    assert_eq!(root.at("/a/x~1y").and_then(Node::as_i64), Some(2));
    assert_eq!(root.at("/a~0b").and_then(Node::as_i64), Some(3));
    assert_eq!(root.at("/l/1").and_then(Node::as_i64), Some(-1));
    assert_eq!(root.at(""), Some(root));
    assert_eq!(
        root.get("l").and_then(|list| list.item(0)?.as_str()),
        Some("x")
    );
    assert_eq!(root.get("t").and_then(Node::as_bool), Some(true));
    for nowhere in ["/a/b/c", "/l/2", "/l/01", "/l/-", "/z", "a"] {
        assert_eq!(root.at(nowhere), None, "{nowhere}");
    }
    assert_eq!(root.get("l").map(|list| list.items().count()), Some(2));
    let keys: Vec<_> = root.entries().map(|(key, _)| key).collect();
    assert_eq!(keys, ["a", "l", "a~b", "t"]);
    assert_eq!(
        (root.items().count(), tree.node(1).entries().count()),
        (0, 0)
    );
}

#[test]
fn the_last_of_equal_keys_counts_and_all_are_there() {
    let tree = parse(r#"{"a": 1, "b": 2, "a": 3}"#);
    assert_eq!(tree.root().get("a").and_then(Node::as_u64), Some(3));
    let values: Vec<_> = tree
        .root()
        .entries()
        .map(|(key, value)| (key, value.to_value()))
        .collect();
    assert_eq!(values, [("a", json!(1)), ("b", json!(2)), ("a", json!(3))]);
    assert_eq!(tree, parse(r#"{"b": 2, "a": 3}"#));
}

#[test]
fn keys_are_read_over_at_the_top_and_in_one_map() {
    const SKIPPED: Skipped = Skipped {
        keys: &["status"],
        inner: Some(("metadata", &["managedFields"])),
    };
    let object = json!({
        "metadata": {"name": "a", "labels": {"managedFields": "x"}, "managedFields": [{"f:a": {}}]},
        "spec": {"status": 1, "metadata": {"managedFields": 2}},
        "status": {"replicas": 1},
    });
    let mut expected = object.clone();
    expected.as_object_mut().unwrap().remove("status");
    expected["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("managedFields");
    let source = Arc::new(object.to_string());
    let read = |skipped| {
        let mut reader = serde_json::Deserializer::from_str(&source);
        let seed = Builder::over(&source).seed(skipped);
        seed.deserialize(&mut reader).unwrap().root().to_value()
    };
    assert_eq!(read(SKIPPED), expected);
    assert_eq!(read(Skipped::NOTHING), object);
}

#[test]
fn a_deep_text_fails_as_in_serde_json() {
    for depth in [127, 128, 9_900] {
        let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let expected = serde_json::from_str::<Value>(&text)
            .map(drop)
            .map_err(|error| error.to_string());
        let seen = Tree::parse(text)
            .map(drop)
            .map_err(|error| error.to_string());
        assert_eq!(seen, expected, "{depth}");
    }
}

#[test]
fn what_a_hostile_text_takes_is_known_before_it_is_read() {
    assert_eq!(size_of::<Slot>(), 16);
    for (item, most) in [
        ("[0],", 8),
        ("{\"\":0},", 7),
        ("0,", 8),
        ("\"\",", 6),
        ("[],", 11),
    ] {
        let text = format!("[{}0]", item.repeat(10_000));
        let length = text.len();
        let bytes = Bound::of(text.as_bytes()).bytes();
        let tree = parse(&text);
        assert!(
            tree.bytes() <= bytes && bytes <= most * length + 64,
            "{item}: {bytes} of {length}"
        );
    }
}

#[test]
fn comparing_takes_no_longer_than_the_trees_are_long() {
    // Looked at twice at each level, this would be 2 to the power of 120 steps.
    let deep = |value: &str| {
        let open = "{\"a\":".repeat(120);
        parse(&format!("{open}{value}{}", "}".repeat(120)))
    };
    assert!(deep("1") != deep("2") && deep("1") == deep("1"));
    // And these would be 10 to the power of 10.
    let wide = |last: usize| {
        let keys = (0..100_000)
            .chain(0..100_000)
            .map(|key| format!("\"{key}\":{last}"));
        parse(&format!("{{{}}}", keys.collect::<Vec<_>>().join(",")))
    };
    assert!(wide(1) != wide(2) && wide(1) == wide(1));
}

#[test]
fn maps_are_compared_without_some_of_their_keys() {
    let same = |one: &str, other: &str| {
        let (one, other) = (parse(one), parse(other));
        one.root().equals_without(other.root(), &["status"])
    };
    assert!(same(r#"{"a": 1, "status": 1}"#, r#"{"status": 2, "a": 1}"#));
    assert!(same(r#"{"a": 1}"#, r#"{"a": 1, "status": 2}"#));
    assert!(same(r#"{"a": 1, "a": 2}"#, r#"{"a": 3, "a": 2}"#));
    assert!(!same(r#"{"a": 1, "a": 2}"#, r#"{"a": 1, "a": 3}"#));
    assert!(!same(r#"{"a": 1}"#, r#"{"a": 2}"#));
    assert!(!same(r#"{"a": {"status": 1}}"#, r#"{"a": {"status": 2}}"#));
    assert!(!same(r#"{"a": 1}"#, r#"{"a": 1, "b": 2}"#));
}
