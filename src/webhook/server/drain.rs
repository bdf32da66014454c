//! Leaving without losing a request.
//!
//! When a pod is deleted, it is told to stop before every node has heard that it is gone, and API
//! servers hold connections open to it. So a server that is told to stop
//!
//! 1. goes on serving, but asks each client to connect anew (`Connection: close`, or GOAWAY). It
//!    closes no idle HTTP/1.1 connection, as a request may be on its way there, and an API server
//!    does not repeat it;
//! 2. once nobody comes any more, answers late requests with 503 and `Retry-After: 0`, upon which
//!    an API server asks again on a new connection, up to ten times (client-go
//!    `rest/with_retry.go`), and listens no more;
//! 3. finishes what is in flight.

use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::peers::Peers;

/// How long each part of leaving takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// The least time of serving on. 15 s: what endpoint slices, kube-proxy and load balancers
    /// are commonly given to follow.
    pub lame_duck: Duration,
    /// Serving goes on until there was no request for this long. 5 s.
    pub quiet: Duration,
    /// Serving ends after this in any case. 30 s, half of the chart's
    /// `terminationGracePeriodSeconds`.
    pub most: Duration,
    /// The least time in which late requests are sent elsewhere. 1 s.
    pub last_call: Duration,
    /// The most time for what is in flight. 10 s, twice the timeout of the validating webhook.
    pub finish: Duration,
}

/// How far leaving has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShutdownPhase {
    /// Not at all.
    Serving,
    /// Still answering, and asking clients to connect anew.
    LameDuck,
    /// Sending late requests elsewhere.
    Closing,
}

// === impl Drain ===

impl Default for Drain {
    fn default() -> Self {
        Self {
            lame_duck: Duration::from_secs(15),
            quiet: Duration::from_secs(5),
            most: Duration::from_secs(30),
            last_call: Duration::from_secs(1),
            finish: Duration::from_secs(10),
        }
    }
}

impl Drain {
    /// Waits for `stop`, then until nobody comes any more.
    pub(super) async fn leave(
        &self,
        stop: impl Future<Output = ()>,
        phase: &watch::Sender<ShutdownPhase>,
        peers: &Peers,
    ) {
        stop.await;
        phase.send_replace(ShutdownPhase::LameDuck);
        let told = Instant::now();
        loop {
            let end = self.end(told, peers.last_request());
            if Instant::now() >= end {
                break;
            }
            sleep_until(end).await;
        }
        phase.send_replace(ShutdownPhase::Closing);
    }

    /// When nobody comes any more, if no request follows this last one.
    fn end(&self, told: Instant, last_request: Instant) -> Instant {
        let quiet = last_request + self.quiet;
        (told + self.lame_duck).max(quiet).min(told + self.most)
    }

    /// Waits for what is in flight.
    pub(super) async fn finish(&self, peers: &Peers) {
        const LOOK: Duration = Duration::from_millis(10);
        let closing = Instant::now();
        sleep(self.last_call).await;
        while peers.in_flight() > 0 && closing.elapsed() < self.finish {
            sleep(LOOK).await;
        }
    }
}

/// What a late request is told: ask again, on a new connection.
pub(super) fn elsewhere() -> Response<Body> {
    let mut response = Response::new(Body::from("shutting down: ask again on a new connection\n"));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("0"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Seconds from the signal to the end of the lame duck, with requests at these seconds.
    fn seconds(requests: &[u64]) -> u64 {
        let (drain, told) = (Drain::default(), Instant::now());
        let mut end = drain.end(told, told);
        for request in requests {
            let request = told + Duration::from_secs(*request);
            if request < end {
                end = drain.end(told, request);
            }
        }
        (end - told).as_secs()
    }

    #[test]
    fn case_90_the_lame_duck_lasts_until_nobody_comes() {
        assert_eq!(seconds(&[]), 15);
        assert_eq!(seconds(&[1, 2, 3]), 15);
        assert_eq!(seconds(&[14]), 19);
        assert_eq!(seconds(&[14, 18, 22]), 27);
        let all: Vec<u64> = (1..60).collect();
        assert_eq!(seconds(&all), 30);
    }

    #[tokio::test]
    async fn case_90_what_is_in_flight_is_waited_for_but_not_for_ever() {
        let peers = Arc::new(Peers::new(1));
        let guest = peers.admit(None).unwrap();
        let drain = Drain {
            last_call: Duration::ZERO,
            finish: Duration::from_millis(400),
            ..Drain::default()
        };
        let request = peers.begin(&guest.peer);
        let answer = async {
            sleep(Duration::from_millis(50)).await;
            drop(request);
        };
        tokio::join!(answer, drain.finish(&peers));
        assert_eq!(peers.in_flight(), 0);
        let _stuck = peers.begin(&guest.peer);
        let start = Instant::now();
        drain.finish(&peers).await;
        assert!(start.elapsed() >= drain.finish);
        assert_eq!(peers.in_flight(), 1);
    }
}
