//! Our reading of manifests against the Go libraries that kubectl uses.

use forestall::manifest::{self, ManifestError};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde::Deserialize;
use serde_json::Value;

/// How many generated files are compared.
const GENERATED: usize = 5_000;

#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    error: String,
    documents: Vec<Value>,
}

/// The documents, or why one of them cannot be read.
type Reading = Result<Vec<Value>, String>;

fn read(text: &str, lenient: bool) -> Reading {
    let (documents, errors) = manifest::read("file.yaml", text.as_bytes());
    // What kubectl drops in silence is an error here, beside what it does read; see REFUSED.
    let is_dropped = |error: &ManifestError| error.message.starts_with("kubectl ignores");
    let mut errors = errors.iter();
    match errors.find(|error| !(lenient && is_dropped(error))) {
        Some(error) => Err(error.to_string()),
        None => Ok(documents
            .into_iter()
            .map(|document| document.object.root().to_value())
            .collect()),
    }
}

fn theirs(files: &[String]) -> Vec<Reading> {
    super::go::answers("yaml", files)
        .into_iter()
        .map(|answer: Answer| {
            if !answer.error.is_empty() {
                return Err(answer.error);
            }
            // The library takes them, and kubectl refuses them right after.
            match answer.documents.iter().find(|value| !value.is_object()) {
                Some(value) => Err(format!("{value} is no object")),
                None => Ok(answer.documents),
            }
        })
        .collect()
}

/// Equal, with 1 and 1.0 the same number.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            // serde_json is a bit off where it reads a long number of the other side.
            let (l, r) = (left.as_f64().unwrap(), right.as_f64().unwrap());
            let whole = left.is_i64() && right.is_i64();
            left == right || !whole && (l - r).abs() <= l.abs() * 1e-15
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| same(l, r))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(key, l)| right.get(key).is_some_and(|r| same(l, r)))
        }
        _ => left == right,
    }
}

fn agree(ours: &Reading, theirs: &Reading) -> bool {
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(o, t)| same(o, t))
        }
        (ours, theirs) => ours.is_err() == theirs.is_err(),
    }
}

