//! The hosts that a node would ask for one image, asked as it would: one after another, until one has
//! it. That one is enough to exist, and it takes all of them to be missing.

use std::sync::Arc;

use tokio::time::Instant;

use super::Observer;
use super::content::{Contents, ImageContent, Part, Pinned};
use super::credentials::{Credential, Fingerprint};
use super::endpoint::Endpoint;
use super::hosts::Link;
use super::limits::{HostLimits, Priority, Turn};
use super::manifest::{self, Found};
use super::probe_error::ProbeError;
use super::session::Session;
use super::tags::{self, MOST_PAGES};
use super::token::Tokens;
use super::transport::Transport;
use crate::image::ImageReference;
use crate::image::{ImageState, Missing};

/// One image, and what it takes to ask for it.
pub(super) struct Asking<'a> {
    pub(super) transport: &'a Transport,
    pub(super) tokens: &'a Tokens,
    pub(super) limits: &'a HostLimits,
    pub(super) observer: &'a dyn Observer,
    pub(super) image: &'a ImageReference,
    /// As whom; `None` without credentials.
    pub(super) credential: Option<&'a Credential>,
    pub(super) fingerprint: Option<Fingerprint>,
    /// Whether the registry has ever let us read anything.
    pub(super) is_readable: bool,
    pub(super) priority: Priority,
    pub(super) by: Instant,
}

// === impl Asking ===

impl Asking<'_> {
    /// Asks the hosts of a chain.
    ///
    /// # Errors
    /// What stood in the way, where no host has the image and not all say that it is missing.
    pub(super) async fn ask(&self, chain: &[Link]) -> Result<Found, ProbeError> {
        if chain.is_empty() {
            return Err(ProbeError::NoHost);
        }
        let mut unknown = None;
        for (index, link) in chain.iter().enumerate() {
            match self.look(link, chain.len() - index).await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                // The registry itself is the last, and what it says matters most.
                Err(error) => unknown = Some(named(error, link, chain)),
            }
        }
        match unknown {
            Some(error) => Err(error),
            None => self.prove(chain).await.map(Found::from),
        }
    }

    async fn look(&self, link: &Link, left: usize) -> Result<Option<Found>, ProbeError> {
        let endpoint = link.endpoint.as_ref().map_err(|&refusal| refusal)?;
        let (turn, session) = self.begin(endpoint, self.share(left)).await?;
        let answer = manifest::look(&session, self.image).await;
        self.end(turn, endpoint, answer)
    }

    async fn prove(&self, chain: &[Link]) -> Result<ImageState, ProbeError> {
        let mut proof: Option<Missing> = None;
        for link in chain {
            let endpoint = link.endpoint.as_ref().map_err(|&refusal| refusal)?;
            let (turn, session) = self.begin(endpoint, self.by).await?;
            let answer = match manifest::prove(&session, self.image).await {
                Ok(Some(ImageState::Missing(missing))) => {
                    let missing = self.without_private_tags(session, missing).await;
                    Ok(Some(ImageState::Missing(missing)))
                }
                proven => proven,
            };
            let proven = self.end(turn, endpoint, answer);
            match proven.map_err(|error| named(error, link, chain))? {
                Some(ImageState::Missing(missing)) => proof = Some(missing),
                Some(found) => return Ok(found),
                None => {}
            }
        }
        // The tags are those of the last, but all had to say so.
        proof.map(ImageState::Missing).ok_or(ProbeError::ProxyOnly)
    }

    /// Fetches a part of the content of the image, from the first host that has it.
    ///
    /// # Errors
    /// What the last host said, where none has it.
    pub(super) async fn fetch(
        &self,
        chain: &[Link],
        contents: &Contents,
        pinned: &Pinned,
        part: Part,
    ) -> Result<ImageContent, ProbeError> {
        let mut unknown = ProbeError::NoHost;
        for (index, link) in chain.iter().enumerate() {
            let asked = async {
                let endpoint = link.endpoint.as_ref().map_err(|&refusal| refusal)?;
                let by = self.share(chain.len() - index);
                let (turn, session) = self.begin(endpoint, by).await?;
                if part == Part::Config && endpoint.is_docker_hub() {
                    self.limits.spend_a_pull(Instant::now())?;
                }
                let answer = contents.fetch(&session, pinned, part).await;
                self.end(turn, endpoint, answer)
            };
            match asked.await {
                Ok(fact) => return Ok(fact),
                Err(error) => unknown = named(error, link, chain),
            }
        }
        Err(unknown)
    }

    /// Waits until a host may be asked.
    async fn begin<'s>(
        &'s self,
        endpoint: &'s Endpoint,
        by: Instant,
    ) -> Result<(Turn<'s>, Session<'s>), ProbeError> {
        let turn = self
            .limits
            .turn(endpoint, self.is_readable, self.priority, by);
        let turn = turn.await?;
        let is_for_it = endpoint.takes_credentials;
        let session = Session {
            transport: self.transport,
            tokens: self.tokens,
            observer: self.observer,
            endpoint,
            repository: &self.image.repository.path,
            credential: self.credential.filter(|_| is_for_it),
            fingerprint: self.fingerprint.filter(|_| is_for_it),
            by,
        };
        Ok((turn, session))
    }

    /// Takes note of how it went.
    fn end<Found>(
        &self,
        turn: Turn<'_>,
        endpoint: &Endpoint,
        answer: Result<Found, ProbeError>,
    ) -> Result<Found, ProbeError> {
        let is_left_alone = turn.end(answer.as_ref().err());
        self.observer
            .left_alone(endpoint.base.authority(), is_left_alone);
        answer
    }

    /// The time for the next of so many hosts: one that hangs leaves some for those after it.
    fn share(&self, hosts: usize) -> Instant {
        let hosts = u32::try_from(hosts).unwrap_or(u32::MAX);
        let now = Instant::now();
        now + self.by.saturating_duration_since(now) / hosts
    }

    /// The same proof with the tags that strangers see, where credentials of Forestall's own opened
    /// the others: those are not for everybody who can ask.
    async fn without_private_tags(&self, session: Session<'_>, missing: Missing) -> Missing {
        let credential = session.credential;
        let (Some(credential), Some(tag)) = (credential, &self.image.tag) else {
            return missing;
        };
        if credential.origin().is_workload() {
            return missing;
        }
        let anonymous = Session {
            credential: None,
            fingerprint: None,
            ..session
        };
        let listed = tags::list(&anonymous, tag, MOST_PAGES).await;
        let names = listed.map(|tags| tags.names).unwrap_or_default();
        Missing {
            tags: Arc::new(names),
            ..missing
        }
    }
}

/// Says which of several hosts it was.
fn named(error: ProbeError, link: &Link, chain: &[Link]) -> ProbeError {
    let is_mirror = chain.last() != Some(link);
    if is_mirror {
        ProbeError::Mirror(link.name.clone(), Box::new(error))
    } else {
        error
    }
}
