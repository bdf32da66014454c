//! The registry client: can a node pull this image?
//!
//! It asks as a node would, with the credentials that a node would have as far as they are known,
//! and says "missing" only on proof. Everything else is unknown, and an unknown refuses nothing.
//!
//! ```text
//! probe ─► credentials ─► cache ─► hosts (who may be asked) ─► manifest (HEAD, GET) ─► tags (contradiction?)
//!                                                                │          │           │
//!                                                                └─ token ──┴───────────┴─► transport ─► address
//! ```

mod address;
mod challenge;
mod complaint;
pub mod credentials;
mod hosts;
mod manifest;
mod obstacle;
mod session;
mod tags;
mod token;
mod transport;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant as Clock};

use moka::Expiry;
use moka::future::Cache;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use self::credentials::{Credential, Fingerprint, Fingerprints, OwnCredentials, PodCredentials};
use self::hosts::Endpoint;
pub use self::hosts::{HostSettings, SettingsError};
use self::obstacle::Obstacle;
use self::session::Session;
use self::tags::MOST_PAGES;
use self::token::Tokens;
pub use self::transport::ClientError;
use self::transport::Transport;
use crate::evidence::{ImageState, Missing, Unknown};
use crate::report::metrics::{Metrics, RegistryLabel, RegistryLabels};
use crate::review::image::ImageReference;

/// The most time for one image, with token and confirmation.
const PROBE: Duration = Duration::from_secs(3);
/// With less time left than this, a registry is not asked any more.
const LEAST: Duration = Duration::from_millis(100);
/// How long answers hold. A tag may be moved or removed; a digest means the same for ever; a missing
/// image may be pushed at any moment.
const EXISTS_BY_TAG: Duration = Duration::from_mins(10);
const EXISTS_BY_DIGEST: Duration = Duration::from_hours(24);
const MISSING: Duration = Duration::from_secs(30);
/// What the cache holds: answers without tags, each as heavy as this many bytes of tags.
const MOST_ANSWERS: u64 = 20_000;
const BYTES_PER_ANSWER: usize = 1024;
/// Questions that are under way at one time: to hosts that have answered before, to all others, to
/// one host, and to Docker Hub, which counts.
const MOST_TO_READABLE: usize = 16;
const MOST_TO_STRANGERS: usize = 16;
const MOST_PER_HOST: usize = 4;
const MOST_TO_DOCKER_HUB: usize = 2;
/// Questions that wait or are under way. An answer that comes after seconds helps nobody.
const MOST_WAITING: usize = 4096;
/// Credentials that are tried for one image. A pull secret can hold thousands.
const MOST_CREDENTIALS: usize = 8;
/// Hosts that have limits of their own, and hosts that are remembered as readable.
const MOST_HOSTS: usize = 1024;

/// Asks registries, and remembers what they said.
#[derive(Debug)]
pub struct RegistryClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    transport: Transport,
    tokens: Tokens,
    own: OwnCredentials,
    fingerprints: Fingerprints,
    answers: Cache<Asked, Answer>,
    /// Registries that have let us read something, as images name them.
    readable: RwLock<BTreeSet<String>>,
    limits: Limits,
    metrics: Arc<Metrics>,
}

