//! Texts that a tool was to replace by a value, and did not.

/// How placeholders begin and end in the tools that fill in manifests: shells and Flux, make and
/// Kubernetes' own `$(…)`, Helm and Argo, Octopus, people.
const BRACKETS: &[(&str, &str)] = &[
    ("${", "}"),
    ("$(", ")"),
    ("{{", "}}"),
    ("#{", "}"),
    ("<", ">"),
];
/// What is left of a format that got no value.
const FORMATS: &[&str] = &["%s", "%v"];
/// What Go's templates print where a value is missing.
const MISSING: &[&str] = &["<no value>", "<nil>"];

/// The first placeholder in a text that may hold none of these signs.
pub(crate) fn find(text: &str) -> Option<&str> {
    let bracketed = BRACKETS.iter().filter_map(|(open, close)| {
        let start = text.find(open)?;
        let inside = start + open.len();
        let end = text[inside..].find(close)?;
        Some((start, inside + end + close.len()))
    });
    let formats = FORMATS.iter().filter_map(|format| {
        let start = text.find(format)?;
        Some((start, start + format.len()))
    });
    let first = bracketed.chain(formats).chain(variable(text)).min();
    first.map(|(start, end)| &text[start..end])
}

/// Whether it stands for a value that was looked for, and missing.
pub(crate) fn is_missing_value(placeholder: &str) -> bool {
    MISSING.contains(&placeholder)
}

/// Whether it brings its own value for where none is set, as those do that Flux and `envsubst`
/// replace: `${TAG:=1.27}`, `${TAG:-1.27}`.
pub(crate) fn has_default(placeholder: &str) -> bool {
    placeholder.starts_with("${") && [":=", ":-"].iter().any(|sign| placeholder.contains(sign))
}

/// A variable without brackets, such as `$IMAGE`.
fn variable(text: &str) -> Option<(usize, usize)> {
    let is_word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let starts = text.match_indices('$').map(|(start, _)| start);
    let mut variables = starts.map(|start| {
        let rest = &text[start + 1..];
        let end = rest.find(|char| !is_word(char)).unwrap_or(rest.len());
        (start, start + 1 + end)
    });
    variables.find(|(start, end)| {
        let first = text.as_bytes().get(start + 1);
        end - start > 1 && first.is_some_and(|byte| !byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_placeholder_is_found_whole() {
        for (text, expected) in [
            ("a:${TAG:=v1}-x", Some("${TAG:=v1}")),
            ("$(REGISTRY)/a:${TAG}", Some("$(REGISTRY)")),
            ("{{ .Values.image }}:1", Some("{{ .Values.image }}")),
            ("a/$APP_NAME:1", Some("$APP_NAME")),
            ("a:%s", Some("%s")),
            ("a:<your tag>", Some("<your tag>")),
            ("a:#{Tag}#", Some("#{Tag}")),
            ("a:${TAG", None),
            ("a:$1", None),
            ("a:100%", None),
            ("nginx:1.27", None),
            ("", None),
        ] {
            assert_eq!(find(text), expected, "{text}");
        }
    }

    #[test]
    fn only_a_variable_in_braces_brings_a_default() {
        for (text, expected) in [
            ("${A:=1}", true),
            ("${A:-1}", true),
            ("${A}", false),
            ("$(A:-1)", false),
        ] {
            assert_eq!(has_default(text), expected, "{text}");
        }
    }
}
