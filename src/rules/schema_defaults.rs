//! The defaults that a `CustomResourceDefinition` writes into objects: which ones there are, and
//! which ones an object leaves to it.
//!
//! The API server writes them before any webhook is asked (apiextensions-apiserver,
//! `pkg/apiserver/schema/defaulting`). They differ from release to release, so they are always
//! read from the definition and never from a table.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::evidence::{Evidence, ObjectOf};
use crate::objects::Definition;
use crate::review::patch::escape;
use crate::tree::Node;
use crate::unknown::Unknown;

/// One step from an object towards a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Into the value of this key.
    Key(String),
    /// Into every item of a list, or every value of a map with free keys.
    Each,
}

/// A default that is written into items of a list.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ListDefault {
    /// Where the field lies.
    pub(super) steps: Vec<Step>,
    /// What is written there.
    pub(super) value: Value,
}

/// One step from an object to one field of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Into the value of this key.
    Key(String),
    /// Into one item of a list, which is called so by its own content where it can be.
    Item {
        /// Its index.
        index: usize,
        /// Its name, or its index.
        name: String,
    },
}

/// Where one field of an object lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldPath(pub(super) Vec<Segment>);

/// A field that an object leaves out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LeftOut {
    /// Where it would be. Its parent is there.
    pub(super) place: FieldPath,
    /// What is written there, complete.
    pub(super) value: Value,
}

/// The question for the definition of this name.
pub(super) fn definition(name: &str) -> ObjectOf<Definition> {
    ObjectOf::named(None, name)
}

/// The spec of the definition of this name.
///
/// # Errors
/// It is not there, or cannot be seen.
pub(super) fn spec<'e>(name: &str, evidence: &'e Evidence) -> Result<&'e Value, Unknown> {
    let found = evidence.get(&definition(name))?;
    let absent = || Unknown::Unavailable(format!("there is no CustomResourceDefinition {name}"));
    found.map(|definition| &definition.0).ok_or_else(absent)
}

/// The schema of a served version.
pub(super) fn schema<'a>(definition: &'a Value, version: &str) -> Option<&'a Value> {
    let named = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some(version);
    served(definition)
        .find(named)?
        .pointer("/schema/openAPIV3Schema")
}

/// The defaults of all served versions that lie in items of lists which Argo CD compares as a
/// whole. Items of a list with keys (`x-kubernetes-list-type: map`) are compared field by field.
pub(super) fn in_list_items(definition: &Value) -> Vec<ListDefault> {
    let mut found = Vec::new();
    for version in served(definition) {
        if let Some(spec) = version.pointer("/schema/openAPIV3Schema/properties/spec") {
            let mut steps = vec![Step::Key("spec".to_owned())];
            collect(spec, &mut steps, false, &mut found);
        }
    }
    found
}

/// The defaults that the object leaves to the definition, below `spec`.
pub(super) fn left_out(schema: &Value, object: Node<'_>) -> Vec<LeftOut> {
    let mut found = Vec::new();
    if let (Some(schema), Some(spec)) = (schema.pointer("/properties/spec"), object.get("spec")) {
        let mut place = FieldPath(vec![Segment::Key("spec".to_owned())]);
        search(schema, spec, &mut place, &mut found);
    }
    found
}

/// The schema of a field that only map keys lead to.
pub(super) fn property<'a>(schema: &'a Value, keys: &[&str]) -> Option<&'a Value> {
    keys.iter()
        .try_fold(schema, |here, key| here.get("properties")?.get(key))
}

/// What the definition writes at a path of map keys, on its own or as part of a larger default.
pub(super) fn default_at(schema: &Value, keys: &[&str]) -> Option<Value> {
    let mut here = schema;
    let mut inherited: Option<Value> = None;
    for key in keys {
        here = here.get("properties")?.get(key)?;
        inherited = inherited
            .and_then(|value| value.get(key).cloned())
            .or_else(|| default_of(here));
    }
    inherited
}

fn served(definition: &Value) -> impl Iterator<Item = &Value> {
    let versions = definition.get("versions").and_then(Value::as_array);
    let is_served = |version: &&Value| version.get("served") != Some(&Value::Bool(false));
    versions.into_iter().flatten().filter(is_served)
}

