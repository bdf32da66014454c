//! How much is asked at one time, and which hosts are left alone for a while.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::future::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Urgency;
use super::endpoint::Endpoint;
use super::probe_error::ProbeError;

/// With less time left than this, a registry is not asked any more.
const LEAST: Duration = Duration::from_millis(100);
/// Questions that are under way at one time: to hosts that have answered before, to all others, to
/// one host, and to Docker Hub, which counts.
const MOST_TO_READABLE: usize = 16;
const MOST_TO_STRANGERS: usize = 16;
const MOST_PER_HOST: usize = 4;
const MOST_TO_DOCKER_HUB: usize = 2;
/// The part of them that is for what nobody waits for: one in four of each host, but at least one,
/// and as many in all as are a quarter of the smaller of the two above.
const PART_BEHIND: usize = 4;
const MOST_BEHIND: usize = MOST_TO_STRANGERS / PART_BEHIND;
/// Between two questions to one host that nobody waits for, and how many may go out at once after a
/// quiet time. Registries limit an address by the minute, and nodes pull from the same one: at 20 ms
/// an answer, one place alone would ask 50 times a second.
const PACE: Duration = Duration::from_millis(200);
const BURST: u32 = 10;
/// Questions that wait or are under way. An answer that comes after seconds helps nobody.
const MOST_WAITING: usize = 4096;
/// Hosts that have limits of their own.
const MOST_HOSTS: u64 = 1024;
/// A host that fails so often in a row within so much time is left alone for as long.
const MOST_FAILURES: u32 = 5;
const ROW: Duration = Duration::from_secs(30);
/// Configurations of images that are fetched from Docker Hub within so much time. It counts each as
/// a pull, and strangers have a hundred (Docker, "Pulls"), which are for the nodes.
const MOST_PULLS: usize = 20;
const PULLS: Duration = Duration::from_hours(6);
/// The time that the one question has that tries whether it is well again.
const TRIAL: Duration = Duration::from_secs(3);

/// Whether somebody waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    /// A review, or whoever runs `check`.
    Awaited,
    /// It is for later.
    Behind,
}

/// How much is asked at one time.
#[derive(Debug)]
pub(super) struct HostLimits {
    waiting: Arc<Semaphore>,
    /// Hosts that have let us read something, and all others: names of nowhere, which anybody can
    /// write, shall not hold up real registries.
    readable: Semaphore,
    strangers: Semaphore,
    behind: Semaphore,
    hosts: Cache<String, Arc<Host>>,
    /// When pulls of Docker Hub were spent, the oldest first.
    pulls: Mutex<VecDeque<Instant>>,
}

/// Leave to ask; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    host: Arc<Host>,
    _behind: Option<(OwnedSemaphorePermit, SemaphorePermit<'a>)>,
    _of_host: OwnedSemaphorePermit,
    _of_all: SemaphorePermit<'a>,
}

#[derive(Debug)]
struct Host {
    turns: Arc<Semaphore>,
    behind: Arc<Semaphore>,
    pace: Mutex<Pace>,
    breaker: Mutex<Breaker>,
}

/// How fast a host is asked what nobody waits for: a bucket of [`BURST`] questions, which fills by one
/// every [`PACE`].
#[derive(Debug, Default)]
struct Pace {
    /// When the bucket is full again.
    full: Option<Instant>,
}

/// Whether a host is left alone.
#[derive(Debug, Default)]
struct Breaker {
    /// In a row, and since when.
    failures: u32,
    since: Option<Instant>,
    rest: Option<Rest>,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Instant,
    /// Whether it asked for it, else it failed.
    is_wanted: bool,
    /// Whether it is over, and one question is out to try the host.
    is_on_trial: bool,
}

// === impl Priority ===

impl Priority {
    /// Of what this urgency asks.
    pub(super) fn of(urgency: Urgency) -> Self {
        match urgency {
            Urgency::Immediate | Urgency::Patient => Self::Awaited,
            Urgency::Background => Self::Behind,
        }
    }
}

// === impl HostLimits ===

