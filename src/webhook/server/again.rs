//! What wakes itself while it is polled is polled again at once.
//!
//! An HTTP/1 connection does so for each request: its service asks for the body, which the connection
//! is to read. A task that wakes itself goes to the end of its worker's queue, and another worker is
//! woken to help, which often wakes a third. With one connection that was four switches of threads
//! for each review, where one is enough.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

/// How often something is polled in a row. More would be at the expense of other connections.
const MOST_POLLS: usize = 2;

/// A future that is polled again at once if it wakes itself.
pub(super) struct Again<F> {
    future: F,
    signal: Arc<Signal>,
    waker: Waker,
}

/// Wakes the task, except while it is polling: then it only remembers.
#[derive(Default)]
struct Signal {
    task: AtomicWaker,
    is_polling: AtomicBool,
    is_woken: AtomicBool,
}

// === impl Again ===

impl<F> Again<F> {
    pub(super) fn new(future: F) -> Self {
        let signal = Arc::new(Signal::default());
        let waker = Waker::from(Arc::clone(&signal));
        Self {
            future,
            signal,
            waker,
        }
    }

    /// What is polled.
    pub(super) fn inner(&mut self) -> &mut F {
        &mut self.future
    }
}

impl<F: Future + Unpin> Future for Again<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self {
            future,
            signal,
            waker,
        } = self.get_mut();
        signal.task.register(context.waker());
        for _ in 0..MOST_POLLS {
            signal.is_polling.store(true, SeqCst);
            signal.is_woken.swap(false, SeqCst);
            let polled = Pin::new(&mut *future).poll(&mut Context::from_waker(waker));
            // In this order: whoever still sees it polling has set `is_woken` before.
            signal.is_polling.store(false, SeqCst);
            if polled.is_ready() || !signal.is_woken.load(SeqCst) {
                return polled;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

// === impl Signal ===

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, SeqCst);
        if !self.is_polling.load(SeqCst) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn what_wakes_itself_once_is_polled_again_without_the_task() {
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&counter));
        let mut polls = 0;
        let mut once = Again::new(poll_fn(|context| {
            polls += 1;
            if polls == 2 {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }));
        let polled = Pin::new(&mut once).poll(&mut Context::from_waker(&waker));
        assert_eq!((polled, counter.0.load(SeqCst)), (Poll::Ready(()), 0));
    }

    #[test]
    fn what_always_wakes_itself_leaves_room_for_others() {
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&counter));
        let mut polls = 0;
        let mut always = Again::new(poll_fn(|context| {
            polls += 1;
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        let polled = Pin::new(&mut always).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        drop(always);
        assert_eq!((polls, counter.0.load(SeqCst)), (MOST_POLLS, 1));
    }

    #[test]
    fn a_wake_from_outside_reaches_the_task() {
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&counter));
        let mut kept = None;
        let mut waiting = Again::new(poll_fn(|context| {
            kept = Some(context.waker().clone());
            Poll::<()>::Pending
        }));
        assert!(
            Pin::new(&mut waiting)
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        drop(waiting);
        assert_eq!(counter.0.load(SeqCst), 0);
        kept.unwrap().wake();
        assert_eq!(counter.0.load(SeqCst), 1);
    }
}