fn collect(schema: &Value, steps: &mut Vec<Step>, in_list: bool, found: &mut Vec<ListDefault>) {
    if in_list && let Some(value) = default_of(schema) {
        let default = ListDefault {
            steps: steps.clone(),
            value,
        };
        if !found.contains(&default) {
            found.push(default);
        }
    }
    for (key, property) in properties(schema) {
        steps.push(Step::Key(key.clone()));
        collect(property, steps, in_list, found);
        steps.pop();
    }
    let keyed = schema.get("x-kubernetes-list-type").and_then(Value::as_str) == Some("map");
    for (items, in_list) in [
        (schema.get("items"), in_list || !keyed),
        (free_keys(schema), in_list),
    ] {
        if let Some(items) = items {
            steps.push(Step::Each);
            collect(items, steps, in_list, found);
            steps.pop();
        }
    }
}

fn search(schema: &Value, value: Node<'_>, place: &mut FieldPath, found: &mut Vec<LeftOut>) {
    if value.is_map() {
        for (key, property) in properties(schema) {
            place.0.push(Segment::Key(key.clone()));
            let written = value.get(key);
            match written.filter(|value| !value.is_null() || is_nullable(property)) {
                Some(value) => search(property, value, place, found),
                None => found.extend(default_of(property).map(|value| LeftOut {
                    place: place.clone(),
                    value,
                })),
            }
            place.0.pop();
        }
    }
    if let Some(schema) = free_keys(schema) {
        for (key, value) in value.entries() {
            place.0.push(Segment::Key(key.to_owned()));
            search(schema, value, place, found);
            place.0.pop();
        }
    }
    if let Some(schema) = schema.get("items") {
        for (index, item) in value.items().enumerate() {
            let name = name_of(item, index);
            place.0.push(Segment::Item { index, name });
            search(schema, item, place, found);
            place.0.pop();
        }
    }
}

/// A null counts as left out, unless the schema allows it.
fn is_replaced(schema: &Value, value: &Value) -> bool {
    value.is_null() && !is_nullable(schema)
}

fn is_nullable(schema: &Value) -> bool {
    schema.get("nullable") == Some(&Value::Bool(true))
}

/// Lists of external-secrets name their items by `secretKey`, most others by `name`.
fn name_of(item: Node<'_>, index: usize) -> String {
    let name = ["secretKey", "name"]
        .iter()
        .find_map(|key| item.get(key)?.as_str());
    name.map_or_else(|| index.to_string(), ToOwned::to_owned)
}

/// The default of a schema, with the defaults of what lies in it.
fn default_of(schema: &Value) -> Option<Value> {
    // A null is as good as nothing, and writing it would settle nothing.
    let mut value = schema
        .get("default")
        .filter(|value| !value.is_null())?
        .clone();
    complete(schema, &mut value);
    Some(value)
}

fn complete(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, property) in properties(schema) {
                match map
                    .get_mut(key)
                    .filter(|value| !is_replaced(property, value))
                {
                    Some(value) => complete(property, value),
                    None => map.extend(default_of(property).map(|value| (key.clone(), value))),
                }
            }
            if let Some(schema) = free_keys(schema) {
                for value in map.values_mut() {
                    complete(schema, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items {
                    complete(schema, item);
                }
            }
        }
        _ => {}
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter)
}

/// The schema of the values of a map with free keys.
fn free_keys(schema: &Value) -> Option<&Value> {
    schema
        .get("additionalProperties")
        .filter(|schema| schema.is_object())
}

// === impl FieldPath ===

impl FieldPath {
    /// Whether it leads through an item of a list.
    pub(super) fn is_in_list(&self) -> bool {
        self.0
            .iter()
            .any(|segment| matches!(segment, Segment::Item { .. }))
    }

    /// A place that only map keys lead to.
    pub(super) fn of_keys(keys: &[&str]) -> Self {
        Self(
            keys.iter()
                .map(|key| Segment::Key((*key).to_owned()))
                .collect(),
        )
    }

    /// As a JSON pointer (RFC 6901).
    pub(super) fn pointer(&self) -> String {
        self.0.iter().fold(String::new(), |mut pointer, segment| {
            pointer.push('/');
            match segment {
                Segment::Key(key) => pointer.push_str(&escape(key)),
                Segment::Item { index, .. } => pointer.push_str(&index.to_string()),
            }
            pointer
        })
    }

    /// As people write it, with indexes: `spec.data[0].remoteRef`.
    pub(super) fn dotted(&self) -> String {
        self.written(|index, _| index.to_string())
    }

