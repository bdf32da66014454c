//! A bare axum and rustls server that sends each review back: what `make bench` measures against.
//!
//! It reads no review, so it costs what the kernel, TLS and HTTP cost on this machine. The
//! allocator, the TLS provider and the HTTP library are those of `forestall serve`.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use clap::Parser;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The largest body that is sent back, in bytes: as much as `forestall serve` reads.
const LARGEST_BODY: usize = 32 << 20;

/// Sends each review back, whatever the path.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9444")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { listen } = Arguments::parse();
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    #[expect(clippy::print_stdout, reason = "the caller waits for this line")]
    {
        println!("listening on https://{}", listener.local_addr()?);
    }
    let acceptor = TlsAcceptor::from(Arc::new(tls()?));
    let router = Router::new()
        .fallback(post(echo))
        .layer(DefaultBodyLimit::max(LARGEST_BODY));
    loop {
        // A connection that failed before it was accepted is the client's loss.
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, acceptor.clone(), router.clone()));
        }
    }
}

async fn echo(review: Bytes) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], review)
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, router: Router) {
    let _ = stream.set_nodelay(true);
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
}

/// A certificate that signs itself: the load generator does not look at it.
fn tls() -> anyhow::Result<ServerConfig> {
    let made =
        rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.into()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
