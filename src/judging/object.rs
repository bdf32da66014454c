//! An object as guardrails see it, read out of its raw text.
//!
//! Half of a stored workload is bookkeeping that no guardrail of workloads reads: `status`, and
//! `metadata.managedFields` with its many small maps. Reading over it halves the work of a review.
//! Other kinds are read whole: what an ExternalSecret's author wrote stands in its managedFields, and
//! what an Application manages in its status.

use std::sync::Arc;

use serde::de::DeserializeSeed;

use crate::review::workload::WORKLOADS;
use crate::tree::{Bound, Builder, Skipped, Tree};

/// What is left out of a workload: at the top, and in `metadata`.
const BOOKKEEPING: Skipped = Skipped {
    keys: &["status"],
    inner: Some(("metadata", &["managedFields"])),
};

/// What is left out of an object of this kind.
pub(crate) fn skipped(group: &str, kind: &str) -> Skipped {
    let mut workloads = WORKLOADS.iter();
    let is_workload = workloads.any(|workload| (workload.group, workload.kind) == (group, kind));
    if is_workload {
        BOOKKEEPING
    } else {
        Skipped::NOTHING
    }
}

/// Reads an object of this kind out of its raw text, which lies in the source.
///
/// # Errors
/// Why it cannot be judged, in words; `what` names it.
pub(crate) fn read(
    source: &Arc<String>,
    raw: &str,
    what: &str,
    (group, kind): (&str, &str),
) -> Result<Tree, String> {
    let mut reader = serde_json::Deserializer::from_str(raw);
    let builder = Builder::over(source).with_room_for(Bound::of(raw.as_bytes()));
    let object = builder.seed(skipped(group, kind)).deserialize(&mut reader);
    let object = object.and_then(|object| reader.end().map(|()| object));
    checked(
        object.map_err(|error| format!("{what} cannot be read: {error}"))?,
        what,
    )
}

/// A value that must be an object.
///
/// # Errors
/// In words, if it is none; `what` names it.
pub(crate) fn checked(tree: Tree, what: &str) -> Result<Tree, String> {
    if tree.root().is_map() {
        Ok(tree)
    } else {
        Err(format!("{what} is no JSON object"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const WORKLOAD: (&str, &str) = ("apps", "Deployment");
    const OTHER: (&str, &str) = ("argoproj.io", "Application");

    fn read(text: &str, kind: (&str, &str)) -> Result<Tree, String> {
        let source = Arc::new(text.to_owned());
        super::read(&source, &source, "object", kind)
    }

    #[test]
    fn a_workload_is_read_without_its_bookkeeping() {
        let object = json!({
            "metadata": {"name": "a", "managedFields": [{"f:a": {}}]},
            "spec": {"status": 1, "metadata": {"managedFields": 2}},
            "status": {"replicas": 1},
        });
        let mut expected = object.clone();
        expected.as_object_mut().unwrap().remove("status");
        expected["metadata"] = json!({"name": "a"});
        let text = object.to_string();
        let read = |kind| read(&text, kind).unwrap().root().to_value();
        assert_eq!(read(WORKLOAD), expected);
        assert_eq!(read(OTHER), object);
    }

    #[test]
    fn whatever_stands_in_the_place_of_metadata_is_kept() {
        for odd in [json!(null), json!(-1), json!(0.5), json!("a"), json!([{}])] {
            let object = json!({"metadata": odd, "spec": odd});
            let read = read(&object.to_string(), WORKLOAD).unwrap();
            assert_eq!(read.root().to_value(), object);
        }
    }

    #[test]
    fn what_is_left_out_must_be_json_all_the_same() {
        for broken in ["{\"status\": [}", "{\"status\": 1", "{} {}", "[]", "1", ""] {
            for kind in [WORKLOAD, OTHER] {
                assert!(read(broken, kind).is_err(), "{broken}");
            }
        }
    }
}
