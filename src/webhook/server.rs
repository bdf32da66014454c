//! The server: accepts connections, bounds what each may cost, and leaves without losing a request.
//!
//! No crate offers all of it: a cap on connections that still lets the API server in, time limits
//! before and between requests, and the way to leave that an API server survives (see
//! `server/drain.rs`). It knows nothing of reviews; the [`Router`] does.

mod connection;
mod drain;
mod handshakes;
mod peers;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

pub use drain::Drain;
use drain::ShutdownPhase;
use handshakes::Handshakes;
use peers::Peers;

use crate::report::metrics::{Metrics, ReasonLabel};

/// What a peer may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// The longest TLS handshake. 10 s, as Go's net/http client waits (`TLSHandshakeTimeout`).
    pub handshake: Duration,
    /// How long a connection may be without a request, whether it is silent or sends a header byte
    /// by byte. An API server keeps idle connections for 90 s, even some that it never used
    /// (k8s.io/apimachinery `SetTransportDefaults`, Go's net/http), and does not repeat a POST
    /// that meets a closing one. 115 s, so that a slow header is gone within 120 s.
    pub idle: Duration,
    /// Open connections. 2,500: an API server opens one for each review that it waits for, so 2,000
    /// at a time must reach the point where the surplus is told so.
    pub connections: usize,
    /// Open requests on one HTTP/2 connection. 250, as Go's net/http2 server allows.
    pub streams: u32,
    /// Bytes that an HTTP/1 connection buffers each way, which bounds the header too. 16 KiB, as much
    /// as a TLS record; an API server's header has some 300 bytes, and hyper would allow 400 KiB.
    pub buffer: usize,
    /// Bytes of an HTTP/2 header. 16 KiB, hyper's default.
    pub header_list: u32,
    /// How to leave.
    pub drain: Drain,
}

/// A server that is bound and ready to run.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub listener: TcpListener,
    /// What answers.
    pub router: Router,
    /// HTTPS only, with this; `None`: plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// What a peer may cost.
    pub limits: ConnectionLimits,
    /// Where connections are counted.
    pub metrics: Option<Arc<Metrics>>,
}

/// What the connections share.
struct Shared {
    router: Router,
    acceptor: Option<TlsAcceptor>,
    http: auto::Builder<TokioExecutor>,
    limits: ConnectionLimits,
    metrics: Option<Arc<Metrics>>,
    peers: Arc<Peers>,
    handshakes: Handshakes,
    phase: watch::Sender<ShutdownPhase>,
}

/// Bytes of memory that an idle connection takes: 25 kB, measured over some hundred of them.
const CONNECTION: usize = 26 << 10;

/// How long to wait when the system gives out no more sockets. One is freed each time, so this is
/// also how fast newcomers get in then.
const PAUSE: Duration = Duration::from_millis(5);

/// How often to say so.
const QUIET: Duration = Duration::from_secs(10);

// === impl ConnectionLimits ===

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(115),
            connections: 2_500,
            streams: 250,
            buffer: 16 * 1024,
            header_list: 16 * 1024,
            drain: Drain::default(),
        }
    }
}

impl ConnectionLimits {
    /// What peers may cost a process that may have so many bytes of memory: its connections get a
    /// quarter of it.
    #[must_use]
    pub fn for_memory(bytes: usize) -> Self {
        let most = Self::default();
        Self {
            connections: (bytes / 4 / CONNECTION).min(most.connections),
            ..most
        }
    }

    fn http(&self) -> auto::Builder<TokioExecutor> {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1().max_buf_size(self.buffer);
        http.http2()
            .max_concurrent_streams(self.streams)
            .max_header_list_size(self.header_list);
        http
    }
}

// === impl Server ===

impl Server {
    /// Serves until `stop`, then leaves as [`Drain`] says, and returns when nothing is left to do.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self {
            listener,
            router,
            tls,
            limits,
            metrics,
        } = self;
        let shared = Arc::new(Shared {
            router,
            acceptor: tls.map(TlsAcceptor::from),
            http: limits.http(),
            peers: Arc::new(Peers::new(limits.connections)),
            handshakes: Handshakes::new(metrics.clone()),
            phase: watch::Sender::new(ShutdownPhase::Serving),
            limits,
            metrics,
        });
        let drain = &shared.limits.drain;
        let mut connections = JoinSet::new();
        tokio::select! {
            () = accept(&listener, &shared, &mut connections) => {}
            () = drain.leave(stop, &shared.phase, &shared.peers) => {}
        }
        drop(listener);
        drain.finish(&shared.peers).await;
        shared.peers.close_all();
        let all = async { while connections.join_next().await.is_some() {} };
        // Who does not say goodbye is cut off when the set is dropped.
        let _ = tokio::time::timeout(connection::GOODBYE, all).await;
    }
}

/// Never ends.
async fn accept(listener: &TcpListener, shared: &Arc<Shared>, connections: &mut JoinSet<()>) {
    let mut complained: Option<Instant> = None;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => match shared.peers.admit(shared.metrics.clone()) {
                Some(guest) => {
                    let shared = Arc::clone(shared);
                    connections.spawn(connection::serve(stream, address, guest, shared));
                }
                // Every connection is busy, so nothing can be gained by closing one.
                None => shared.shed(),
            },
            Err(error) if is_about_one_peer(&error) => {}
            Err(error) => {
                if complained.is_none_or(|last| last.elapsed() >= QUIET) {
                    complained = Some(Instant::now());
                    tracing::error!(
                        "no connection can be accepted: {error}; \
                         raise the limit of open files (ulimit -n)"
                    );
                }
                shared.peers.close_oldest();
                // Without a pause this would spin.
                tokio::time::sleep(PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// accept(2) also reports what went wrong with the connection that it would have returned.
fn is_about_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

// === impl Shared ===

impl Shared {
    fn shed(&self) {
        if let Some(metrics) = &self.metrics {
            let reason = "connections";
            metrics.shed.get_or_create(&ReasonLabel { reason }).inc();
        }
    }

    fn phase(&self) -> ShutdownPhase {
        *self.phase.borrow()
    }
}

/// Small answers must not wait for more.
fn without_delay(stream: &TcpStream) {
    // A socket that refuses is closed already; reading it will say so.
    let _ = stream.set_nodelay(true);
}
