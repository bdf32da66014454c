//! One request: read, judged within its time, and answered.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::body::{self, Received, Rejection};
use super::envelope::{self, Envelope, EnvelopeError, Head, Verb};
use super::outcome::Outcome;
use super::{Webhook, answer};
use crate::config::Mode;
use crate::guard::{Guard, SUB_RESOURCES};
use crate::judging::Work;
use crate::judging::executor::Size;
use crate::judging::memory::{Denied, Share};
use crate::judging::weight::most_bytes;
use crate::lookup::Lookup;
use crate::report::log;
use crate::report::metrics::ReasonLabel;
use crate::review::{Operation, Review};
use crate::tree::Bound;
use crate::verdict::Phase;

/// What an answer must be ahead of the API server's timeout, for the way there and back.
const MARGIN: Duration = Duration::from_millis(500);

/// What a review has at least, whatever its timeout.
const LEAST: Duration = Duration::from_millis(50);

/// Which part of the time facts may take: the rest is for judging on what has arrived.
const FOR_FACTS: f64 = 0.9;

/// The mutating webhook.
pub(super) async fn mutate<L: Lookup + 'static>(
    State(webhook): State<Arc<Webhook<L>>>,
    request: Request,
) -> Response {
    webhook.handle(Phase::Mutate, request).await
}

/// The validating webhook.
pub(super) async fn validate<L: Lookup + 'static>(
    State(webhook): State<Arc<Webhook<L>>>,
    request: Request,
) -> Response {
    webhook.handle(Phase::Validate, request).await
}

/// What is to be done for a request.
enum Task {
    /// It is admitted as it is.
    Admit,
    /// It is judged, and has this share of the memory until that is over.
    Judge(Box<Review>, Share),
    /// It is admitted, because it cannot be judged, for this reason.
    GiveUp(String),
}

impl<L: Lookup + 'static> Webhook<L> {
    async fn handle(&self, phase: Phase, request: Request) -> Response {
        let began = Instant::now();
        let by = began + self.time(phase, request.uri().query());
        match self.answer(phase, request, began, by).await {
            Ok(answer) => ([(CONTENT_TYPE, "application/json")], answer).into_response(),
            Err(rejection) => {
                let reason = rejection.reason();
                self.metrics
                    .shed
                    .get_or_create(&ReasonLabel { reason })
                    .inc();
                log::rejection(phase.webhook(), &rejection, rejection.is_shed());
                rejection.into_response()
            }
        }
    }

    async fn answer(
        &self,
        phase: Phase,
        request: Request,
        began: Instant,
        by: Instant,
    ) -> Result<Vec<u8>, Rejection> {
        let place = self.reviews.clone().try_acquire_owned();
        let _place = place.map_err(|_| Rejection::Reviews)?;
        let body_by = began + self.limits.body_time;
        let received = body::read(request, &self.limits, self.judging.memory(), body_by).await?;
        let guard = self.judging.guard();
        let size = Size::of(received.bytes.len());
        let (head, task) = open(guard.clone(), phase, received, size).await?;
        let outcome = self.outcome(&guard, phase, &head, task, size, by).await;
        let answer = answer::encode(&head.uid, phase, &outcome.verdict);
        outcome.report(&guard, &self.metrics, phase, &head, began.elapsed());
        Ok(answer)
    }

    async fn outcome(
        &self,
        guard: &Arc<Guard<L>>,
        phase: Phase,
        head: &Head,
        task: Task,
        size: Size,
        by: Instant,
    ) -> Outcome {
        let error = match task {
            Task::Admit => return Outcome::admit(),
            Task::GiveUp(reason) => reason,
            Task::Judge(review, share) => {
                let facts_by = by - by.duration_since(Instant::now()).mul_f64(1.0 - FOR_FACTS);
                let work = Work {
                    guard: guard.clone(),
                    review: *review,
                    share,
                    phase,
                    size,
                    facts_by,
                };
                match self.judging.judge(work, by).await {
                    Ok(judged) => return Outcome::judged(judged),
                    Err(cut) => cut.to_string(),
                }
            }
        };
        // A head that could not be read names no kind, and never comes from an API server.
        let mode = match head.subject.kind.as_str() {
            "" => Mode::Warn,
            _ => guard.loudest(&head.subject, phase),
        };
        if mode == Mode::Off {
            return Outcome::admit();
        }
        Outcome::give_up(error, mode >= Mode::Warn)
    }

    /// The time that a review has: the smaller of the API server's timeout and our own, less a margin.
    fn time(&self, phase: Phase, query: Option<&str>) -> Duration {
        let own = match phase {
            Phase::Mutate => self.limits.mutate_time,
            Phase::Validate => self.limits.validate_time,
        };
        let time = asked_timeout(query).map_or(own, |asked| asked.min(own));
        time.saturating_sub(MARGIN).max(LEAST)
    }
}

