//! The registry client: can a node pull this image?
//!
//! It asks as a node would, with the credentials that a node would have as far as they are known,
//! and says "missing" only on proof. Everything else is unknown, and an unknown refuses nothing.
//!
//! ```text
//! identities ─► answers ─► hosts (who may be asked) ─► chain ─► limits ─┬► manifest (HEAD, GET) ─► tags
//!  (as whom)    (cache)      │                                           └► content (of what is there)
//!                            └─ settings, containerd's files
//! all of them: session ─► token, transport ─► address
//! ```

mod address;
mod answers;
mod chain;
mod challenge;
mod content;
pub mod credentials;
mod endpoint;
mod error_body;
mod hosts;
mod hosts_directory;
mod identities;
mod limits;
mod manifest;
mod probe_error;
mod session;
mod settings;
mod single_flight;
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

use self::answers::ProbeAnswer;
use self::chain::Asking;
use self::content::Contents;
pub use self::content::{ImageContent, Part};
use self::credentials::{Credential, Fingerprint, Fingerprints, OwnCredentials, PodCredentials};
use self::hosts::{Hosts, Link, SettingsFiles};
use self::limits::{HostLimits, Priority};
use self::probe_error::{ProbeError, Refusal};
use self::settings::Rewrites;
pub use self::settings::{
    Capability, HostSettings, ImageRewrite, RegistrySettings, Role, ServerSettings, SettingsError,
};
use self::single_flight::SingleFlight;
use self::token::Tokens;
pub use self::transport::ClientError;
use self::transport::Transport;
use crate::image::ImageReference;
use crate::image::ImageState;
use crate::unknown::Unknown;

/// Hosts that are remembered as readable.
const MOST_HOSTS: usize = 1024;

/// Asks registries, and remembers what they said.
#[derive(Debug)]
pub struct RegistryClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What it was made of, to see what has changed.
    files: SettingsFiles,
    transport: Transport,
    rewrites: Rewrites,
    tokens: Tokens,
    own: OwnCredentials,
    fingerprints: Fingerprints,
    answers: Cache<Asked, ProbeAnswer>,
    /// Images that stale not long ago.
    stale: Cache<Asked, ProbeAnswer>,
    contents: Contents,
    single_flight: Arc<SingleFlight>,
    /// Registries that have let us read something, as images name them.
    readable: RwLock<BTreeSet<String>>,
    limits: HostLimits,
    observer: Arc<dyn Observer>,
}

/// How long whoever asks can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Not long: what is known from before is enough, and is asked anew behind the answer.
    Immediate,
    /// As long as it takes.
    Patient,
    /// Nobody waits. It keeps to a quarter of what is asked at one time.
    Background,
}

/// Counts what a client does. A registry is named as images name it, a host as it is asked.
pub trait Observer: fmt::Debug + Send + Sync {
    /// A question to a registry ended: `exists`, `missing`, or the outcome of a probe that failed.
    fn ended(&self, registry: &str, outcome: &'static str);
    /// A question that somebody waits for took so long.
    fn took(&self, registry: &str, time: Duration);
    /// An answer came out of the cache, or did not.
    fn looked_up(&self, is_hit: bool);
    /// Whether a registry let us read something now.
    fn readable(&self, registry: &str, has_read: bool);
    /// Whether a host is left alone for a while.
    fn left_alone(&self, host: &str, is_left_alone: bool);
    /// How many requests a host says that it still gives.
    fn remaining(&self, host: &str, requests: u32);
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
    pub fn new(
        settings: &RegistrySettings,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, ClientError> {
        Self::with_credentials(settings, OwnCredentials::read(settings)?, observer)
    }

    /// The same with these credentials of its own, whatever the configuration says of them.
    ///
    /// # Errors
    /// As [`RegistryClient::new`].
    pub fn with_credentials(
        settings: &RegistrySettings,
        own: OwnCredentials,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, ClientError> {
        let files = SettingsFiles::read(settings)?;
        let hosts = Hosts::new(&settings.hosts, files.clone())?;
        Ok(Self(Arc::new(Inner {
            files,
            transport: Transport::new(hosts)?,
            rewrites: Rewrites::new(&settings.image_rewrites)?,
            tokens: Tokens::new(),
            own,
            fingerprints: Fingerprints::new().ok_or(ClientError::NoRandom)?,
            answers: answers::answers(),
            stale: answers::stale(),
            contents: Contents::new(),
            single_flight: Arc::default(),
            readable: RwLock::default(),
            limits: HostLimits::new(),
            observer,
        })))
    }

    /// Reads the file with credentials of Forestall's own again.
    pub fn reload(&self) {
        self.0.own.reload();
    }

    /// Whether the files that these settings name are still those that this client was made of.
    ///
    /// # Errors
    /// A file that cannot be used any more.
    pub fn has_files_of(&self, settings: &RegistrySettings) -> Result<bool, SettingsError> {
        Ok(self.0.files == SettingsFiles::read(settings)?)
    }

    /// Whether a node could pull this image, given as [`ImageReference::pulled`] gives it, for a pod
    /// without pull secrets.
    ///
    /// # Errors
    /// As [`RegistryClient::probe_for`].
    pub async fn probe(&self, image: &ImageReference, by: Instant) -> Result<ImageState, Unknown> {
        let nobody = PodCredentials::default();
        self.probe_for(image, &nobody, Urgency::Immediate, by).await
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
        urgency: Urgency,
        by: Instant,
    ) -> Result<ImageState, Unknown> {
        let image = self.rewritten(image)?;
        self.0.probe(&image, pod, urgency, by).await
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
            Some(Err(())) => Err(inner.unknown(image, &ProbeError::Rewritten)),
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
        urgency: Urgency,
        by: Instant,
    ) -> Result<ImageContent, Unknown> {
        let image = self.rewritten(image)?;
        self.0.content(&image, part, pod, urgency, by).await
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
            observer: self.observer.as_ref(),
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

    fn note(&self, domain: &str, has_read: bool) {
        self.observer.readable(domain, has_read);
        if !has_read {
            return;
        }
        let mut known = self
            .readable
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if known.len() < MOST_HOSTS {
            known.insert(domain.to_owned());
        }
    }
}
