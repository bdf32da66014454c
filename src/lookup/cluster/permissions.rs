//! What RBAC must allow for the watches of a guardrail, and no more.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::argocd;
use crate::rules::{Meta, Reads};

/// The rules of a `ClusterRole` that lets a guardrail's kinds be watched: what it judges, and what it
/// reads beside. What is watched by name is allowed by name.
#[must_use]
pub fn permissions(meta: &Meta) -> Vec<PolicyRule> {
    let mut judged: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for kind in meta.watches {
        judged.entry(kind.group).or_default().push(kind.plural);
    }
    let judged = judged
        .into_iter()
        .map(|(group, resources)| watch(group, &resources, None));
    judged
        .chain(meta.reads.iter().flat_map(|reads| reading(*reads)))
        .collect()
}

fn reading(reads: Reads) -> Vec<PolicyRule> {
    match reads {
        Reads::Definition { group, plural } => vec![watch(
            "apiextensions.k8s.io",
            &["customresourcedefinitions"],
            Some(format!("{plural}.{group}")),
        )],
        Reads::ArgoCd => vec![
            watch("apps", &["deployments", "statefulsets"], None),
            watch("", &["configmaps"], Some(argocd::PARAMETERS.to_owned())),
        ],
        Reads::Images => vec![watch("", &["nodes", "pods"], None)],
    }
}

fn watch(group: &str, resources: &[&str], name: Option<String>) -> PolicyRule {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    PolicyRule {
        api_groups: Some(owned(&[group])),
        resources: Some(owned(resources)),
        resource_names: name.map(|name| vec![name]),
        verbs: owned(&["list", "watch"]),
        ..PolicyRule::default()
    }
}