/// Reads a review, and its objects where a guardrail will judge them. A large body takes tens of
/// milliseconds for this, so it is read beside the workers.
async fn open<L: Lookup + 'static>(
    guard: Arc<Guard<L>>,
    phase: Phase,
    received: Received,
    size: Size,
) -> Result<(Head, Task), Rejection> {
    match size {
        Size::Usual => read(&guard, phase, received),
        Size::Large => {
            let reading = spawn_blocking(move || read(&guard, phase, received));
            let failed = |_| EnvelopeError::NotAReview("reading it failed".to_owned());
            reading.await.map_err(failed)?
        }
    }
}

fn read<L: Lookup>(
    guard: &Guard<L>,
    phase: Phase,
    received: Received,
) -> Result<(Head, Task), Rejection> {
    let Received { bytes, mut share } = received;
    let bound = Bound::of(&bytes);
    let weight = most_bytes(&bytes, bound, phase);
    let body = envelope::text_of(bytes)?;
    let granted = share.grow(weight);
    let mut envelope = match granted {
        Ok(()) => Envelope::parse(&body, bound)?,
        // Whether it would be judged at all can be told without its objects.
        Err(_) => Envelope::parse_raw(&body)?,
    };
    let task = match (operation(guard, phase, &envelope), granted) {
        (Ok(operation), Ok(())) => judge(phase, &mut envelope, operation, share),
        (Ok(_), Err(Denied::Now)) => return Err(Rejection::Memory),
        // Asked again, it would be no smaller.
        (Ok(_), Err(Denied::Ever)) => Task::GiveUp(format!(
            "it takes up to {} MiB of memory, more than one review may have; raise --memory-limit",
            weight.div_ceil(1 << 20)
        )),
        (Err(task), _) => task,
    };
    Ok((envelope.head, task))
}

/// What is done to the object, where a guardrail judges that; else what is to be done instead.
fn operation<L: Lookup>(
    guard: &Guard<L>,
    phase: Phase,
    envelope: &Envelope<'_>,
) -> Result<Operation, Task> {
    if let Some(reason) = &envelope.broken {
        return Err(Task::GiveUp(reason.clone()));
    }
    let head = &envelope.head;
    let operation = match head.verb {
        Verb::Create => Operation::Create,
        Verb::Update => Operation::Update,
        // What goes away is nobody's mistake, and a patch on it is an error in the API server.
        Verb::Delete | Verb::Connect | Verb::Other => return Err(Task::Admit),
    };
    let mut sub_resource = head.sub_resource.iter();
    let is_judged = sub_resource.all(|part| SUB_RESOURCES.contains(&part.as_str()))
        && guard.has_a_say(&head.subject.group, &head.subject.kind, phase);
    if is_judged {
        Ok(operation)
    } else {
        Err(Task::Admit)
    }
}

fn judge(phase: Phase, envelope: &mut Envelope<'_>, operation: Operation, share: Share) -> Task {
    match envelope.review(operation) {
        // The kubelet makes these of files on its node, and takes no other version of them.
        Ok(review) if phase == Phase::Mutate && is_mirror(&review) => Task::Admit,
        Ok(review) => Task::Judge(Box::new(review), share),
        Err(reason) => Task::GiveUp(reason),
    }
}

fn is_mirror(review: &Review) -> bool {
    review.subject.is("", "Pod") && review.annotation("kubernetes.io/config.mirror").is_some()
}

/// `?timeout=5s`, as the API server writes it: whole seconds.
fn asked_timeout(query: Option<&str>) -> Option<Duration> {
    let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    let (_, timeout) = pairs.find(|(key, _)| *key == "timeout")?;
    let seconds = timeout.strip_suffix('s')?.parse::<u32>().ok()?;
    Some(Duration::from_secs(seconds.into()))
}