impl HostLimits {
    pub(super) fn new() -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
            readable: Semaphore::new(MOST_TO_READABLE),
            strangers: Semaphore::new(MOST_TO_STRANGERS),
            behind: Semaphore::new(MOST_BEHIND),
            hosts: Cache::new(MOST_HOSTS),
            pulls: Mutex::default(),
        }
    }

    /// Spends one of the pulls that Docker Hub counts.
    ///
    /// # Errors
    /// There is none left.
    pub(super) fn spend_a_pull(&self, now: Instant) -> Result<(), ProbeError> {
        let mut pulls = self.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        while pulls.front().is_some_and(|&spent| spent + PULLS <= now) {
            pulls.pop_front();
        }
        if pulls.len() == MOST_PULLS {
            return Err(ProbeError::Spent(MOST_PULLS));
        }
        pulls.push_back(now);
        Ok(())
    }

    /// A place among those who wait.
    pub(super) fn wait(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.waiting).try_acquire_owned().ok()
    }

    /// Waits for leave to ask a host.
    ///
    /// # Errors
    /// It is left alone, or its turn does not come in time.
    pub(super) async fn turn(
        &self,
        endpoint: &Endpoint,
        is_readable: bool,
        priority: Priority,
        by: Instant,
    ) -> Result<Turn<'_>, ProbeError> {
        let host = self.host(endpoint).await;
        let of_all = if is_readable {
            &self.readable
        } else {
            &self.strangers
        };
        host.check(Instant::now())?;
        // First the host's turn, so that those who wait for a slow host hold up no others.
        let (behind, turns) = (Arc::clone(&host.behind), Arc::clone(&host.turns));
        let permits = async {
            let behind = match priority {
                Priority::Awaited => None,
                Priority::Behind => {
                    let of_host = behind.acquire_owned().await.ok()?;
                    sleep_until(host.paced(by)?).await;
                    Some((of_host, self.behind.acquire().await.ok()?))
                }
            };
            let of_host = turns.acquire_owned().await.ok()?;
            Some((behind, of_host, of_all.acquire().await.ok()?))
        };
        let permits = timeout_at(by, permits).await.ok().flatten();
        let (behind, of_host, of_all) = permits.ok_or(ProbeError::Busy)?;
        let now = Instant::now();
        if by.saturating_duration_since(now) < LEAST {
            return Err(ProbeError::Busy);
        }
        host.begin(now)?;
        Ok(Turn {
            host,
            _behind: behind,
            _of_host: of_host,
            _of_all: of_all,
        })
    }

    async fn host(&self, endpoint: &Endpoint) -> Arc<Host> {
        let most = if endpoint.is_docker_hub() {
            MOST_TO_DOCKER_HUB
        } else {
            MOST_PER_HOST
        };
        let made = async {
            Arc::new(Host {
                turns: Arc::new(Semaphore::new(most)),
                behind: Arc::new(Semaphore::new((most / PART_BEHIND).max(1))),
                pace: Mutex::default(),
                breaker: Mutex::default(),
            })
        };
        let name = endpoint.base.authority();
        self.hosts.get_with_by_ref(name, made).await
    }
}

// === impl Turn ===

impl Turn<'_> {
    /// Takes note of what came of it. Gives whether the host is left alone now.
    pub(super) fn end(self, error: Option<&ProbeError>) -> bool {
        self.host.lock().record(error, Instant::now())
    }
}

// === impl Host ===

impl Host {
    fn lock(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn paced(&self, by: Instant) -> Option<Instant> {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.next(Instant::now(), by)
    }

    fn check(&self, now: Instant) -> Result<(), ProbeError> {
        self.lock().check(now)
    }

    fn begin(&self, now: Instant) -> Result<(), ProbeError> {
        self.lock().begin(now)
    }
}

// === impl Pace ===

impl Pace {
    /// When the next question may go out; `None` where that is later than it is of use.
    fn next(&mut self, now: Instant, by: Instant) -> Option<Instant> {
        let full = self.full.map_or(now, |full| full.max(now));
        let missing = full - now;
        let at = now + missing.saturating_sub((BURST - 1) * PACE);
        if at >= by {
            return None;
        }
        self.full = Some(full + PACE);
        Some(at)
    }
}

// === impl Breaker ===

impl Breaker {
    /// Whether the host may be asked.
    fn check(&self, now: Instant) -> Result<(), ProbeError> {
        match self.rest {
            Some(Rest {
                until, is_wanted, ..
            }) if now < until => Err(if is_wanted {
                ProbeError::RateLimited { rest: until - now }
            } else {
                ProbeError::Down
            }),
            _ => Ok(()),
        }
    }

    /// The same for a question that goes out now. After a rest, one goes out alone.
    fn begin(&mut self, now: Instant) -> Result<(), ProbeError> {
        self.check(now)?;
        if let Some(rest) = &mut self.rest {
            rest.until = now + TRIAL;
            rest.is_on_trial = true;
        }
        Ok(())
    }

    fn record(&mut self, error: Option<&ProbeError>, now: Instant) -> bool {
        let rest = |until, is_wanted| {
            Some(Rest {
                until,
                is_wanted,
                is_on_trial: false,
            })
        };
        // What the host asked for holds, whatever it answers to questions that were out before.
        let wanted_until = self.rest.filter(|rest| rest.is_wanted && !rest.is_on_trial);
        let wanted_until = wanted_until
            .map(|rest| rest.until)
            .filter(|until| now < *until);
        match error {
            Some(error) if let Some(wanted) = error.wanted_rest() => {
                let until = now + wanted;
                self.rest = rest(
                    wanted_until.map_or(until, |earlier| earlier.max(until)),
                    true,
                );
            }
            _ if wanted_until.is_some() => {}
            Some(error) if error.is_failure() => {
                if self.since.is_none_or(|since| now > since + ROW) {
                    (self.failures, self.since) = (0, Some(now));
                }
                self.failures += 1;
                if self.failures >= MOST_FAILURES || self.rest.is_some() {
                    self.rest = rest(now + ROW, false);
                    (self.failures, self.since) = (0, None);
                }
            }
            _ => *self = Self::default(),
        }
        self.rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn registry_case_65_a_host_that_fails_five_times_is_left_alone_and_then_tried_once() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        let failed = Some(&ProbeError::Status(503));
        for _ in 0..4 {
            assert!(!breaker.record(failed, now));
            now += SECOND;
        }
        assert_eq!(breaker.begin(now), Ok(()));
        assert!(breaker.record(failed, now));
        assert_eq!(breaker.begin(now + ROW - SECOND), Err(ProbeError::Down));

        now += ROW;
        assert_eq!(breaker.begin(now), Ok(()));
        assert_eq!(breaker.begin(now + SECOND), Err(ProbeError::Down));
        // One failure is enough to leave it alone again, one answer to ask it as before.
        assert!(breaker.record(failed, now + SECOND));
        now += SECOND + ROW;
        assert_eq!(breaker.begin(now), Ok(()));
        assert!(!breaker.record(None, now));
        assert_eq!(breaker.begin(now), Ok(()));
        assert!(!breaker.record(failed, now));
    }

