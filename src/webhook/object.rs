//! An object as guardrails see it, read out of its raw text.
//!
//! Half of a stored workload is bookkeeping that no guardrail of workloads reads: `status`, and
//! `metadata.managedFields` with its many small maps. Leaving it out halves the work of a review.
//! Other kinds are read whole: what an ExternalSecret's author wrote stands in its managedFields, and
//! what an Application manages in its status.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::review::workload::WORKLOADS;

/// A map, without the keys that a filter leaves out.
#[derive(Clone, Copy)]
pub(super) struct Without(
    &'static [&'static str],
    Option<(&'static str, &'static [&'static str])>,
);

/// What is left out of a workload: at the top, and in `metadata`.
const BOOKKEEPING: Without = Without(&["status"], Some(("metadata", &["managedFields"])));

/// What is left out of any other object.
const NOTHING: Without = Without(&[], None);

/// What is read of an object of this kind.
pub(super) fn parts(group: &str, kind: &str) -> Without {
    let mut workloads = WORKLOADS.iter();
    let is_workload = workloads.any(|workload| (workload.group, workload.kind) == (group, kind));
    if is_workload { BOOKKEEPING } else { NOTHING }
}

/// Reads an object.
///
/// # Errors
/// Why it cannot be judged, in words; `what` names it.
pub(super) fn read(raw: &str, what: &str, parts: Without) -> Result<Value, String> {
    let mut reader = serde_json::Deserializer::from_str(raw);
    let object = parts.deserialize(&mut reader);
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
pub(super) fn checked(value: Value, what: &str) -> Result<Value, String> {
    match value {
        object @ Value::Object(_) => Ok(object),
        _ => Err(format!("{what} is no JSON object")),
    }
}

// === impl Without ===

impl<'de> DeserializeSeed<'de> for Without {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Without {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let Self(left_out, inner) = self;
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if left_out.contains(&key.as_str()) {
                access.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = match inner {
                Some((name, keys)) if name == key => access.next_value_seed(Without(keys, None))?,
                _ => access.next_value()?,
            };
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }

    // What stands in the place of a map is kept, for whoever says that it is none.
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = access.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_workload_is_read_without_its_bookkeeping() {
        let object = json!({
            "kind": "Deployment",
            "metadata": {"name": "a", "labels": {"managedFields": "x"}, "managedFields": [{"f:a": {}}]},
            "spec": {"status": 1, "metadata": {"managedFields": 2}},
            "status": {"replicas": 1},
        });
        let mut expected = object.clone();
        expected.as_object_mut().unwrap().remove("status");
        let metadata = expected["metadata"].as_object_mut().unwrap();
        metadata.remove("managedFields");
        let text = object.to_string();
        assert_eq!(read(&text, "object", BOOKKEEPING), Ok(expected));
        assert_eq!(read(&text, "object", NOTHING), Ok(object));
    }

    #[test]
    fn whatever_stands_in_the_place_of_metadata_is_kept() {
        for odd in [
            json!(null),
            json!(true),
            json!(-1),
            json!(1),
            json!(0.5),
            json!("a"),
            json!([{}]),
        ] {
            let object = json!({"metadata": odd, "spec": odd});
            assert_eq!(read(&object.to_string(), "object", BOOKKEEPING), Ok(object));
        }
    }

    #[test]
    fn what_is_left_out_must_be_json_all_the_same() {
        for broken in ["{\"status\": [}", "{\"status\": 1", "{} {}", "[]", "1", ""] {
            for parts in [BOOKKEEPING, NOTHING] {
                assert!(read(broken, "object", parts).is_err(), "{broken}");
            }
        }
    }
}
