//! Of a CustomResourceDefinition: its spec, without the texts for people.

use serde_json::Value;

use super::{Projection, ReadableKind};
use crate::review::WatchedKind;
use crate::tree::Node;
use crate::unknown::Unknown;

/// The spec of a CustomResourceDefinition, without the descriptions in its schemas: they are most of
/// its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition(pub Value);

impl Projection for Definition {
    const KINDS: &'static [ReadableKind] = &[ReadableKind::v1(WatchedKind::cluster(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        "customresourcedefinitions",
    ))];

    fn of(definition: Node<'_>, _: WatchedKind) -> Result<Option<Self>, Unknown> {
        let spec = definition.get("spec").filter(|spec| spec.is_map());
        let spec = spec.ok_or_else(|| Unknown::unreadable("/spec", "is no object"))?;
        let mut spec = spec.to_value();
        forget_descriptions(&mut spec);
        Ok(Some(Self(spec)))
    }
}

/// Removes the texts for people from the schemas of a definition; they are most of its bytes.
fn forget_descriptions(spec: &mut Value) {
    let versions = spec.get_mut("versions").and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten() {
        if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
            forget_description(schema);
        }
    }
}

/// Goes only where schemas are: a default or an example may have a description of its own.
fn forget_description(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    schema.remove("description");
    for (keyword, value) in schema {
        match (keyword.as_str(), value) {
            ("properties" | "patternProperties" | "definitions", Value::Object(schemas)) => {
                schemas.values_mut().for_each(forget_description);
            }
            ("items" | "additionalProperties" | "not", schema) => forget_description(schema),
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                schemas.iter_mut().for_each(forget_description);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_definition_is_kept_without_texts_for_people() {
        let schema = |text: Value| {
            json!({"type": "object", "description": text, "properties": {
                "description": {"type": "string", "description": text},
                "list": {"items": {"description": text, "default": {"description": "kept"}}},
                "any": {"anyOf": [{"description": text}], "additionalProperties": {"description": text}},
            }})
        };
        let spec = |text| json!({"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema(text)}}]});
        let mut pruned = spec(json!("a text for people"));
        forget_descriptions(&mut pruned);
        let text = pruned.to_string();
        assert!(!text.contains("people"), "{text}");
        assert!(
            text.contains(r#""default":{"description":"kept"}"#),
            "{text}"
        );
        assert!(
            text.contains(r#""properties":{"any""#) && text.contains(r#""description":{"type""#),
            "{text}"
        );
        for odd in [
            json!(null),
            json!({"versions": 1}),
            json!({"versions": [1, {"schema": []}]}),
        ] {
            let mut spec = odd.clone();
            forget_descriptions(&mut spec);
            assert_eq!(spec, odd);
        }
    }
}
