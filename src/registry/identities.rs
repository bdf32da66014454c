//! As whom a registry is asked for one image.

use std::sync::Arc;

use tokio::time::Instant;

use super::Inner;
use super::credentials::{Credential, PodCredentials};
use super::endpoint::ANONYMOUS;
use super::probe_error::ProbeError;
use crate::image::ImageReference;

/// Credentials that are tried for one image. A pull secret can hold thousands.
const MOST_CREDENTIALS: usize = 8;

/// Those as whom a registry is asked for one image, in order; `None` is nobody.
pub(super) struct Identities {
    pub(super) credentials: Vec<Option<Arc<Credential>>>,
    /// Why a node may have others.
    pub(super) error: Option<ProbeError>,
}

// === impl Inner ===

impl Inner {
    pub(super) async fn identities(
        &self,
        image: &ImageReference,
        pod: &PodCredentials,
        by: Instant,
    ) -> Identities {
        let nobody = || Identities {
            credentials: vec![None],
            error: None,
        };
        if pod.keyring.is_empty() && self.own.is_empty() {
            return nobody();
        }
        let repository = image.repository.to_string();
        let mut credentials = pod.keyring.lookup(&repository);
        let own = self.own.lookup(&repository, by).await;
        credentials.extend(own.credentials);
        if credentials.is_empty() && own.error.is_none() {
            return nobody();
        }
        let too_many = (credentials.len() > MOST_CREDENTIALS)
            .then_some(ProbeError::TooManyCredentials(MOST_CREDENTIALS));
        let named = credentials.into_iter().take(MOST_CREDENTIALS);
        Identities {
            credentials: named
                .map(|credential| (!credential.is_anonymous()).then_some(credential))
                .collect(),
            error: own.error.or(too_many),
        }
    }
}

// === impl Identities ===

impl Identities {
    /// Whether anybody is asked as somebody.
    pub(super) fn are_named(&self) -> bool {
        self.credentials.iter().any(Option::is_some)
    }

    /// As a message says it, such as `as pull secret shop/regcred`.
    pub(super) fn as_whom(&self) -> String {
        let named = self.credentials.iter().map(|credential| {
            let origin = credential.as_deref().map(Credential::origin);
            origin.map_or_else(|| ANONYMOUS.to_owned(), ToString::to_string)
        });
        let mut named: Vec<String> = named.collect();
        named.dedup();
        named.join(", then ")
    }
}
