//! How it ends.

use std::time::{Duration, Instant};

use futures::future::join_all;
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

/// Asks without a pause, as an API server does: a connection is kept until it is told to close, 503 with
/// Retry-After is asked again on another one, and who is refused at connecting goes to another replica.
async fn ask_until_refused(serve: &Serve) -> usize {
    let body = review().to_string();
    let request = format!(
        "POST /validate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answered = 0;
    while let Ok(mut stream) = serve.connect().await {
        loop {
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            let mut answer = String::new();
            while !answer.ends_with("}}}") && !answer.starts_with("HTTP/1.1 503 ") {
                let mut part = [0; 4096];
                let count = timeout(PATIENCE, stream.read(&mut part)).await.unwrap();
                let count = count.unwrap();
                assert!(count > 0, "it ended in the middle of an answer: {answer:?}");
                answer.push_str(std::str::from_utf8(&part[..count]).unwrap());
            }
            if answer.contains("retry-after: 0\r\n") {
                break;
            }
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert!(answer.contains("\"allowed\":false"), "{answer}");
            answered += 1;
            if answer.contains("connection: close\r\n") {
                break;
            }
        }
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_90_sigterm_under_load_fails_no_request() {
    let mut serve = Serve::start(NO_REGISTRY).await;
    let crowd = async { join_all((0..8).map(|_| ask_until_refused(&serve))).await };
    let stop = async {
        sleep(Duration::from_secs(1)).await;
        serve.signal("TERM");
    };
    let (answered, ()) = tokio::join!(crowd, stop);
    let answered: usize = answered.iter().sum();
    println!("{answered} answered, 0 failed");
    assert!(answered > 1_000, "{answered}");
    assert_eq!(serve.ended().await.code(), Some(0));
}

#[tokio::test]
async fn case_91_sigkill_leaves_nobody_waiting_and_nothing_behind() {
    let mut serve = Serve::start(NO_REGISTRY).await;
    let mut waiting = serve.connect().await.unwrap();
    let head = "POST /validate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 100\r\n\r\n{";
    waiting.write_all(head.as_bytes()).await.unwrap();
    serve.signal("KILL");
    // The API server learns at once that there will be no answer, so the failurePolicy holds at once.
    let ended = timeout(Duration::from_secs(1), waiting.read(&mut [0; 1])).await;
    assert!(!matches!(ended.unwrap(), Ok(1..)));
    assert_eq!(serve.ended().await.code(), None);
    assert!(serve.connect().await.is_err());
    // With what is left, another begins as if nothing had been.
    assert!(!Serve::start(NO_REGISTRY).await.admits_512m().await);
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
