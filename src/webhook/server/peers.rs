//! Who is connected, and who must go when there is no more room.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::report::metrics::Metrics;

/// No API server waits longer for an answer: `timeoutSeconds` is at most 30. A request that is
/// older no longer protects its connection.
const LONGEST_REQUEST: Duration = Duration::from_secs(30);

/// All open connections.
pub(super) struct Peers {
    most: usize,
    started: Instant,
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Peer>>>,
    in_flight: AtomicUsize,
    /// When the last request came, in milliseconds since the start.
    last_request: AtomicU64,
}

/// One open connection.
pub(super) struct Peer {
    /// Requests that are not answered to the last byte.
    requests: AtomicUsize,
    /// When a request last came or went, in milliseconds since the start.
    last_active: AtomicU64,
    /// Whether it ever sent a request.
    is_known: AtomicBool,
    /// Rung by every request; remembers one ring.
    request: Notify,
    /// Rung when it must go.
    close: Notify,
}

/// The place of a connection, given back when dropped.
pub(super) struct Guest {
    pub(super) peer: Arc<Peer>,
    peers: Arc<Peers>,
    number: u64,
    metrics: Option<Arc<Metrics>>,
}

/// A request that is not answered yet, done when dropped.
pub(super) struct InFlight {
    peer: Arc<Peer>,
    peers: Arc<Peers>,
}

// === impl Peers ===

impl Peers {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            started: Instant::now(),
            next: AtomicU64::new(0),
            open: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            last_request: AtomicU64::new(0),
        }
    }

    /// A place for a new connection. When there is none, the oldest idle one loses its own; `None`
    /// when none is idle.
    pub(super) fn admit(self: &Arc<Self>, metrics: Option<Arc<Metrics>>) -> Option<Guest> {
        let mut open = self.open();
        if open.len() >= self.most && !self.close_one(&mut open) {
            return None;
        }
        let number = self.next.fetch_add(1, Relaxed);
        let peer = Arc::new(Peer {
            requests: AtomicUsize::new(0),
            last_active: AtomicU64::new(self.now()),
            is_known: AtomicBool::new(false),
            request: Notify::new(),
            close: Notify::new(),
        });
        open.insert(number, Arc::clone(&peer));
        if let Some(metrics) = &metrics {
            metrics.connections.inc();
        }
        Some(Guest {
            peer,
            peers: Arc::clone(self),
            number,
            metrics,
        })
    }

    /// Closes the oldest idle connection, if there is one.
    pub(super) fn close_oldest(&self) {
        self.close_one(&mut self.open());
    }

    /// Closes all, each after what is in flight on it.
    pub(super) fn close_all(&self) {
        for peer in self.open().values() {
            peer.close.notify_one();
        }
    }

    /// Requests that are not answered to the last byte.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// When the last request came; the start, if none did.
    pub(super) fn last_request(&self) -> Instant {
        self.started + Duration::from_millis(self.last_request.load(Relaxed))
    }

    /// A request came.
    pub(super) fn begin(self: &Arc<Self>, peer: &Arc<Peer>) -> InFlight {
        let now = self.now();
        self.in_flight.fetch_add(1, Relaxed);
        self.last_request.store(now, Relaxed);
        peer.requests.fetch_add(1, Relaxed);
        peer.last_active.store(now, Relaxed);
        peer.is_known.store(true, Relaxed);
        peer.request.notify_one();
        InFlight {
            peer: Arc::clone(peer),
            peers: Arc::clone(self),
        }
    }

    fn close_one(&self, open: &mut BTreeMap<u64, Arc<Peer>>) -> bool {
        let now = self.now();
        // Who has sent requests is more likely an API server than who has not.
        let oldest = open
            .iter()
            .filter(|(_, peer)| !peer.is_busy(now))
            .min_by_key(|(_, peer)| (peer.is_known.load(Relaxed), peer.last_active.load(Relaxed)))
            .map(|(number, _)| *number);
        let Some(peer) = oldest.and_then(|number| open.remove(&number)) else {
            return false;
        };
        peer.close.notify_one();
        true
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Peer>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Peer ===

impl Peer {
    fn is_busy(&self, now: u64) -> bool {
        let since = Duration::from_millis(now.saturating_sub(self.last_active.load(Relaxed)));
        self.requests.load(Relaxed) > 0 && since < LONGEST_REQUEST
    }

    /// Ends with the first request, or at once if there was one.
    pub(super) async fn first_request(&self) {
        self.request.notified().await;
    }

    /// Ends when the connection must go.
    pub(super) async fn closed(&self) {
        self.close.notified().await;
    }
}

// === impl Guest ===

impl Guest {
    /// Ends when no request has come or gone for that long.
    pub(super) async fn idle_for(&self, limit: Duration) {
        loop {
            let last_active = Duration::from_millis(self.peer.last_active.load(Relaxed));
            let until = self.peers.started + last_active + limit;
            if Instant::now() >= until {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    /// Whether a request is in flight that its client may still wait for.
    pub(super) fn is_busy(&self) -> bool {
        self.peer.is_busy(self.peers.now())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.peers.open().remove(&self.number);
        if let Some(metrics) = &self.metrics {
            metrics.connections.dec();
        }
    }
}

// === impl InFlight ===

impl Drop for InFlight {
    fn drop(&mut self) {
        self.peer.last_active.store(self.peers.now(), Relaxed);
        self.peer.requests.fetch_sub(1, Relaxed);
        self.peers.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_closed(guest: &Guest) -> bool {
        tokio::time::timeout(Duration::ZERO, guest.peer.closed())
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn case_13_the_oldest_idle_connection_makes_room() {
        let peers = Arc::new(Peers::new(3));
        let mut guests = Vec::new();
        for _ in 0..3 {
            guests.push(peers.admit(None).unwrap());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The first has sent a request and the second is in the middle of one.
        drop(peers.begin(&guests[0].peer));
        let _request = peers.begin(&guests[1].peer);
        let fourth = peers.admit(None).unwrap();
        assert!(is_closed(&guests[2]).await, "it never sent a request");
        let _fifth = peers.admit(None).unwrap();
        assert!(is_closed(&fourth).await, "it never sent a request either");
        assert!(!is_closed(&guests[0]).await);
        assert!(!is_closed(&guests[1]).await);
    }

    #[tokio::test]
    async fn case_13_busy_connections_are_not_closed_for_new_ones() {
        let peers = Arc::new(Peers::new(1));
        let guest = peers.admit(None).unwrap();
        let request = peers.begin(&guest.peer);
        assert!(peers.admit(None).is_none());
        drop(request);
        assert!(peers.admit(None).is_some());
    }

    #[tokio::test]
    async fn a_request_that_nobody_waits_for_protects_nothing() {
        let peers = Arc::new(Peers::new(1));
        let guest = peers.admit(None).unwrap();
        let _stuck = peers.begin(&guest.peer);
        let now = peers.now();
        let longest = u64::try_from(LONGEST_REQUEST.as_millis()).unwrap();
        assert!(guest.peer.is_busy(now + longest / 2));
        assert!(!guest.peer.is_busy(now + longest));
    }

    #[tokio::test]
    async fn a_place_is_given_back() {
        let metrics = Arc::new(Metrics::default());
        let peers = Arc::new(Peers::new(1));
        let guest = peers.admit(Some(Arc::clone(&metrics))).unwrap();
        assert_eq!(metrics.connections.get(), 1);
        drop(guest);
        assert_eq!(metrics.connections.get(), 0);
        let guest = peers.admit(None).unwrap();
        assert!(!is_closed(&guest).await);
    }
}
