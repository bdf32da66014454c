//! One request: read, judged within its time, answered, counted, and told in one line.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::body::{self, Received, Rejection};
use super::court::Size;
use super::envelope::{self, Envelope, EnvelopeError, Head, Verb};
use super::memory::{Denied, Share};
use super::weight::most_bytes;
use super::{Webhook, answer};
use crate::config::{Mode, NamespaceLabel};
use crate::evidence::Unknown;
use crate::guard::{Guard, SUB_RESOURCES};
use crate::lookup::Lookup;
use crate::report::log::{self, Line};
use crate::report::metrics::{
    DryRun, Metrics, PatchLabels, ReasonLabel, ReviewLabels, RuleLabel, RuleLabels, WebhookLabel,
};
use crate::review::{Operation, Review};
use crate::tree::Bound;
use crate::verdict::{Action, Phase, Record, Verdict};

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

/// What becomes of a request.
struct Outcome {
    verdict: Verdict,
    /// Why it could not be judged as a whole.
    error: Option<String>,
    /// What the verdict takes of the memory.
    _share: Option<Share>,
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
                log::rejection(webhook_name(phase), &rejection, rejection.is_shed());
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
        let received = body::read(request, &self.limits, &self.memory, body_by).await?;
        let guard = self.guard();
        let size = Size::of(received.bytes.len());
        let (head, task) = open(guard.clone(), phase, received, size).await?;
        let outcome = self.outcome(&guard, phase, &head, task, size, by).await;
        let answer = answer::encode(&head.uid, phase, &outcome.verdict);
        self.report(&guard, phase, &head, &outcome, began);
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
                let guard = guard.clone();
                // A job that is cut off keeps its share until it really ends.
                let job = async move {
                    let verdict = guard.consider(&review, phase, today(), facts_by).await;
                    (verdict, share)
                };
                match self.court().hold(job, size, by).await {
                    Ok((verdict, share)) => {
                        return Outcome {
                            verdict,
                            error: None,
                            _share: Some(share),
                        };
                    }
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

    fn report(
        &self,
        guard: &Guard<L>,
        phase: Phase,
        head: &Head,
        outcome: &Outcome,
        began: Instant,
    ) {
        let webhook = webhook_name(phase);
        let kind = guard.watched(&head.subject.group, &head.subject.kind);
        let decision = outcome.decision();
        let elapsed = began.elapsed();
        let metrics = &self.metrics;
        let labels = ReviewLabels {
            webhook,
            resource_kind: kind.map_or("other", |kind| kind.kind),
            operation: head.verb.name(),
            decision,
            dry_run: DryRun(head.dry_run),
        };
        metrics.reviews.get_or_create(&labels).inc();
        let seconds = metrics
            .review_seconds
            .get_or_create(&WebhookLabel { webhook });
        seconds.observe(elapsed.as_secs_f64());
        if let (Some(_), Some(namespace)) = (kind, head.subject.namespace.as_deref())
            && guard.lookup().label(namespace) == NamespaceLabel::Absent
        {
            metrics.unknown_namespaces.inc();
        }
        count(metrics, phase, &outcome.verdict);
        log::review(&Line {
            webhook,
            head,
            decision,
            verdict: &outcome.verdict,
            error: outcome.error.as_deref(),
            elapsed,
        });
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

/// Today, for exemptions that end.
pub(crate) fn today() -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}

fn webhook_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Mutate => "mutating",
        Phase::Validate => "validating",
    }
}

fn count(metrics: &Metrics, phase: Phase, verdict: &Verdict) {
    for Record {
        meta, mode, action, ..
    } in &verdict.records
    {
        let applied = match action {
            Action::Patch => Some(true),
            Action::DropPatch(_) => Some(false),
            _ => None,
        };
        if let Some(applied) = applied {
            let labels = PatchLabels {
                rule: meta.name,
                applied: DryRun(applied),
            };
            metrics.patches.get_or_create(&labels).inc();
        }
        let result = match action {
            Action::Exempt(_) => "exempt",
            Action::Record { would_refuse: true } => "would_deny",
            Action::Record {
                would_refuse: false,
            } => "record",
            Action::Warn | Action::DropPatch(_) => "warn",
            Action::Refuse => "fail",
            Action::Patch => "patch",
        };
        count_rule(metrics, meta.name, *mode, result);
    }
    for abstained in &verdict.abstained {
        let rule = abstained.meta.name;
        if abstained.abstention.reason == Unknown::Panicked {
            metrics.panics.get_or_create(&RuleLabel { rule }).inc();
        }
        // The validating webhook judges the same object again, and says it then.
        if phase == Phase::Validate {
            count_rule(metrics, rule, abstained.mode, "unknown");
        }
    }
}

fn count_rule(metrics: &Metrics, rule: &'static str, mode: Mode, result: &'static str) {
    let labels = RuleLabels {
        rule,
        mode: mode.name(),
        result,
    };
    metrics.rule_results.get_or_create(&labels).inc();
}

// === impl Outcome ===

impl Outcome {
    fn admit() -> Self {
        Self {
            verdict: Verdict::default(),
            error: None,
            _share: None,
        }
    }

    /// Law 1: what is unknown admits, and is said.
    fn give_up(reason: String, tell: bool) -> Self {
        let mut verdict = Verdict::default();
        if tell {
            verdict
                .warnings
                .push(format!("forestall: could not evaluate ({reason})"));
        }
        verdict
            .audit
            .insert("decision".to_owned(), "error".to_owned());
        verdict.audit.insert("unknown".to_owned(), reason.clone());
        Self {
            verdict,
            error: Some(reason),
            _share: None,
        }
    }

    fn decision(&self) -> &'static str {
        let Verdict {
            refusal,
            patch,
            warnings,
            records,
            ..
        } = &self.verdict;
        let would_refuse = |record: &Record| record.action == Action::Record { would_refuse: true };
        if self.error.is_some() {
            "error"
        } else if refusal.is_some() {
            "deny"
        } else if patch.is_some() {
            "patch"
        } else if records.iter().any(would_refuse) {
            "would_deny"
        } else if warnings.is_empty() {
            "allow"
        } else {
            "warn"
        }
    }
}
