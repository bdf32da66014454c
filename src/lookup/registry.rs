//! The registry client: can a node pull this image?
//!
//! It asks as a node would, with the credentials that a node would have as far as they are known,
//! and says "missing" only on proof. Everything else is unknown, and an unknown refuses nothing.
//!
//! ```text
//! probe ─► credentials ─► cache ─► hosts (who may be asked) ─► chain ─► limits ─► manifest (HEAD, GET) ─► tags
//!                                   │                                               │          │           │
//!                                   └─ settings, containerd's files                 └─ token ──┴───────────┴─► transport ─► address
//! ```

mod address;
mod chain;
mod challenge;
mod complaint;
mod content;
pub mod credentials;
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
use std::time::{Duration, Instant as Clock};

use moka::Expiry;
use moka::future::Cache;
use tokio::time::{Instant, timeout_at};

use self::chain::Asking;
pub use self::content::Part;
use self::content::{Contents, Pinned};
use self::credentials::{Credential, Fingerprint, Fingerprints, OwnCredentials, PodCredentials};
use self::errands::{Errand, Errands};
use self::hosts::{ANONYMOUS, Files, Hosts, Link};
use self::limits::{Limits, Priority};
use self::manifest::{ABSENT, Found};
use self::obstacle::{Obstacle, Refusal};
use self::settings::Rewrites;
pub use self::settings::{
    Capability, HostSettings, ImageRewrite, Role, ServerSettings, SettingsError, check_rewrites,
};
use self::token::Tokens;
pub use self::transport::ClientError;
use self::transport::Transport;
use crate::config::Config;
use crate::evidence::{Fact, ImageState, Missing, Unknown};
use crate::report::metrics::{Metrics, RegistryLabel, RegistryLabels};
use crate::review::Door;
use crate::review::image::ImageReference;

/// The most time for one image, with token and confirmation.
const PROBE: Duration = Duration::from_secs(3);
/// How long answers hold. A tag may be moved or removed; a digest means the same for ever; a missing
/// image may be pushed at any moment.
const EXISTS_BY_TAG: Duration = Duration::from_mins(10);
const EXISTS_BY_DIGEST: Duration = Duration::from_hours(24);
const MISSING: Duration = Duration::from_secs(30);
/// How long a tag that existed is believed to exist while it is asked anew, and while its registry
/// does not answer.
const EXISTED: Duration = Duration::from_hours(6);
/// What the cache holds: answers without tags, each as heavy as this many bytes of tags.
const MOST_ANSWERS: u64 = 20_000;
const BYTES_PER_ANSWER: usize = 1024;
/// Credentials that are tried for one image. A pull secret can hold thousands.
const MOST_CREDENTIALS: usize = 8;
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

/// Those as whom a registry is asked for one image, in order; `None` is nobody.
struct Candidates {
    credentials: Vec<Option<Arc<Credential>>>,
    /// Why a node may have others.
    obstacle: Option<Obstacle>,
}

/// What came of asking.
type Answer = Arc<Result<Found, Obstacle>>;

struct Lifetimes;

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
        let answers = Cache::builder()
            .max_capacity(MOST_ANSWERS)
            .weigher(weight)
            .expire_after(Lifetimes)
            .build();
        let existed = Cache::builder()
            .max_capacity(MOST_ANSWERS)
            .time_to_live(EXISTED)
            .build();
        let files = Files::read(config)?;
        let hosts = Hosts::new(&config.registries, files.clone())?;
        Ok(Self(Arc::new(Inner {
            files,
            transport: Transport::new(hosts)?,
            rewrites: Rewrites::new(&config.image_rewrites)?,
            tokens: Tokens::new(),
            own,
            fingerprints: Fingerprints::new().ok_or(ClientError::NoRandom)?,
            answers,
            existed,
            contents: Contents::new(),
            errands: Arc::default(),
            readable: RwLock::default(),
            limits: Limits::new(),
            metrics,
        })))
    }

    /// Reads the file with credentials of Forestall's own again.
    pub fn look_again(&self) {
        self.0.own.look_again();
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
    ) -> Result<Fact, Unknown> {
        let image = self.rewritten(image)?;
        self.0.content(&image, part, pod, door, by).await
    }
}

// === impl Inner ===

