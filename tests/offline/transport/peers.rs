//! What peers may cost.

use std::time::Duration;

use forestall::webhook::server::ConnectionLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::{Host, PATIENCE, allow_open_files, frames, rest, until};

#[tokio::test]
async fn case_05_a_body_beyond_the_cap_is_refused_before_all_of_it_is_read() {
    let host = Host::start(ConnectionLimits::default()).await;
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
    let host = Host::start(ConnectionLimits::default()).await;
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
    let host = Host::start(ConnectionLimits::default()).await;
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
    let host = Host::start(ConnectionLimits {
        idle: Duration::from_secs(1),
        ..ConnectionLimits::default()
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
    let ConnectionLimits { idle, .. } = ConnectionLimits::default();
    assert!(idle > Duration::from_secs(95));
    // What is left is for the goodbye.
    assert!(idle <= Duration::from_secs(119));
}

#[tokio::test]
async fn case_12_a_stalled_handshake_is_dropped() {
    let host = Host::start(ConnectionLimits {
        handshake: Duration::from_millis(500),
        ..ConnectionLimits::default()
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
    assert_eq!(
        ConnectionLimits::default().handshake,
        Duration::from_secs(10)
    );
}

#[tokio::test]
async fn a_probe_of_the_port_is_no_failed_handshake() {
    let host = Host::start(ConnectionLimits::default()).await;
    drop(host.tcp().await);
    host.serves().await;
    until(|| host.metrics.connections.get() == 0).await;
    assert_eq!(host.metrics.handshake_failures.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_13_ten_thousand_idle_connections_do_not_keep_the_api_server_out() {
    const CROWD: usize = 10_000;
    allow_open_files(CROWD + 5_000);
    let host = Host::start(ConnectionLimits::default()).await;
    let most = ConnectionLimits::default().connections;
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

#[tokio::test]
async fn case_13_when_all_are_busy_a_new_connection_is_turned_away() {
    let host = Host::start(ConnectionLimits {
        connections: 1,
        ..ConnectionLimits::default()
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
    let host = Host::start(ConnectionLimits::default()).await;
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
    let host = Host::start(ConnectionLimits::default()).await;
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
    let host = Host::start(ConnectionLimits::default()).await;
    for alpn in ["http/1.1", "h2"] {
        let mut client = host.connect(&[alpn]).await.unwrap();
        if alpn == "h2" {
            client.0.write_all(&frames::hello()).await.unwrap();
            client
                .0
                .write_all(&frames::request(1, "/slow"))
                .await
                .unwrap();
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
    let host = Host::start(ConnectionLimits::default()).await;
    let mut client = host.client().await;
    let requests: Vec<String> = (1..=20)
        .map(|length| {
            let body = "a".repeat(length);
            format!("POST /size HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}")
        })
        .collect();
    client.send(&requests.concat()).await;
    for length in 1..=20 {
        assert_eq!(client.answer().await.body, length.to_string());
    }
}

#[tokio::test]
async fn case_19_a_connection_is_used_again_after_a_pause_within_the_limit() {
    let host = Host::start(ConnectionLimits {
        idle: Duration::from_secs(2),
        ..ConnectionLimits::default()
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
    let host = Host::start(ConnectionLimits::default()).await;
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
    let host = Host::start(ConnectionLimits::default()).await;
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
