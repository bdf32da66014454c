//! Of an Application of Argo CD: how it is compared, and which objects of `ExternalSecret` it manages.

use super::{Projection, ReadableKind, keyed_hash};
use crate::review::WatchedKind;
use crate::tree::Node;
use crate::unknown::Unknown;

/// Says how one Application is compared (Argo CD, user-guide/diff-strategies).
const COMPARE_OPTIONS: &str = "argocd.argoproj.io/compare-options";

/// What is kept of an Application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgoCdApplication {
    /// Whether Argo CD applies it on the server, and may compare it by structured merge.
    pub compares_by_structure: bool,
    /// Whether it switches off server-side diff that is on for all.
    pub refuses_server_side_diff: bool,
    /// Whether an entry of its ignoreDifferences may be about those of `ExternalSecret`.
    pub ignores_external_secrets: bool,
    /// Hashes of those of `ExternalSecret` that it was seen to manage.
    external_secrets: Box<[u64]>,
}

// === impl ArgoCdApplication ===

impl ArgoCdApplication {
    /// Whether it was seen to manage this ExternalSecret.
    #[must_use]
    pub fn manages(&self, namespace: &str, name: &str) -> bool {
        self.external_secrets
            .contains(&keyed_hash((namespace, name)))
    }
}

impl Projection for ArgoCdApplication {
    const KINDS: &'static [ReadableKind] = &[ReadableKind {
        kind: WatchedKind::namespaced("argoproj.io", "Application", "applications"),
        versions: &["v1alpha1"],
    }];

    fn of(object: Node<'_>, _: WatchedKind) -> Result<Option<Self>, Unknown> {
        let secrets = managed(object, "external-secrets.io", "ExternalSecret");
        let entries = object.at("/spec/ignoreDifferences");
        let mut entries = entries.into_iter().flat_map(Node::items);
        Ok(Some(Self {
            compares_by_structure: compares_by_structure(object),
            refuses_server_side_diff: has_compare_option(object, "ServerSideDiff=false"),
            // A group may be a glob, so whatever has one may be about them.
            ignores_external_secrets: entries.any(|entry| entry.text_at("/group").is_some()),
            external_secrets: secrets
                .into_iter()
                .flatten()
                .map(|(namespace, name)| keyed_hash((namespace, name)))
                .collect(),
        }))
    }
}

/// Whether Argo CD applies on the server and compares by structured merge, which takes a list for
/// one value. Server-side diff, asked for by the Application itself, knows the defaults.
pub(crate) fn compares_by_structure(application: Node<'_>) -> bool {
    let options = application.at("/spec/syncPolicy/syncOptions");
    let mut options = options.into_iter().flat_map(Node::items);
    options.any(|option| option.as_str() == Some("ServerSideApply=true"))
        && !has_compare_option(application, "ServerSideDiff=true")
}

pub(crate) fn has_compare_option(application: Node<'_>, wanted: &str) -> bool {
    let annotations = application.at("/metadata/annotations");
    let options = annotations.and_then(|annotations| annotations.get(COMPARE_OPTIONS)?.as_str());
    options.is_some_and(|options| options.split(',').any(|option| option.trim() == wanted))
}

/// The objects of a kind that Argo CD saw the Application manage, as namespace and name; `None` where
/// it has not compared it yet.
pub(crate) fn managed<'t>(
    application: Node<'t>,
    group: &str,
    kind: &str,
) -> Option<Vec<(&'t str, &'t str)>> {
    let resources = application.at("/status/resources")?;
    let destination = application.text_at("/spec/destination/namespace");
    let of_kind = resources.items().filter(|resource| {
        resource.text_at("/group") == Some(group) && resource.text_at("/kind") == Some(kind)
    });
    Some(
        of_kind
            .filter_map(|resource| {
                let namespace = resource.text_at("/namespace").or(destination);
                Some((namespace.unwrap_or_default(), resource.text_at("/name")?))
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tree::Tree;

    #[test]
    fn what_it_manages_is_known_once_it_was_compared() {
        let mut object = json!({
            "metadata": {"annotations": {COMPARE_OPTIONS: "IgnoreExtraneous, ServerSideDiff=false"}},
            "spec": {
                "destination": {"namespace": "shop"},
                "syncPolicy": {"syncOptions": ["ServerSideApply=true"]},
            },
        });
        let read = |object: &serde_json::Value| {
            let tree = Tree::from(object.clone());
            let kind = ArgoCdApplication::KINDS[0].kind;
            ArgoCdApplication::of(tree.root(), kind).unwrap().unwrap()
        };
        let unknown = read(&object);
        assert!(unknown.compares_by_structure && unknown.refuses_server_side_diff);
        assert!(!unknown.manages("shop", "db") && !unknown.ignores_external_secrets);
        object["status"] = json!({"resources": [
            {"group": "external-secrets.io", "kind": "ExternalSecret", "name": "db"},
            {"kind": "Secret", "namespace": "shop", "name": "other"},
        ]});
        object["spec"]["ignoreDifferences"] = json!([{"group": "*", "kind": "*"}]);
        let known = read(&object);
        assert!(known.manages("shop", "db") && !known.manages("dev", "db"));
        assert!(!known.manages("shop", "other") && known.ignores_external_secrets);
    }
}