impl Inner {
    async fn probe(
        self: &Arc<Self>,
        image: &ImageReference,
        pod: &PodCredentials,
        door: Door,
        by: Instant,
    ) -> Result<ImageState, Unknown> {
        let candidates = self.candidates(image, pod, by).await;
        let mut answers = Vec::new();
        for credential in &candidates.credentials {
            let answer = self.answer(image, credential.clone(), door, by).await;
            if let Ok(found) = answer.as_ref()
                && found.is_there()
            {
                return Ok(found.state.clone());
            }
            answers.push(answer);
        }
        self.sum_up(image, &candidates, &answers, pod.is_complete)
    }

    async fn candidates(
        &self,
        image: &ImageReference,
        pod: &PodCredentials,
        by: Instant,
    ) -> Candidates {
        let nobody = || Candidates {
            credentials: vec![None],
            obstacle: None,
        };
        if pod.keyring.is_empty() && self.own.is_empty() {
            return nobody();
        }
        let repository = image.repository.to_string();
        let mut credentials = pod.keyring.lookup(&repository);
        let own = self.own.lookup(&repository, by).await;
        credentials.extend(own.credentials);
        if credentials.is_empty() && own.obstacle.is_none() {
            return nobody();
        }
        let too_many = (credentials.len() > MOST_CREDENTIALS)
            .then_some(Obstacle::TooManyCredentials(MOST_CREDENTIALS));
        let named = credentials.into_iter().take(MOST_CREDENTIALS);
        Candidates {
            credentials: named
                .map(|credential| (!credential.is_anonymous()).then_some(credential))
                .collect(),
            obstacle: own.obstacle.or(too_many),
        }
    }

