//! The questions about one image, to one registry, until one moment.

use reqwest::{Method, Response, Url};
use tokio::time::Instant;

use super::challenge;
use super::hosts::Endpoint;
use super::obstacle::Obstacle;
use super::token::{Place, Tokens};
use super::transport::{Ask, Transport};

/// What a node accepts (containerd, core/remotes/docker/resolver.go). With fewer, distribution
/// answers 404 for images that it has.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*";

/// Asks about one repository.
pub(super) struct Session<'a> {
    pub(super) transport: &'a Transport,
    pub(super) tokens: &'a Tokens,
    pub(super) endpoint: &'a Endpoint,
    pub(super) repository: &'a str,
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

    /// Asks, with a token where the registry wants one.
    pub(super) async fn ask(
        &self,
        method: Method,
        url: &Url,
        redirects: usize,
    ) -> Result<Response, Obstacle> {
        let ask = |token| Ask {
            method: method.clone(),
            url: url.clone(),
            accept: ACCEPT,
            token,
            headers: Some(&self.endpoint.headers),
            redirects,
            by: self.by,
        };
        let kept = self.tokens.kept(&self.place()).await;
        let response = self.transport.send(ask(kept.as_ref())).await?;
        // Only the registry itself is given a token, so only its own challenge counts.
        let is_own = response.url().origin() == url.origin();
        if response.status() != 401 || !is_own {
            return Ok(response);
        }
        let Some(challenge) = challenge::bearer(response.headers()) else {
            return Ok(response);
        };
        let fetched = self
            .tokens
            .fetch(self.transport, self.place(), &challenge, self.by);
        let token = fetched.await?;
        self.transport.send(ask(Some(&token))).await
    }

    fn place(&self) -> Place {
        let authority = self.endpoint.base.authority().to_owned();
        (authority, self.repository.to_owned())
    }
}
