//! The server on real sockets: what peers may cost, and how it leaves.

mod frames;
mod http2;
mod leaving;
mod peers;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post};
use forestall::report::metrics::Metrics;
use forestall::tls::{Certificates, PairFiles};
use forestall::webhook::server::{ConnectionLimits, Server};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::pki::Pki;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server on loopback, with a small router.
struct Host {
    pki: Pki,
    port: u16,
    metrics: Arc<Metrics>,
    /// What `/slow` waits for.
    gate: Arc<Notify>,
    /// Held while `/slow` waits.
    permits: Arc<Semaphore>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// A client of one connection.
struct Client(TlsStream<TcpStream>);

/// An answer as it came.
struct Answer {
    head: String,
    body: String,
}

impl Host {
    async fn start(limits: ConnectionLimits) -> Self {
        let pki = Pki::local();
        let metrics = Arc::new(Metrics::default());
        let files = PairFiles {
            certificate: pki.path("tls.crt"),
            key: pki.path("tls.key"),
        };
        let certificates = Arc::new(Certificates::from_files(files, Arc::default()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (gate, permits) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(1)));
        let server = Server {
            listener,
            router: router(&gate, &permits),
            tls: Some(certificates.server_config().unwrap()),
            limits,
            metrics: Some(Arc::clone(&metrics)),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async {
            // A test that drops the host has no more to say either.
            let _ = stopped.await;
        }));
        Self {
            pki,
            port,
            metrics,
            gate,
            permits,
            stop: Some(stop),
            task,
        }
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    async fn connect(&self, alpn: &[&str]) -> std::io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(self.pki.client(alpn));
        connector.connect(name, stream).await.map(Client)
    }

    async fn client(&self) -> Client {
        self.connect(&["http/1.1"]).await.unwrap()
    }

    /// Somebody else is served as if nothing were.
    async fn serves(&self) {
        let answer = timeout(PATIENCE, async { self.client().await.get("/").await });
        assert_eq!(answer.await.unwrap().body, "here");
    }

    async fn ends(self) {
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

fn router(gate: &Arc<Notify>, permits: &Arc<Semaphore>) -> Router {
    let (gate, permits) = (Arc::clone(gate), Arc::clone(permits));
    let slow = async move || {
        let _permit = permits.acquire().await.unwrap();
        gate.notified().await;
        "at last"
    };
    let size = async |body: Bytes| body.len().to_string();
    Router::new()
        .route("/", get(async || "here"))
        .route("/slow", get(slow))
        .route("/size", post(size))
        .route(
            "/capped",
            post(size).layer(DefaultBodyLimit::max(1024 * 1024)),
        )
        .fallback(async || StatusCode::NOT_FOUND)
}

impl Client {
    async fn get(&mut self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
            .await;
        self.answer().await
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Reads one answer, byte by byte, so that the next one is left alone.
    async fn answer(&mut self) -> Answer {
        let read = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(self.0.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap().to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            self.0.read_exact(&mut body).await.unwrap();
            let body = String::from_utf8(body).unwrap();
            Answer { head, body }
        };
        timeout(PATIENCE, read).await.unwrap()
    }

    /// Waits until the server closes, and gives what it sent before.
    async fn rest(&mut self) -> Vec<u8> {
        rest(&mut self.0).await
    }
}

impl Answer {
    fn is_closing(&self) -> bool {
        self.head.contains("connection: close")
    }
}

async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is a way to close, too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("it is closed");
    bytes
}

async fn until(mut holds: impl FnMut() -> bool) {
    let looked = async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, looked).await.unwrap();
}

/// This process may have so many files open; the usual limit of a shell is 1,024.
pub fn allow_open_files(count: usize) {
    let raised = Command::new("prlimit")
        .arg(format!("--pid={}", std::process::id()))
        .arg(format!("--nofile={count}:"))
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&raised.stderr);
    assert!(
        raised.status.success(),
        "the hard limit of open files is too low: {complaint}"
    );
}