    /// What a registry says to one of them.
    async fn answer(
        self: &Arc<Self>,
        image: &ImageReference,
        credential: Option<Arc<Credential>>,
        door: Door,
        by: Instant,
    ) -> Answer {
        let asked = self.asked(image, credential.as_deref());
        if let Some(answer) = self.answers.get(&asked).await {
            self.metrics.registry_cache_hits.inc();
            return self.or_existed(&asked, answer).await;
        }
        // A review is not held up by what hardly ever changes. Whoever judges what is there has time.
        if door == Door::Admission
            && let Some(existed) = self.existed.get(&asked).await
        {
            self.metrics.registry_cache_hits.inc();
            self.ask_anew(asked, credential);
            return existed;
        }
        self.metrics.registry_cache_misses.inc();
        let chain = match self.chain(image) {
            Ok(chain) => chain,
            Err(refusal) => {
                let obstacle = Obstacle::Blocked(refusal);
                self.count(&image.repository.domain, obstacle.outcome());
                return Arc::new(Err(obstacle));
            }
        };
        let Some(permit) = self.limits.wait() else {
            let busy = Arc::new(Err(Obstacle::Busy));
            return self.or_existed(&asked, busy).await;
        };
        // A task of its own: a review that is cancelled does not cancel the question, which others
        // may wait for as well.
        let (client, question) = (Arc::clone(self), asked.clone());
        let task = tokio::spawn(async move {
            let _until_it_ends = permit;
            let credential = credential.as_deref();
            match Priority::of(door) {
                Priority::Awaited => {
                    let asking = client.ask(&chain, &question, credential, Priority::Awaited);
                    client.answers.get_with_by_ref(&question, asking).await
                }
                Priority::Behind => client.ask_behind(&chain, &question, credential).await,
            }
        });
        let answer = match timeout_at(by, task).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Arc::new(Err(Obstacle::Panicked)),
            Err(_) => Arc::new(Err(Obstacle::TimedOut)),
        };
        self.or_existed(&asked, answer).await
    }

    /// Asks behind the answer, once at a time.
    fn ask_anew(self: &Arc<Self>, asked: Asked, credential: Option<Arc<Credential>>) {
        let under_way = self.errands.begin(Errand::Image(asked.clone()));
        let (Some(under_way), Ok(chain)) = (under_way, self.chain(&asked.image)) else {
            return;
        };
        let Some(permit) = self.limits.wait() else {
            return;
        };
        let client = Arc::clone(self);
        tokio::spawn(async move {
            let _until_it_ends = (permit, under_way);
            let credential = credential.as_deref();
            client.ask_behind(&chain, &asked, credential).await;
        });
    }

    /// Asks as nobody waits. A review that wants to know the same does not wait for this either, so
    /// it is told when there is an answer, and not of the wait.
    async fn ask_behind(
        &self,
        chain: &[Link],
        asked: &Asked,
        credential: Option<&Credential>,
    ) -> Answer {
        let answer = self.ask(chain, asked, credential, Priority::Behind).await;
        if !is_wait(&answer) {
            self.answers
                .insert(asked.clone(), Arc::clone(&answer))
                .await;
        }
        answer
    }

    /// The answer, or where the registry is away what is known of the image: one that existed not
    /// long ago is believed to exist. That a tag was missing is not: it may have been pushed since.
    async fn or_existed(&self, asked: &Asked, answer: Answer) -> Answer {
        let is_away = matches!(answer.as_ref(), Err(obstacle) if obstacle.is_outage());
        let existed = if is_away {
            self.existed.get(asked).await
        } else {
            None
        };
        existed.unwrap_or(answer)
    }

    /// What the answers mean together. An image is missing only for a node that finds it with none
    /// of its credentials.
    fn sum_up(
        &self,
        image: &ImageReference,
        candidates: &Candidates,
        answers: &[Answer],
        is_complete: bool,
    ) -> Result<ImageState, Unknown> {
        let failed = answers
            .iter()
            .filter_map(|answer| answer.as_ref().as_ref().err());
        let obstacles: Vec<&Obstacle> = candidates.obstacle.iter().chain(failed).collect();
        let domain = &image.repository.domain;
        let asked = || {
            let chain = self.chain(image).unwrap_or_default();
            let endpoints = chain.iter().filter_map(|link| link.endpoint.as_ref().ok());
            let asked = endpoints.map(|endpoint| endpoint.asked(domain, &candidates.as_whom()));
            asked.collect::<Vec<_>>().join(", ")
        };
        match (obstacles.first(), answers.first().map(AsRef::as_ref)) {
            (None, Some(Ok(found))) => Ok(match &found.state {
                ImageState::Missing(missing) => ImageState::Missing(Missing {
                    asked: asked(),
                    ..missing.clone()
                }),
                state => state.clone(),
            }),
            (Some(_), _)
                if is_complete
                    && obstacles.iter().all(|obstacle| obstacle.is_denial())
                    && self.transport.hosts().trusts_denied(domain) =>
            {
                Ok(ImageState::Denied { asked: asked() })
            }
            (Some(obstacle), _) => {
                let why = if obstacle.is_denial() && candidates.are_named() {
                    format!("{obstacle}; asked {}", candidates.as_whom())
                } else {
                    obstacle.to_string()
                };
                Err(self.unknown(image, &why))
            }
            (None, _) => Err(Unknown::NotAsked),
        }
    }

    /// The hosts that a node would ask for this image.
    fn chain(&self, image: &ImageReference) -> Result<Vec<Link>, Refusal> {
        let capability = match image.digest {
            Some(_) => Capability::Pull,
            None => Capability::Resolve,
        };
        let domain = &image.repository.domain;
        self.transport.hosts().chain(domain, capability)
    }

    /// By the first credential that may read the image.
    async fn content(
        self: &Arc<Self>,
        image: &ImageReference,
        part: Part,
        pod: &PodCredentials,
        door: Door,
        by: Instant,
    ) -> Result<Fact, Unknown> {
        let candidates = self.candidates(image, pod, by).await;
        let mut unknown = candidates.obstacle.clone().unwrap_or(Obstacle::NoHost);
        for credential in &candidates.credentials {
            let credential = credential.clone();
            match self.content_as(image, part, credential, door, by).await {
                Ok(fact) => return Ok(fact),
                Err(Obstacle::BeingFetched) => {
                    let host = image.repository.domain.clone();
                    return Err(Unknown::BeingFetched(host));
                }
                Err(obstacle) => unknown = obstacle,
            }
        }
        Err(self.unknown(image, &unknown))
    }

    async fn content_as(
        self: &Arc<Self>,
        image: &ImageReference,
        part: Part,
        credential: Option<Arc<Credential>>,
        door: Door,
        by: Instant,
    ) -> Result<Fact, Obstacle> {
        // Who may not see the image is not told what is in it, though it may be known.
        let answer = self.answer(image, credential.clone(), door, by).await;
        let digest = match answer.as_ref() {
            Ok(found) if found.is_there() => found.digest.clone(),
            Ok(_) => return Err(ABSENT),
            Err(obstacle) => return Err(obstacle.clone()),
        };
        let pinned = Pinned {
            repository: image.repository.clone(),
            digest: digest.ok_or(Obstacle::Malformed("does not say what its tag stands for"))?,
        };
        if let Some(known) = self.contents.known(&pinned, part).await {
            return known;
        }
        let is_behind = part == Part::Config && door == Door::Admission;
        let priority = if is_behind {
            Priority::Behind
        } else {
            Priority::of(door)
        };
        let errand = is_behind.then(|| self.errands.begin(Errand::Config(pinned.clone())));
        if let Some(None) = errand {
            return Err(Obstacle::BeingFetched);
        }
        let asked = self.asked(image, credential.as_deref());
        let chain = self.chain(image)?;
        let permit = self.limits.wait().ok_or(Obstacle::Busy)?;
        let client = Arc::clone(self);
        let task = tokio::spawn(async move {
            let _until_it_ends = (permit, errand);
            let fetched = Box::pin(async {
                let by = Instant::now() + PROBE;
                let asking = client.asking(&asked, credential.as_deref(), priority, by);
                asking.fetch(&chain, &client.contents, &pinned, part).await
            });
            client.contents.once(&pinned, part, fetched).await
        });
        if is_behind {
            return Err(Obstacle::BeingFetched);
        }
        match timeout_at(by, task).await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err(_)) => Err(Obstacle::Panicked),
            Err(_) => Err(Obstacle::TimedOut),
        }
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

    async fn ask(
        &self,
        chain: &[Link],
        asked: &Asked,
        credential: Option<&Credential>,
        priority: Priority,
    ) -> Answer {
        let begun = Instant::now();
        let domain = &asked.image.repository.domain;
        let asking = self.asking(asked, credential, priority, begun + PROBE);
        let answer = asking.ask(chain).await;
        if priority == Priority::Behind && is_wait(&answer) {
            // Nobody was asked, and nobody misses it: it counts for no outage.
            return Arc::new(answer);
        }
        let outcome = match &answer {
            Ok(found) if found.is_there() => "found",
            Ok(_) => "absent",
            Err(obstacle) => obstacle.outcome(),
        };
        let answer = Arc::new(answer);
        match answer.as_ref() {
            Ok(found) if found.state == ImageState::Exists => {
                let existed = Arc::clone(&answer);
                self.existed.insert(asked.clone(), existed).await;
            }
            Err(obstacle) if obstacle.is_outage() => {}
            // It is gone, or the registry is there and will not say any more.
            _ => self.existed.invalidate(asked).await,
        }
        let has_read = matches!(answer.as_ref(), Ok(_) | Err(Obstacle::Contradiction(_)));
        let took = begun.elapsed();
        self.count(domain, outcome);
        self.observe(domain, has_read, took);
        let duration_ms = took.as_millis();
        tracing::debug!(registry = %domain, outcome, duration_ms, "asked a registry");
        answer
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

    fn observe(&self, domain: &str, has_read: bool, took: Duration) {
        let registry = self.metrics.registry_label(domain);
        let label = RegistryLabel { registry };
        let seconds = self.metrics.registry_seconds.get_or_create(&label);
        seconds.observe(took.as_secs_f64());
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

// === impl Candidates ===

impl Candidates {
    /// Whether anybody is asked as somebody.
    fn are_named(&self) -> bool {
        self.credentials.iter().any(Option::is_some)
    }

    /// As a message says it, such as `as pull secret shop/regcred`.
    fn as_whom(&self) -> String {
        let named = self.credentials.iter().map(|credential| {
            let origin = credential.as_deref().map(Credential::origin);
            origin.map_or_else(|| ANONYMOUS.to_owned(), ToString::to_string)
        });
        let mut named: Vec<String> = named.collect();
        named.dedup();
        named.join(", then ")
    }
}

// === impl Lifetimes ===

impl Expiry<Asked, Answer> for Lifetimes {
    fn expire_after_create(&self, asked: &Asked, answer: &Answer, _: Clock) -> Option<Duration> {
        Some(lifetime(&asked.image, answer))
    }

    fn expire_after_update(
        &self,
        asked: &Asked,
        answer: &Answer,
        _: Clock,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(lifetime(&asked.image, answer))
    }
}

fn lifetime(image: &ImageReference, answer: &Result<Found, Obstacle>) -> Duration {
    match answer {
        Ok(found) if !found.is_there() => MISSING,
        Ok(_) if image.digest.is_some() => EXISTS_BY_DIGEST,
        Ok(_) => EXISTS_BY_TAG,
        Err(obstacle) => obstacle.lifetime(),
    }
}

fn is_wait(answer: &Result<Found, Obstacle>) -> bool {
    answer.as_ref().is_err_and(Obstacle::is_wait)
}

/// In answers without tags, so that the cache is bounded in number and in bytes.
fn weight(_: &Asked, answer: &Answer) -> u32 {
    let bytes = match answer.as_ref() {
        Ok(Found {
            state: ImageState::Missing(missing),
            ..
        }) => {
            let of_tag = |tag: &String| size_of::<String>() + tag.capacity();
            missing.tags.iter().map(of_tag).sum()
        }
        _ => 0,
    };
    u32::try_from(1 + bytes / BYTES_PER_ANSWER).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::evidence::MissingPart;

    fn missing(tags: usize) -> Found {
        Found::from(ImageState::Missing(Missing {
            what: MissingPart::Tag,
            asked: String::new(),
            tags: Arc::new(vec!["v1.2.3".to_owned(); tags]),
            holder: Ok(None),
        }))
    }

    fn exists() -> Found {
        Found::from(ImageState::Exists)
    }

    #[test]
    fn registry_case_73_what_may_change_soon_is_asked_again_soon() {
        let reference = |text: &str| ImageReference::parse(text).unwrap().pulled();
        let tag = reference("nginx:1");
        let digest = reference(&format!("nginx@sha256:{}", "a".repeat(64)));
        for (image, answer, seconds) in [
            (&tag, Ok(exists()), 600),
            (&digest, Ok(exists()), 86_400),
            (&tag, Ok(missing(0)), 30),
            (&digest, Ok(missing(0)), 30),
            (&tag, Err(Obstacle::Denied(401)), 60),
            (&tag, Err(Obstacle::Status(500)), 5),
            (&tag, Err(Obstacle::TimedOut), 5),
            (
                &tag,
                Err(Obstacle::TokenServer(Box::new(Obstacle::Denied(403)))),
                60,
            ),
        ] {
            let lifetime = lifetime(image, &answer);
            assert_eq!(lifetime.as_secs(), seconds, "{answer:?}");
        }
    }

    /// A registry whose status can be changed; 0 ends the connection without an answer.
    struct Registry {
        address: std::net::SocketAddr,
        status: Arc<AtomicU16>,
        asked: Arc<AtomicUsize>,
    }

    impl Registry {
        async fn start() -> Self {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let registry = Self {
                address: listener.local_addr().unwrap(),
                status: Arc::new(AtomicU16::new(200)),
                asked: Arc::default(),
            };
            let (status, asked) = (Arc::clone(&registry.status), Arc::clone(&registry.asked));
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let mut request = [0; 1024];
                    assert!(stream.read(&mut request).await.unwrap() > 0);
                    asked.fetch_add(1, Ordering::SeqCst);
                    let status = status.load(Ordering::SeqCst);
                    let body = match status {
                        404 => r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#,
                        _ => "",
                    };
                    let length = body.len();
                    let head = format!("HTTP/1.1 {status} Said\r\nConnection: close\r\n");
                    let answer = format!("{head}Content-Length: {length}\r\n\r\n{body}");
                    // It takes a moment, in which others may ask for the same.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    if status != 0 {
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            });
            registry
        }

        fn client(&self) -> RegistryClient {
            let server = format!("server: 'http://{}'", self.address);
            let yaml = format!("registries: {{registry.test: {{{server}}}}}");
            let config = Config::parse("config.yaml", &yaml).unwrap();
            RegistryClient::new(&config, Arc::default()).unwrap()
        }

        fn says(&self, status: u16) {
            self.status.store(status, Ordering::SeqCst);
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }
    }

    fn image() -> ImageReference {
        ImageReference::parse("registry.test/a:1").unwrap()
    }

    /// Waits until nothing goes on behind the answers.
    async fn quiet(client: &RegistryClient) {
        let errand = Errand::Image(client.0.asked(&image(), None));
        let by = Instant::now() + Duration::from_secs(20);
        while client.0.errands.begin(errand.clone()).is_none() {
            assert!(Instant::now() < by);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn probe(client: &RegistryClient, door: Door) -> Result<ImageState, Unknown> {
        let (nobody, by) = (
            PodCredentials::default(),
            Instant::now() + Duration::from_secs(20),
        );
        client.probe_for(&image(), &nobody, door, by).await
    }

    #[tokio::test]
    async fn registry_case_74_an_image_that_existed_is_believed_while_its_registry_is_away() {
        let registry = Registry::start().await;
        let client = registry.client();
        let new = ImageReference::parse("registry.test/a:new").unwrap();
        let by = Instant::now() + Duration::from_secs(20);
        assert_eq!(probe(&client, Door::Files).await, Ok(ImageState::Exists));
        client.0.answers.invalidate_all();
        registry.says(0);
        for door in [Door::Files, Door::Cluster, Door::Admission] {
            let answer = probe(&client, door).await;
            assert_eq!(answer, Ok(ImageState::Exists), "{door:?}");
        }
        assert!(client.probe(&new, by).await.is_err());
        // A registry that is there and will not say is another matter, then and from then on.
        client.0.answers.invalidate_all();
        registry.says(401);
        for status in [401, 0] {
            registry.says(status);
            assert!(probe(&client, Door::Files).await.is_err());
            client.0.answers.invalidate_all();
        }
    }

    #[tokio::test]
    async fn a_review_is_told_at_once_of_an_image_that_existed_and_it_is_asked_anew_once() {
        let registry = Registry::start().await;
        let client = registry.client();
        assert_eq!(
            probe(&client, Door::Admission).await,
            Ok(ImageState::Exists)
        );
        assert_eq!(registry.asked(), 1);
        // Ten minutes later.
        client.0.answers.invalidate_all();
        for _ in 0..20 {
            let by = Instant::now();
            assert_eq!(client.probe(&image(), by).await, Ok(ImageState::Exists));
        }
        quiet(&client).await;
        assert_eq!(registry.asked(), 2);
        // Now it is known afresh.
        assert_eq!(
            probe(&client, Door::Admission).await,
            Ok(ImageState::Exists)
        );
        assert_eq!(registry.asked(), 2);
    }

    #[tokio::test]
    async fn registry_case_73_an_image_that_is_gone_is_found_out_behind_and_missing_is_never_stale()
    {
        let registry = Registry::start().await;
        let client = registry.client();
        assert_eq!(
            probe(&client, Door::Admission).await,
            Ok(ImageState::Exists)
        );
        registry.says(404);
        client.0.answers.invalidate_all();
        assert_eq!(
            probe(&client, Door::Admission).await,
            Ok(ImageState::Exists)
        );
        quiet(&client).await;
        // HEAD, GET and the list of tags.
        assert_eq!(registry.asked(), 4);
        let answer = probe(&client, Door::Admission).await;
        assert!(matches!(answer, Ok(ImageState::Missing(_))), "{answer:?}");
        // Half a minute later it may have been pushed, and a review waits to know.
        registry.says(200);
        client.0.answers.invalidate_all();
        assert_eq!(
            probe(&client, Door::Admission).await,
            Ok(ImageState::Exists)
        );
        // What judges the cluster, and files, is not told what was.
        registry.says(404);
        for door in [Door::Cluster, Door::Files] {
            client.0.answers.invalidate_all();
            let answer = probe(&client, door).await;
            assert!(matches!(answer, Ok(ImageState::Missing(_))), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn docker_hub_is_not_asked_for_more_configurations_than_it_gives() {
        let client = RegistryClient::new(&Config::default(), Arc::default()).unwrap();
        let inner = &client.0;
        while inner.limits.spend_a_pull(Instant::now()).is_ok() {}
        let image = ImageReference::parse("nginx:1").unwrap();
        let asked = inner.asked(&image, None);
        let chain = inner.chain(&image).unwrap();
        let pinned = Pinned {
            repository: image.repository.clone(),
            digest: format!("sha256:{}", "a".repeat(64)),
        };
        let by = Instant::now() + PROBE;
        let asking = inner.asking(&asked, None, Priority::Awaited, by);
        let fetched = asking.fetch(&chain, &inner.contents, &pinned, Part::Config);
        assert!(matches!(fetched.await, Err(Obstacle::Spent(20))));
    }

    #[test]
    fn an_answer_weighs_what_its_tags_weigh() {
        let image = Asked {
            image: ImageReference::parse("nginx").unwrap(),
            fingerprint: None,
        };
        assert_eq!(weight(&image, &Arc::new(Ok(exists()))), 1);
        assert_eq!(weight(&image, &Arc::new(Ok(missing(0)))), 1);
        let many = weight(&image, &Arc::new(Ok(missing(20_000))));
        assert!((500..1000).contains(&many), "{many}");
    }
}
