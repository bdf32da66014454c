//! More reviews than it can judge.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{NO_REGISTRY, PATIENCE, Serve, review};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_20_of_two_thousand_reviews_at_a_time_the_surplus_is_shed_at_once() {
    const CROWD: usize = 2_000;
    const PLACES: usize = 512;
    crate::transport::allow_open_files(15_000);
    let serve = Serve::start(NO_REGISTRY).await;
    let mut crowd = Vec::with_capacity(CROWD);
    for _ in 0..CROWD {
        crowd.push(serve.connect().await.unwrap());
    }
    let body = review().to_string();
    let head = format!(
        "POST /validate?timeout=5s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    // Half of each review, so that all are under way at the same time.
    for stream in &mut crowd {
        let half = format!("{head}{}", &body[..body.len() / 2]);
        stream.write_all(half.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
    let shed = format!(
        "forestall_requests_shed_total{{reason=\"reviews\"}} {}",
        CROWD - PLACES
    );
    serve.until_metric(&shed).await;
    let (mut judged, mut turned_away) = (0, 0);
    for stream in &mut crowd {
        // Who was turned away may have been closed already.
        let rest = &body.as_bytes()[body.len() / 2..];
        let _ = stream.write_all(rest).await;
        let _ = stream.flush().await;
        let mut answer = [0; 512];
        let count = timeout(PATIENCE, stream.read(&mut answer))
            .await
            .unwrap()
            .unwrap();
        let answer = String::from_utf8_lossy(&answer[..count]).to_lowercase();
        if answer.starts_with("http/1.1 200 ") {
            judged += 1;
        } else {
            assert!(answer.starts_with("http/1.1 503 "), "{answer}");
            assert!(!answer.contains("retry-after"), "{answer}");
            turned_away += 1;
        }
    }
    assert_eq!((judged, turned_away), (PLACES, CROWD - PLACES));
    // And all is well again.
    assert!(!serve.admits_512m().await);
}
