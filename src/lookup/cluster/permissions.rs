//! What RBAC must allow for the watches of a guardrail, and no more.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::review::WatchedKind;
use crate::rules::Meta;

/// The rules of a `ClusterRole` that lets a guardrail's kinds be watched: what it judges, and what it
/// reads beside. What is watched by name is allowed by name.
#[must_use]
pub fn permissions(meta: &Meta) -> Vec<PolicyRule> {
    let judged = meta.watches.iter().map(|kind| (kind, None));
    // What is watched on demand is only asked for by `check`, with its caller's own permissions.
    let read = meta.reads.iter().filter(|reads| !reads.is_on_demand());
    let read = read.flat_map(|reads| {
        let kinds = reads.row().kinds.iter();
        kinds.map(|readable| (&readable.kind, reads.name()))
    });
    [rules(judged), rules(read)].concat()
}

/// One rule for each API group and name.
fn rules<'a>(
    kinds: impl Iterator<Item = (&'a WatchedKind, Option<&'static str>)>,
) -> Vec<PolicyRule> {
    let mut resources: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (kind, name) in kinds {
        let resources = resources.entry((kind.group, name)).or_default();
        resources.push(kind.plural.to_owned());
    }
    let resources = resources.into_iter();
    let rule = |((group, name), resources): ((&str, Option<&str>), _)| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources),
        resource_names: name.map(|name| vec![name.to_owned()]),
        verbs: vec!["list".to_owned(), "watch".to_owned()],
        ..PolicyRule::default()
    };
    resources.map(rule).collect()
}
