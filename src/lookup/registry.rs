//! The registry client: can a node pull this image?
//!
//! It asks as a node would, with the credentials that a node would have as far as they are known,
//! and says "missing" only on proof. Everything else is unknown, and an unknown refuses nothing.
//!
//! ```text
//! candidates ─► answers ─► hosts (who may be asked) ─► chain ─► limits ─┬► manifest (HEAD, GET) ─► tags
//!  (as whom)    (cache)      │                                           └► content (of what is there)
//!                            └─ settings, containerd's files
//! all of them: session ─► token, transport ─► address
//! ```

mod address;
mod answers;
mod candidates;
mod chain;
mod challenge;
mod complaint;
mod content;
pub mod credentials;
mod endpoint;
mod errands;
mod hosts;
mod hosts_directory;
mod limits;
mod manifest;
mod obstacle;
mod session;
mod settings;
mod tags;
mod token;
mod transport;
mod trust;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use moka::future::Cache;
use tokio::time::Instant;

use self::answers::Answer;
use self::chain::Asking;
use self::content::Contents;
pub use self::content::{ImageContent, Part};
use self::credentials::{Credential, Fingerprint, Fingerprints, OwnCredentials, PodCredentials};
use self::errands::Errands;
use self::hosts::{Files, Hosts, Link};
use self::limits::{Limits, Priority};
use self::obstacle::{Obstacle, Refusal};
use self::settings::Rewrites;
pub use self::settings::{
    Capability, HostSettings, ImageRewrite, Role, ServerSettings, SettingsError, check_rewrites,
};
use self::token::Tokens;
pub use self::transport::ClientError;
use self::transport::Transport;
use crate::config::Config;
use crate::evidence::{ImageState, Unknown};
use crate::image::ImageReference;
use crate::report::metrics::{Metrics, RegistryLabel, RegistryLabels};
use crate::review::Door;

/// Hosts that are remembered as readable.
const MOST_HOSTS: usize = 1024;

/// Asks registries, and remembers what they said.
#[derive(Debug)]
pub struct RegistryClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What it was made of, to see what has changed.
    files: Files,
    transport: Transport,
    rewrites: Rewrites,
    tokens: Tokens,
    own: OwnCredentials,
    fingerprints: Fingerprints,
    answers: Cache<Asked, Answer>,
    /// Images that existed not long ago.
    existed: Cache<Asked, Answer>,
    contents: Contents,
    errands: Arc<Errands>,
    /// Registries that have let us read something, as images name them.
    readable: RwLock<BTreeSet<String>>,
    limits: Limits,
    metrics: Arc<Metrics>,
}

/// What was asked, and as whom: no tenant is told what another's credentials opened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    image: ImageReference,
    fingerprint: Option<Fingerprint>,
}

// === impl RegistryClient ===

impl RegistryClient {
    /// A client that reaches registries as configured. It reads the files that the configuration
    /// names.
    ///
    /// # Errors
    /// A setting or a file that cannot be used, or a system without CA certificates.
    pub fn new(config: &Config, metrics: Arc<Metrics>) -> Result<Self, ClientError> {
        Self::with_credentials(config, OwnCredentials::read(config)?, metrics)
    }

