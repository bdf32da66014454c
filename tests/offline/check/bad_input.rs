//! Whatever is in a file: an answer or a clear error, and the other files are judged.

use serde_json::Value;

use super::{BAD_POD, Place, assert_error, places};

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_judged() {
    let place = Place::with(&[
        ("bad.yaml", BAD_POD),
        ("broken.yaml", "apiVersion: v1\nkind: Pod\nspec: [\n"),
        ("other.yaml", "replicas: 3\n"),
        ("list.yaml", "- a\n- b\n"),
        (
            "broken.json",
            "{\"apiVersion\": \"v1\",\n  \"kind\" \"Pod\"}\n",
        ),
    ]);
    let names = "bad.yaml broken.yaml other.yaml list.yaml broken.json";
    let report = place.report(&format!("-f {names}"));
    assert_eq!(places(&report), ["impossible-memory-limit bad.yaml:9"]);
    assert_error(&report, "other.yaml:1:1", "apiVersion is missing");
    let errors = report["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 4, "{errors:#?}");
    for error in errors {
        assert!(
            error["source"]["line"]
                .as_u64()
                .is_some_and(|line| line > 0),
            "{error}"
        );
        assert!(
            error["source"]["column"]
                .as_u64()
                .is_some_and(|column| column > 0),
            "{error}"
        );
    }
}

#[test]
fn a_broken_document_does_not_hide_the_others_of_its_file() {
    let text = format!("{BAD_POD}---\nkind: [\n---\n{BAD_POD}");
    let place = Place::with(&[("a.yaml", &text)]);
    let outcome = place.check("-f a.yaml");
    assert_eq!(outcome.status, 2);
    assert!(outcome.stderr.starts_with("a.yaml:1"), "{}", outcome.stderr);
    let report = place.report("-f a.yaml");
    assert_eq!(
        places(&report),
        [
            "impossible-memory-limit a.yaml:9",
            "impossible-memory-limit a.yaml:23"
        ]
    );
}

#[test]
fn nothing_is_found_in_empty_files() {
    for text in ["", "\n", "---\n", "# nothing\n", "---\n---\n"] {
        let outcome = Place::with(&[("a.yaml", text)]).check("-f a.yaml");
        assert_eq!(outcome.status, 0, "{text:?}: {outcome:?}");
        assert_eq!(outcome.stdout, "0 objects: nothing found\n", "{text:?}");
    }
}

#[test]
fn garbage_is_an_error() {
    let place = Place::with(&[("bad.yaml", BAD_POD)]);
    place.write(
        "bytes.yaml",
        &(0..=255).cycle().take(100_000).collect::<Vec<u8>>(),
    );
    place.write("utf16.yaml", b"\xff\xfea\0:");
    place.write("nested.json", &b"[".repeat(200_000));
    place.write("nested.yaml", &b"{a: ".repeat(50_000));
    place.write("indented.yaml", &deep(2_000));
    let laughs = (1..40).fold("a0: &a0 [x]\n".to_owned(), |text, index| {
        let before = index - 1;
        format!("{text}a{index}: &a{index} [*a{before}, *a{before}, *a{before}]\n")
    });
    place.write("laughs.yaml", laughs.as_bytes());
    let garbage = [
        "bytes.yaml",
        "utf16.yaml",
        "nested.json",
        "nested.yaml",
        "indented.yaml",
        "laughs.yaml",
    ];
    let named = place.report(&format!("-f bad.yaml {}", garbage.join(" ")));
    assert_eq!(places(&named), ["impossible-memory-limit bad.yaml:9"]);
    let walked = place.report("-f .");
    assert_eq!(places(&walked), ["impossible-memory-limit ./bad.yaml:9"]);
    for name in garbage {
        let has = |list: &Value, name: &str| {
            let mut entries = list.as_array().unwrap().iter();
            entries.any(|entry| entry["source"]["file"] == name)
        };
        assert!(has(&named["errors"], name), "{name} in {named:#}");
        // In a directory it need not be a manifest.
        assert!(
            has(&walked["leftOut"], &format!("./{name}")),
            "{name} in {walked:#}"
        );
    }
    assert_eq!(walked["errors"], Value::Array(Vec::new()));
}

/// A map in a map in a map.
fn deep(levels: usize) -> Vec<u8> {
    let line = |level: usize| format!("{}a:\n", " ".repeat(level));
    (0..levels).map(line).collect::<String>().into_bytes()
}

#[test]
fn a_device_without_end_is_an_error() {
    let outcome = Place::with(&[]).check("-f /dev/zero");
    assert_eq!(outcome.status, 2);
    assert!(
        outcome.stderr.starts_with("/dev/zero: longer than 64 MiB"),
        "{outcome:?}"
    );
}

#[test]
fn what_a_file_says_never_acts_on_the_terminal() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: \"a\\e[2Jb\"}\nspec:\n  containers:\n  \
               - {name: \"c\\e]0;x\\a\\u202e\\x9b\", image: \"d\\e[31m\", resources: {limits: {memory: \"1\\e[1m\\x7f\"}}}\n";
    // The same again raw, which JSON does not allow and YAML partly does.
    let raw = "apiVersion: v1\nkind: Pod\nmetadata: {name: \u{202e}x}\nspec: {containers: [{name: \u{9b}y, image: A}]} # \u{1b}[2J\n";
    let name = "\u{1b}[31m.yaml";
    let place = Place::with(&[("escaped.yaml", pod), ("raw.yaml", raw), (name, "a: [\n")]);
    for output in ["text", "json"] {
        let outcome = place.check(&format!("-o {output} -f ."));
        for text in [&outcome.stdout, &outcome.stderr] {
            let acting = text.chars().find(|char| {
                char.is_control() && *char != '\n' || ('\u{202a}'..='\u{202e}').contains(char)
            });
            assert_eq!(acting, None, "{output}: {text}");
        }
    }
    let report = place.report("-f escaped.yaml");
    assert_eq!(report["findings"][0]["object"]["name"], "a\u{1b}[2Jb");
}

#[test]
fn a_file_on_one_long_line_is_shown_around_the_place() {
    let filler = "x".repeat(5_000);
    let pod = format!(
        "{{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {{\"name\": \"a\", \"annotations\": {{\"f\": \"{filler}\"}}}}, \
         \"spec\": {{\"containers\": [{{\"name\": \"app\", \"resources\": {{\"limits\": {{\"memory\": \"512m\"}}}}}}]}}}}"
    );
    let outcome = Place::with(&[("a.json", &pod)]).check("-f a.json");
    let lines: Vec<_> = outcome.stdout.lines().collect();
    assert!(lines.iter().all(|line| line.len() < 300), "{outcome:?}");
    let caret = lines.iter().position(|line| line.ends_with('^')).unwrap();
    let column = lines[caret].find('^').unwrap();
    assert!(
        lines[caret - 1][column..].starts_with("\"512m\""),
        "{outcome:?}"
    );
}