/// How much is asked at one time.
#[derive(Debug)]
struct Limits {
    waiting: Arc<Semaphore>,
    /// Hosts that have let us read something, and all others: names of nowhere, which anybody can
    /// write, shall not hold up real registries.
    readable: Semaphore,
    strangers: Semaphore,
    hosts: Cache<String, Arc<Semaphore>>,
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
type Answer = Arc<Result<ImageState, Obstacle>>;

struct Lifetimes;

// === impl RegistryClient ===

impl RegistryClient {
    /// A client that reaches registries as configured, without credentials of its own.
    ///
    /// # Errors
    /// A setting that cannot be used, or a system without CA certificates.
    pub fn new(
        settings: &BTreeMap<String, HostSettings>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ClientError> {
        Self::with_credentials(settings, OwnCredentials::default(), metrics)
    }

    /// The same, with credentials of its own.
    ///
    /// # Errors
    /// As [`RegistryClient::new`].
    pub fn with_credentials(
        settings: &BTreeMap<String, HostSettings>,
        own: OwnCredentials,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ClientError> {
        let answers = Cache::builder()
            .max_capacity(MOST_ANSWERS)
            .weigher(weight)
            .expire_after(Lifetimes)
            .build();
        Ok(Self(Arc::new(Inner {
            transport: Transport::new(settings)?,
            tokens: Tokens::new(),
            own,
            fingerprints: Fingerprints::new().ok_or(ClientError::NoRandom)?,
            answers,
            readable: RwLock::default(),
            limits: Limits {
                waiting: Arc::new(Semaphore::new(MOST_WAITING)),
                readable: Semaphore::new(MOST_TO_READABLE),
                strangers: Semaphore::new(MOST_TO_STRANGERS),
                hosts: Cache::new(MOST_HOSTS as u64),
            },
            metrics,
        })))
    }

    /// Reads the file with credentials of Forestall's own again.
    pub fn look_again(&self) {
        self.0.own.look_again();
    }

    /// Whether a node could pull this image, given as [`ImageReference::pulled`] gives it, for a pod
    /// without pull secrets.
    ///
    /// # Errors
    /// As [`RegistryClient::probe_for`].
    pub async fn probe(&self, image: &ImageReference, by: Instant) -> Result<ImageState, Unknown> {
        self.probe_for(image, &PodCredentials::default(), by).await
    }

    /// Whether a node could pull this image for a pod with these credentials.
    ///
    /// An answer that comes later than `by` fills the cache, so that the next review has it.
    ///
    /// # Errors
    /// Why it is not known: the registry does not answer in time, or its answer proves nothing.
    pub async fn probe_for(
        &self,
        image: &ImageReference,
        pod: &PodCredentials,
        by: Instant,
    ) -> Result<ImageState, Unknown> {
        let Self(inner) = self;
        let candidates = inner.candidates(image, pod, by).await;
        let mut answers = Vec::new();
        for credential in &candidates.credentials {
            let answer = inner.answer(image, credential.clone(), by).await;
            if matches!(*answer, Ok(ImageState::Exists)) {
                return Ok(ImageState::Exists);
            }
            answers.push(answer);
        }
        inner.sum_up(image, &candidates, &answers, pod.is_complete)
    }
}

// === impl Inner ===

impl Inner {
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
        by: Instant,
    ) -> Answer {
        let fingerprint = credential
            .as_deref()
            .map(|credential| self.fingerprints.of(credential));
        let asked = Asked {
            image: image.clone(),
            fingerprint,
        };
        if let Some(answer) = self.answers.get(&asked).await {
            self.metrics.registry_cache_hits.inc();
            return answer;
        }
        self.metrics.registry_cache_misses.inc();
        let domain = &image.repository.domain;
        let endpoint = match self.transport.hosts().endpoint(domain) {
            Ok(endpoint) => endpoint,
            Err(refusal) => {
                let obstacle = Obstacle::Blocked(refusal);
                self.count(domain, obstacle.outcome());
                return Arc::new(Err(obstacle));
            }
        };
        let Ok(permit) = Arc::clone(&self.limits.waiting).try_acquire_owned() else {
            return Arc::new(Err(Obstacle::Busy));
        };
        // A task of its own: a review that is cancelled does not cancel the question, which others
        // may wait for as well.
        let client = Arc::clone(self);
        let task = tokio::spawn(async move {
            let _until_it_ends = permit;
            let question = client.ask(&endpoint, &asked, credential.as_deref());
            client.answers.get_with_by_ref(&asked, question).await
        });
        match timeout_at(by, task).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Arc::new(Err(Obstacle::Panicked)),
            Err(_) => Arc::new(Err(Obstacle::TimedOut)),
        }
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
        let endpoint = self.transport.hosts().endpoint(&image.repository.domain);
        let asked = |endpoint: &Endpoint| endpoint.asked(&candidates.as_whom());
        match (
            obstacles.first(),
            answers.first().map(AsRef::as_ref),
            endpoint,
        ) {
            (None, Some(Ok(ImageState::Missing(missing))), Ok(endpoint)) => {
                Ok(ImageState::Missing(Missing {
                    asked: asked(&endpoint),
                    ..missing.clone()
                }))
            }
            (Some(_), _, Ok(endpoint))
                if endpoint.trusts_denied
                    && is_complete
                    && obstacles.iter().all(|obstacle| obstacle.is_denial()) =>
            {
                Ok(ImageState::Denied {
                    asked: asked(&endpoint),
                })
            }
            (Some(obstacle), _, _) => Err(self.unknown(image, candidates, obstacle)),
            (None, Some(Ok(state)), _) => Ok(state.clone()),
            (None, _, _) => Err(Unknown::NotAsked),
        }
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        asked: &Asked,
        credential: Option<&Credential>,
    ) -> Answer {
        let begun = Instant::now();
        let turn = self.ask_in_turn(endpoint, asked, credential, begun + PROBE);
        let answer = turn.await;
        let outcome = match &answer {
            Ok(ImageState::Exists) => "found",
            Ok(ImageState::Missing(_)) => "absent",
            Ok(ImageState::Denied { .. }) => "unauthorized",
            Err(obstacle) => obstacle.outcome(),
        };
        let domain = &asked.image.repository.domain;
        let has_read = matches!(answer, Ok(_) | Err(Obstacle::Contradiction(_)));
        let took = begun.elapsed();
        self.count(domain, outcome);
        self.observe(domain, has_read, took);
        let duration_ms = took.as_millis();
        tracing::debug!(registry = %domain, outcome, duration_ms, "asked a registry");
        Arc::new(answer)
    }

