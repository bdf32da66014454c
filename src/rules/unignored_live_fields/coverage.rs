//! What the entries of an Application's `ignoreDifferences` cover already.
//!
//! Wherever it cannot be told, an entry covers: a missed warning costs less than a false one.

use super::super::schema_defaults::Step;
use super::jq;
use crate::tree::Node;

/// Whether an entry is about objects of a kind (argo-cd,
/// `util/argo/normalizers/diff_normalizer.go`: group and kind are globs, name and namespace are
/// compared as they are, and a missing group is the core group).
pub(super) fn is_about_kind(entry: Node<'_>, group: &str, kind: &str) -> bool {
    glob(field(entry, "/group"), group) && glob(field(entry, "/kind"), kind)
}

/// Whether an entry of the right kind is about this object.
pub(super) fn is_about_object(entry: Node<'_>, namespace: &str, name: &str) -> bool {
    let is = |wanted: &str, seen: &str| wanted.is_empty() || wanted == seen;
    is(field(entry, "/name"), name) && is(field(entry, "/namespace"), namespace)
}

/// Whether an entry is about every object of a kind.
pub(super) fn is_about_all(
    entry: Node<'_>,
    group: &str,
    kind: &str,
    destination: Option<&str>,
) -> bool {
    let namespace = field(entry, "/namespace");
    is_about_kind(entry, group, kind)
        && field(entry, "/name").is_empty()
        // The namespace that everything goes to leaves nothing out.
        && (namespace.is_empty() || Some(namespace) == destination)
}

fn field<'t>(entry: Node<'t>, pointer: &str) -> &'t str {
    entry.text_at(pointer).unwrap_or_default()
}

/// Whether an entry covers a field.
pub(super) fn covers(entry: Node<'_>, steps: &[Step]) -> bool {
    let texts = |key: &str| {
        let list = entry.get(key).into_iter().flat_map(Node::items);
        list.filter_map(Node::as_str)
    };
    texts("jsonPointers").any(|pointer| is_above(pointer, steps))
        || texts("jqPathExpressions").any(|expression| jq::may_delete(expression, steps))
}

/// Whether a JSON pointer names a field or what it lies in. It has no wildcards.
fn is_above(pointer: &str, steps: &[Step]) -> bool {
    let keys = pointer
        .split('/')
        .skip(1)
        .map(|key| Step::Key(key.replace("~1", "/").replace("~0", "~")));
    let keys: Vec<_> = keys.collect();
    !keys.is_empty() && steps.starts_with(&keys)
}

/// Whether a glob of github.com/gobwas/glob matches. Sets and alternatives count as matching.
fn glob(pattern: &str, text: &str) -> bool {
    if pattern.contains(['[', '{', '\\']) {
        return true;
    }
    let (pattern, text): (Vec<_>, Vec<_>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut seen) = (0, 0);
    let mut star = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(char) if *char == '?' || *char == text[seen] => {
                at += 1;
                seen += 1;
            }
            _ => {
                // The last star takes one more character.
                let Some((back, taken)) = star else {
                    return false;
                };
                at = back + 1;
                seen = taken + 1;
                star = Some((back, seen));
            }
        }
    }
    pattern[at..].iter().all(|char| *char == '*')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tree::Tree;

    fn about(entry: &Value) -> bool {
        let entry = Tree::from(entry);
        is_about_all(
            entry.root(),
            "external-secrets.io",
            "ExternalSecret",
            Some("shop"),
        )
    }

    #[test]
    fn case_31_group_and_kind_are_globs() {
        for (group, kind) in [
            ("external-secrets.io", "ExternalSecret"),
            ("*", "*"),
            ("external-secrets.io", "External*"),
            ("*.io", "?xternal*t"),
            ("{external-secrets.io,a}", "[E]xternalSecret"),
        ] {
            assert!(
                about(&json!({"group": group, "kind": kind})),
                "{group} {kind}"
            );
        }
        for (group, kind) in [("apps", "*"), ("*", "External"), ("", "*"), ("*.com", "*")] {
            assert!(
                !about(&json!({"group": group, "kind": kind})),
                "{group} {kind}"
            );
        }
    }

    #[test]
    fn case_42_without_a_group_it_is_the_core_group() {
        assert!(!about(&json!({"kind": "ExternalSecret"})));
        assert!(!about(&json!({"group": null, "kind": "ExternalSecret"})));
        assert!(!about(&json!("text")));
    }

    #[test]
    fn a_name_or_another_namespace_leaves_objects_out() {
        let entry = |key: &str, value: &str| json!({"group": "*", "kind": "*", (key): value});
        assert!(!about(&entry("name", "other")));
        assert!(!about(&entry("namespace", "other")));
        assert!(about(&entry("namespace", "shop")));
        assert!(about(&entry("name", "")));
    }

    #[test]
    fn pointers_cover_what_lies_below_them() {
        let steps = [
            Step::Key("spec".to_owned()),
            Step::Key("data".to_owned()),
            Step::Each,
        ];
        let covers = |pointer: &str| {
            let entry = Tree::from(json!({"jsonPointers": [1, pointer]}));
            covers(entry.root(), &steps)
        };
        assert!(covers("/spec/data") && covers("/spec"));
        for other in ["/spec/data/0", "/status", "", "/", "spec"] {
            assert!(!covers(other), "{other:?}");
        }
    }
}
