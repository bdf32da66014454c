//! Of an ExternalSecret: the Secret that it makes, and the keys that can be known.

use std::collections::BTreeMap;

use super::{Projection, ReadableKind, Reference, Referent, keyed_hash};
use crate::review::WatchedKind;
use crate::tree::Node;
use crate::unknown::Unknown;

/// What is kept of an ExternalSecret (external-secrets, apis/externalsecrets/v1
/// `ExternalSecretSpec`). It refers to the Secret that it makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalSecret {
    /// The name of the Secret, in its own namespace.
    pub secret: Box<str>,
    /// What it does to the Secret.
    pub creation: CreationPolicy,
    /// The keys that it writes, in order; `None` where only its store knows them.
    pub keys: Option<Box<[Box<str>]>>,
    /// Which fields the items of its lists write out.
    pub list_fields: ListFields,
}

/// Which fields the maps in lists have, without the values: as hashes of paths such as
/// `.spec.data[].remoteRef`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFields {
    /// The maps that there are.
    maps: Box<[u64]>,
    /// The fields that all maps of the same path have.
    everywhere: Box<[u64]>,
}

/// What an ExternalSecret does to its Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreationPolicy {
    /// It makes the Secret, which ends with it.
    Owner,
    /// It makes the Secret, which stays.
    Orphan,
    /// It adds keys to a Secret that others make.
    Merge,
    /// It makes none.
    None,
}

impl Projection for ExternalSecret {
    const KINDS: &'static [ReadableKind] = &[ReadableKind {
        kind: WatchedKind::namespaced("external-secrets.io", "ExternalSecret", "externalsecrets"),
        versions: &["v1", "v1beta1"],
    }];

    fn of(object: Node<'_>, _: WatchedKind) -> Result<Option<Self>, Unknown> {
        let own_name = object.text_at("/metadata/name").unwrap_or_default();
        let target = object.text_at("/spec/target/name");
        let target = target.filter(|name| !name.is_empty());
        let creation = match object.text_at("/spec/target/creationPolicy") {
            None | Some("" | "Owner") => CreationPolicy::Owner,
            Some("Orphan") => CreationPolicy::Orphan,
            Some("Merge") => CreationPolicy::Merge,
            Some("None") => CreationPolicy::None,
            Some(_) => {
                let pointer = "/spec/target/creationPolicy";
                return Err(Unknown::unreadable(pointer, "is no policy that is known"));
            }
        };
        Ok(Some(Self {
            secret: target.unwrap_or(own_name).into(),
            creation,
            keys: keys(object),
            list_fields: ListFields::of(object),
        }))
    }

    fn refers_to(&self, other: &Reference) -> bool {
        other.kind == Referent::Secret
            && other.name == self.secret
            && self.creation != CreationPolicy::None
    }
}

/// The keys of the Secret: those of its template, which replaces the data unless it is merged into it,
/// or those that are fetched one by one.
fn keys(object: Node<'_>) -> Option<Box<[Box<str>]>> {
    let template = object.at("/spec/target/template");
    let from = template.and_then(|template| template.get("templateFrom"));
    let fetched_whole = object.at("/spec/dataFrom");
    let has_items = |list: Option<Node<'_>>| list.is_some_and(|list| list.items().next().is_some());
    let data = template.and_then(|template| template.get("data"));
    let templated = data.into_iter().flat_map(Node::entries);
    let mut keys: Vec<Box<str>> = templated.map(|(key, _)| key.into()).collect();
    let is_merged = template
        .and_then(|template| template.text_at("/mergePolicy"))
        .is_some_and(|policy| policy == "Merge");
    // What a template is read from may hold any keys.
    if has_items(from) {
        return None;
    }
    if keys.is_empty() || is_merged {
        if has_items(fetched_whole) {
            return None;
        }
        let fetched = object.at("/spec/data").into_iter().flat_map(Node::items);
        let fetched = fetched.filter_map(|item| item.text_at("/secretKey"));
        keys.extend(fetched.map(Into::into));
    }
    keys.sort_unstable();
    keys.dedup();
    Some(keys.into())
}

// === impl ListFields ===

impl ListFields {
    fn of(object: Node<'_>) -> Self {
        let mut counts = BTreeMap::new();
        if let Some(spec) = object.get("spec") {
            count(spec, ".spec", false, &mut counts);
        }
        let everywhere = counts.iter().flat_map(|(path, (maps, fields))| {
            let in_all = fields.iter().filter(move |(_, count)| *count == maps);
            in_all.map(move |(field, _)| keyed_hash(format!("{path}.{field}")))
        });
        Self {
            everywhere: everywhere.collect(),
            maps: counts.keys().map(keyed_hash).collect(),
        }
    }

