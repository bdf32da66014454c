//! The jq expressions of `ignoreDifferences`: writing them, and telling what others delete.
//!
//! Argo CD runs each as `del(EXPRESSION)` by gojq. An error while it runs skips that expression; an
//! expression that does not parse fails the comparison of the whole Application, so what is written
//! here must always parse (argo-cd, `util/argo/normalizers/diff_normalizer.go`).

use serde_json::Value;

use super::super::schema_defaults::Step;

/// The expression for a field that holds this default and nothing else, so that a value that
/// somebody chose still counts as a difference.
pub(super) fn guarded(steps: &[Step], default: &Value) -> String {
    // JSON is jq: every backslash in it is escaped, so no string interpolates.
    format!("{} | select(. == {default})", path(steps))
}

fn path(steps: &[Step]) -> String {
    let step = |step: &Step| match step {
        Step::Key(key) if is_identifier(key) => format!(".{key}"),
        Step::Key(key) => format!("[{}]", Value::from(key.as_str())),
        // The question mark lets it pass where there is no list.
        Step::Each => "[]?".to_owned(),
    };
    let text: String = steps.iter().map(step).collect();
    if text.starts_with('.') {
        text
    } else {
        format!(".{text}")
    }
}

fn is_identifier(key: &str) -> bool {
    !key.starts_with(|char: char| char.is_ascii_digit())
        && !key.is_empty()
        && key
            .chars()
            .all(|char| char.is_ascii_alphanumeric() || char == '_')
}

/// Whether an expression may delete a field, on its own or with what it lies in.
///
/// Only plain paths are understood. Whatever else there is (`select`, functions, syntax errors) may
/// delete all that lies under what was reached so far: a doubt gives no warning.
pub(super) fn may_delete(expression: &str, field: &[Step]) -> bool {
    let mut reached = vec![0];
    for stage in split(expression, '|') {
        let paths: Option<Vec<_>> = split(stage, ',').into_iter().map(plain_path).collect();
        let Some(paths) = paths else {
            return !reached.is_empty();
        };
        // How far into the field's own path each of them leads; others lead elsewhere.
        reached = reached
            .iter()
            .flat_map(|depth| {
                let rest = &field[*depth..];
                let on_the_way = paths.iter().filter(|path| rest.starts_with(path));
                on_the_way.map(move |path| depth + path.len())
            })
            .collect();
        reached.sort_unstable();
        reached.dedup();
    }
    !reached.is_empty()
}

/// Splits where the separator stands outside of strings and brackets.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    text.split(|char: char| {
        match char {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ if in_string => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => return char == separator && depth == 0,
        }
        false
    })
    .collect()
}

/// The steps of `.a["b"][]?.c`; `None` where there is more to it.
fn plain_path(text: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = text.trim();
    if !rest.starts_with('.') {
        return None;
    }
    while !rest.is_empty() {
        rest = rest.trim_start();
        if let Some(next) = rest.strip_prefix('?') {
            rest = next;
        } else if let Some(next) = rest.strip_prefix('[') {
            let (inside, next) = bracket(next)?;
            steps.push(inside);
            rest = next;
        } else {
            let next = rest.strip_prefix('.')?;
            let (key, next) = if next.starts_with('"') {
                string(next)?
            } else {
                let end = next
                    .find(|char: char| !(char.is_ascii_alphanumeric() || char == '_'))
                    .unwrap_or(next.len());
                (next[..end].to_owned(), &next[end..])
            };
            // Nothing after the dot: `.` itself, or the dot of `.[`.
            if !key.is_empty() {
                steps.push(Step::Key(key));
            } else if !(next.is_empty() && steps.is_empty() || next.starts_with('[')) {
                return None;
            }
            rest = next;
        }
    }
    Some(steps)
}

