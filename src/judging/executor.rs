//! Where judging runs, so that neither a huge object nor a guardrail that never ends holds up others.
//!
//! A hop to another thread and back costs more than it takes to judge a usual review (measured on two
//! cores: about 20 µs of CPU for `spawn_blocking`, 25 µs for `block_in_place`, under 1 µs for a task
//! on the same runtime; benches/judge.rs has both ways). So a usual review is judged on the runtime's own workers, but never on all
//! of them at once: the last one goes on serving, and what comes meanwhile is judged on a few threads
//! beside. Large reviews always go there, with places of their own.
//!
//! A thread cannot be stopped from outside. A guardrail that never ends keeps its place until the
//! process ends; its review, and those that find no place, are admitted when their time is up.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout, timeout_at};

/// Bytes of JSON above which a review is a large one.
const LARGE: usize = 256 << 10;

/// Threads beside the workers for usual reviews, and as many again for large ones. Few: each of them
/// may be busy for ever, and then takes its share of the processors from the workers.
const THREADS: usize = 2;

/// How long a usual review waits for such a thread: the others take microseconds.
const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// How often the runtime is looked after while reviews are being judged on its workers.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// Why there is no judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cut {
    /// The deadline came first.
    #[error("out of time")]
    OutOfTime,
    /// Everything that may judge is busy.
    #[error("too busy")]
    Busy,
    /// It panicked outside of a guardrail.
    #[error("it failed; please report it")]
    Failed,
}

/// How much work a review is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// Microseconds.
    Usual,
    /// Perhaps a large part of a second.
    Large,
}

/// The places where judging may run.
#[derive(Clone, Debug)]
pub(crate) struct Executor {
    /// On the workers: one less than there are.
    workers: Arc<Semaphore>,
    /// On threads beside them.
    usual: Arc<Semaphore>,
    /// The same for large reviews.
    large: Arc<Semaphore>,
}

/// Ends the task when nobody waits for it any more.
struct Awaited<T>(JoinHandle<T>);

// === impl Size ===

impl Size {
    /// Of so many bytes of JSON. Most reviews have some thousand.
    pub(crate) fn of(bytes: usize) -> Self {
        if bytes > LARGE {
            Self::Large
        } else {
            Self::Usual
        }
    }
}

// === impl Executor ===

impl Executor {
    pub(crate) fn of_this_runtime() -> Self {
        let runtime = Handle::current();
        let places = match runtime.runtime_flavor() {
            RuntimeFlavor::MultiThread => runtime.metrics().num_workers() - 1,
            _ => 0,
        };
        let workers = Arc::new(Semaphore::new(places));
        if places > 0 && !keep_awake(Arc::downgrade(&workers), places, runtime) {
            workers.forget_permits(places);
        }
        Self {
            workers,
            usual: Arc::new(Semaphore::new(THREADS)),
            large: Arc::new(Semaphore::new(THREADS)),
        }
    }

    /// Runs a task to its end or to the deadline, whichever comes first, beside who waits for it.
    pub(crate) async fn until<T: Send + 'static>(
        by: Instant,
        task: impl Future<Output = Result<T, Cut>> + Send + 'static,
    ) -> Result<T, Cut> {
        let mut task = Awaited(tokio::spawn(task));
        match timeout_at(by, &mut task.0).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Cut::Failed),
            Err(_) => Err(Cut::OutOfTime),
        }
    }

    /// Does work that may take long, where there is a place for it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        size: Size,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Cut> {
        if size == Size::Usual
            && let Ok(_place) = self.workers.try_acquire()
        {
            return Ok(work());
        }
        let place = self.thread(size).await?;
        let beside = spawn_blocking(move || {
            let _place = place;
            work()
        });
        beside.await.map_err(|_: JoinError| Cut::Failed)
    }

    async fn thread(&self, size: Size) -> Result<OwnedSemaphorePermit, Cut> {
        let place = match size {
            // Large ones may well wait for each other; the deadline ends that.
            Size::Large => self.large.clone().acquire_owned().await,
            Size::Usual => timeout(LONGEST_WAIT, self.usual.clone().acquire_owned())
                .await
                .map_err(|_| Cut::Busy)?,
        };
        place.map_err(|_| Cut::Busy)
    }
}

/// Looks after the runtime from outside.
///
/// A worker that got stuck may have been the one that waits for sockets and timers on behalf of all,
/// and no other is woken to take over. A task from outside wakes one.
fn keep_awake(workers: Weak<Semaphore>, places: usize, runtime: Handle) -> bool {
    let look = move || {
        while let Some(workers) = workers.upgrade() {
            if workers.available_permits() < places {
                runtime.spawn(async {});
            }
            drop(workers);
            std::thread::sleep(WATCH_INTERVAL);
        }
    };
    let thread = std::thread::Builder::new().name("forestall-awake".to_owned());
    thread.spawn(look).is_ok()
}

// === impl Awaited ===

impl<T> Drop for Awaited<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
