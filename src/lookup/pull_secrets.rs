//! Pull secrets: what kubelet makes of a Secret, whoever read it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use crate::evidence::PullSecretState;
use crate::objects::{ObjectName, Projection, ReadableKind};
use crate::registry::credentials::{DockerConfig, Malformed, Origin};
use crate::review::WatchedKind;
use crate::tree::Node;
use crate::unknown::Unknown;

/// Secrets are in no table: of those in a cluster nothing is watched, and of those in files nothing is
/// kept but this.
impl Projection for PullSecretState {
    const KINDS: &'static [ReadableKind] = &[ReadableKind {
        kind: WatchedKind::namespaced("", "Secret", "secrets"),
        versions: &["v1"],
    }];

    fn of(secret: Node<'_>, kind: WatchedKind) -> Result<Option<Self>, Unknown> {
        let text = |pointer| secret.text_at(pointer);
        let name = text("/metadata/name").unwrap_or_default();
        let name = ObjectName::new(kind, text("/metadata/namespace"), name);
        let namespace = name.namespace.as_deref().unwrap_or_default();
        let kind = text("/type").unwrap_or_default();
        let content = Content::read(namespace, &name.name, kind, &data(secret));
        Ok(Some(content.state()))
    }
}

/// The data of a Secret, as the API server stores it: what is written as text holds.
fn data(secret: Node<'_>) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
    let fields = |key: &str| secret.get(key).into_iter().flat_map(Node::entries);
    let encoded = fields("data").filter_map(|(key, value)| {
        let value = BASE64_STANDARD.decode(value.as_str()?).ok()?;
        Some((key.to_owned(), Zeroizing::new(value)))
    });
    let plain = fields("stringData").filter_map(|(key, value)| {
        let value = value.as_str()?.as_bytes().to_vec();
        Some((key.to_owned(), Zeroizing::new(value)))
    });
    encoded.chain(plain).collect()
}

/// What a Secret is to kubelet that pulls an image (Kubernetes 1.37,
/// pkg/credentialprovider/secrets `MakeDockerKeyring`).
#[derive(Debug)]
pub(super) enum Content {
    /// Credentials.
    Usable(DockerConfig),
    /// Nothing: it has another type, or not the key of its type.
    Ignored {
        /// Its type.
        kind: String,
    },
    /// A reason to pull nothing at all.
    Malformed(Malformed),
}

// === impl Content ===

impl Content {
    /// Reads a Secret of that namespace, name and type.
    pub(super) fn read(
        namespace: &str,
        name: &str,
        kind: &str,
        data: &BTreeMap<String, Zeroizing<Vec<u8>>>,
    ) -> Self {
        let origin = Origin::PullSecret {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let value = |key: &str| {
            let value = data.get(key)?;
            (!value.is_empty()).then_some(value)
        };
        let read = match kind {
            "kubernetes.io/dockerconfigjson" => {
                value(".dockerconfigjson").map(|value| DockerConfig::parse(value, &origin))
            }
            "kubernetes.io/dockercfg" => {
                value(".dockercfg").map(|value| DockerConfig::parse_legacy(value, &origin))
            }
            _ => None,
        };
        match read {
            Some(Ok(config)) => Self::Usable(config),
            Some(Err(problem)) => Self::Malformed(problem),
            None => Self::Ignored {
                kind: kind.to_owned(),
            },
        }
    }

    pub(super) fn state(&self) -> PullSecretState {
        match self {
            Self::Usable(_) => PullSecretState::Usable,
            Self::Ignored { kind } => PullSecretState::Ignored { kind: kind.clone() },
            Self::Malformed(problem) => PullSecretState::Malformed {
                problem: problem.to_string(),
            },
        }
    }
}
