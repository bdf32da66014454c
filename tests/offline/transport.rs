//! The server on real sockets: what peers may cost, and how it leaves.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post};
use forestall::report::metrics::Metrics;
use forestall::webhook::server::{Drain, Limits, Server};
use forestall::webhook::tls::{Certificates, Files};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
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
    async fn start(limits: Limits) -> Self {
        let pki = Pki::local();
        let metrics = Arc::new(Metrics::default());
        let files = Files {
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

/// A drain that a test can wait for.
fn short() -> Limits {
    Limits {
        drain: Drain {
            lame_duck: Duration::from_millis(1500),
            quiet: Duration::from_millis(300),
            most: Duration::from_secs(3),
            last_call: Duration::from_millis(1500),
            finish: Duration::from_secs(20),
        },
        ..Limits::default()
    }
}

// === what peers may cost ===

#[tokio::test]
async fn case_05_a_body_beyond_the_cap_is_refused_before_all_of_it_is_read() {
    let host = Host::start(Limits::default()).await;
    let client = host.client().await;
    let (reading, mut writing) = tokio::io::split(client.0);
    let sent = tokio::spawn(async move {
        let length = 33 * 1024 * 1024;
        let head = format!("POST /capped HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        writing.write_all(head.as_bytes()).await.unwrap();
        let part = vec![b'a'; 64 * 1024];
        let mut sent = 0;
        while sent < length && writing.write_all(&part).await.is_ok() {
            sent += part.len();
        }
        sent
    });
    let mut answer = String::new();
    // The connection is closed with the rest unread, which may reset it after the answer.
    let _ = timeout(PATIENCE, reading.take(1024).read_to_string(&mut answer))
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let sent = timeout(PATIENCE, sent).await.unwrap().unwrap();
    assert!(sent < 16 * 1024 * 1024, "{sent}");
    host.serves().await;
}

#[tokio::test]
async fn case_06_a_body_shorter_than_its_length_is_closed() {
    let host = Host::start(Limits::default()).await;
    let mut client = host.client().await;
    client
        .send("POST /size HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nabc")
        .await;
    client.0.shutdown().await.unwrap();
    let answer = String::from_utf8(client.rest().await).unwrap();
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
        "{answer}"
    );
    until(|| host.metrics.connections.get() == 0).await;
    host.serves().await;
}

#[tokio::test]
async fn case_07_chunks_beyond_the_cap_are_refused() {
    let host = Host::start(Limits::default()).await;
    let mut client = host.client().await;
    client
        .send("POST /capped HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    let chunk = format!("{:x}\r\n{}\r\n", 64 * 1024, "a".repeat(64 * 1024));
    for _ in 0..17 {
        client.send(&chunk).await;
    }
    let answer = client.answer().await;
    assert!(answer.head.starts_with("http/1.1 413 "), "{}", answer.head);
    host.serves().await;
}

#[tokio::test]
async fn case_10_a_slow_header_is_closed_and_others_are_unaffected() {
    let host = Host::start(Limits {
        idle: Duration::from_secs(1),
        ..Limits::default()
    })
    .await;
    let client = host.client().await;
    let start = Instant::now();
    let (mut reading, mut writing) = tokio::io::split(client.0);
    let writer = tokio::spawn(async move {
        // It ends with an error, when the server has closed.
        for byte in b"GET / HTTP/1.1\r\nx-slow: "
            .iter()
            .chain(std::iter::repeat(&b'a'))
        {
            if writing.write_all(&[*byte]).await.is_err() {
                return;
            }
            let _ = writing.flush().await;
            sleep(Duration::from_millis(50)).await;
        }
    });
    host.serves().await;
    assert!(rest(&mut reading).await.is_empty());
    assert!(start.elapsed() >= Duration::from_secs(1));
    drop(reading);
    writer.abort();
    until(|| host.metrics.connections.get() == 0).await;
}

#[test]
fn case_10_and_19_a_connection_may_be_idle_for_more_than_90_s_and_a_header_takes_less_than_120_s() {
    let Limits { idle, .. } = Limits::default();
    assert!(idle > Duration::from_secs(95));
    // What is left is for the goodbye.
    assert!(idle <= Duration::from_secs(119));
}

#[tokio::test]
async fn case_12_a_stalled_handshake_is_dropped() {
    let host = Host::start(Limits {
        handshake: Duration::from_millis(500),
        ..Limits::default()
    })
    .await;
    // One says nothing, the other begins a record and stops.
    let mut silent = host.tcp().await;
    let mut stalled = host.tcp().await;
    stalled.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    host.serves().await;
    rest(&mut silent).await;
    rest(&mut stalled).await;
    until(|| host.metrics.handshake_failures.get() == 2).await;
    assert_eq!(Limits::default().handshake, Duration::from_secs(10));
}

#[tokio::test]
async fn a_probe_of_the_port_is_no_failed_handshake() {
    let host = Host::start(Limits::default()).await;
    drop(host.tcp().await);
    host.serves().await;
    until(|| host.metrics.connections.get() == 0).await;
    assert_eq!(host.metrics.handshake_failures.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_13_ten_thousand_idle_connections_do_not_keep_the_api_server_out() {
    const CROWD: usize = 10_000;
    allow_open_files(CROWD + 5_000);
    let host = Host::start(Limits::default()).await;
    let most = Limits::default().connections;
    let mut api_server = host.client().await;
    api_server.get("/").await;
    let mut crowd = Vec::with_capacity(CROWD);
    for _ in 0..CROWD {
        crowd.push(host.tcp().await);
    }
    // The connection that was used before all of them is still there, and a new one is let in.
    assert_eq!(api_server.get("/").await.body, "here");
    host.serves().await;
    // The oldest were closed, the newest were not.
    rest(&mut crowd[0]).await;
    until(|| host.metrics.connections.get() <= i64::try_from(most).unwrap()).await;
    assert!(host.metrics.connections.get() > 2_000);
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

#[tokio::test]
async fn case_13_when_all_are_busy_a_new_connection_is_turned_away() {
    let host = Host::start(Limits {
        connections: 1,
        ..Limits::default()
    })
    .await;
    let mut client = host.client().await;
    client
        .send("GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    until(|| host.permits.available_permits() == 0).await;
    rest(&mut host.tcp().await).await;
    assert!(
        host.metrics
            .encode()
            .contains("requests_shed_total{reason=\"connections\"} 1")
    );
    host.gate.notify_one();
    assert_eq!(client.answer().await.body, "at last");
}

#[tokio::test]
async fn case_15_clients_of_either_protocol_are_served() {
    let host = Host::start(Limits::default()).await;
    let (pem, url) = (
        std::fs::read(host.pki.path("ca.crt")).unwrap(),
        format!("https://localhost:{}/", host.port),
    );
    let client = || {
        let authority = reqwest::Certificate::from_pem(&pem).unwrap();
        reqwest::Client::builder()
            .tls_certs_only([authority])
            .no_proxy()
    };
    for (client, version) in [
        (client().http1_only(), reqwest::Version::HTTP_11),
        (client().http2_prior_knowledge(), reqwest::Version::HTTP_2),
        (client(), reqwest::Version::HTTP_2),
    ] {
        let answer = client.build().unwrap().get(&url).send().await.unwrap();
        assert_eq!(answer.version(), version);
        assert_eq!(answer.text().await.unwrap(), "here");
    }
    // A client that says nothing of protocols means HTTP/1.1.
    let mut client = host.connect(&[]).await.unwrap();
    assert_eq!(client.get("/").await.body, "here");
}

#[tokio::test]
async fn case_16_plain_http_on_the_tls_port_is_closed() {
    let host = Host::start(Limits::default()).await;
    let mut plain = host.tcp().await;
    plain
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let answer = rest(&mut plain).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    until(|| host.metrics.handshake_failures.get() == 1).await;
    host.serves().await;
}

#[tokio::test]
async fn case_17_a_client_that_breaks_off_stops_its_work() {
    let host = Host::start(Limits::default()).await;
    for alpn in ["http/1.1", "h2"] {
        let mut client = host.connect(&[alpn]).await.unwrap();
        if alpn == "h2" {
            client.0.write_all(&h2::hello()).await.unwrap();
            client.0.write_all(&h2::request(1, "/slow")).await.unwrap();
        } else {
            client
                .send("GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n")
                .await;
        }
        until(|| host.permits.available_permits() == 0).await;
        drop(client);
        until(|| host.permits.available_permits() == 1).await;
    }
}

#[tokio::test]
async fn case_18_pipelined_requests_are_answered_in_order() {
    let host = Host::start(Limits::default()).await;
    let mut client = host.client().await;
    let mut requests = String::new();
    for length in 1..=20 {
        requests += &format!("POST /size HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        requests += &"a".repeat(length);
    }
    client.send(&requests).await;
    for length in 1..=20 {
        assert_eq!(client.answer().await.body, length.to_string());
    }
}

#[tokio::test]
async fn case_19_a_connection_is_used_again_after_a_pause_within_the_limit() {
    let host = Host::start(Limits {
        idle: Duration::from_secs(2),
        ..Limits::default()
    })
    .await;
    let mut client = host.client().await;
    for _ in 0..3 {
        // All in all longer than the limit: each request begins it anew.
        sleep(Duration::from_millis(900)).await;
        assert_eq!(client.get("/").await.body, "here");
    }
    assert!(
        client.rest().await.is_empty(),
        "closed without a word when it is over"
    );
}

#[tokio::test]
async fn case_21_duplicate_headers_and_100_continue_do_no_harm() {
    let host = Host::start(Limits::default()).await;
    let mut client = host.client().await;
    client
        .send(
            "POST /size HTTP/1.1\r\nhost: localhost\r\naccept: a\r\naccept: b\r\n\
             content-length: 3\r\nexpect: 100-continue\r\n\r\n",
        )
        .await;
    let interim = client.answer().await;
    assert!(
        interim.head.starts_with("http/1.1 100 "),
        "{}",
        interim.head
    );
    client.send("abc").await;
    assert_eq!(client.answer().await.body, "3");
    // Two lengths that differ could smuggle a request past a proxy.
    client
        .send(
            "POST /size HTTP/1.1\r\nhost: localhost\r\n\
             content-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        )
        .await;
    let answer = client.answer().await;
    assert!(answer.head.starts_with("http/1.1 400 "), "{}", answer.head);
}

#[tokio::test]
async fn a_header_beyond_the_buffer_is_refused() {
    let host = Host::start(Limits::default()).await;
    let mut client = host.client().await;
    let long = "a".repeat(200 * 1024);
    client
        .send(&format!(
            "GET / HTTP/1.1\r\nhost: localhost\r\nx-long: {long}\r\n\r\n"
        ))
        .await;
    let answer = client.answer().await;
    assert!(answer.head.starts_with("http/1.1 431 "), "{}", answer.head);
}

// === HTTP/2 by hand ===

/// Frames as a hostile client writes them (RFC 9113 and RFC 7541).
mod h2 {
    /// The preface and empty settings.
    pub fn hello() -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, 0, &[]));
        bytes
    }

    /// A GET, complete.
    pub fn request(stream: u32, path: &str) -> Vec<u8> {
        frame(1, 5, stream, &headers(path))
    }

    pub fn reset(stream: u32) -> Vec<u8> {
        frame(3, 0, stream, &8_u32.to_be_bytes())
    }

    pub fn headers(path: &str) -> Vec<u8> {
        // :method GET and :scheme https from the static table; :path and :authority written out.
        let mut block = vec![0x82, 0x87, 0x04];
        block.push(u8::try_from(path.len()).unwrap());
        block.extend(path.as_bytes());
        block.extend([0x01, 9]);
        block.extend(b"localhost");
        block
    }

    pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// Whether a GOAWAY is among these frames.
    pub fn has_goaway(mut bytes: &[u8]) -> bool {
        while bytes.len() >= 9 {
            let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
            if bytes[3] == 7 {
                return true;
            }
            bytes = bytes.get(9 + length..).unwrap_or_default();
        }
        false
    }
}

/// Sends until the server closes; how many bytes that took, and what it said.
async fn flood(client: Client, mut next: impl FnMut() -> Vec<u8>) -> (usize, Vec<u8>) {
    const MOST: usize = 64 * 1024 * 1024;
    let (mut reading, mut writing) = tokio::io::split(client.0);
    let read = async {
        let mut bytes = Vec::new();
        let _ = reading.read_to_end(&mut bytes).await;
        bytes
    };
    let mut sent = 0;
    let write = async {
        while sent < MOST {
            let bytes = next();
            sent += bytes.len();
            if writing.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    let (said, ()) = timeout(PATIENCE, async { tokio::join!(read, write) })
        .await
        .unwrap();
    assert!(sent < MOST, "it was never closed");
    (sent, said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_14_rapid_resets_end_the_connection() {
    let host = Host::start(Limits::default()).await;
    let mut client = host.connect(&["h2"]).await.unwrap();
    client.0.write_all(&h2::hello()).await.unwrap();
    let mut stream = 1;
    let (_, said) = flood(client, || {
        let mut bytes = Vec::new();
        for _ in 0..100 {
            bytes.extend(h2::request(stream, "/slow"));
            bytes.extend(h2::reset(stream));
            stream += 2;
        }
        bytes
    })
    .await;
    assert!(h2::has_goaway(&said), "it was told why");
    host.serves().await;
    // All the work of those streams is gone.
    until(|| host.permits.available_permits() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_14_an_endless_header_ends_the_connection() {
    let host = Host::start(Limits::default()).await;
    let mut client = host.connect(&["h2"]).await.unwrap();
    client.0.write_all(&h2::hello()).await.unwrap();
    client
        .0
        .write_all(&h2::frame(1, 1, 1, &h2::headers("/")))
        .await
        .unwrap();
    // A literal header without indexing, of 1 kB, again and again in CONTINUATION frames.
    let mut header = vec![0x00, 0x01, b'x', 0x7f, 0x81, 0x07];
    header.extend([b'a'; 1024]);
    let (sent, _) = flood(client, || h2::frame(9, 0, 1, &header)).await;
    assert!(sent < 16 * 1024 * 1024, "{sent}");
    host.serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_14_an_idle_http2_connection_is_not_kept_alive_by_pings() {
    let host = Host::start(Limits {
        idle: Duration::from_secs(1),
        ..Limits::default()
    })
    .await;
    let mut client = host.connect(&["h2"]).await.unwrap();
    client.0.write_all(&h2::hello()).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(client.0);
    let pings = tokio::spawn(async move {
        while writing
            .write_all(&h2::frame(6, 0, 0, &[0; 8]))
            .await
            .is_ok()
        {
            sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(h2::has_goaway(&rest(&mut reading).await));
    pings.abort();
}

// === leaving ===

#[tokio::test]
async fn case_90_while_leaving_each_answer_asks_to_connect_anew() {
    let mut host = Host::start(short()).await;
    let mut idle = host.client().await;
    assert!(!idle.get("/").await.is_closing());
    let mut unused = host.client().await;
    host.stop();
    sleep(Duration::from_millis(200)).await;
    // Old connections and new ones are served, and closed by their answer, not before it.
    for client in [&mut idle, &mut unused, &mut host.client().await] {
        let answer = client.get("/").await;
        assert_eq!(answer.body, "here");
        assert!(answer.is_closing(), "{}", answer.head);
        assert!(client.rest().await.is_empty());
    }
    host.ends().await;
}

#[tokio::test]
async fn case_90_late_requests_are_sent_elsewhere_and_those_in_flight_finished() {
    let mut host = Host::start(short()).await;
    let (mut late, mut in_flight) = (host.client().await, host.client().await);
    late.get("/").await;
    in_flight
        .send("GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    until(|| host.permits.available_permits() == 0).await;
    host.stop();
    // Nobody is accepted any more once late requests are sent elsewhere.
    let closed = async {
        while TcpStream::connect(("127.0.0.1", host.port)).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, closed).await.unwrap();
    let answer = late.get("/").await;
    assert!(answer.head.starts_with("http/1.1 503 "), "{}", answer.head);
    assert!(
        answer.head.contains("retry-after: 0\r\n"),
        "{}",
        answer.head
    );
    assert!(answer.is_closing(), "{}", answer.head);
    sleep(short().drain.last_call).await;
    assert!(!host.task.is_finished(), "a request is in flight");
    host.gate.notify_one();
    assert_eq!(in_flight.answer().await.body, "at last");
    host.ends().await;
}

#[tokio::test]
async fn case_90_http2_clients_are_told_to_leave_after_their_answers() {
    let mut host = Host::start(short()).await;
    let mut used = host.connect(&["h2"]).await.unwrap();
    used.0.write_all(&h2::hello()).await.unwrap();
    used.0.write_all(&h2::request(1, "/slow")).await.unwrap();
    until(|| host.permits.available_permits() == 0).await;
    host.stop();
    sleep(Duration::from_millis(200)).await;
    // A connection made while leaving gets an answer too.
    let mut late = host.connect(&["h2"]).await.unwrap();
    late.0.write_all(&h2::hello()).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    late.0.write_all(&h2::request(1, "/")).await.unwrap();
    for (name, answer) in [("late", &mut late), ("used", &mut used)] {
        if name == "used" {
            host.gate.notify_one();
        }
        let said = answer.rest().await;
        assert!(h2::has_goaway(&said), "{name}");
        assert!(!said.is_empty());
        let body = if name == "used" { "at last" } else { "here" };
        assert!(
            said.windows(body.len())
                .any(|bytes| bytes == body.as_bytes()),
            "{name}: {body}"
        );
    }
    host.ends().await;
}

#[tokio::test]
async fn case_90_no_request_fails_while_the_server_leaves() {
    let mut host = Host::start(short()).await;
    let (pki, port) = (host.pki.client(&["http/1.1"]), host.port);
    host.stop();
    let start = Instant::now();
    let mut answered = 0;
    // As an API server: a connection is kept until it is told to close, and 503 with Retry-After
    // is asked again. What is refused at connecting has gone to another replica.
    'replica: loop {
        let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await else {
            break;
        };
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::clone(&pki));
        let Ok(stream) = connector.connect(name, stream).await else {
            break;
        };
        let mut client = Client(stream);
        loop {
            let answer = client.get("/").await;
            if answer.head.contains("retry-after: 0") {
                break 'replica;
            }
            assert_eq!(answer.body, "here");
            answered += 1;
            if answer.is_closing() {
                break;
            }
        }
    }
    assert!(answered > 10);
    // Requests without a pause hold it to the longest lame duck.
    assert!(
        start.elapsed() >= Duration::from_millis(2500),
        "{:?}",
        start.elapsed()
    );
    host.ends().await;
}
