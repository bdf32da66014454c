//! Secrets that other objects make: in files the objects stand, and in the cluster the Secrets will.

use crate::objects::{Projection, ReadableKind};
use crate::review::WatchedKind;
use crate::tree::Node;
use crate::unknown::Unknown;

/// The Secret that an object makes in its own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MadeSecret(pub(super) Box<str>);

const EXTERNAL_SECRET: WatchedKind =
    WatchedKind::namespaced("external-secrets.io", "ExternalSecret", "externalsecrets");
const SEALED_SECRET: WatchedKind =
    WatchedKind::namespaced("bitnami.com", "SealedSecret", "sealedsecrets");
const CERTIFICATE: WatchedKind =
    WatchedKind::namespaced("cert-manager.io", "Certificate", "certificates");
const VAULT_STATIC_SECRET: WatchedKind = WatchedKind::namespaced(
    "secrets.hashicorp.com",
    "VaultStaticSecret",
    "vaultstaticsecrets",
);
const ONE_PASSWORD_ITEM: WatchedKind =
    WatchedKind::namespaced("onepassword.com", "OnePasswordItem", "onepassworditems");

const fn readable(kind: WatchedKind, versions: &'static [&'static str]) -> ReadableKind {
    ReadableKind { kind, versions }
}

impl Projection for MadeSecret {
    const KINDS: &'static [ReadableKind] = &[
        readable(EXTERNAL_SECRET, &["v1", "v1beta1"]),
        readable(SEALED_SECRET, &["v1alpha1"]),
        readable(CERTIFICATE, &["v1"]),
        readable(VAULT_STATIC_SECRET, &["v1beta1"]),
        readable(ONE_PASSWORD_ITEM, &["v1"]),
    ];

    /// Where the name stands: external-secrets `ExternalSecretTarget`, sealed-secrets
    /// `SecretTemplateSpec`, cert-manager `CertificateSpec`, vault-secrets-operator `Destination`; the
    /// 1Password operator gives the Secret the name of its item.
    fn of(object: Node<'_>, kind: WatchedKind) -> Result<Option<Self>, Unknown> {
        let own = object.text_at("/metadata/name");
        let named = |pointer: &str| object.text_at(pointer).filter(|name| !name.is_empty());
        let name = if kind == EXTERNAL_SECRET {
            let policy = object.text_at("/spec/target/creationPolicy");
            let makes_it = matches!(policy, None | Some("" | "Owner" | "Orphan"));
            named("/spec/target/name").or(own).filter(|_| makes_it)
        } else if kind == SEALED_SECRET {
            named("/spec/template/metadata/name").or(own)
        } else if kind == CERTIFICATE {
            named("/spec/secretName")
        } else if kind == VAULT_STATIC_SECRET {
            let creates = object
                .at("/spec/destination/create")
                .and_then(Node::as_bool);
            named("/spec/destination/name").filter(|_| creates == Some(true))
        } else {
            own
        };
        Ok(name.map(|name| Self(name.into())))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tree::Tree;

    #[test]
    fn each_kind_names_its_secret_where_its_controller_reads_it() {
        let made = |kind, spec: Value| {
            let object = json!({"metadata": {"name": "own"}, "spec": spec});
            let made = MadeSecret::of(Tree::from(object).root(), kind).unwrap();
            made.map(|made| made.0.into_string())
        };
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(made(EXTERNAL_SECRET, json!({})), named("own"));
        assert_eq!(
            made(EXTERNAL_SECRET, json!({"target": {"name": "a"}})),
            named("a")
        );
        let merged = json!({"target": {"creationPolicy": "Merge"}});
        assert_eq!(made(EXTERNAL_SECRET, merged), None);
        assert_eq!(made(SEALED_SECRET, json!({})), named("own"));
        let renamed = json!({"template": {"metadata": {"name": "b"}}});
        assert_eq!(made(SEALED_SECRET, renamed), named("b"));
        assert_eq!(made(CERTIFICATE, json!({"secretName": "c"})), named("c"));
        let destination = |create| json!({"destination": {"name": "d", "create": create}});
        assert_eq!(made(VAULT_STATIC_SECRET, destination(true)), named("d"));
        assert_eq!(made(VAULT_STATIC_SECRET, destination(false)), None);
        assert_eq!(made(ONE_PASSWORD_ITEM, json!({})), named("own"));
    }
}