    async fn ask_in_turn(
        &self,
        endpoint: &Endpoint,
        Asked { image, fingerprint }: &Asked,
        credential: Option<&Credential>,
        by: Instant,
    ) -> Result<ImageState, Obstacle> {
        let of_host = self.limits.of_host(endpoint).await;
        let of_all = if self.is_readable(&image.repository.domain) {
            &self.limits.readable
        } else {
            &self.limits.strangers
        };
        // First the host's turn, so that those who wait for a slow host hold up no others.
        let turn = async { (of_host.acquire().await, of_all.acquire().await) };
        let _turn = timeout_at(by, turn).await.map_err(|_| Obstacle::Busy)?;
        if by.saturating_duration_since(Instant::now()) < LEAST {
            return Err(Obstacle::Busy);
        }
        let session = Session {
            transport: &self.transport,
            tokens: &self.tokens,
            endpoint,
            repository: &image.repository.path,
            credential,
            fingerprint: *fingerprint,
            by,
        };
        let state = manifest::state(&session, image).await?;
        match (state, &image.tag) {
            (ImageState::Missing(missing), Some(tag))
                if credential.is_some_and(|credential| !credential.origin().is_workload()) =>
            {
                // What Forestall's own credentials open is not for everybody who can ask.
                let anonymous = Session {
                    credential: None,
                    fingerprint: None,
                    ..session
                };
                let listed = tags::list(&anonymous, tag, MOST_PAGES).await;
                let names = listed.map(|tags| tags.names).unwrap_or_default();
                Ok(ImageState::Missing(Missing {
                    tags: Arc::new(names),
                    ..missing
                }))
            }
            (state, _) => Ok(state),
        }
    }

    fn unknown(
        &self,
        image: &ImageReference,
        candidates: &Candidates,
        obstacle: &Obstacle,
    ) -> Unknown {
        let host = &image.repository.domain;
        let is_named = candidates.credentials.iter().any(Option::is_some);
        let why = if obstacle.is_denial() && is_named {
            format!("{obstacle}; asked {}", candidates.as_whom())
        } else {
            obstacle.to_string()
        };
        Unknown::Registry {
            host: host.clone(),
            why,
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
    /// As a message says it, such as `as pull secret shop/regcred`.
    fn as_whom(&self) -> String {
        let named = self.credentials.iter().map(|credential| {
            let origin = credential.as_deref().map(Credential::origin);
            origin.map_or_else(|| "anonymous".to_owned(), ToString::to_string)
        });
        let mut named: Vec<String> = named.collect();
        named.dedup();
        named.join(", then ")
    }
}

// === impl Limits ===

impl Limits {
    async fn of_host(&self, endpoint: &Endpoint) -> Arc<Semaphore> {
        let most = if endpoint.is_docker_hub() {
            MOST_TO_DOCKER_HUB
        } else {
            MOST_PER_HOST
        };
        let host = endpoint.base.authority();
        let made = async { Arc::new(Semaphore::new(most)) };
        self.hosts.get_with_by_ref(host, made).await
    }
}

// === impl Lifetimes ===

impl Expiry<Asked, Answer> for Lifetimes {
    fn expire_after_create(&self, asked: &Asked, answer: &Answer, _: Clock) -> Option<Duration> {
        Some(lifetime(&asked.image, answer))
    }
}

fn lifetime(image: &ImageReference, answer: &Result<ImageState, Obstacle>) -> Duration {
    match answer {
        Ok(ImageState::Exists) if image.digest.is_some() => EXISTS_BY_DIGEST,
        Ok(ImageState::Exists) => EXISTS_BY_TAG,
        Ok(ImageState::Missing(_) | ImageState::Denied { .. }) => MISSING,
        Err(obstacle) => obstacle.lifetime(),
    }
}

/// In answers without tags, so that the cache is bounded in number and in bytes.
fn weight(_: &Asked, answer: &Answer) -> u32 {
    let bytes = match answer.as_ref() {
        Ok(ImageState::Missing(missing)) => {
            let of_tag = |tag: &String| size_of::<String>() + tag.capacity();
            missing.tags.iter().map(of_tag).sum()
        }
        _ => 0,
    };
    u32::try_from(1 + bytes / BYTES_PER_ANSWER).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::MissingPart;

    fn missing(tags: usize) -> ImageState {
        ImageState::Missing(Missing {
            what: MissingPart::Tag,
            asked: String::new(),
            tags: Arc::new(vec!["v1.2.3".to_owned(); tags]),
        })
    }

    #[test]
    fn registry_case_73_what_may_change_soon_is_asked_again_soon() {
        let reference = |text: &str| ImageReference::parse(text).unwrap().pulled();
        let tag = reference("nginx:1");
        let digest = reference(&format!("nginx@sha256:{}", "a".repeat(64)));
        for (image, answer, seconds) in [
            (&tag, Ok(ImageState::Exists), 600),
            (&digest, Ok(ImageState::Exists), 86_400),
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

    #[test]
    fn an_answer_weighs_what_its_tags_weigh() {
        let image = Asked {
            image: ImageReference::parse("nginx").unwrap(),
            fingerprint: None,
        };
        assert_eq!(weight(&image, &Arc::new(Ok(ImageState::Exists))), 1);
        assert_eq!(weight(&image, &Arc::new(Ok(missing(0)))), 1);
        let many = weight(&image, &Arc::new(Ok(missing(20_000))));
        assert!((500..1000).contains(&many), "{many}");
    }
}