/// What follows an opening bracket: `]`, `"key"]` or `0]`. An index is one item and never each.
fn bracket(text: &str) -> Option<(Step, &str)> {
    let text = text.trim_start();
    if let Some(rest) = text.strip_prefix(']') {
        return Some((Step::Each, rest));
    }
    let (key, rest) = if text.starts_with('"') {
        string(text)?
    } else {
        let end = text.find(|char: char| !char.is_ascii_digit())?;
        (end > 0).then(|| (text[..end].to_owned(), &text[end..]))?
    };
    Some((Step::Key(key), rest.trim_start().strip_prefix(']')?))
}

/// A string of jq without interpolation is a JSON string.
fn string(text: &str) -> Option<(String, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let key = values.next()?.ok()?;
    let end = values.byte_offset();
    Some((key, &text[end..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn steps(path: &str) -> Vec<Step> {
        let step = |key: &str| match key {
            "[]" => Step::Each,
            key => Step::Key(key.to_owned()),
        };
        path.split('.').map(step).collect()
    }

    fn may(expression: &str) -> bool {
        may_delete(
            expression,
            &steps("spec.data.[].remoteRef.conversionStrategy"),
        )
    }

    #[test]
    fn a_default_is_guarded_by_its_value() {
        assert_eq!(
            guarded(
                &steps("spec.data.[].remoteRef.conversionStrategy"),
                &json!("Default")
            ),
            r#".spec.data[]?.remoteRef.conversionStrategy | select(. == "Default")"#
        );
        assert_eq!(
            guarded(&steps("a-b.[].1c.d"), &json!({"x": -1})),
            r#".["a-b"][]?["1c"].d | select(. == {"x":-1})"#
        );
    }

    #[test]
    fn the_field_and_what_it_lies_in_are_deleted() {
        for expression in [
            r#".spec.data[]?.remoteRef.conversionStrategy | select(. == "Default")"#,
            ".spec.data[]?.remoteRef.conversionStrategy",
            ".spec.data[].remoteRef.conversionStrategy",
            ".spec.data.[]?.remoteRef . conversionStrategy?",
            r#".spec["data"][]?["remoteRef"]."conversionStrategy""#,
            ".spec.data[]?.remoteRef",
            ".spec.data",
            ".spec",
            ".",
            ".status, .spec.data",
            ".spec.data[]?.remoteRef | .decodingStrategy, .conversionStrategy",
            ".spec | .data[]? | .remoteRef",
            ".spec.data[] | select(.secretKey == \"a|b\") | .remoteRef.conversionStrategy",
        ] {
            assert!(may(expression), "{expression}");
        }
    }

    #[test]
    fn other_fields_and_single_items_are_not_the_field() {
        for expression in [
            ".status",
            ".spec.data[0].remoteRef.conversionStrategy",
            ".spec.data[]?.remoteRef.conversionStrategy.more",
            ".spec.data[]?.remoteRef.metadataPolicy | select(. == \"None\")",
            ".spec.dataFrom[]?.extract.conversionStrategy",
            ".spec.data[]?.remoteRef | .decodingStrategy, .metadataPolicy",
            ".spec.target | del(.deletionPolicy)",
        ] {
            assert!(!may(expression), "{expression}");
        }
    }

    #[test]
    fn what_is_not_understood_may_delete_anything() {
        for expression in [
            "",
            "..|.conversionStrategy?",
            "paths(scalars)",
            ".spec.data[.remoteRef",
            ".spec.data[1:]",
            ".spec.\"a",
            "\u{0}\\((\"",
        ] {
            assert!(may(expression), "{expression}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_here_is_read_here(keys in proptest::collection::vec(".{0,6}|\\[\\]", 1..6), default in ".{0,5}") {
            let field: Vec<_> = keys.iter().map(|key| match key.as_str() {
                "[]" => Step::Each,
                key => Step::Key(key.to_owned()),
            }).collect();
            prop_assert!(may_delete(&guarded(&field, &json!(default)), &field));
            let mut other = field.clone();
            other[0] = Step::Key(format!("{}x", keys[0]));
            prop_assert!(!may_delete(&guarded(&field, &json!(default)), &other));
        }

        #[test]
        fn any_text_is_an_expression_or_none(text in "[.\\[\\]\"?|,()a\\\\0 ]{0,40}|.{0,40}") {
            may(&text);
        }
    }
}
