//! The registry client: can a node pull this image?
//!
//! It asks as a node would, without credentials, and says "missing" only on proof. Everything else
//! is unknown, and an unknown refuses nothing.
//!
//! ```text
//! probe ─► cache ─► hosts (who may be asked) ─► chain ─► limits ─► manifest (HEAD, GET) ─► tags
//!                     │                                               │          │           │
//!                     └─ settings, containerd's files                 └─ token ──┴───────────┴─► transport ─► address
//! ```

mod address;
mod chain;
mod challenge;
mod complaint;
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

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant as Clock};

use moka::Expiry;
use moka::future::Cache;
use tokio::time::{Instant, timeout_at};

use self::chain::Asking;
use self::hosts::{Files, Hosts, Link};
use self::limits::Limits;
use self::manifest::ByDigest;
use self::obstacle::Obstacle;
use self::settings::Rewrites;
pub use self::settings::{
    Capability, HostSettings, ImageRewrite, Role, ServerSettings, SettingsError, check_rewrites,
};
use self::token::Tokens;
pub use self::transport::ClientError;
use self::transport::Transport;
use crate::config::Config;
use crate::evidence::{ImagePlatforms, ImageState, Unknown};
use crate::report::metrics::{Metrics, RegistryLabel, RegistryLabels};
use crate::review::image::ImageReference;

/// The most time for one image, with token and confirmation.
const PROBE: Duration = Duration::from_secs(3);
/// How long answers hold. A tag may be moved or removed; a digest means the same for ever; a missing
/// image may be pushed at any moment.
const EXISTS_BY_TAG: Duration = Duration::from_mins(10);
const EXISTS_BY_DIGEST: Duration = Duration::from_hours(24);
const MISSING: Duration = Duration::from_secs(30);
/// How long a tag that existed is believed to exist while its registry does not answer.
const EXISTED: Duration = Duration::from_hours(6);
/// How long it is believed for which platforms a tag is built, and of how many images.
const PLATFORMS: Duration = Duration::from_mins(10);
const MOST_IMAGES_WITH_PLATFORMS: u64 = 4096;
/// What the cache holds: answers without tags, each as heavy as this many bytes of tags.
const MOST_ANSWERS: u64 = 20_000;
const BYTES_PER_ANSWER: usize = 1024;
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
    answers: Cache<ImageReference, Answer>,
    /// Images that existed not long ago.
    existed: Cache<ImageReference, ()>,
    /// For which platforms images are built.
    platforms: Cache<ImageReference, Arc<Result<ImagePlatforms, Obstacle>>>,
    platforms_by_digest: ByDigest,
    /// Registries that have let us read something, as images name them.
    readable: RwLock<BTreeSet<String>>,
    limits: Limits,
    metrics: Arc<Metrics>,
}

/// What came of asking.
type Answer = Arc<Result<ImageState, Obstacle>>;

struct Lifetimes;

// === impl RegistryClient ===