    #[test]
    fn a_trial_that_never_ends_does_not_keep_others_away_for_ever() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..MOST_FAILURES {
            breaker.record(Some(&ProbeError::TimedOut), now);
        }
        assert_eq!(breaker.begin(now + ROW), Ok(()));
        assert_eq!(breaker.begin(now + ROW + TRIAL), Ok(()));
    }

    #[test]
    fn failures_that_are_not_in_a_row_count_for_nothing() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..20 {
            assert!(!breaker.record(Some(&ProbeError::Unreachable), now));
            now += ROW / 4 * 3;
        }
        for _ in 0..20 {
            assert!(!breaker.record(Some(&ProbeError::Unreachable), now));
            assert!(!breaker.record(Some(&ProbeError::Denied(401)), now));
        }
    }

    #[test]
    fn what_nobody_waits_for_goes_out_ten_at_once_and_then_five_a_second() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let mut next = |now: Instant| {
            let at = pace.next(now, now + SECOND);
            at.map(|at| (at - now).as_millis())
        };
        for _ in 0..10 {
            assert_eq!(next(start), Some(0));
        }
        let waits: Vec<_> = (0..6).map(|_| next(start)).collect();
        // What would come too late is not counted.
        let expected = [200, 400, 600, 800].map(Some);
        assert_eq!(waits, [&expected[..], &[None, None]].concat());
        assert_eq!(next(start + SECOND), Some(0));
        assert_eq!(next(start + SECOND), Some(200));
        // After a quiet time it is as at first, and no more.
        for _ in 0..10 {
            assert_eq!(next(start + 60 * SECOND), Some(0));
        }
        assert_eq!(next(start + 60 * SECOND), Some(200));
    }

    #[test]
    fn docker_hub_gives_twenty_configurations_in_six_hours() {
        let (limits, start) = (HostLimits::new(), Instant::now());
        for minute in 0..20 {
            let now = start + minute * 60 * SECOND;
            assert_eq!(limits.spend_a_pull(now), Ok(()));
        }
        let spent = Err(ProbeError::Spent(20));
        assert_eq!(limits.spend_a_pull(start + PULLS - SECOND), spent);
        assert_eq!(limits.spend_a_pull(start + PULLS), Ok(()));
        assert_eq!(limits.spend_a_pull(start + PULLS), spent);
    }

    #[test]
    fn registry_case_63_a_host_that_wants_rest_is_left_alone_for_as_long() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        let rest = 120 * SECOND;
        let limited = ProbeError::TokenServer(Box::new(ProbeError::RateLimited { rest }));
        assert!(breaker.record(Some(&limited), now));
        assert_eq!(
            breaker.check(now + 20 * SECOND),
            Err(ProbeError::RateLimited { rest: 100 * SECOND })
        );
        assert_eq!(breaker.begin(now + rest), Ok(()));
        assert!(!breaker.record(None, now + rest), "the trial went well");
        assert_eq!(breaker.check(now + rest), Ok(()));
    }

    #[test]
    fn what_was_asked_before_does_not_end_a_rest_that_the_host_wants() {
        let limited = |seconds| ProbeError::RateLimited {
            rest: seconds * SECOND,
        };
        let siblings = [
            None,
            Some(ProbeError::Denied(401)),
            Some(ProbeError::Status(503)),
            Some(limited(10)),
        ];
        for sibling in siblings {
            let (mut breaker, now) = (Breaker::default(), Instant::now());
            assert!(breaker.record(Some(&limited(600)), now));
            for _ in 0..MOST_FAILURES {
                assert!(breaker.record(sibling.as_ref(), now + SECOND));
            }
            assert_eq!(
                breaker.check(now + 2 * SECOND),
                Err(limited(598)),
                "{sibling:?}"
            );
            // A longer one holds over a shorter one.
            assert!(breaker.record(Some(&limited(900)), now + SECOND));
            assert_eq!(breaker.check(now + 700 * SECOND), Err(limited(201)));
        }
    }
}
