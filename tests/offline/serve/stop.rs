//! How it ends.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::{NO_REGISTRY, PATIENCE, Serve, review};

#[tokio::test]
async fn case_90_sigterm_ends_it_with_0_and_without_a_lost_request() {
    let mut serve = Serve::start(NO_REGISTRY).await;
    let mut idle = serve.connect().await.unwrap();
    serve.signal("TERM");
    let start = Instant::now();
    serve.until_leaving().await;
    let (status, text) = serve.admin("/readyz").await;
    assert_eq!(
        (status, text.contains("[-] staying")),
        (503, true),
        "{text}"
    );
    let body = review().to_string();
    let request = format!(
        "POST /validate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    while start.elapsed() < Duration::from_secs(9) {
        // Answered, and closed by the answer.
        idle.write_all(request.as_bytes()).await.unwrap();
        idle.flush().await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, idle.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(answer.contains("\"allowed\":false"), "{answer}");
        idle = serve.connect().await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(serve.ended().await.code(), Some(0));
    assert!(
        start.elapsed() >= Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn case_90_a_second_signal_ends_it_within_a_second() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT")] {
        let mut serve = Serve::start(NO_REGISTRY).await;
        serve.signal(first);
        serve.until_leaving().await;
        serve.signal(second);
        let start = Instant::now();
        assert_eq!(serve.ended().await.code(), Some(1));
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{:?}",
            start.elapsed()
        );
    }
}