fn compare(files: &[String]) {
    let theirs = theirs(files);
    assert_eq!(theirs.len(), files.len());
    let mut differences = Vec::new();
    for (text, theirs) in files.iter().zip(theirs) {
        let ours = read(text, true);
        if !agree(&ours, &theirs) {
            differences.push(format!(
                "{text:?}\n  Forestall: {ours:?}\n  kubectl:   {theirs:?}"
            ));
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {} are read differently:\n{}",
        differences.len(),
        files.len(),
        differences[..differences.len().min(40)].join("\n")
    );
}

#[test]
fn hand_written_scalars_mean_what_they_mean_to_kubectl() {
    let scalars = "
        y Y yes Yes YES yEs n N no No NO on On ON off Off OFF oN true True TRUE tRUE false False
        FALSE null Null NULL nULL ~ ~~ \"\" '' \"yes\" 'no' \"1\" '~' \"null\" !!str !!str,yes
        0 00 -0 +0 1 -1 +1 01 010 -010 +010 08 09 0777 0o14 0O14 0o8 -0o14 0x1F 0X1f 0xg -0x1f +0x1f
        0b101 0B101 0b102 -0b101 +0b11 0b 0x 0o 0b-1 0x-1 0x+1 1_000 1__000 1_ _1 -_1 0_7 0x_1f 0b_1
        1_0.5_0 .5 .5_0 ._5 .5_ .5__0 -.5 +.5 -._5 .5e3 .5e .e5 . .. ... -. +. 1. 1.e3 1.5 1e3 1E3 1e+3
        1e-3 1e 1e+ 1.5.2 1e3.5 1e999 -1e999 .5e999 1e-999 1e19 1e20 1e21 1e22 123456789012345678901
        9223372036854775807 9223372036854775808 18446744073709551615 18446744073709551616
        -9223372036854775808 -9223372036854775809 +9223372036854775807 +9223372036854775808
        0xffffffffffffffff 0x8000000000000000 0b1111111111111111111111111111111111111111111111111111111111111111
        -0x8000000000000000 -0x8000000000000001 0777777777777777777777 01777777777777777777777
        1:30 190:20:30 190:20:30.15 12:30:45 1e3_0 3.14159 -3.0 3.0 0.1 1.0e10 0.0 -0.0 1e0 0e0 00.5 01.5
        2001-12-15 2001-12-15T02:59:43.1Z 2001-12-14t21:59:43.10-05:00 2001-13-15 2001-1-1 20011-1-1
        2001- 2001 .nan .NaN .NAN .Nan .inf .Inf .INF +.inf -.inf +.Inf -.INF .infinity inf nan NaN
        Infinity += = << <<< >> - -- --- -a a-b a:b :a a# #a a#b *a &a & * ! !a @ ` % %a | > [ ] { } , ? ?a
        512Mi 0.5Gi 1e9 500m 1_000m 5432 022 0644 '0644' v1.2 1.2 1.10 1.20 007 0.10 12e03 1e1e1 0x1p3
        é ünï 日本 😀 \"\\u00e9\" \"\\U0001F600\" \"\\x41\" \"\\n\" \"\\e\" \"\\q\" \"\\0\" \"\\_\" \"\\N\" '''' 'a''b'
        \"\\uD83D\" \"\\ufeff\" \"a\\tb\" 'a\"b' \"a'b\" !!int,1 !!int,1.5 !!int,a !!int,\"1\" !!float,1
        !!float,1.5 !!float,a !!float,0x10 !!float,18446744073709551615 !!bool,yes !!bool,\"yes\" !!bool,1
        !!null,~ !!null,a !!null !!null,\"\" !!str,1 !!str,~ !!str,\"a\" !,1 !,yes !,~ !foo,1 !foo !foo,yes
        !!foo,1 !<tag:yaml.org,2002:int>,1 !<tag:yaml.org,2002:str>,1 !<foo>,1 !!binary,aGk= !!binary,aGk
        !!binary,a$ !!binary,aGk=a !!binary !!timestamp,2001-12-15 !!merge,a !!merge,<< !!set,a !!seq,[1]
        !!map,[1] !!str,[1] !!int,{a:,1} !a!b,1 &a,1 &a,!!str,1 !!str,&a,1 &a &a,&b,1 !!str,!!int,1
    ";
    let mut files: Vec<String> = Vec::new();
    for scalar in scalars.split_whitespace() {
        let scalar = scalar.replace("!!int,{a:,1}", "!!int {a: 1}");
        let scalar = if scalar.starts_with(['!', '&']) && !scalar.starts_with("!<") {
            scalar.replace(',', " ")
        } else {
            scalar.replace(">,", "> ")
        };
        files.push(format!("a: {scalar}\n"));
        files.push(format!("{scalar}: 1\n"));
        files.push(format!("- {scalar}\n"));
        // Those differ, see REFUSED and TAKEN.
        if !["-", "?", "?a", ":a"].contains(&&*scalar) {
            files.push(format!("a: [{scalar}]\n"));
            files.push(format!("a: {{{scalar}: {scalar}}}\n"));
        }
        files.push(format!("? {scalar}\n: {scalar}\n"));
    }
    compare(&files);
}

#[test]
fn hand_written_files_mean_what_they_mean_to_kubectl() {
    compare(&FILES.iter().map(ToString::to_string).collect::<Vec<_>>());
}

/// Whole files; each is read the same on both sides, or refused on both.
const FILES: &[&str] = &[
    "",
    "\n",
    "# only a comment\n",
    "---\n",
    "---\n---\n---\n",
    "---\na: 1\n---\nb: 2\n",
    "a: 1\n--- # comment\nb: 2\n",
    "a: 1\n---   \nb: 2\n",
    "a: 1\n---\t# comment\nb: 2\n",
    "a: 1\n---\n# empty\n---\n\n---\nb: 2\n",
    "a: 1\n--- b\n",
    "a: 1\n---b\nc: 2\n",
    "--- {a: 1}\n",
    "----\na: 1\n",
    "a: 1\n...\n",
    "a: 1\n...\n---\nb: 2\n",
    "a: 1\n... # comment\n---\nb: 2\n",
    "a: 1\r\nb:\r\n  - 2\r\n---\r\nc: |\r\n  x\r\n  y\r\n",
    "\u{feff}a: 1\n",
    "\u{feff}---\na: 1\n---\nb: 2\n",
    "a: 1\n---\n\u{feff}b: 2\n",
    "\u{feff}{\"a\": 1}",
    "a: 1",
    "a: |\n  text",
    "a: |+\n  text\n\n",
    "a: |+\n  text\n\n---\nb: 1\n",
    "a: >\n  text",
    "%YAML 1.1\n---\na: 1\n",
    "%YAML 1.2\n---\na: 1\n",
    "%TAG ! tag:example.com,2000:\n---\na: !b 1\n",
    "a: \"x\n---\ny\"\n",
    "a: 'x\n\n  y'\n",
    "a: |\n  ---\n  b\n",
    "a: |\n---\nb: 1\n",
    "1\n",
    "text\n",
    "[1, 2]\n",
    "- a\n",
    "null\n",
    "~\n---\na: 1\n",
    "{}\n",
    "a: 1\n---\nb\n---\nc: 1\n",
    // JSON.
    "{\"a\": 1}{\"b\": 2}",
    "{\"a\": 1}\n{\"b\": 2}\n{\"c\": 3}\n",
    "{\"a\": 1}\n---\n{\"b\": 2}\n",
    "{\"a\": 1}\n---\nb: 2\n",
    "{\"a\": 1}\n{\"b\": 2}\n---\n{\"c\": 3}\n",
    "  \n\t {\"a\": 1}\n",
    "{\"a\": 1,}\n",
    "{a: 1}\n",
    "{a: 1, b: [yes, 012]}\n---\nc: 3\n",
    "{\"a\": 1, \"a\": 2}",
    "{\"a\": {\"b\": 1}, \"a\": {\"c\": 2}}",
    "{\"a\": \"\\ud83d\\ude00\\/\\u0041\"}",
    "{\"a\": 1e3, \"b\": 1.0, \"c\": 18446744073709551615, \"d\": -0}",
    "{\"a\": 012}",
    "{\"a\": yes}",
    "{\"a\": 1",
    "{\"a\": 1} x",
    "{\"a\": \"x\ny\"}",
    "{\"a\":\t1}",
    "{\n\t\"a\": [\n\t\t1,\n\t\t2\n\t]\n}\n",
    "{{ .Values.a }}\n",
    "a: {{ .Values.a }}\n",
    "a: {{b: 1}: 2}\n",
    // Maps.
    "a: 1\na: 2\n",
    "a: {b: 1}\na: {c: 2}\n",
    "a: 1\n\"a\": 2\n'a': 3\n",
    "true: 1\n",
    "yes: a\nno: b\non: c\n",
    "1: a\n0x10: b\n1.5: c\n1e3: d\n1e6: e\n1234567.0: f\n0.0001: g\n0.00001: h\n",
    "1e20: a\n1e-20: b\n.inf: d\n-.inf: e\n.nan: f\n16777217.0: g\n0.1: h\n",
    "18446744073709551615: a\n",
    "~: a\n",
    ": a\n",
    "? a\n",
    "? a\n? b\n: c\n",
    "? [a]\n: b\n",
    "? {a: 1}\n: b\n",
    "[a]: b\n",
    "{a: b}: c\n",
    "{a, b: c, ? d, ? e : f}\n",
    "a: {b, c}\n",
    "a: [b: c, d]\n",
    "a: {b: , c: }\n",
    "a: [b, , c]\n",
    "a: [b, c, ]\n",
    "a: {\"b\":1, 'c':2}\n",
    "a: {b:1}\n",
    "a: {http://b: c, d: e:f}\n",
    "a: [b\n, c]\n",
    "a: [\nb\n]\n",
    "a: {\n  b: c\n}\n",
    "2001-12-15: a\n",
    // Lists.
    "a:\n- b\n- c\n",
    "a:\n  - b\n  -\n  - ~\n",
    "a:\n- - b\n  - c\n- - d\n",
    "a:\n- b: c\n  d: e\n-\n  f: g\n",
    "a: - b\n",
    "a:\n - b\n- c\n",
    "-a: b\n",
    // Indentation.
    "a:\n  b: 1\n c: 2\n",
    "a:\n\tb: 1\n",
    "a:\tb\n",
    "a: b\t# c\n",
    "a:\n  - b\n\t- c\n",
    "a: b: c\n",
    "a: b\n c: d\n",
    "a\nb: c\n",
    "a: 'b' c\n",
    "a: \"b\n",
    "a: 'b\n",
    "a: [b\n",
    "a: b]\n",
    "a: @b\n",
    "a: `b`\n",
    "a: %b\n",
    "%a: b\n",
    "a #b: c\n",
    "a: b #c\n",
    "a: b#c\n",
    "a: #b\n",
    "a: \"#b\"\n",
    "a:b\n",
    "a : b\n",
    "\"a\":b\n",
    "a: b c\n  d e\n\n  f\n",
    "a: \"b c\n  d e\n\n  f \\\n  g\"\n",
    "a: 'b c\n  d e\n\n  f'\n",
    // Block scalars.
    "a: |\n  b\n   c\n\n  d\n\ne: 1\n",
    "a: |-\n  b\n\ne: 1\n",
    "a: |+\n  b\n\ne: 1\n",
    "a: >\n  b\n  c\n\n  d\n    e\n  f\n",
    "a: >-\n  b\n  c\n",
    "a: >+\n  b\n\n\n",
    "a: |2\n    b\n",
    "a: |1-\n  b\n",
    "a: |-2\n   b\n",
    "a: |0\n  b\n",
    "a: |x\n  b\n",
    "a: | # comment\n  b\n",
    "a: |\n\n\n  b\n",
    "a: |\n  b\n # comment\nc: 1\n",
    "a: |\nb: 1\n",
    "a: |\n\tb\n",
    "a: |\n  b\tc\n  \td\n",
    "a: !!str |\n  1\n",
    "a: !!int |\n  1\n",
    "a: &b |\n  c\nd: *b\n",
    "a: |\n  yes\nb: >\n  1\n",
    // Anchors, aliases, merges.
    "a: &x 1\nb: *x\n",
    "a: &x {b: 1}\nc: *x\n",
    "a: &x [1, 2]\nc: *x\nd: [*x, *x]\n",
    "a: &x 1\nb: &x 2\nc: *x\n",
    "a: *x\nb: &x 1\n",
    "a: &x 1\n---\nb: *x\n",
    "a: &x [*x]\n",
    "a: &x\nb: *x\n",
    "&x a: 1\nb: *x\n",
    "&x a: 1\n*x : 2\n",
    "? &x a\n: *x\n",
    "&x {a: 1}\n",
    "&x\na: 1\n",
    "a: &x 1\nb: {*x : 2}\n",
    "a: &x [1]\nb: {*x : 2}\n",
    "a: &x-y_z 1\nb: *x-y_z\n",
    "a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  c: 3\n",
    "a: &x {b: 1, c: 2}\nd:\n  c: 3\n  <<: *x\n",
    "a: &x {b: 1, c: 2}\ny: &y {c: 3, d: 4}\nd:\n  <<: [*x, *y]\n",
    "a: &x {b: 1}\nd:\n  <<: *x\n  <<: {b: 2}\n",
    "d:\n  <<: {b: 2}\n",
    "d:\n  <<: [{b: 2}, {c: 3}]\n",
    "d:\n  <<: 1\n",
    "d:\n  <<: ~\n",
    "d:\n  <<:\n",
    "d:\n  <<: []\n",
    "d:\n  <<: [1]\n",
    "a: &x [{b: 1}]\nd:\n  <<: *x\n",
    "a: &x {<<: {b: 1}, c: 2}\nd:\n  <<: *x\n",
    "a: &x {<<: *x}\n",
    "d:\n  \"<<\": {b: 2}\n",
    "d:\n  ! <<: {b: 2}\n",
    "d:\n  !!merge <<: {b: 2}\n",
    "d:\n  !!merge \"<<\": {b: 2}\n",
    "d:\n  !!str <<: {b: 2}\n",
    "a: &x {b: {c: 1}}\nd:\n  <<: *x\n  b: {e: 2}\n",
    "<<: {a: 1}\n",
    // A manifest.
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {on: \"yes\"}}\ndata:\n  a: |\n    b: c\n  \
     mode: \"0644\"\n",
    "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: a\n    args: [\"--a\", -b, --c=d:e]\n    \
     resources: {limits: {memory: 512Mi, cpu: .5}}\n    env:\n    - {name: A, value: \"1\"}\n",
    "a: 日本\nключ: значение\n\"é\": \"\\u00e9\"\n😀: 😀\n",
    "a: \u{7f}\n",
    "a: \u{1}\n",
    "a: \"\u{1}\"\n",
    "a: \u{0}\n",
    "a: \u{a0}b\u{a0}\n",
    "a: \"\u{feff}b\"\n",
    "a: b\u{feff}c\n",
];

/// What is read otherwise on purpose: file, and why. Each is checked to be a difference still.
const REFUSED: &[(&str, &str)] = &[
    (
        "a: &x?y
",
        "kubectl makes ?y of it, with the anchor x",
    ),
    (
        "a: \"\\'\"\n",
        "YAML 1.2 has no such escape, and quotes need none",
    ),
    (
        "a: 1\n...\nb: 2\n",
        "kubectl drops what follows ... in silence",
    ),
    (
        "{a: 1}\nb: 2\n",
        "kubectl drops what follows the map in silence",
    ),
    (
        "a: !!binary /w==\n",
        "kubectl puts U+FFFD in the place of bytes that JSON cannot hold",
    ),
    (
        "a: .inf\na: 1\n",
        "kubectl drops a value that JSON cannot hold where its key comes again",
    ),
    (
        "a: [-]\n",
        "YAML 1.2 has no such text, and people mean an item",
    ),
    (
        "a: [b:]\n",
        "kubectl takes the whole for text, YAML 1.2 for a map",
    ),
    ("a: [?a]\n", "kubectl makes a map of it"),
];
const TAKEN: &[(&str, &str)] = &[
    (
        "a: [b?c]
",
        "YAML 1.2 has such text; kubectl refuses it by itself",
    ),
    ("...\n", "an empty document; kubectl refuses it by itself"),
    (
        "\ta: b\n",
        "a tab before the first key; kubectl refuses it by itself",
    ),
    (
        "{\"a\": 1e400}",
        "YAML reads it as text; kubectl refuses it as a number",
    ),
    (
        "a: \"\\/\"\n",
        "JSON and YAML 1.2 have \\/; kubectl refuses it by itself",
    ),
    (
        "a: \"\\ud83d\\ude00\"\n",
        "JSON has pairs of \\u; kubectl refuses them in YAML by itself",
    ),
];

#[test]
fn where_forestall_is_stricter_kubectl_is_dangerous() {
    for (files, refused) in [(REFUSED, true), (TAKEN, false)] {
        let texts: Vec<String> = files.iter().map(|(text, _)| (*text).to_owned()).collect();
        for ((text, reason), theirs) in files.iter().zip(theirs(&texts)) {
            let ours = read(text, false);
            assert_eq!(ours.is_err(), refused, "{text:?} ({reason}): {ours:?}");
            assert_eq!(theirs.is_err(), !refused, "{text:?} ({reason}): {theirs:?}");
        }
    }
}

/// Scalars that YAML 1.1 and 1.2 read differently, and anything else.
fn scalar() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "y",
        "no",
        "on",
        "Off",
        "true",
        "null",
        "~",
        "",
        "0x1f",
        "0644",
        "0o17",
        "1_000",
        "1e3",
        "1:30",
        "2001-01-01",
        "<<",
        "=",
        "!!str 1",
        "! 1",
        "!!int 0x10",
        "!!float 1",
        "\"yes\"",
        "'1'",
        "\"\\u00e9\\n\"",
        "a b",
        "a: b",
        "a #b",
        "a#b",
        "*x",
        "&x 1",
        "-",
        "--",
        "é",
        "日本",
        "😀",
        "[]",
        "{}",
    ]);
    prop_oneof![
        4 => words.prop_map(ToOwned::to_owned),
        4 => "[-+]?(0[xob]?)?[0-9_]{0,20}(\\.[0-9_]{0,4})?([eE][-+]?[0-9]{1,3})?",
        2 => "[-+.0-9_xobeE]{1,6}",
        2 => "[a-zA-Z0-9 #%*+,./:=?@^_`{}\\[\\]-][ -~]{0,5}",
        1 => "\"[ !#-\\[\\]-~]{0,6}\"",
        1 => "'[ -&(-~]{0,6}'",
        1 => "[a-zA-Z~.é日😀]{1,6}",
    ]
}

