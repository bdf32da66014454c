//! Which replica leads: the one whose name stands in a Lease.
//!
//! The rules of time are those of client-go (`tools/leaderelection`), so that every cluster knows how
//! they behave: a Lease lasts 15 s, its holder renews it every 2 s and stops after 10 s without
//! success. No wall clock decides anything: a Lease ends when its record was not *seen* to change for
//! as long as it lasts, by the monotonic clock of whoever looks. The times in the record are for
//! people.
//!
//! Two are stricter than there. The 10 s count from the moment at which the last successful renewal
//! was sent, not answered, so that a slow answer never makes two leaders; and who sees another
//! holder stops at once.

use std::collections::hash_map::RandomState;
use std::env;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::object_name::ObjectName;
use crate::report::metrics::Metrics;

/// How long a Lease lasts after it was seen to change (client-go's `LeaseDuration` of core
/// components).
const LEASE: Duration = Duration::from_secs(15);
/// How long a holder works on without a renewal that succeeded (`RenewDeadline`).
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between two renewals, and at most between two looks at another's Lease (`RetryPeriod`).
const RETRY: Duration = Duration::from_secs(2);
/// For one answer of the API server: half the deadline, so that one lost answer loses nothing.
const ANSWER: Duration = Duration::from_secs(5);
/// For the work to end and for the Lease to be given up, when the process leaves.
const FAREWELL: Duration = Duration::from_secs(5);

/// One candidate for a Lease.
#[derive(Debug)]
pub struct Candidate {
    leases: Api<Lease>,
    lease: ObjectName,
    identity: String,
    metrics: Arc<Metrics>,
    seen: Option<ObservedLease>,
    /// What was said last of what fails, so that it is said once.
    complaint: Option<String>,
}

/// A Lease, and when its record was last seen to change.
#[derive(Debug)]
struct ObservedLease {
    lease: Lease,
    changed: Instant,
}

/// How leading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Another has the Lease, or this one could not be renewed in time.
    Lost,
    /// The process leaves.
    Leaving,
    /// The work ended, which only a panic does.
    Failed,
}

// === impl Candidate ===

impl Candidate {
    /// A candidate of this identity, which no other may have; see [`identity`].
    #[must_use]
    pub fn new(client: Client, lease: ObjectName, identity: String, metrics: Arc<Metrics>) -> Self {
        Self {
            leases: Api::namespaced(client, &lease.namespace),
            lease,
            identity,
            metrics,
            seen: None,
            complaint: None,
        }
    }

    /// Runs the work whenever this candidate leads, and drops it when it no longer does. Ends when
    /// `leave` does; then the Lease is given up, so that the next one need not wait for its end.
    ///
    /// The work never ends by itself. An API server that is down only means that nobody leads.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn run<Work>(mut self, work: impl Fn() -> Work, leave: impl Future<Output = ()>)
    where
        Work: Future<Output = ()> + Send + 'static,
    {
        let mut leave = pin!(leave);
        loop {
            let sent = tokio::select! {
                biased;
                () = &mut leave => break,
                sent = self.acquire() => sent,
            };
            tracing::info!(lease = %self.lease, identity = self.identity, "leading");
            self.metrics.leader.set(1);
            // A task of its own, so that work that is busy never delays a renewal.
            let mut tasks = JoinSet::new();
            tasks.spawn(work());
            let end = tokio::select! {
                biased;
                () = &mut leave => End::Leaving,
                () = self.hold(sent) => End::Lost,
                _ = tasks.join_next() => End::Failed,
            };
            self.metrics.leader.set(0);
            if end == End::Leaving {
                // Work that does not end may still write, so then the Lease has to end by itself.
                if timeout(FAREWELL, tasks.shutdown()).await.is_err() {
                    return;
                }
                break;
            }
            tracing::warn!(lease = %self.lease, ?end, "not leading any more");
            tasks.shutdown().await;
            if end == End::Failed {
                // Another replica may be luckier.
                self.give_up().await;
                sleep(RETRY).await;
            }
        }
        self.give_up().await;
    }

    /// Waits until the Lease is this candidate's. Gives the time at which that was asked for.
    async fn acquire(&mut self) -> Instant {
        loop {
            let sent = Instant::now();
            match timeout(ANSWER, self.claim()).await {
                Ok(Ok(true)) => return sent,
                Ok(Ok(false)) => self.complaint = None,
                Ok(Err(error)) => self.complain(&error.to_string()),
                Err(_) => self.complain("the API server does not answer"),
            }
            // One to two seconds, so that candidates do not ask in step.
            sleep(RETRY.mul_f64(1.0 - 0.5 * fraction())).await;
        }
    }

    /// Renews the Lease until another has it, or until it could not be renewed in time.
    async fn hold(&mut self, mut renewed: Instant) {
        loop {
            let deadline = renewed + RENEW_DEADLINE;
            sleep_until(deadline.min(Instant::now() + RETRY)).await;
            let sent = Instant::now();
            // Also after a long sleep of the whole machine.
            if sent >= deadline {
                return;
            }
            match timeout_at(deadline.min(sent + ANSWER), self.claim()).await {
                Ok(Ok(true)) => {
                    renewed = sent;
                    self.complaint = None;
                }
                Ok(Ok(false)) => return,
                Ok(Err(error)) => self.complain(&error.to_string()),
                Err(_) => self.complain("the API server does not answer"),
            }
        }
    }

