use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn only(text: &str) -> Document {
    let (mut documents, errors) = read("file.yaml", text.as_bytes());
    assert_eq!(errors, [], "{text:?}");
    assert_eq!(documents.len(), 1, "{text:?}");
    documents.remove(0)
}

fn place(document: &Document, pointer: &str) -> (usize, usize) {
    let position = document.locate(pointer);
    (position.line, position.column)
}

fn errors(text: &str) -> Vec<String> {
    let (_, errors) = read("file.yaml", text.as_bytes());
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn values_are_located_in_the_file() {
    let text = "# comment\nkind: Pod\nspec:\n  containers:\n  - name: é\n    image: a\n  - {name: b, \
                image: \"日\", x: [1, 2]}\n---\n\nkind: B\nnone:\na/b~c: 1\n";
    let (documents, errors) = read("file.yaml", text.as_bytes());
    assert_eq!(errors, []);
    let [first, second] = &documents[..] else {
        panic!("{documents:?}");
    };
    for (pointer, expected) in [
        ("", (2, 1)),
        ("/kind", (2, 7)),
        ("/spec", (4, 3)),
        ("/spec/containers", (5, 5)),
        ("/spec/containers/0", (5, 5)),
        ("/spec/containers/0/name", (5, 11)),
        ("/spec/containers/0/image", (6, 12)),
        ("/spec/containers/1/name", (7, 12)),
        ("/spec/containers/1/image", (7, 22)),
        ("/spec/containers/1/x/1", (7, 34)),
        // The nearest parent of what is not there.
        ("/spec/containers/0/resources/limits", (5, 5)),
        ("/spec/containers/7/image", (5, 5)),
        ("/spec/containers/x", (5, 5)),
        ("/kind/deeper", (2, 7)),
    ] {
        assert_eq!(place(first, pointer), expected, "{pointer}");
    }
    assert_eq!(first.start, Position { line: 2, column: 1 });
    assert_eq!(place(second, "/kind"), (10, 7));
    assert_eq!(place(second, "/none"), (11, 5));
    assert_eq!(place(second, "/a~1b~0c"), (12, 8));
}

#[test]
fn what_yaml_reads_otherwise_keeps_its_spelling() {
    let text = "kind: List\nitems:\n- kind: A\n  a: 0644\n  b: [y, true, 1_000, 0x1F, 1.10, 7, 1.5, \"on\", ~]\n  c: &x \
                +1\n  d: *x\n";
    let document = only(text);
    for (pointer, json, spelling) in [
        ("/a", "420", Some("0644")),
        ("/b/0", "true", Some("y")),
        ("/b/1", "true", None),
        ("/b/2", "1000", Some("1_000")),
        ("/b/3", "31", Some("0x1F")),
        ("/b/4", "1.1", Some("1.10")),
        ("/b/5", "7", None),
        ("/b/6", "1.5", None),
        ("/b/7", "\"on\"", None),
        ("/b/8", "null", None),
        ("/d", "1", Some("+1")),
    ] {
        let node = document.object.root().at(pointer).unwrap();
        assert_eq!(node.to_string(), json, "{pointer}");
        assert_eq!(node.spelling(), spelling, "{pointer}");
    }
    let long = format!("kind: A\na: 0x{}1\n", "0".repeat(1000));
    let document = only(&long);
    assert_eq!(document.object.root().at("/a").unwrap().spelling(), None);
}

#[test]
fn values_of_json_are_located_in_the_file() {
    let text = "{\r\n\t\"kind\": \"\\\"é{\",\r\n\t\"a\": [1, {\"b\" : null}, \"\"],\n \"é\":  {\"c\": -1.5e3}\n} \
                {\"a\" :[]}\n";
    let (documents, errors) = read("file.json", text.as_bytes());
    assert_eq!(errors, []);
    let [first, second] = &documents[..] else {
        panic!("{documents:?}");
    };
    for (pointer, expected) in [
        ("", (1, 1)),
        ("/kind", (2, 10)),
        ("/a", (3, 7)),
        ("/a/0", (3, 8)),
        ("/a/1", (3, 11)),
        ("/a/1/b", (3, 18)),
        ("/a/2", (3, 25)),
        ("/é", (4, 8)),
        ("/é/c", (4, 14)),
        ("/é/d", (4, 8)),
    ] {
        assert_eq!(place(first, pointer), expected, "{pointer}");
    }
    assert_eq!(place(second, ""), (5, 3));
    assert_eq!(place(second, "/a"), (5, 9));
}

#[test]
fn aliases_are_located_where_they_stand_and_their_parts_at_the_anchor() {
    let document = only("a: &x\n  b: 1\nc: *x\nd:\n  <<: *x\n  e: 2\n");
    assert_eq!(place(&document, "/c"), (3, 4));
    assert_eq!(place(&document, "/c/b"), (2, 6));
    assert_eq!(place(&document, "/d/b"), (2, 6));
    assert_eq!(place(&document, "/d/e"), (6, 6));
}

#[test]
fn a_byte_order_mark_and_windows_lines_move_nothing() {
    let document = only("\u{feff}a: 1\r\nb:\r\n  - c\r\n");
    assert_eq!(place(&document, "/a"), (1, 4));
    assert_eq!(place(&document, "/b/0"), (3, 5));
}

#[test]
fn items_of_lists_are_documents() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- kind: A\n- kind: PodList\n  apiVersion: v1\n  items:\n  \
                - metadata: {name: b}\n  - kind: C\n---\nkind: NameList\nitems: {}\n---\nkind: \
                List\nitems: []\n---\nkind: List\nitems:\n---\nkind: Box\nitems: [1]\n";
    let (documents, errors) = read("file.yaml", text.as_bytes());
    assert_eq!(errors, []);
    let objects: Vec<_> = documents
        .iter()
        .map(|document| document.object.root().to_value())
        .collect();
    let expected = [
        json!({"kind": "A"}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"}}),
        json!({"kind": "C"}),
        json!({"kind": "NameList", "items": {}}),
        json!({"kind": "Box", "items": [1]}),
    ];
    assert_eq!(objects, expected);
    assert_eq!(documents[1].start, Position { line: 8, column: 5 });
    assert_eq!(place(&documents[1], "/metadata/name"), (8, 22));
    assert_eq!(place(&documents[1], "/kind"), (8, 5));
}

#[test]
fn a_broken_document_hides_no_other() {
    let text = "a: 1\n---\nb: [\n---\nc: 1\n--- d: 2\ne: 3\n---\n- f\n---\ng: *x\n---\nh: \t1\n---\ni:\n\t- 1\n";
    let (documents, errors) = read("file.yaml", text.as_bytes());
    let objects: Vec<_> = documents
        .iter()
        .map(|document| document.object.root().to_value())
        .collect();
    let expected = [
        json!({"a": 1}),
        json!({"c": 1}),
        // Judged as it is meant.
        json!({"d": 2, "e": 3}),
        json!({"h": 1}),
    ];
    assert_eq!(objects, expected);
    let places: Vec<_> = errors.iter().map(|error| error.position.line).collect();
    assert_eq!(places, [3, 6, 9, 11, 16], "{errors:#?}");
}

#[test]
fn a_glued_separator_is_one_error_and_what_follows_is_read() {
    for (text, place, count) in [
        (
            "a: 1\n---\n---b: é\nc: 2\n---\nd: 3\n",
            "file.yaml:3:4: ",
            3,
        ),
        ("a: 1\n---   b: 1\n", "file.yaml:2:7: ", 2),
        ("---a: 1\nb: 2\n", "file.yaml:1:4: ", 1),
        // What cannot be read follows from it.
        (
            "a: 1\n-----BEGIN CERTIFICATE-----\nx\n",
            "file.yaml:2:4: ",
            1,
        ),
        ("a: 1\n---b: [\n---\nd: 3\n", "file.yaml:2:4: ", 2),
    ] {
        let (documents, errors) = read("file.yaml", text.as_bytes());
        assert_eq!(documents.len(), count, "{text:?}: {errors:#?}");
        let [error] = &errors[..] else {
            panic!("{text:?}: {errors:#?}");
        };
        let error = error.to_string();
        assert!(error.starts_with(place), "{text:?}: {error}");
        assert!(error.contains("move the rest to the next line"), "{error}");
    }
    let (documents, _) = read("file.yaml", b"a: 1\n---\n---b: 2\nc: 3\n---\nd: 4\n");
    assert_eq!(place(&documents[1], "/b"), (3, 7));
    assert_eq!(place(&documents[1], "/c"), (4, 4));
    assert_eq!(place(&documents[2], "/d"), (6, 4));
}

#[test]
fn a_control_character_is_told_where_it_stands() {
    for (text, place) in [
        (
            "a: b\nc: \"é\u{1}\"\n",
            "file.yaml:2:6: the control character U+0001 ",
        ),
        (
            "a: 'b\u{7f}'\n",
            "file.yaml:1:6: the control character U+007F ",
        ),
        (
            "a: |\n  b\n  c\u{0}\nd: 1\n",
            "file.yaml:3:4: the control character U+0000 ",
        ),
        (
            "a: b # \u{9b}\n",
            "file.yaml:1:8: the control character U+009B ",
        ),
        ("---a: \u{8}\n", "file.yaml:1:4: kubectl wants "),
    ] {
        let errors = errors(text);
        assert_eq!(errors.len(), 1, "{text:?}: {errors:?}");
        assert!(errors[0].starts_with(place), "{text:?}: {errors:?}");
    }
    assert!(errors("a: \"\u{1}\"\n")[0].contains(r#""\x01" in double quotes"#));
    let json = &errors("{\"a\": \"b\u{1}\"}\n")[0];
    assert!(json.contains(r"\u and four hexadecimal digits"), "{json}");
    assert_eq!(errors("a: \"\tb\u{85}\"\r\n"), Vec::<String>::new());
}

#[test]
fn an_error_says_where_and_what_to_write_instead() {
    for (text, expected) in [
        ("a:\n\tb: 1\n", "file.yaml:2:2: this is no YAML: "),
        ("a: {{ .Values.x }} b\n", "file.yaml:1:"),
        ("{{ .Values.x }}\n", "file.yaml:1:"),
        ("a: *b\n", "file.yaml:1:4: this is no YAML: "),
        ("a: b: c\n", "file.yaml:1:5: this is no YAML: "),
        ("a: .inf\n", "file.yaml:1:4: JSON has no .nan and no .inf; "),
        (
            "a: !!int x\n",
            "file.yaml:1:10: \"x\" is no int; leave the tag !!int out",
        ),
        ("~: 1\n", "file.yaml:1:1: the key is null; "),
        ("[a]: 1\n", "file.yaml:1:1: a key is no list and no map; "),
        (
            "<<: 1\n",
            "file.yaml:1:5: << needs a map, or a list of maps",
        ),
        ("- a\n", "file.yaml:1:1: this is no object; "),
        ("%YAML 1.1\n---\na: 1\n", "file.yaml:1:1: this is no YAML: "),
        ("{\"a\": 1 \"b\": 2}\n", "file.yaml:1:9: this is no JSON: "),
        ("{}\n{}\n{\"é\" 1}\n", "file.yaml:3:6: this is no JSON: "),
        (
            "a: 1\n...\nb: 1\n",
            "file.yaml:3:1: kubectl ignores all from here",
        ),
    ] {
        let errors = errors(text);
        assert!(errors[0].starts_with(expected), "{text:?}: {errors:?}");
    }
    assert!(errors("a: {{ .Values.x }} b\n")[0].contains("helm template"));
    let whole_line = errors("{{ .Values.x }}\n");
    assert!(whole_line[0].contains("helm template"), "{whole_line:?}");
    let (_, errors) = read("a", b"a: 1\n---\nb: \xe9\xff\n---\nc: 1\n");
    assert_eq!(
        errors[0].to_string(),
        "a:3:4: this is no UTF-8; save the file as UTF-8"
    );
    let (documents, errors) = read("a", b"\xff\xfea\0:\0");
    assert_eq!((documents.len(), errors.len()), (0, 1));
}

#[test]
fn bombs_are_refused() {
    let mut bomb = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..12 {
        let last = format!("*a{}, ", level - 1).repeat(9);
        bomb = format!("{bomb}a{level}: &a{level} [{last}]\n");
    }
    let wide = format!(
        "a: &x {}\nb: [{}]\n",
        "x".repeat(1 << 20),
        "*x, ".repeat(1000)
    );
    let merges = format!("a: &x {{b: 1}}\nc:\n{}", "  <<: *x\n".repeat(30_000));
    let itself = "a: &x [1, *x]\n".to_owned();
    let merged_itself = "a: &x {<<: *x}\n".to_owned();
    let chain: Vec<_> = (1..300)
        .map(|level| format!("a{level}: &a{level} [*a{}]\n", level - 1))
        .collect();
    let chain = format!("a0: &a0 [1]\n{}", chain.concat());
    for text in [bomb, wide, merges, itself, merged_itself, chain] {
        let (documents, errors) = read("file.yaml", text.as_bytes());
        assert_eq!((documents.len(), errors.len()), (0, 1), "{text:.60}");
    }
}

#[test]
fn nesting_is_bounded() {
    let flow = |depth: usize| format!("a: {}{}\n", "[".repeat(depth), "]".repeat(depth));
    let block = |depth: usize| {
        let lines = (0..depth).map(|level| format!("{:level$}a:\n", ""));
        lines.collect::<String>()
    };
    let json = |depth: usize| format!("{{\"a\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
    for (deepest, too_deep) in [
        (flow(126), flow(127)),
        (block(127), block(128)),
        (json(126), json(127)),
    ] {
        let text = only(&deepest).object.root().to_string();
        assert!(serde_json::from_str::<Value>(&text).is_ok());
        let (documents, errors) = read("file.yaml", too_deep.as_bytes());
        assert_eq!((documents.len(), errors.len()), (0, 1), "{too_deep:.20}");
    }
    for text in [
        flow(1_000_000),
        "- ".repeat(1_000_000),
        "[".repeat(1_000_000),
        json(1_000_000),
    ] {
        let (documents, errors) = read("file.yaml", text.as_bytes());
        assert_eq!((documents.len(), errors.len()), (0, 1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_makes_it_panic(
        text in prop_oneof![
            "\\PC{0,40}",
            "[-{}\\[\\]:,&*!|>'\"%@`#?<ab0 \n\t\r\\\\]{0,40}",
            "\\{[{}\\[\\]:,\"\\\\a0 \n]{0,40}",
        ],
        pointer in "(/[ab0~]{0,2}){0,4}",
    ) {
        let (documents, errors) = read("file.yaml", text.as_bytes());
        let lines = text.split(['\n', '\r']).count();
        for document in documents {
            let position = document.locate(&pointer);
            prop_assert!(position.column > 0 && (1..=lines).contains(&position.line));
        }
        for error in errors {
            let position = error.position;
            prop_assert!(position.column > 0 && (1..=lines).contains(&position.line));
        }
    }

    #[test]
    fn bytes_do_not_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = read("file.yaml", &bytes);
    }

    #[test]
    fn json_means_what_serde_json_says(value in value()) {
        let value = json!({ "a": value });
        for text in [value.to_string(), format!("{value:#}")] {
            prop_assert_eq!(only(&text).object.root().to_value(), value.clone());
            // As YAML too.
            let yaml = only(&format!("# comment\n{text}"));
            prop_assert_eq!(yaml.object.root().to_value(), value.clone());
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~é日\n\t]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[ -~é]{0,4}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
