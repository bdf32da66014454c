//! HTTP/2 by hand.

use std::time::Duration;

use forestall::webhook::server::ConnectionLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::{Client, Host, PATIENCE, frames, rest, until};

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
    let host = Host::start(ConnectionLimits::default()).await;
    let mut client = host.connect(&["h2"]).await.unwrap();
    client.0.write_all(&frames::hello()).await.unwrap();
    let mut stream = 1;
    let (_, said) = flood(client, || {
        let mut bytes = Vec::new();
        for _ in 0..100 {
            bytes.extend(frames::request(stream, "/slow"));
            bytes.extend(frames::reset(stream));
            stream += 2;
        }
        bytes
    })
    .await;
    assert!(frames::has_goaway(&said), "it was told why");
    host.serves().await;
    // All the work of those streams is gone.
    until(|| host.permits.available_permits() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_14_an_endless_header_ends_the_connection() {
    let host = Host::start(ConnectionLimits::default()).await;
    let mut client = host.connect(&["h2"]).await.unwrap();
    client.0.write_all(&frames::hello()).await.unwrap();
    client
        .0
        .write_all(&frames::frame(1, 1, 1, &frames::headers("/")))
        .await
        .unwrap();
    // A literal header without indexing, of 1 kB, again and again in CONTINUATION frames.
    let mut header = vec![0x00, 0x01, b'x', 0x7f, 0x81, 0x07];
    header.extend([b'a'; 1024]);
    let (sent, _) = flood(client, || frames::frame(9, 0, 1, &header)).await;
    assert!(sent < 16 * 1024 * 1024, "{sent}");
    host.serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_14_an_idle_http2_connection_is_not_kept_alive_by_pings() {
    let host = Host::start(ConnectionLimits {
        idle: Duration::from_secs(1),
        ..ConnectionLimits::default()
    })
    .await;
    let mut client = host.connect(&["h2"]).await.unwrap();
    client.0.write_all(&frames::hello()).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(client.0);
    let pings = tokio::spawn(async move {
        while writing
            .write_all(&frames::frame(6, 0, 0, &[0; 8]))
            .await
            .is_ok()
        {
            sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(frames::has_goaway(&rest(&mut reading).await));
    pings.abort();
}