    /// Takes or renews the Lease, where nobody else has it. Every write carries the version that was
    /// read, so of two who write only one succeeds.
    async fn claim(&mut self) -> kube::Result<bool> {
        if let Some(lease) = self.held() {
            match self
                .write(lease, self.own_record(lease.spec.as_ref()))
                .await
            {
                Ok(lease) => {
                    self.see(lease);
                    return Ok(true);
                }
                // Somebody wrote to it, or deleted it: look again.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(error),
            }
        }
        let written = match self.leases.get_opt(&self.lease.name).await? {
            Some(lease) => {
                self.see(lease.clone());
                if self.is_held_by_another(Instant::now()) {
                    return Ok(false);
                }
                let record = self.own_record(lease.spec.as_ref());
                self.write(&lease, record).await
            }
            None => self.create().await,
        };
        match written {
            Ok(lease) => {
                self.see(lease);
                Ok(true)
            }
            // Another was quicker.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The Lease as last seen, where it is this candidate's.
    fn held(&self) -> Option<&Lease> {
        let seen = self.seen.as_ref()?;
        (seen.holder() == Some(&self.identity)).then_some(&seen.lease)
    }

    /// Remembers the Lease, and when its record changed. Labels and the like do not count.
    fn see(&mut self, lease: Lease) {
        let changed = match &self.seen {
            Some(seen) if seen.lease.spec == lease.spec => seen.changed,
            _ => Instant::now(),
        };
        self.seen = Some(ObservedLease { lease, changed });
    }

    fn is_held_by_another(&self, now: Instant) -> bool {
        let mut seen = self.seen.iter();
        seen.any(|seen| seen.holder() != Some(&self.identity) && seen.is_held(now))
    }

    /// The record of a holder, after this one.
    fn own_record(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let before = before.cloned().unwrap_or_default();
        let now = MicroTime(Timestamp::now());
        let is_own = before.holder_identity.as_ref() == Some(&self.identity);
        let transitions = before.lease_transitions.unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(seconds(LEASE)),
            acquire_time: before.acquire_time.filter(|_| is_own).or(Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if is_own {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..before
        }
    }

    async fn create(&self) -> kube::Result<Lease> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.lease.name.clone()),
                namespace: Some(self.lease.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                lease_transitions: Some(0),
                ..self.own_record(None)
            }),
        };
        self.leases.create(&PostParams::default(), &lease).await
    }

    async fn write(&self, lease: &Lease, record: LeaseSpec) -> kube::Result<Lease> {
        let lease = Lease {
            spec: Some(record),
            ..lease.clone()
        };
        self.leases
            .replace(&self.lease.name, &PostParams::default(), &lease)
            .await
    }

    /// Gives the Lease up, where it is this candidate's; a renewal that was cut off may have
    /// succeeded, so it is read once more. It ends by itself where this fails.
    async fn give_up(&mut self) {
        let given_up = timeout(FAREWELL, self.release()).await;
        match given_up {
            Ok(Ok(true)) => tracing::info!(lease = %self.lease, "gave up the Lease"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => self.complain(&error.to_string()),
            Err(_) => self.complain("the API server does not answer"),
        }
    }

    async fn release(&mut self) -> kube::Result<bool> {
        loop {
            self.seen = None;
            let Some(lease) = self.leases.get_opt(&self.lease.name).await? else {
                return Ok(false);
            };
            self.see(lease);
            let Some(lease) = self.held() else {
                return Ok(false);
            };
            let now = MicroTime(Timestamp::now());
            let record = LeaseSpec {
                holder_identity: Some(String::new()),
                lease_duration_seconds: Some(1),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                ..lease.spec.clone().unwrap_or_default()
            };
            match self.write(lease, record).await {
                Ok(lease) => {
                    self.see(lease);
                    return Ok(true);
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn complain(&mut self, problem: &str) {
        if self.complaint.as_deref() != Some(problem) {
            tracing::warn!(
                lease = %self.lease,
                "the Lease {}: {problem}; it needs get, create and update on leases, and is tried again",
                self.lease
            );
        }
        self.complaint = Some(problem.to_owned());
    }
}

// === impl ObservedLease ===

impl ObservedLease {
    fn holder(&self) -> Option<&String> {
        let holder = self.lease.spec.as_ref()?.holder_identity.as_ref()?;
        Some(holder).filter(|holder| !holder.is_empty())
    }

    fn is_held(&self, now: Instant) -> bool {
        let spec = self.lease.spec.as_ref();
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
        let lasts = seconds.map_or(LEASE, |seconds| {
            Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
        });
        self.holder().is_some() && now.duration_since(self.changed) < lasts
    }
}

/// A name that no other process has: that of the Pod, and something random, as a Pod may start anew.
#[must_use]
pub fn identity() -> String {
    let name = ["POD_NAME", "HOSTNAME"]
        .into_iter()
        .find_map(|variable| env::var(variable).ok().filter(|name| !name.is_empty()));
    let name = name.unwrap_or_else(|| "forestall".to_owned());
    format!("{name}_{:016x}", random())
}

/// A random number. Nothing depends on its being hard to guess.
fn random() -> u64 {
    // The keys of each of these are random; there is no other source in the standard library.
    RandomState::new().build_hasher().finish()
}

/// A random number from 0 to 1.
fn fraction() -> f64 {
    f64::from(u32::try_from(random() >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
#[path = "leader/tests.rs"]
mod tests;
