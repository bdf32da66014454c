//! The questions about one image, to one registry, until one moment.

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Response, Url};
use tokio::time::Instant;

use super::Observer;
use super::challenge::{self, Challenge};
use super::credentials::{Credential, Fingerprint};
use super::endpoint::Endpoint;
use super::probe_error::ProbeError;
use super::token::{Pass, TokenScope, Tokens};
use super::transport::{Ask, Transport};

/// What a node accepts (containerd, core/remotes/docker/resolver.go). With fewer, distribution
/// answers 404 for images that it has.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*";

/// The header in which Docker Hub says how many pulls it still gives, such as `76;w=21600`; a HEAD
/// costs none (Docker, "Docker Hub pull usage and limits").
const REMAINING: &str = "ratelimit-remaining";

/// Asks about one repository.
pub(super) struct Session<'a> {
    pub(super) transport: &'a Transport,
    pub(super) tokens: &'a Tokens,
    pub(super) observer: &'a dyn Observer,
    pub(super) endpoint: &'a Endpoint,
    pub(super) repository: &'a str,
    /// As whom; `None` without credentials. Where there are some, nothing is asked without.
    pub(super) credential: Option<&'a Credential>,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) by: Instant,
}

// === impl Session ===

impl Session<'_> {
    /// The address of something in the repository. Its grammar leaves nothing to escape.
    pub(super) fn url(&self, rest: &str) -> Url {
        let mut url = self.endpoint.base.clone();
        let api = &self.endpoint.path;
        url.set_path(&format!("{api}/{}/{rest}", self.repository));
        if let Some(namespace) = &self.endpoint.namespace {
            // A cache of several registries has to know which (OCI distribution specification,
            // "Registry Proxying").
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        url
    }

    /// Asks, with what the registry wants to see: nothing, a token, or user name and password.
    pub(super) async fn ask(
        &self,
        method: Method,
        url: &Url,
        redirects: usize,
    ) -> Result<Response, ProbeError> {
        let ask = |authorization| Ask {
            method: method.clone(),
            url: url.clone(),
            accept: ACCEPT,
            authorization,
            headers: Some(&self.endpoint.headers),
            redirects,
            by: self.by,
        };
        let kept = self.tokens.kept(&self.place()).await;
        let shown = match &kept {
            Some(Pass::Token(token)) => Some(token.clone()),
            Some(Pass::Basic) => self.basic()?,
            None => None,
        };
        let response = self.transport.send(ask(shown.as_ref())).await?;
        // Only the registry itself is shown something, so only its own challenge counts.
        let is_own = response.url().origin() == url.origin();
        if response.status() != 401 || !is_own {
            self.note_remaining(&response);
            return Ok(response);
        }
        let wanted = match challenge::challenge(response.headers()) {
            Some(Challenge::Bearer(bearer)) => self.tokens.fetch(self, &bearer).await?,
            Some(Challenge::Basic) if !matches!(kept, Some(Pass::Basic)) => {
                let Some(basic) = self.basic()? else {
                    return Ok(response);
                };
                self.tokens.wants_basic(self.place()).await;
                basic
            }
            Some(Challenge::Basic) | None => return Ok(response),
        };
        let response = self.transport.send(ask(Some(&wanted))).await?;
        self.note_remaining(&response);
        Ok(response)
    }

    fn note_remaining(&self, response: &Response) {
        if let Some(remaining) = remaining(response.headers()) {
            self.observer
                .remaining(self.endpoint.base.authority(), remaining);
        }
    }

    fn basic(&self) -> Result<Option<HeaderValue>, ProbeError> {
        let header = |credential: &Credential| credential.basic().ok_or(ProbeError::Unsendable);
        self.credential.map(header).transpose()
    }

    pub(super) fn place(&self) -> TokenScope {
        TokenScope {
            host: self.endpoint.base.authority().to_owned(),
            repository: self.repository.to_owned(),
            fingerprint: self.fingerprint,
        }
    }
}

fn remaining(headers: &HeaderMap) -> Option<u32> {
    let told = headers.get(REMAINING)?.to_str().ok()?;
    told.split(';').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_is_the_number_before_the_window() {
        let remaining = |text: &'static str| {
            let value = HeaderValue::from_static(text);
            remaining(&HeaderMap::from_iter([(REMAINING.parse().unwrap(), value)]))
        };
        assert_eq!(remaining("76;w=21600"), Some(76));
        assert_eq!(remaining("0"), Some(0));
        for other in ["", "evil", "-1", "99999999999", "1.5;w=1"] {
            assert_eq!(remaining(other), None, "{other}");
        }
    }
}
