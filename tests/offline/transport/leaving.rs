//! Leaving without losing a request.

use std::sync::Arc;
use std::time::Duration;

use forestall::webhook::server::{ConnectionLimits, Drain};
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use super::{Client, Host, PATIENCE, frames, until};

/// A drain that a test can wait for.
fn short() -> ConnectionLimits {
    ConnectionLimits {
        drain: Drain {
            lame_duck: Duration::from_millis(1500),
            quiet: Duration::from_millis(300),
            most: Duration::from_secs(3),
            last_call: Duration::from_millis(1500),
            finish: Duration::from_secs(20),
        },
        ..ConnectionLimits::default()
    }
}

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
    used.0.write_all(&frames::hello()).await.unwrap();
    used.0
        .write_all(&frames::request(1, "/slow"))
        .await
        .unwrap();
    until(|| host.permits.available_permits() == 0).await;
    host.stop();
    sleep(Duration::from_millis(200)).await;
    // A connection made while leaving gets an answer too.
    let mut late = host.connect(&["h2"]).await.unwrap();
    late.0.write_all(&frames::hello()).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    late.0.write_all(&frames::request(1, "/")).await.unwrap();
    for (name, answer) in [("late", &mut late), ("used", &mut used)] {
        if name == "used" {
            host.gate.notify_one();
        }
        let said = answer.rest().await;
        assert!(frames::has_goaway(&said), "{name}");
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
