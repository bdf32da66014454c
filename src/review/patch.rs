//! RFC 6902 patches: building them, and applying them to the very object that was received.
//!
//! The API server answers HTTP 500 for a patch that does not apply, whatever the failurePolicy
//! (k8s.io/apiserver, webhook/mutating/dispatcher.go), so nothing is sent that was not applied here.

use json_patch::{Patch, PatchOperation};
use serde_json::{Value, json};

use crate::tree::{Node, Tree};

/// A patch that is sent may not be longer than this, in bytes of JSON.
pub const MAX_PATCH_BYTES: usize = 256 * 1024;

/// Why a patch is not sent.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PatchError {
    /// An operation names a path that is not there, or a test fails.
    #[error("it does not apply: {0}")]
    DoesNotApply(String),
    /// The result is another object.
    #[error("it would change {0}")]
    ChangesIdentity(&'static str),
    /// The patch is too long.
    #[error("it is longer than {MAX_PATCH_BYTES} bytes")]
    TooLong,
}

/// The operations that set `value` at the path made of `keys`, adding the maps that lack.
///
/// Returns `None` where something other than a map stands in the way.
#[must_use]
pub fn set(object: Node<'_>, keys: &[&str], value: Value) -> Option<Patch> {
    let mut pointer = String::new();
    let mut here = object;
    for (depth, key) in keys.iter().enumerate() {
        if !here.is_map() {
            return None;
        }
        pointer.push('/');
        pointer.push_str(&escape(key));
        match here.get(key) {
            Some(next) if depth + 1 < keys.len() => here = next,
            found => {
                let nested = keys[depth + 1..]
                    .iter()
                    .rev()
                    .fold(value, |inner, key| json!({ (*key): inner }));
                let op = if found.is_some() { "replace" } else { "add" };
                return serde_json::from_value(
                    json!([{"op": op, "path": pointer, "value": nested}]),
                )
                .ok();
            }
        }
    }
    None
}

/// One key of a JSON pointer (RFC 6901, section 3).
#[must_use]
pub fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Applies a patch to a copy of the object and checks that it is still the same object.
///
/// # Errors
/// [`PatchError`] says why the patch must not be sent.
pub fn apply(object: &Tree, operations: &[PatchOperation]) -> Result<Tree, PatchError> {
    let length = serde_json::to_vec(operations).map_or(usize::MAX, |bytes| bytes.len());
    if length > MAX_PATCH_BYTES {
        return Err(PatchError::TooLong);
    }
    let mut patched = object.root().to_value();
    json_patch::patch(&mut patched, operations)
        .map_err(|error| PatchError::DoesNotApply(error.to_string()))?;
    let patched = Tree::from(patched);
    for identity in [
        "/apiVersion",
        "/kind",
        "/metadata/name",
        "/metadata/namespace",
        "/metadata/uid",
    ] {
        if patched.root().at(identity) != object.root().at(identity) {
            return Err(PatchError::ChangesIdentity(identity));
        }
    }
    Ok(patched)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(object: &Value, keys: &[&str], value: Value) -> Option<Value> {
        let object = Tree::from(object);
        let patch = set(object.root(), keys, value)?;
        Some(apply(&object, &patch).unwrap().root().to_value())
    }

    #[test]
    fn missing_parents_are_added() {
        let patched = after(
            &json!({"spec": {}}),
            &["spec", "target", "deletionPolicy"],
            json!("Delete"),
        );
        assert_eq!(
            patched.unwrap(),
            json!({"spec": {"target": {"deletionPolicy": "Delete"}}})
        );
    }

    #[test]
    fn keys_with_slash_and_tilde_are_escaped() {
        let patched = after(&json!({"a": {}}), &["a", "x/y~z"], json!(1));
        assert_eq!(patched.unwrap(), json!({"a": {"x/y~z": 1}}));
    }

    #[test]
    fn a_value_that_is_no_map_is_not_overwritten() {
        let object = json!({"spec": "text"});
        assert_eq!(after(&object, &["spec", "a"], json!(1)), None);
    }

    #[test]
    fn a_patch_that_does_not_apply_or_renames_is_refused() {
        let object = Tree::from(json!({"kind": "A", "metadata": {"name": "a"}}));
        let patch = |text| serde_json::from_value::<Patch>(text).unwrap();
        let missing = patch(json!([{"op": "replace", "path": "/spec/a", "value": 1}]));
        assert!(matches!(
            apply(&object, &missing),
            Err(PatchError::DoesNotApply(_))
        ));
        let rename = patch(json!([{"op": "replace", "path": "/metadata/name", "value": "b"}]));
        assert_eq!(
            apply(&object, &rename),
            Err(PatchError::ChangesIdentity("/metadata/name"))
        );
        let long =
            patch(json!([{"op": "add", "path": "/a", "value": "x".repeat(MAX_PATCH_BYTES)}]));
        assert_eq!(apply(&object, &long), Err(PatchError::TooLong));
    }
}
