//! The hosts that a node would ask for one image, asked as it would: one after another, until one has
//! it. That one is enough to exist, and it takes all of them to be missing.

use tokio::time::Instant;

use super::hosts::{Endpoint, Link};
use super::limits::{Limits, Turn};
use super::manifest::{self, ByDigest};
use super::obstacle::Obstacle;
use super::session::Session;
use super::token::Tokens;
use super::transport::Transport;
use crate::evidence::{ImagePlatforms, ImageState, Missing};
use crate::report::metrics::{Metrics, RegistryLabel};
use crate::review::image::ImageReference;

/// One image, and what it takes to ask for it.
pub(super) struct Asking<'a> {
    pub(super) transport: &'a Transport,
    pub(super) tokens: &'a Tokens,
    pub(super) limits: &'a Limits,
    pub(super) metrics: &'a Metrics,
    pub(super) image: &'a ImageReference,
    /// Whether the registry has ever let us read anything.
    pub(super) is_readable: bool,
    pub(super) by: Instant,
}

// === impl Asking ===

impl Asking<'_> {
    /// Asks the hosts of a chain.
    ///
    /// # Errors
    /// What stood in the way, where no host has the image and not all say that it is missing.
    pub(super) async fn ask(&self, chain: &[Link]) -> Result<ImageState, Obstacle> {
        if chain.is_empty() {
            return Err(Obstacle::NoHost);
        }
        let mut unknown = None;
        for (index, link) in chain.iter().enumerate() {
            match self.look(link, chain.len() - index).await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                // The registry itself is the last, and what it says matters most.
                Err(obstacle) => unknown = Some(named(obstacle, link, chain)),
            }
        }
        match unknown {
            Some(obstacle) => Err(obstacle),
            None => self.prove(chain).await,
        }
    }

    async fn look(&self, link: &Link, left: usize) -> Result<Option<ImageState>, Obstacle> {
        let endpoint = link.endpoint.as_ref().map_err(|&refusal| refusal)?;
        let (turn, session) = self.begin(endpoint, self.share(left)).await?;
        let answer = manifest::look(&session, self.image).await;
        self.end(turn, endpoint, answer)
    }

    async fn prove(&self, chain: &[Link]) -> Result<ImageState, Obstacle> {
        let mut proof: Option<Missing> = None;
        let mut asked = Vec::new();
        for link in chain {
            let endpoint = link.endpoint.as_ref().map_err(|&refusal| refusal)?;
            let (turn, session) = self.begin(endpoint, self.by).await?;
            let answer = manifest::prove(&session, self.image).await;
            let proven = self.end(turn, endpoint, answer);
            match proven.map_err(|obstacle| named(obstacle, link, chain))? {
                Some(ImageState::Missing(missing)) => proof = Some(missing),
                Some(found) => return Ok(found),
                None => {}
            }
            asked.push(endpoint.asked.as_str());
        }
        // The tags are those of the last, but all had to say so.
        let missing = proof.ok_or(Obstacle::ProxyOnly)?;
        Ok(ImageState::Missing(Missing {
            asked: asked.join(", "),
            ..missing
        }))
    }

    /// For which platforms the image is built, by the first host that has it.
    ///
    /// # Errors
    /// What the last host said, where none has it.
    pub(super) async fn platforms(
        &self,
        chain: &[Link],
        known: &ByDigest,
    ) -> Result<ImagePlatforms, Obstacle> {
        let mut unknown = Obstacle::NoHost;
        for (index, link) in chain.iter().enumerate() {
            let asked = async {
                let endpoint = link.endpoint.as_ref().map_err(|&refusal| refusal)?;
                let by = self.share(chain.len() - index);
                let (turn, session) = self.begin(endpoint, by).await?;
                let answer = manifest::platforms(&session, self.image, known).await;
                self.end(turn, endpoint, answer)
            };
            match asked.await {
                Ok(platforms) => return Ok(platforms),
                Err(obstacle) => unknown = named(obstacle, link, chain),
            }
        }
        Err(unknown)
    }

    /// Waits until a host may be asked.
    async fn begin<'s>(
        &'s self,
        endpoint: &'s Endpoint,
        by: Instant,
    ) -> Result<(Turn<'s>, Session<'s>), Obstacle> {
        let turn = self.limits.turn(endpoint, self.is_readable, by).await?;
        let session = Session {
            transport: self.transport,
            tokens: self.tokens,
            endpoint,
            repository: &self.image.repository.path,
            by,
        };
        Ok((turn, session))
    }

    /// Takes note of how it went.
    fn end<Found>(
        &self,
        turn: Turn<'_>,
        endpoint: &Endpoint,
        answer: Result<Found, Obstacle>,
    ) -> Result<Found, Obstacle> {
        let is_left_alone = turn.end(answer.as_ref().err());
        let registry = self.metrics.registry_label(endpoint.base.authority());
        let gauge = &self.metrics.registry_left_alone;
        gauge
            .get_or_create(&RegistryLabel { registry })
            .set(is_left_alone.into());
        answer
    }

    /// The time for the next of so many hosts: one that hangs leaves some for those after it.
    fn share(&self, hosts: usize) -> Instant {
        let hosts = u32::try_from(hosts).unwrap_or(u32::MAX);
        let now = Instant::now();
        now + self.by.saturating_duration_since(now) / hosts
    }
}

/// Says which of several hosts it was.
fn named(obstacle: Obstacle, link: &Link, chain: &[Link]) -> Obstacle {
    let is_mirror = chain.last() != Some(link);
    if is_mirror {
        Obstacle::Mirror(link.name.clone(), Box::new(obstacle))
    } else {
        obstacle
    }
}