    /// The same with the names of items in place of indexes; it stays when a list is reordered.
    pub(super) fn named(&self) -> String {
        self.written(|_, name| name.to_owned())
    }

    fn written(&self, item: impl Fn(usize, &str) -> String) -> String {
        self.0.iter().fold(String::new(), |mut text, segment| {
            match segment {
                Segment::Key(key) if text.is_empty() => text.push_str(key),
                Segment::Key(key) => {
                    text.push('.');
                    text.push_str(key);
                }
                Segment::Item { index, name } => {
                    // Writing to a String cannot fail.
                    let _ = write!(text, "[{}]", item(*index, name));
                }
            }
            text
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::tree::Tree;

    /// What the definition of ExternalSecret had by way of defaults in a release of
    /// external-secrets (`config/crds/bases` at its tag), cut to the fields with defaults.
    pub(in crate::rules) fn external_secret(release: &str) -> Value {
        let (strategies, null_bytes) = match release {
            "1.2.0" => (true, false),
            "2.3.0" => (true, true),
            _ => (false, false),
        };
        let remote = |find: bool| {
            let mut properties = json!({"key": {"type": "string"}});
            if strategies {
                properties["conversionStrategy"] = json!({"type": "string", "default": "Default"});
                properties["decodingStrategy"] = json!({"type": "string", "default": "None"});
                if !find {
                    properties["metadataPolicy"] = json!({"type": "string", "default": "None"});
                }
            }
            if null_bytes {
                properties["nullBytePolicy"] = json!({"type": "string", "default": "Ignore"});
            }
            json!({"type": "object", "properties": properties})
        };
        let source = json!({"type": "object", "properties": {"generatorRef": {"type": "object", "properties": {
            "apiVersion": {"type": "string", "default": "generators.external-secrets.io/v1alpha1"},
            "kind": {"type": "string"},
        }}}});
        let spec = json!({"type": "object", "properties": {
            "data": {"type": "array", "items": {"type": "object", "properties": {
                "secretKey": {"type": "string"}, "remoteRef": remote(false), "sourceRef": source,
            }}},
            "dataFrom": {"type": "array", "items": {"type": "object", "properties": {
                "extract": remote(false), "find": remote(true), "sourceRef": source,
                "rewrite": {"type": "array", "items": {"type": "object", "properties": {
                    "merge": {"type": "object", "properties": {"conflictPolicy": {"type": "string", "default": "Error"}}},
                }}},
            }}},
            "refreshInterval": {"type": "string", "default": "1h0m0s"},
            "target": {
                "type": "object",
                "default": {"creationPolicy": "Owner", "deletionPolicy": "Retain"},
                "properties": {
                    "creationPolicy": {"type": "string", "default": "Owner"},
                    "deletionPolicy": {"type": "string", "default": "Retain"},
                    "template": {"type": "object", "properties": {
                        "engineVersion": {"type": "string", "default": "v2"},
                        "mergePolicy": {"type": "string", "default": "Replace"},
                    }},
                },
            },
        }});
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
            "spec": spec,
            "status": {"type": "object", "properties": {"a": {"default": "never"}}},
        }}});
        json!({"versions": [
            {"name": "v1", "served": true, "storage": true, "schema": schema},
            {"name": "v1beta1", "served": false, "storage": false, "schema": schema},
        ]})
    }

    fn left_out_of(schema: &Value, object: &Value) -> Vec<LeftOut> {
        left_out(schema, Tree::from(object).root())
    }

    fn found(release: &str, spec: &Value) -> Vec<(String, Value)> {
        let definition = external_secret(release);
        let object = json!({"spec": spec});
        left_out_of(schema(&definition, "v1").unwrap(), &object)
            .into_iter()
            .map(|field| (field.place.pointer(), field.value))
            .collect()
    }

    #[test]
    fn only_served_versions_have_a_schema() {
        let definition = external_secret("1.2.0");
        assert!(schema(&definition, "v1").is_some());
        assert_eq!(schema(&definition, "v1beta1"), None);
        assert_eq!(schema(&json!("text"), "v1"), None);
    }

    #[test]
    fn fields_are_left_out_of_maps_and_of_list_items() {
        let spec = json!({
            "data": [{"secretKey": "a", "remoteRef": {"key": "x", "decodingStrategy": "Base64"}}],
            "refreshInterval": null, "target": {"name": "a", "deletionPolicy": "Delete"},
        });
        assert_eq!(
            found("1.2.0", &spec),
            [
                (
                    "/spec/data/0/remoteRef/conversionStrategy".to_owned(),
                    json!("Default")
                ),
                (
                    "/spec/data/0/remoteRef/metadataPolicy".to_owned(),
                    json!("None")
                ),
                ("/spec/refreshInterval".to_owned(), json!("1h0m0s")),
                ("/spec/target/creationPolicy".to_owned(), json!("Owner")),
            ]
        );
    }

    #[test]
    fn a_map_left_out_is_written_whole() {
        let target = json!({"creationPolicy": "Owner", "deletionPolicy": "Retain"});
        let spec = json!({"refreshInterval": "1m", "data": [{"remoteRef": null}]});
        assert_eq!(found("2.9.0", &spec), [("/spec/target".to_owned(), target)]);
    }

    #[test]
    fn a_default_holds_the_defaults_of_what_lies_in_it() {
        let schema = json!({"default": {"b": {}, "l": [{}]}, "properties": {
            "a": {"default": 1},
            "b": {"properties": {"c": {"default": 2}}},
            "l": {"items": {"properties": {"d": {"default": 3}}}},
        }});
        assert_eq!(
            default_of(&schema),
            Some(json!({"a": 1, "b": {"c": 2}, "l": [{"d": 3}]}))
        );
    }

    #[test]
    fn a_default_of_null_is_none() {
        let schema = json!({"properties": {"spec": {"properties": {"a": {"default": null}}}}});
        assert_eq!(left_out_of(&schema, &json!({"spec": {}})), []);
    }

    #[test]
    fn values_under_free_keys_are_searched_too() {
        let schema = json!({"properties": {"spec": {"additionalProperties": {"properties": {
            "a": {"default": 1}, "b": {"default": 2, "nullable": true},
        }}}}});
        let object = json!({"spec": {"x/y": {"b": null}, "z": "text"}});
        let found = left_out_of(&schema, &object);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place.pointer(), "/spec/x~1y/a");
    }

    #[test]
    fn a_default_is_found_on_its_own_or_in_a_larger_one() {
        let definition = external_secret("1.2.0");
        let schema = schema(&definition, "v1").unwrap();
        assert_eq!(
            default_at(schema, &["spec", "refreshInterval"]),
            Some(json!("1h0m0s"))
        );
        assert_eq!(
            default_at(schema, &["spec", "target", "creationPolicy"]),
            Some(json!("Owner"))
        );
        assert_eq!(default_at(schema, &["spec", "data"]), None);
        let outer = json!({"properties": {"a": {"default": {"b": 1}, "properties": {"b": {}}}}});
        assert_eq!(default_at(&outer, &["a", "b"]), Some(json!(1)));
    }

    #[test]
    fn items_of_lists_with_keys_are_compared_field_by_field() {
        let list = |kind: &str| {
            let items = json!({"properties": {"a": {"default": 1}, "l": {"items": {"properties": {"b": {"default": 2}}}}}});
            let spec =
                json!({"properties": {"l": {"items": items, "x-kubernetes-list-type": kind}}});
            json!({"versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"properties": {"spec": spec}}}}]})
        };
        assert_eq!(in_list_items(&list("atomic")).len(), 2);
        let keyed = in_list_items(&list("map"));
        assert_eq!(keyed.len(), 1);
        assert_eq!(keyed[0].value, json!(2));
    }

    #[test]
    fn places_are_written_for_machines_and_people() {
        let place = FieldPath(vec![
            Segment::Key("spec".to_owned()),
            Segment::Key("data".to_owned()),
            Segment::Item {
                index: 2,
                name: "password".to_owned(),
            },
            Segment::Key("a/b".to_owned()),
        ]);
        assert_eq!(place.pointer(), "/spec/data/2/a~1b");
        assert_eq!(place.dotted(), "spec.data[2].a/b");
        assert_eq!(place.named(), "spec.data[password].a/b");
    }

    #[test]
    fn any_json_is_a_definition_or_none() {
        for odd in [
            json!(null),
            json!({"versions": 1}),
            json!({"versions": [1, {"schema": []}]}),
            json!([[]]),
        ] {
            assert_eq!(in_list_items(&odd), []);
            assert_eq!(left_out_of(&odd, &json!({"spec": {"data": [1]}})), []);
        }
    }
}
