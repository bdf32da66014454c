//! What registries say of an image, and for how long that is believed.

use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use moka::Expiry;
use moka::future::Cache;
use tokio::time::{Instant, timeout_at};

use super::content::{ImageContent, Part, Pinned};
use super::credentials::{Credential, PodCredentials};
use super::hosts::Link;
use super::identities::Identities;
use super::limits::Priority;
use super::manifest::{ABSENT, Found};
use super::probe_error::ProbeError;
use super::single_flight::Flight;
use super::{Asked, Inner, Urgency};
use crate::image::ImageReference;
use crate::image::{ImageState, Missing};
use crate::unknown::Unknown;

/// The most time for one image, with token and confirmation.
const PROBE: Duration = Duration::from_secs(3);
/// How long answers hold. A tag may be moved or removed; a digest means the same for ever; a missing
/// image may be pushed at any moment.
const EXISTS_BY_TAG: Duration = Duration::from_mins(10);
const EXISTS_BY_DIGEST: Duration = Duration::from_hours(24);
const MISSING: Duration = Duration::from_secs(30);
/// How long a tag that stale is believed to exist while it is asked anew, and while its registry
/// does not answer.
const STALE: Duration = Duration::from_hours(6);
/// What the cache holds: answers without tags, each as heavy as this many bytes of tags.
const MOST_ANSWERS: u64 = 20_000;
const BYTES_PER_ANSWER: usize = 1024;

/// What came of asking.
pub(super) type ProbeAnswer = Arc<Result<Found, ProbeError>>;

struct AnswerLifetimes;

/// The cache of answers.
pub(super) fn answers() -> Cache<Asked, ProbeAnswer> {
    Cache::builder()
        .max_capacity(MOST_ANSWERS)
        .weigher(weight)
        .expire_after(AnswerLifetimes)
        .build()
}

/// The cache of images that stale not long ago.
pub(super) fn stale() -> Cache<Asked, ProbeAnswer> {
    Cache::builder()
        .max_capacity(MOST_ANSWERS)
        .time_to_live(STALE)
        .build()
}

// === impl Inner ===

impl Inner {
    pub(super) async fn probe(
        self: &Arc<Self>,
        image: &ImageReference,
        pod: &PodCredentials,
        urgency: Urgency,
        by: Instant,
    ) -> Result<ImageState, Unknown> {
        let identities = self.identities(image, pod, by).await;
        let mut answers = Vec::new();
        for credential in &identities.credentials {
            let answer = self.answer(image, credential.clone(), urgency, by).await;
            if let Ok(found) = answer.as_ref()
                && found.is_there()
            {
                return Ok(found.state.clone());
            }
            answers.push(answer);
        }
        self.sum_up(image, &identities, &answers, pod.is_complete)
    }

