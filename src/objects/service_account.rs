//! Of a ServiceAccount: the pull secrets that it gives to its pods.

use super::{Projection, ReadableKind};
use crate::review::WatchedKind;
use crate::tree::Node;
use crate::unknown::Unknown;

/// What is kept of a ServiceAccount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAccount {
    /// The names of its pull secrets, as written: an empty one names none.
    pub pull_secrets: Box<[Box<str>]>,
}

impl Projection for ServiceAccount {
    const KINDS: &'static [ReadableKind] = &[ReadableKind::v1(WatchedKind::namespaced(
        "",
        "ServiceAccount",
        "serviceaccounts",
    ))];

    fn of(account: Node<'_>, _: WatchedKind) -> Result<Option<Self>, Unknown> {
        let secrets = account.get("imagePullSecrets").into_iter();
        let names = secrets
            .flat_map(Node::items)
            .filter_map(|secret| secret.text_at("/name"));
        Ok(Some(Self {
            pull_secrets: names.map(Into::into).collect(),
        }))
    }
}