impl RegistryClient {
    /// A client that reaches registries as configured. It reads the files that the configuration
    /// names.
    ///
    /// # Errors
    /// A setting or a file that cannot be used, or a system without CA certificates.
    pub fn new(config: &Config, metrics: Arc<Metrics>) -> Result<Self, ClientError> {
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
            answers,
            existed,
            platforms: Cache::builder()
                .max_capacity(MOST_IMAGES_WITH_PLATFORMS)
                .time_to_live(PLATFORMS)
                .build(),
            platforms_by_digest: Cache::new(MOST_IMAGES_WITH_PLATFORMS),
            readable: RwLock::default(),
            limits: Limits::new(),
            metrics,
        })))
    }

    /// Whether the files that this configuration names are still those that this client was made of.
    ///
    /// # Errors
    /// A file that cannot be used any more.
    pub fn has_files_of(&self, config: &Config) -> Result<bool, SettingsError> {
        Ok(self.0.files == Files::read(config)?)
    }

    /// Whether a node could pull this image, given as [`ImageReference::pulled`] gives it.
    ///
    /// An answer that comes later than `by` fills the cache, so that the next review has it.
    ///
    /// # Errors
    /// Why it is not known: the registry does not answer in time, or its answer proves nothing.
    pub async fn probe(&self, image: &ImageReference, by: Instant) -> Result<ImageState, Unknown> {
        let Self(inner) = self;
        match inner.rewrites.apply(image) {
            Some(Ok(rewritten)) => inner.probe(&rewritten, by).await,
            Some(Err(())) => Err(inner.unknown(image, &Obstacle::Rewritten)),
            None => inner.probe(image, by).await,
        }
    }

    /// For which platforms an image is built that exists, as [`RegistryClient::probe`] says.
    ///
    /// # Errors
    /// Why it is not known.
    pub async fn platforms(
        &self,
        image: &ImageReference,
        by: Instant,
    ) -> Result<ImagePlatforms, Unknown> {
        let Self(inner) = self;
        match inner.rewrites.apply(image) {
            Some(Ok(rewritten)) => inner.platforms(&rewritten, by).await,
            Some(Err(())) => Err(inner.unknown(image, &Obstacle::Rewritten)),
            None => inner.platforms(image, by).await,
        }
    }
}

// === impl Inner ===

impl Inner {
    async fn platforms(
        self: &Arc<Self>,
        image: &ImageReference,
        by: Instant,
    ) -> Result<ImagePlatforms, Unknown> {
        let domain = &image.repository.domain;
        let chain = self.transport.hosts().chain(domain, capability_for(image));
        let chain = chain.map_err(|refusal| self.unknown(image, &Obstacle::Blocked(refusal)))?;
        let Some(permit) = self.limits.wait() else {
            return Err(self.unknown(image, &Obstacle::Busy));
        };
        let (client, image_asked) = (Arc::clone(self), image.clone());
        let task = tokio::spawn(async move {
            let _until_it_ends = permit;
            let question = async {
                let asking = client.asking(&image_asked, Instant::now() + PROBE);
                Arc::new(asking.platforms(&chain, &client.platforms_by_digest).await)
            };
            let answer = client.platforms.get_with_by_ref(&image_asked, question);
            let answer = answer.await;
            if answer.is_err() {
                client.platforms.invalidate(&image_asked).await;
            }
            answer
        });
        match timeout_at(by, task).await {
            Ok(Ok(answer)) => match answer.as_ref() {
                Ok(platforms) => Ok(platforms.clone()),
                Err(obstacle) => Err(self.unknown(image, obstacle)),
            },
            Ok(Err(_)) => Err(Unknown::Panicked),
            Err(_) => Err(self.unknown(image, &Obstacle::TimedOut)),
        }
    }

    fn asking<'a>(&'a self, image: &'a ImageReference, by: Instant) -> Asking<'a> {
        Asking {
            transport: &self.transport,
            tokens: &self.tokens,
            limits: &self.limits,
            metrics: &self.metrics,
            image,
            is_readable: self.is_readable(&image.repository.domain),
            by,
        }
    }

    async fn probe(
        self: &Arc<Self>,
        image: &ImageReference,
        by: Instant,
    ) -> Result<ImageState, Unknown> {
        if let Some(answer) = self.answers.get(image).await {
            self.metrics.registry_cache_hits.inc();
            return self.reply(image, &answer).await;
        }
        self.metrics.registry_cache_misses.inc();
        let domain = &image.repository.domain;
        let chain = self.transport.hosts().chain(domain, capability_for(image));
        let chain = chain.map_err(|refusal| {
            let obstacle = Obstacle::Blocked(refusal);
            self.count(domain, obstacle.outcome());
            self.unknown(image, &obstacle)
        })?;
        let Some(permit) = self.limits.wait() else {
            return self.without_answer(image, &Obstacle::Busy).await;
        };
        // A task of its own: a review that is cancelled does not cancel the question, which others
        // may wait for as well.
        let (client, image_asked) = (Arc::clone(self), image.clone());
        let task = tokio::spawn(async move {
            let _until_it_ends = permit;
            let question = client.ask(&chain, &image_asked);
            client.answers.get_with_by_ref(&image_asked, question).await
        });
        match timeout_at(by, task).await {
            Ok(Ok(answer)) => self.reply(image, &answer).await,
            Ok(Err(_)) => Err(Unknown::Panicked),
            Err(_) => self.without_answer(image, &Obstacle::TimedOut).await,
        }
    }