    /// Whether an item of a list has the map at this path, and not this field of it.
    #[must_use]
    pub fn leave_out(&self, map: &str, field: &str) -> bool {
        self.maps.contains(&keyed_hash(map))
            && !self
                .everywhere
                .contains(&keyed_hash(format!("{map}.{field}")))
    }
}

/// How many maps there are at a path, and how many of them have each field.
type Counts<'t> = BTreeMap<String, (usize, BTreeMap<&'t str, usize>)>;

fn count<'t>(node: Node<'t>, path: &str, in_list: bool, counts: &mut Counts<'t>) {
    for item in node.items() {
        count(item, &format!("{path}[]"), true, counts);
    }
    if in_list && node.is_map() {
        let (maps, fields) = counts.entry(path.to_owned()).or_default();
        *maps += 1;
        for (field, _) in node.entries() {
            *fields.entry(field).or_default() += 1;
        }
    }
    for (field, value) in node
        .entries()
        .filter(|(_, value)| value.is_map() || value.is_list())
    {
        count(value, &format!("{path}.{field}"), in_list, counts);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tree::Tree;

    fn read(spec: &Value) -> Result<ExternalSecret, Unknown> {
        let object = json!({"metadata": {"name": "db", "namespace": "shop"}, "spec": spec});
        let kind = ExternalSecret::KINDS[0].kind;
        let read = ExternalSecret::of(Tree::from(object).root(), kind)?;
        Ok(read.unwrap())
    }

    fn keys(spec: &Value) -> Option<Vec<String>> {
        let keys = read(spec).unwrap().keys?;
        Some(keys.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_secret_has_the_name_of_the_target_or_its_own() {
        let own = read(&json!({})).unwrap();
        assert_eq!((&*own.secret, own.creation), ("db", CreationPolicy::Owner));
        let target = json!({"target": {"name": "other", "creationPolicy": "Merge"}});
        let target = read(&target).unwrap();
        let secret = |name: &str| Reference {
            kind: Referent::Secret,
            name: name.into(),
        };
        assert!(target.refers_to(&secret("other")) && !target.refers_to(&secret("db")));
        let none = read(&json!({"target": {"creationPolicy": "None"}})).unwrap();
        assert!(!none.refers_to(&secret("db")));
        let odd = read(&json!({"target": {"creationPolicy": "Sometimes"}}));
        assert!(matches!(odd, Err(Unknown::Unreadable(_))), "{odd:?}");
    }

    #[test]
    fn keys_are_known_unless_only_the_store_knows_them() {
        let data = json!([{"secretKey": "password"}, {"secretKey": "user"}]);
        let whole = json!([{"extract": {"key": "db"}}]);
        let template = json!({"data": {"url": "postgres://{{ .user }}"}});
        let known = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect());
        for (spec, expected) in [
            (json!({"data": data}), known(&["password", "user"])),
            (
                json!({"data": data, "dataFrom": []}),
                known(&["password", "user"]),
            ),
            (json!({"data": data, "dataFrom": whole}), None),
            // A template says all keys, whatever it is made from.
            (
                json!({"dataFrom": whole, "target": {"template": template}}),
                known(&["url"]),
            ),
            (
                json!({"data": data, "target": {"template": {
                    "data": {"url": "x"}, "mergePolicy": "Merge"}}}),
                known(&["password", "url", "user"]),
            ),
            (
                json!({"data": data, "target": {"template": {
                    "templateFrom": [{"configMap": {"name": "a"}}]}}}),
                None,
            ),
            (json!({}), known(&[])),
        ] {
            assert_eq!(keys(&spec), expected, "{spec}");
        }
    }

    #[test]
    fn an_item_that_leaves_a_field_out_is_seen() {
        let spec = json!({"data": [
            {"secretKey": "a", "remoteRef": {"key": "db", "decodingStrategy": "None"}},
            {"secretKey": "b", "remoteRef": {"key": "db", "decodingStrategy": "None", "version": "2"}},
        ]});
        let fields = read(&spec).unwrap().list_fields;
        let map = ".spec.data[].remoteRef";
        assert!(fields.leave_out(map, "conversionStrategy"));
        assert!(fields.leave_out(map, "version"));
        assert!(!fields.leave_out(map, "decodingStrategy"));
        // There is none of these, so nothing is written into them.
        assert!(!fields.leave_out(".spec.dataFrom[].extract", "decodingStrategy"));
    }
}
