//! What the author of a new object wrote, and what he left out.
//!
//! At admission the object holds the defaults already, so the object itself does not tell. Two
//! records do: what kubectl (or Argo CD) says that it applied, and what server-side apply says that
//! its caller set. A record that is not clear proves nothing.

use crate::tree::{Node, Tree};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The records of who wrote what.
pub(super) struct Author<'a> {
    /// The object as it was applied.
    applied: Option<Tree>,
    /// metadata.managedFields: the operation, and the fields in `fieldsV1`.
    managers: Vec<(Operation, Node<'a>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Apply,
    Other,
}

/// What one record says of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Written,
    LeftOut,
    Nothing,
}

// === impl Author ===

impl<'a> Author<'a> {
    /// Reads the records that an object carries.
    pub(super) fn of(object: Node<'a>) -> Self {
        let applied = object
            .at("/metadata/annotations")
            .and_then(|annotations| annotations.get(LAST_APPLIED)?.as_str())
            .and_then(|applied| Tree::parse(applied).ok())
            .filter(|applied| is_of(applied.root(), object));
        let managers = object
            .at("/metadata/managedFields")
            .into_iter()
            .flat_map(Node::items)
            .filter(|entry| entry.text_at("/subresource").unwrap_or_default().is_empty())
            .filter_map(|entry| {
                let operation = match entry.text_at("/operation")? {
                    "Apply" => Operation::Apply,
                    _ => Operation::Other,
                };
                let fields = entry.get("fieldsV1").filter(|fields| fields.is_map());
                Some((operation, fields?))
            })
            .collect();
        Self { applied, managers }
    }

    /// Whether a record shows that the field was left out, and none that it was written.
    pub(super) fn left_out(&self, path: &[&str]) -> bool {
        let said = [self.last_applied(path), self.server_side_apply(path)];
        said.contains(&Says::LeftOut) && !said.contains(&Says::Written)
    }

    fn last_applied(&self, path: &[&str]) -> Says {
        let Some(mut here) = self.applied.as_ref().map(Tree::root) else {
            return Says::Nothing;
        };
        for key in path {
            if !here.is_map() {
                return Says::Nothing;
            }
            match here.get(key) {
                Some(next) => here = next,
                None => return Says::LeftOut,
            }
        }
        Says::Written
    }

    fn server_side_apply(&self, path: &[&str]) -> Says {
        let mut said = Says::Nothing;
        for (operation, fields) in &self.managers {
            match (operation, owns(*fields, path)) {
                (Operation::Apply, Says::Written) => return Says::Written,
                (Operation::Apply, Says::LeftOut) => said = Says::LeftOut,
                // What server-side apply leaves to the definition has no manager at all. Where
                // another one owns it, this Apply is not the whole story.
                (_, Says::Nothing) | (Operation::Other, Says::Written) => return Says::Nothing,
                (Operation::Other, Says::LeftOut) => {}
            }
        }
        said
    }
}

/// Whether a last-applied annotation is about this object; it is copied along with others. A part
/// that one of them leaves out, such as the namespace, is left to the request.
fn is_of(applied: Node<'_>, object: Node<'_>) -> bool {
    [
        "/apiVersion",
        "/kind",
        "/metadata/name",
        "/metadata/namespace",
    ]
    .iter()
    .all(
        |pointer| match (applied.text_at(pointer), object.text_at(pointer)) {
            (Some(applied), Some(object)) => applied == object,
            _ => true,
        },
    )
}

