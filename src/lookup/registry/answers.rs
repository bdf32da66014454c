//! What registries say of an image, and for how long that is believed.

use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use moka::Expiry;
use moka::future::Cache;
use tokio::time::{Instant, timeout_at};

use super::candidates::Candidates;
use super::content::{ImageContent, Part, Pinned};
use super::credentials::{Credential, PodCredentials};
use super::errands::Errand;
use super::hosts::Link;
use super::limits::Priority;
use super::manifest::{ABSENT, Found};
use super::obstacle::Obstacle;
use super::{Asked, Inner};
use crate::evidence::{ImageState, Missing, Unknown};
use crate::image::ImageReference;
use crate::review::Door;

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

/// What came of asking.
pub(super) type Answer = Arc<Result<Found, Obstacle>>;

struct Lifetimes;

/// The cache of answers.
pub(super) fn answers() -> Cache<Asked, Answer> {
    Cache::builder()
        .max_capacity(MOST_ANSWERS)
        .weigher(weight)
        .expire_after(Lifetimes)
        .build()
}

/// The cache of images that existed not long ago.
pub(super) fn existed() -> Cache<Asked, Answer> {
    Cache::builder()
        .max_capacity(MOST_ANSWERS)
        .time_to_live(EXISTED)
        .build()
}

// === impl Inner ===

impl Inner {
    pub(super) async fn probe(
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

    /// By the first credential that may read the image.
    pub(super) async fn content(
        self: &Arc<Self>,
        image: &ImageReference,
        part: Part,
        pod: &PodCredentials,
        door: Door,
        by: Instant,
    ) -> Result<ImageContent, Unknown> {
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
    ) -> Result<ImageContent, Obstacle> {
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
        self.note(domain, has_read);
        // What goes on behind waits most of its time, and that is not the registry's.
        if priority == Priority::Awaited {
            self.observe(domain, took);
        }
        let duration_ms = took.as_millis();
        tracing::debug!(registry = %domain, outcome, duration_ms, "asked a registry");
        answer
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
mod tests;