    async fn ask(&self, chain: &[Link], image: &ImageReference) -> Answer {
        let begun = Instant::now();
        let domain = &image.repository.domain;
        let answer = self.asking(image, begun + PROBE).ask(chain).await;
        let outcome = match &answer {
            Ok(ImageState::Exists | ImageState::Schema1) => "found",
            Ok(ImageState::Missing(_)) => "absent",
            Err(obstacle) => obstacle.outcome(),
        };
        match &answer {
            Ok(ImageState::Exists) => self.existed.insert(image.clone(), ()).await,
            Ok(_) => self.existed.invalidate(image).await,
            Err(_) => {}
        }
        let has_read = matches!(answer, Ok(_) | Err(Obstacle::Contradiction(_)));
        let took = begun.elapsed();
        self.count(domain, outcome);
        self.observe(domain, has_read, took);
        let duration_ms = took.as_millis();
        tracing::debug!(registry = %domain, outcome, duration_ms, "asked a registry");
        Arc::new(answer)
    }

    async fn reply(&self, image: &ImageReference, answer: &Answer) -> Result<ImageState, Unknown> {
        match answer.as_ref() {
            Ok(state) => Ok(state.clone()),
            Err(obstacle) => self.without_answer(image, obstacle).await,
        }
    }

    /// What is known of an image whose registry gives no usable answer: an image that existed not
    /// long ago is believed to exist while its registry is away. That a tag was missing is not: it
    /// may have been pushed since.
    async fn without_answer(
        &self,
        image: &ImageReference,
        obstacle: &Obstacle,
    ) -> Result<ImageState, Unknown> {
        if obstacle.is_outage() && self.existed.get(image).await.is_some() {
            return Ok(ImageState::Exists);
        }
        Err(self.unknown(image, obstacle))
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

/// What a host must be able to do for this image.
fn capability_for(image: &ImageReference) -> Capability {
    match image.digest {
        Some(_) => Capability::Pull,
        None => Capability::Resolve,
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
        Ok(ImageState::Exists | ImageState::Schema1) if image.digest.is_some() => EXISTS_BY_DIGEST,
        Ok(ImageState::Exists | ImageState::Schema1) => EXISTS_BY_TAG,
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

    #[tokio::test]
    async fn registry_case_74_an_image_that_existed_is_believed_while_its_registry_is_away() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let yaml = format!("registries: {{registry.test: {{server: 'http://{address}'}}}}");
        let config = Config::parse("config.yaml", &yaml).unwrap();
        let client = RegistryClient::new(&config, Arc::default()).unwrap();
        let [old, new] = ["old", "new"]
            .map(|tag| ImageReference::parse(&format!("registry.test/a:{tag}")).unwrap());
        let by = || Instant::now() + Duration::from_secs(20);

        // One answer; then nobody listens any more.
        let answered = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            drop(listener);
        };
        let (answer, ()) = tokio::join!(client.probe(&old, by()), answered);
        assert_eq!(answer, Ok(ImageState::Exists));
        client.0.answers.invalidate_all();
        assert_eq!(client.probe(&old, by()).await, Ok(ImageState::Exists));
        assert!(client.probe(&new, by()).await.is_err());

        // A registry that is there and will not say is another matter.
        let denied = client.0.without_answer(&old, &Obstacle::Denied(401)).await;
        assert!(denied.is_err());
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
