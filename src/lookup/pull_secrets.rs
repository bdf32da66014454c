//! Pull secrets: what kubelet makes of a Secret, whoever read it.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::registry::credentials::{DockerConfig, Malformed, Origin};
use crate::evidence::PullSecretState;

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