/// Those that may stand in brackets; see REFUSED and TAKEN.
fn item() -> impl Strategy<Value = String> {
    scalar().prop_filter("differs", |text| {
        let glued = text.ends_with(':')
            || [":,", ":[", ":]", ":{", ":}"]
                .iter()
                .any(|end| text.contains(end));
        !text.contains('?') && !text.starts_with([':', '-', '&']) && !glued
    })
}

/// Maps and lists in block and in flow style, with anchors, merges, block scalars and separators.
fn file() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        6 => (0..4_usize, "[a-c]", scalar()).prop_map(|(indent, key, value)| {
            format!("{:width$}{key}: {value}", "", width = indent * 2)
        }),
        2 => (0..4_usize, scalar()).prop_map(|(indent, value)| {
            format!("{:width$}- {value}", "", width = indent * 2)
        }),
        2 => (0..3_usize, "[a-c]").prop_map(|(indent, key)| {
            format!("{:width$}{key}:", "", width = indent * 2)
        }),
        1 => (0..3_usize, "[a-c]", prop::sample::select(vec!["|", ">", "|-", ">+", "|2"]))
            .prop_map(|(indent, key, style)| {
                format!("{:width$}{key}: {style}", "", width = indent * 2)
            }),
        1 => (scalar(), scalar()).prop_map(|(key, value)| format!("{key}: {value}")),
        1 => (0..3_usize).prop_map(|indent| {
            format!("{:width$}<<: *x", "", width = indent * 2)
        }),
        1 => Just("a: &x {b: 1}".to_owned()),
        1 => ("[d-y][a-z]{4}", item(), item()).prop_map(|(key, a, b)| format!("{key}: [{a}, {b}]")),
        1 => ("[d-y][a-z]{4}", item(), item()).prop_map(|(key, a, b)| format!("{key}: {{{a}: {b}}}")),
        1 => prop::sample::select(vec!["---
z: 0", "--- # x
z: 0", "", "  ", "# x", "    text"])
            .prop_map(ToOwned::to_owned),
    ];
    let lines = prop::collection::vec(line, 1..6);
    let end = prop::sample::select(vec!["\n", "\r\n"]);
    prop_oneof![
        2 => scalar().prop_map(|scalar| format!("a: {scalar}\n")),
        1 => scalar().prop_map(|scalar| format!("a:\n- {scalar}\n")),
        4 => (lines, end).prop_map(|(lines, end)| {
            let lines = lines.into_iter().map(|line| line + end);
            format!("z: 0{end}{}", lines.collect::<String>())
        }),
    ]
}

#[test]
fn generated_files_mean_what_they_mean_to_kubectl() {
    // The same files each time: how two parsers read odd text is not to decide whether a build fails.
    let mut runner = TestRunner::deterministic();
    let strategy = file();
    let files: Vec<String> = (0..GENERATED)
        .map(|_| strategy.new_tree(&mut runner).unwrap().current())
        .collect();
    let readable = files.iter().filter(|text| read(text, true).is_ok()).count();
    assert!(
        readable > GENERATED / 4,
        "only {readable} of {GENERATED} are read: the comparison shows little"
    );
    compare(&files);
}