/// Whether a set of fields holds one: `{"f:spec": {"f:target": {"f:name": {}}}}`
/// (structured-merge-diff, `fieldpath/serialize.go`).
fn owns(mut fields: Node<'_>, path: &[&str]) -> Says {
    for (depth, key) in path.iter().enumerate() {
        let Some(next) = fields.get(&format!("f:{key}")) else {
            return Says::LeftOut;
        };
        if depth + 1 == path.len() {
            return Says::Written;
        }
        // An empty set on the way: the whole map is owned, whatever it holds.
        if next.entries().next().is_none() {
            return Says::Nothing;
        }
        fields = next;
    }
    Says::Nothing
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const PATH: &[&str] = &["spec", "target", "deletionPolicy"];

    fn left_out(metadata: &Value) -> bool {
        let mut object = json!({"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret"});
        object["metadata"] = metadata.clone();
        object["metadata"]["name"] = json!("db");
        Author::of(Tree::from(object).root()).left_out(PATH)
    }

    fn annotated(applied: &Value) -> Value {
        json!({"annotations": {LAST_APPLIED: applied.to_string()}})
    }

    fn applied(name: &str, spec: &Value) -> Value {
        annotated(&json!({
            "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret",
            "metadata": {"name": name}, "spec": spec,
        }))
    }

    fn managed(entries: &[(&str, Value)]) -> Value {
        let entries: Vec<_> = entries
            .iter()
            .map(|(operation, fields)| json!({"operation": operation, "fieldsV1": fields}))
            .collect();
        json!({"managedFields": entries})
    }

    #[test]
    fn last_applied_shows_what_was_left_out() {
        assert!(left_out(&applied("db", &json!({"target": {"name": "db"}}))));
        assert!(left_out(&applied("db", &json!({}))));
        for written in [json!("Retain"), json!(null)] {
            assert!(!left_out(&applied(
                "db",
                &json!({"target": {"deletionPolicy": written}})
            )));
        }
    }

    #[test]
    fn an_annotation_that_is_not_clear_proves_nothing() {
        assert!(!left_out(&json!({})));
        assert!(!left_out(&applied("other", &json!({}))));
        assert!(!left_out(&applied("db", &json!("text"))));
        assert!(!left_out(&annotated(&json!([]))));
        assert!(!left_out(&json!({"annotations": {LAST_APPLIED: "{"}})));
        assert!(!left_out(&json!({"annotations": {LAST_APPLIED: 1}})));
        let mut elsewhere = applied("db", &json!({}));
        elsewhere["namespace"] = json!("shop");
        assert!(left_out(&elsewhere));
        let text = elsewhere["annotations"][LAST_APPLIED].as_str().unwrap();
        let text = text.replace("\"name\":", "\"namespace\":\"dev\",\"name\":");
        elsewhere["annotations"][LAST_APPLIED] = json!(text);
        assert!(!left_out(&elsewhere));
    }

    #[test]
    fn an_apply_entry_shows_what_was_left_out() {
        let name = json!({"f:spec": {"f:target": {"f:name": {}}}});
        let policy = json!({"f:spec": {"f:target": {".": {}, "f:deletionPolicy": {}}}});
        assert!(left_out(&managed(&[("Apply", name.clone())])));
        assert!(!left_out(&managed(&[("Apply", policy.clone())])));
        assert!(!left_out(&managed(&[
            ("Apply", name.clone()),
            ("Apply", policy)
        ])));
        assert!(!left_out(&managed(&[("Update", name)])));
    }

    #[test]
    fn a_map_that_is_owned_as_a_whole_proves_nothing() {
        for fields in [
            json!({"f:spec": {}}),
            json!({"f:spec": {"f:target": {}}}),
            json!({"f:spec": 1}),
        ] {
            assert!(!left_out(&managed(&[("Apply", fields)])));
        }
    }

    #[test]
    fn a_field_that_another_manager_owns_was_not_left_to_the_definition() {
        let name = json!({"f:spec": {"f:target": {"f:name": {}}}});
        let all = json!({"f:spec": {"f:target": {"f:name": {}, "f:deletionPolicy": {}}}});
        assert!(!left_out(&managed(&[("Apply", name), ("Update", all)])));
    }

    #[test]
    fn one_record_that_the_field_was_written_is_enough() {
        let mut both = applied("db", &json!({}));
        let policy = json!({"f:spec": {"f:target": {"f:deletionPolicy": {}}}});
        both["managedFields"] = managed(&[("Apply", policy)])["managedFields"].clone();
        assert!(!left_out(&both));
        // Client-side apply: the definition's defaults count as its own Update.
        let update = json!({"f:spec": {"f:target": {"f:deletionPolicy": {}}}});
        both["managedFields"] = managed(&[("Update", update)])["managedFields"].clone();
        assert!(left_out(&both));
    }

    #[test]
    fn a_status_entry_is_not_about_the_spec() {
        let metadata = json!({"managedFields": [{"operation": "Apply", "subresource": "status", "fieldsV1": {"f:status": {}}}]});
        assert!(!left_out(&metadata));
    }
}