    /// The same with these credentials of its own, whatever the configuration says of them.
    ///
    /// # Errors
    /// As [`RegistryClient::new`].
    pub fn with_credentials(
        config: &Config,
        own: OwnCredentials,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ClientError> {
        let files = Files::read(config)?;
        let hosts = Hosts::new(&config.registries, files.clone())?;
        Ok(Self(Arc::new(Inner {
            files,
            transport: Transport::new(hosts)?,
            rewrites: Rewrites::new(&config.image_rewrites)?,
            tokens: Tokens::new(),
            own,
            fingerprints: Fingerprints::new().ok_or(ClientError::NoRandom)?,
            answers: answers::answers(),
            existed: answers::existed(),
            contents: Contents::new(),
            errands: Arc::default(),
            readable: RwLock::default(),
            limits: Limits::new(),
            metrics,
        })))
    }

    /// Reads the file with credentials of Forestall's own again.
    pub fn reload(&self) {
        self.0.own.reload();
    }

    /// Whether the files that this configuration names are still those that this client was made of.
    ///
    /// # Errors
    /// A file that cannot be used any more.
    pub fn has_files_of(&self, config: &Config) -> Result<bool, SettingsError> {
        Ok(self.0.files == Files::read(config)?)
    }

    /// Whether a node could pull this image, given as [`ImageReference::pulled`] gives it, for a pod
    /// without pull secrets.
    ///
    /// # Errors
    /// As [`RegistryClient::probe_for`].
    pub async fn probe(&self, image: &ImageReference, by: Instant) -> Result<ImageState, Unknown> {
        let nobody = PodCredentials::default();
        self.probe_for(image, &nobody, Door::Admission, by).await
    }

    /// Whether a node could pull this image for a pod with these credentials. What the background
    /// asks keeps to a quarter of what is asked at one time.
    ///
    /// An answer that comes later than `by` fills the cache, so that the next review has it.
    ///
    /// # Errors
    /// Why it is not known: the registry does not answer in time, or its answer proves nothing.
    pub async fn probe_for(
        &self,
        image: &ImageReference,
        pod: &PodCredentials,
        door: Door,
        by: Instant,
    ) -> Result<ImageState, Unknown> {
        let image = self.rewritten(image)?;
        self.0.probe(&image, pod, door, by).await
    }

    /// What `imageRewrites` make of an image.
    ///
    /// # Errors
    /// They make no reference of it.
    pub fn rewritten<'a>(
        &self,
        image: &'a ImageReference,
    ) -> Result<Cow<'a, ImageReference>, Unknown> {
        let Self(inner) = self;
        match inner.rewrites.apply(image) {
            Some(Ok(rewritten)) => Ok(Cow::Owned(rewritten)),
            Some(Err(())) => Err(inner.unknown(image, &Obstacle::Rewritten)),
            None => Ok(Cow::Borrowed(image)),
        }
    }

    /// A part of the content of an image that exists, as [`RegistryClient::probe_for`] says.
    ///
    /// A review does not wait for a configuration: it is fetched behind the answer, and the next
    /// review has it.
    ///
    /// # Errors
    /// Why it is not known.
    pub async fn content_for(
        &self,
        image: &ImageReference,
        part: Part,
        pod: &PodCredentials,
        door: Door,
        by: Instant,
    ) -> Result<ImageContent, Unknown> {
        let image = self.rewritten(image)?;
        self.0.content(&image, part, pod, door, by).await
    }
}

// === impl Inner ===

impl Inner {
    /// The hosts that a node would ask for this image.
    fn chain(&self, image: &ImageReference) -> Result<Vec<Link>, Refusal> {
        let capability = match image.digest {
            Some(_) => Capability::Pull,
            None => Capability::Resolve,
        };
        let domain = &image.repository.domain;
        self.transport.hosts().chain(domain, capability)
    }

    fn asked(&self, image: &ImageReference, credential: Option<&Credential>) -> Asked {
        Asked {
            image: image.clone(),
            fingerprint: credential.map(|credential| self.fingerprints.of(credential)),
        }
    }

    fn asking<'a>(
        &'a self,
        asked: &'a Asked,
        credential: Option<&'a Credential>,
        priority: Priority,
        by: Instant,
    ) -> Asking<'a> {
        Asking {
            transport: &self.transport,
            tokens: &self.tokens,
            limits: &self.limits,
            metrics: &self.metrics,
            image: &asked.image,
            credential,
            fingerprint: asked.fingerprint,
            is_readable: self.is_readable(&asked.image.repository.domain),
            priority,
            by,
        }
    }

    fn unknown(&self, image: &ImageReference, why: &dyn fmt::Display) -> Unknown {
        let host = &image.repository.domain;
        Unknown::Registry {
            host: host.clone(),
            why: why.to_string(),
            answered_before: self.is_readable(host),
        }
    }

    fn is_readable(&self, domain: &str) -> bool {
        let readable = self.readable.read().unwrap_or_else(PoisonError::into_inner);
        readable.contains(domain)
    }

    fn count(&self, domain: &str, outcome: &'static str) {
        let registry = self.metrics.registry_label(domain);
        let labels = RegistryLabels { registry, outcome };
        self.metrics.registry_requests.get_or_create(&labels).inc();
    }

    fn observe(&self, domain: &str, took: Duration) {
        let registry = self.metrics.registry_label(domain);
        let seconds = &self.metrics.registry_seconds;
        seconds
            .get_or_create(&RegistryLabel { registry })
            .observe(took.as_secs_f64());
    }

    fn note(&self, domain: &str, has_read: bool) {
        let registry = self.metrics.registry_label(domain);
        let label = RegistryLabel { registry };
        let readable = self.metrics.registry_readable.get_or_create(&label);
        if !has_read {
            return;
        }
        readable.set(1);
        let mut known = self
            .readable
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if known.len() < MOST_HOSTS {
            known.insert(domain.to_owned());
        }
    }
}
