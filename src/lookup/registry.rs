//! The registry client: can a node pull this image?
//!
//! It asks as a node would, without credentials, and says "missing" only on proof. Everything else
//! is unknown, and an unknown refuses nothing.
//!
//! ```text
//! probe ─► cache ─► hosts (who may be asked) ─► manifest (HEAD, GET) ─► tags (contradiction?)
//!                                                  │          │           │
//!                                                  └─ token ──┴───────────┴─► transport ─► address
//! ```

mod address;
mod challenge;
mod complaint;
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

use self::hosts::Endpoint;
pub use self::hosts::{HostSettings, SettingsError};
use self::obstacle::Obstacle;
use self::session::Session;
use self::token::Tokens;
pub use self::transport::ClientError;
use self::transport::Transport;
use crate::evidence::{ImageState, Unknown};
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
/// Hosts that have limits of their own, and hosts that are remembered as readable.
const MOST_HOSTS: usize = 1024;

/// Asks registries, and remembers what they said.
#[derive(Debug)]
pub struct RegistryClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    transport: Transport,
    tokens: Tokens,
    answers: Cache<ImageReference, Answer>,
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

/// What came of asking.
type Answer = Arc<Result<ImageState, Obstacle>>;

struct Lifetimes;

// === impl RegistryClient ===

impl RegistryClient {
    /// A client that reaches registries as configured.
    ///
    /// # Errors
    /// A setting that cannot be used, or a system without CA certificates.
    pub fn new(
        settings: &BTreeMap<String, HostSettings>,
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

    /// Whether a node could pull this image, given as [`ImageReference::pulled`] gives it.
    ///
    /// An answer that comes later than `by` fills the cache, so that the next review has it.
    ///
    /// # Errors
    /// Why it is not known: the registry does not answer in time, or its answer proves nothing.
    pub async fn probe(&self, image: &ImageReference, by: Instant) -> Result<ImageState, Unknown> {
        let Self(inner) = self;
        if let Some(answer) = inner.answers.get(image).await {
            inner.metrics.registry_cache_hits.inc();
            return inner.reply(image, &answer);
        }
        inner.metrics.registry_cache_misses.inc();
        let domain = &image.repository.domain;
        let endpoint = inner
            .transport
            .hosts()
            .endpoint(domain)
            .map_err(|refusal| {
                let obstacle = Obstacle::Blocked(refusal);
                inner.count(domain, obstacle.outcome());
                inner.unknown(image, &obstacle)
            })?;
        let waiting = Arc::clone(&inner.limits.waiting).try_acquire_owned();
        let permit = waiting.map_err(|_| inner.unknown(image, &Obstacle::Busy))?;
        // A task of its own: a review that is cancelled does not cancel the question, which others
        // may wait for as well.
        let (client, image_asked) = (Arc::clone(inner), image.clone());
        let task = tokio::spawn(async move {
            let _until_it_ends = permit;
            let question = client.ask(&endpoint, &image_asked);
            client.answers.get_with_by_ref(&image_asked, question).await
        });
        match timeout_at(by, task).await {
            Ok(Ok(answer)) => inner.reply(image, &answer),
            Ok(Err(_)) => Err(Unknown::Panicked),
            Err(_) => Err(inner.unknown(image, &Obstacle::TimedOut)),
        }
    }
}

// === impl Inner ===

impl Inner {
    async fn ask(&self, endpoint: &Endpoint, image: &ImageReference) -> Answer {
        let begun = Instant::now();
        let answer = self.ask_in_turn(endpoint, image, begun + PROBE).await;
        let outcome = match &answer {
            Ok(ImageState::Exists) => "found",
            Ok(ImageState::Missing(_)) => "absent",
            Err(obstacle) => obstacle.outcome(),
        };
        let domain = &image.repository.domain;
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
        image: &ImageReference,
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
            by,
        };
        manifest::state(&session, image).await
    }

    fn reply(&self, image: &ImageReference, answer: &Answer) -> Result<ImageState, Unknown> {
        match answer.as_ref() {
            Ok(state) => Ok(state.clone()),
            Err(obstacle) => Err(self.unknown(image, obstacle)),
        }
    }

    fn unknown(&self, image: &ImageReference, obstacle: &Obstacle) -> Unknown {
        let host = &image.repository.domain;
        Unknown::Registry {
            host: host.clone(),
            why: obstacle.to_string(),
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

impl Expiry<ImageReference, Answer> for Lifetimes {
    fn expire_after_create(
        &self,
        image: &ImageReference,
        answer: &Answer,
        _: Clock,
    ) -> Option<Duration> {
        Some(lifetime(image, answer))
    }
}

fn lifetime(image: &ImageReference, answer: &Result<ImageState, Obstacle>) -> Duration {
    match answer {
        Ok(ImageState::Exists) if image.digest.is_some() => EXISTS_BY_DIGEST,
        Ok(ImageState::Exists) => EXISTS_BY_TAG,
        Ok(ImageState::Missing(_)) => MISSING,
        Err(obstacle) => obstacle.lifetime(),
    }
}

/// In answers without tags, so that the cache is bounded in number and in bytes.
fn weight(_: &ImageReference, answer: &Answer) -> u32 {
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
    use crate::evidence::{Missing, MissingPart};

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
        let image = ImageReference::parse("nginx").unwrap();
        assert_eq!(weight(&image, &Arc::new(Ok(ImageState::Exists))), 1);
        assert_eq!(weight(&image, &Arc::new(Ok(missing(0)))), 1);
        let many = weight(&image, &Arc::new(Ok(missing(20_000))));
        assert!((500..1000).contains(&many), "{many}");
    }
}