    /// What a registry says to one of them.
    async fn answer(
        self: &Arc<Self>,
        image: &ImageReference,
        credential: Option<Arc<Credential>>,
        urgency: Urgency,
        by: Instant,
    ) -> ProbeAnswer {
        let asked = self.asked(image, credential.as_deref());
        if let Some(answer) = self.answers.get(&asked).await {
            self.observer.looked_up(true);
            return self.or_stale(&asked, answer).await;
        }
        // A review is not held up by what hardly ever changes. Whoever judges what is there has time.
        if urgency == Urgency::Immediate
            && let Some(stale) = self.stale.get(&asked).await
        {
            self.observer.looked_up(true);
            self.ask_anew(asked, credential);
            return stale;
        }
        self.observer.looked_up(false);
        let chain = match self.chain(image) {
            Ok(chain) => chain,
            Err(refusal) => {
                let error = ProbeError::Blocked(refusal);
                self.observer
                    .ended(&image.repository.domain, error.outcome());
                return Arc::new(Err(error));
            }
        };
        let Some(permit) = self.limits.wait() else {
            let busy = Arc::new(Err(ProbeError::Busy));
            return self.or_stale(&asked, busy).await;
        };
        // A task of its own: a review that is cancelled does not cancel the question, which others
        // may wait for as well.
        let (client, question) = (Arc::clone(self), asked.clone());
        let task = tokio::spawn(async move {
            let _until_it_ends = permit;
            let credential = credential.as_deref();
            match Priority::of(urgency) {
                Priority::Awaited => {
                    let asking = client.ask(&chain, &question, credential, Priority::Awaited);
                    client.answers.get_with_by_ref(&question, asking).await
                }
                Priority::Behind => client.ask_behind(&chain, &question, credential).await,
            }
        });
        let answer = match timeout_at(by, task).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Arc::new(Err(ProbeError::Panicked)),
            Err(_) => Arc::new(Err(ProbeError::TimedOut)),
        };
        self.or_stale(&asked, answer).await
    }

    /// Asks behind the answer, once at a time.
    fn ask_anew(self: &Arc<Self>, asked: Asked, credential: Option<Arc<Credential>>) {
        let under_way = self.single_flight.begin(Flight::Image(asked.clone()));
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
    ) -> ProbeAnswer {
        let answer = self.ask(chain, asked, credential, Priority::Behind).await;
        if !is_wait(&answer) {
            self.answers
                .insert(asked.clone(), Arc::clone(&answer))
                .await;
        }
        answer
    }

    /// The answer, or where the registry is away what is known of the image: one that stale not
    /// long ago is believed to exist. That a tag was missing is not: it may have been pushed since.
    async fn or_stale(&self, asked: &Asked, answer: ProbeAnswer) -> ProbeAnswer {
        let is_away = matches!(answer.as_ref(), Err(error) if error.is_outage());
        let stale = if is_away {
            self.stale.get(asked).await
        } else {
            None
        };
        stale.unwrap_or(answer)
    }

    /// What the answers mean together. An image is missing only for a node that finds it with none
    /// of its credentials.
    fn sum_up(
        &self,
        image: &ImageReference,
        identities: &Identities,
        answers: &[ProbeAnswer],
        is_complete: bool,
    ) -> Result<ImageState, Unknown> {
        let failed = answers
            .iter()
            .filter_map(|answer| answer.as_ref().as_ref().err());
        let errors: Vec<&ProbeError> = identities.error.iter().chain(failed).collect();
        let domain = &image.repository.domain;
        let asked = || {
            let chain = self.chain(image).unwrap_or_default();
            let endpoints = chain.iter().filter_map(|link| link.endpoint.as_ref().ok());
            let asked = endpoints.map(|endpoint| endpoint.asked(domain, &identities.as_whom()));
            asked.collect::<Vec<_>>().join(", ")
        };
        match (errors.first(), answers.first().map(AsRef::as_ref)) {
            (None, Some(Ok(found))) => Ok(match &found.state {
                ImageState::Missing(missing) => ImageState::Missing(Missing {
                    asked: asked(),
                    ..missing.clone()
                }),
                state => state.clone(),
            }),
            (Some(_), _)
                if is_complete
                    && errors.iter().all(|error| error.is_denial())
                    && self.transport.hosts().trusts_denied(domain) =>
            {
                Ok(ImageState::Denied { asked: asked() })
            }
            (Some(error), _) => {
                let why = if error.is_denial() && identities.are_named() {
                    format!("{error}; asked {}", identities.as_whom())
                } else {
                    error.to_string()
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
        urgency: Urgency,
        by: Instant,
    ) -> Result<ImageContent, Unknown> {
        let identities = self.identities(image, pod, by).await;
        let mut unknown = identities.error.clone().unwrap_or(ProbeError::NoHost);
        for credential in &identities.credentials {
            let credential = credential.clone();
            match self.content_as(image, part, credential, urgency, by).await {
                Ok(fact) => return Ok(fact),
                Err(ProbeError::BeingFetched) => {
                    let host = image.repository.domain.clone();
                    return Err(Unknown::BeingFetched(host));
                }
                Err(error) => unknown = error,
            }
        }
        Err(self.unknown(image, &unknown))
    }

    async fn content_as(
        self: &Arc<Self>,
        image: &ImageReference,
        part: Part,
        credential: Option<Arc<Credential>>,
        urgency: Urgency,
        by: Instant,
    ) -> Result<ImageContent, ProbeError> {
        // Who may not see the image is not told what is in it, though it may be known.
        let answer = self.answer(image, credential.clone(), urgency, by).await;
        let digest = match answer.as_ref() {
            Ok(found) if found.is_there() => found.digest.clone(),
            Ok(_) => return Err(ABSENT),
            Err(error) => return Err(error.clone()),
        };
        let pinned = Pinned {
            repository: image.repository.clone(),
            digest: digest.ok_or(ProbeError::Malformed(
                "does not say what its tag stands for",
            ))?,
        };
        if let Some(known) = self.contents.known(&pinned, part).await {
            return known;
        }
        let is_behind = part == Part::Config && urgency == Urgency::Immediate;
        let priority = if is_behind {
            Priority::Behind
        } else {
            Priority::of(urgency)
        };
        let flight = is_behind.then(|| self.single_flight.begin(Flight::Config(pinned.clone())));
        if let Some(None) = flight {
            return Err(ProbeError::BeingFetched);
        }
        let asked = self.asked(image, credential.as_deref());
        let chain = self.chain(image)?;
        let permit = self.limits.wait().ok_or(ProbeError::Busy)?;
        let client = Arc::clone(self);
        let task = tokio::spawn(async move {
            let _until_it_ends = (permit, flight);
            let fetched = Box::pin(async {
                let by = Instant::now() + PROBE;
                let asking = client.asking(&asked, credential.as_deref(), priority, by);
                asking.fetch(&chain, &client.contents, &pinned, part).await
            });
            client.contents.once(&pinned, part, fetched).await
        });
        if is_behind {
            return Err(ProbeError::BeingFetched);
        }
        match timeout_at(by, task).await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err(_)) => Err(ProbeError::Panicked),
            Err(_) => Err(ProbeError::TimedOut),
        }
    }

    async fn ask(
        &self,
        chain: &[Link],
        asked: &Asked,
        credential: Option<&Credential>,
        priority: Priority,
    ) -> ProbeAnswer {
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
            Err(error) => error.outcome(),
        };
        let answer = Arc::new(answer);
        match answer.as_ref() {
            Ok(found) if found.state == ImageState::Exists => {
                let stale = Arc::clone(&answer);
                self.stale.insert(asked.clone(), stale).await;
            }
            Err(error) if error.is_outage() => {}
            // It is gone, or the registry is there and will not say any more.
            _ => self.stale.invalidate(asked).await,
        }
        let has_read = matches!(answer.as_ref(), Ok(_) | Err(ProbeError::Contradiction(_)));
        let took = begun.elapsed();
        self.observer.ended(domain, outcome);
        self.note(domain, has_read);
        // What goes on behind waits most of its time, and that is not the registry's.
        if priority == Priority::Awaited {
            self.observer.took(domain, took);
        }
        let duration_ms = took.as_millis();
        tracing::debug!(registry = %domain, outcome, duration_ms, "asked a registry");
        answer
    }
}

// === impl AnswerLifetimes ===

impl Expiry<Asked, ProbeAnswer> for AnswerLifetimes {
    fn expire_after_create(
        &self,
        asked: &Asked,
        answer: &ProbeAnswer,
        _: Clock,
    ) -> Option<Duration> {
        Some(lifetime(&asked.image, answer))
    }

    fn expire_after_update(
        &self,
        asked: &Asked,
        answer: &ProbeAnswer,
        _: Clock,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(lifetime(&asked.image, answer))
    }
}

fn lifetime(image: &ImageReference, answer: &Result<Found, ProbeError>) -> Duration {
    match answer {
        Ok(found) if !found.is_there() => MISSING,
        Ok(_) if image.digest.is_some() => EXISTS_BY_DIGEST,
        Ok(_) => EXISTS_BY_TAG,
        Err(error) => error.lifetime(),
    }
}

fn is_wait(answer: &Result<Found, ProbeError>) -> bool {
    answer.as_ref().is_err_and(ProbeError::is_wait)
}

/// In answers without tags, so that the cache is bounded in number and in bytes.
fn weight(_: &Asked, answer: &ProbeAnswer) -> u32 {
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
