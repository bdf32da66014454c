//! One connection, from the handshake to the goodbye.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Request, Response, Version, header};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use super::drain::{ShutdownPhase, elsewhere};
use super::peers::{Guest, InFlight, Peer};
use super::{Shared, without_delay};

/// How long a peer may take to hear that the connection ends.
pub(super) const GOODBYE: Duration = Duration::from_secs(1);

/// A body whose request is in flight until it is gone.
struct Counted {
    body: Body,
    _in_flight: InFlight,
}

/// Serves a connection to its end.
pub(super) async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    guest: Guest,
    shared: Arc<Shared>,
) {
    without_delay(&stream);
    let Some(acceptor) = &shared.acceptor else {
        let http = shared.http.clone().http1_only();
        return talk(stream, &http, &guest, &shared).await;
    };
    let limit = shared.limits.handshake;
    let greeted = tokio::select! {
        greeted = tokio::time::timeout(limit, greet(stream, acceptor)) => greeted,
        () = guest.peer.closed() => return,
    };
    match greeted {
        Ok(Ok(Some(stream))) => {
            let http = shared.http.clone();
            // Chosen by ALPN, so no time passes in guessing from the first bytes.
            let http = match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => http.http2_only(),
                _ => http.http1_only(),
            };
            talk(stream, &http, &guest, &shared).await;
        }
        Ok(Ok(None)) => tracing::debug!(peer = %address, "connected and left"),
        Ok(Err(error)) => shared.handshakes.failed(address, &error),
        Err(_) => {
            let error = io::Error::other(format!("not done within {limit:?}"));
            shared.handshakes.failed(address, &error);
        }
    }
}

/// The handshake; `None` for a peer that left without a word, as probes of a TCP port do.
async fn greet(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
) -> io::Result<Option<TlsStream<TcpStream>>> {
    if stream.peek(&mut [0]).await? == 0 {
        return Ok(None);
    }
    acceptor.accept(stream).await.map(Some)
}

/// Speaks HTTP until the peer leaves or has to.
async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    http: &auto::Builder<TokioExecutor>,
    guest: &Guest,
    shared: &Arc<Shared>,
) {
    let service =
        service_fn(|request| answer(request, Arc::clone(shared), Arc::clone(&guest.peer)));
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // How a peer breaks off is its own affair.
        _ = &mut connection => return,
        () = guest.peer.closed() => {}
        () = guest.idle_for(shared.limits.idle) => {}
        () = must_move(http, guest, shared) => {}
    }
    connection.as_mut().graceful_shutdown();
    let patience = async {
        tokio::time::sleep(GOODBYE).await;
        while guest.is_busy() {
            tokio::time::sleep(GOODBYE).await;
        }
    };
    tokio::select! {
        _ = connection => {}
        () = patience => {}
    }
}

/// HTTP/2 has no `Connection: close`, and can say goodbye without a race: when the server leaves,
/// a connection that was used is told to end.
async fn must_move(http: &auto::Builder<TokioExecutor>, guest: &Guest, shared: &Shared) {
    if !http.is_http2_available() {
        return std::future::pending().await;
    }
    let mut phase = shared.phase.subscribe();
    // The sender lives as long as `shared`.
    let _ = phase
        .wait_for(|phase| *phase != ShutdownPhase::Serving)
        .await;
    guest.peer.first_request().await;
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    peer: Arc<Peer>,
) -> Result<Response<Counted>, Infallible> {
    let in_flight = shared.peers.begin(&peer);
    let version = request.version();
    let mut response = if shared.phase() == ShutdownPhase::Closing {
        elsewhere()
    } else {
        shared
            .router
            .clone()
            .oneshot(request.map(Body::new))
            .await?
    };
    if version < Version::HTTP_2 && shared.phase() != ShutdownPhase::Serving {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    Ok(response.map(|body| Counted {
        body,
        _in_flight: in_flight,
    }))
}

// === impl Counted ===

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
