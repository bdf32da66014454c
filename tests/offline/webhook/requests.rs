//! Cases 1 to 9, 11, 20 to 22: the request, before what it holds.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use bytes::Bytes;
use forestall::config::{Config, Mode};
use forestall::guard::Guard;
use forestall::webhook::ReviewLimits;
use futures::{StreamExt, stream};
use serde_json::json;

use super::support::{Door, Table, create, deployment, post, update};

/// A body that counts how many of its chunks were asked for.
fn counted(chunks: usize, chunk: usize) -> (Body, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = asked.clone();
    let stream = stream::iter(0..chunks).map(move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>(Bytes::from(vec![b' '; chunk]))
    });
    (Body::from_stream(stream), asked)
}

#[tokio::test]
async fn case_01_other_methods_are_not_allowed() {
    let door = Door::of_catalogue();
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::HEAD] {
        for path in ["/validate", "/mutate"] {
            let request = Request::builder().method(method.clone()).uri(path);
            let answer = door.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(
                answer.status,
                StatusCode::METHOD_NOT_ALLOWED,
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn case_02_other_paths_are_not_found() {
    let door = Door::of_catalogue();
    for path in ["/", "/validate/", "/validate/x", "/metrics", "/Validate"] {
        let answer = door
            .post(path, create(&deployment("1Gi")).to_string())
            .await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn case_03_an_empty_body_is_a_bad_request() {
    let door = Door::of_catalogue();
    assert_eq!(
        door.post("/validate", "").await.status,
        StatusCode::BAD_REQUEST
    );
    let (nothing, _) = counted(0, 0);
    let answer = door.post("/validate", nothing).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(
        answer.text.contains("send an AdmissionReview"),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn case_04_only_json_is_taken() {
    let door = Door::of_catalogue();
    let body = create(&deployment("1Gi")).to_string();
    for (media_type, status) in [
        ("text/plain", 415),
        ("application/yaml", 415),
        ("application/jsonp", 415),
        ("", 415),
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
    ] {
        let request = Request::post("/validate").header("content-type", media_type);
        let answer = door
            .send(request.body(Body::from(body.clone())).unwrap())
            .await;
        assert_eq!(answer.status, status, "{media_type:?}");
    }
    let answer = door
        .send(Request::post("/validate").body(Body::from(body)).unwrap())
        .await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn case_05_a_body_over_the_cap_is_refused_unread() {
    let door = Door::of_catalogue();
    let (body, asked) = counted(33, 1 << 20);
    let mut request = post("/validate", body);
    request
        .headers_mut()
        .insert("content-length", (33 << 20).into());
    let answer = door.send(request).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    door.counted("forestall_requests_shed_total{reason=\"too_large\"} 1");
}

#[tokio::test]
async fn case_06_a_body_shorter_than_it_said_is_a_bad_request() {
    let door = Door::of_catalogue();
    let body = create(&deployment("1Gi")).to_string();
    let length = body.len() + 1;
    let mut request = post("/validate", body);
    request
        .headers_mut()
        .insert("content-length", length.into());
    let answer = door.send(request).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.headers["connection"], "close");
}

#[tokio::test]
async fn case_07_a_chunked_body_ends_at_the_cap() {
    let limits = ReviewLimits {
        body_bytes: 10_000,
        ..ReviewLimits::default()
    };
    let door = Door::limited(
        Guard::new(Config::default(), Table::default()).unwrap(),
        limits,
    );
    let (body, asked) = counted(1_000, 1_000);
    let answer = door.post("/validate", body).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(asked.load(Ordering::Relaxed) <= 12);
}

/// An annotation as Go sends it, in six characters for each `<`.
fn with_annotation(memory: &str, characters: usize) -> String {
    let mut object = deployment(memory);
    object["metadata"]["annotations"] = json!({"page": "@"});
    object
        .to_string()
        .replace('@', &"\\u003c".repeat(characters))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_08_a_review_of_18_mb_is_judged_and_others_do_not_wait_for_it() {
    let door = Door::of_catalogue_with_time();
    let small = create(&deployment("512m"));
    let large = small.to_string();
    let large = large.replace(
        &deployment("512m").to_string(),
        &with_annotation("512m", 3_100_000),
    );
    assert!(large.len() > 18_600_000);
    let busy = tokio::spawn({
        let door = door.clone();
        async move { door.post("/validate?timeout=30s", large).await }
    });
    let mut answered = 0;
    while !busy.is_finished() {
        assert!(door.validate(&small).await.message().contains("512m"));
        answered += 1;
    }
    assert!(answered > 1);
    assert!(busy.await.unwrap().message().contains("512m"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_09_an_update_of_12_mb_is_judged() {
    let door = Door::of_catalogue_with_time();
    let review = update(&deployment("512m"), &deployment("1Gi")).to_string();
    let review = review
        .replace(
            &deployment("512m").to_string(),
            &with_annotation("512m", 1_040_000),
        )
        .replace(
            &deployment("1Gi").to_string(),
            &with_annotation("1Gi", 1_040_000),
        );
    assert!(review.len() > 12_400_000);
    assert!(
        door.post("/validate?timeout=30s", review)
            .await
            .message()
            .contains("512m")
    );
}

#[tokio::test]
async fn case_11_a_body_that_trickles_in_is_given_up() {
    assert_eq!(ReviewLimits::default().body_time, Duration::from_secs(10));
    let limits = ReviewLimits {
        body_time: Duration::from_millis(300),
        ..ReviewLimits::default()
    };
    let door = Door::limited(
        Guard::new(Config::default(), Table::default()).unwrap(),
        limits,
    );
    let trickle = stream::repeat(()).then(|()| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok::<_, Infallible>(Bytes::from_static(b" "))
    });
    let answer = door.post("/validate", Body::from_stream(trickle)).await;
    assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(answer.headers["connection"], "close");
    door.counted("forestall_requests_shed_total{reason=\"slow_body\"} 1");
}

#[tokio::test]
async fn case_20_what_is_too_much_is_shed_at_once_and_without_retry_after() {
    let limits = ReviewLimits {
        reviews_in_flight: 1,
        ..ReviewLimits::default()
    };
    let slow = Table {
        delay: Duration::from_millis(500),
        ..Table::default()
    };
    let door = Door::limited(Guard::new(Config::default(), slow).unwrap(), limits);
    let review = create(&deployment("1Gi"));
    let (first, second) = tokio::join!(door.validate(&review), door.validate(&review));
    assert!(first.allowed());
    assert_eq!(second.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!second.headers.contains_key("retry-after"));
    door.counted("forestall_requests_shed_total{reason=\"reviews\"} 1");
    assert!(
        door.validate(&review).await.allowed(),
        "the place was given back"
    );
}

#[tokio::test]
async fn case_20_the_memory_in_flight_is_bounded_and_given_back() {
    let review = create(&deployment("1Gi")).to_string();
    // It takes some 16 KiB, most of it for what may be said of its texts.
    let limits = ReviewLimits {
        memory: 24 << 10,
        ..ReviewLimits::default()
    };
    let slow = Table {
        delay: Duration::from_millis(500),
        ..Table::default()
    };
    let door = Door::limited(Guard::new(Config::default(), slow).unwrap(), limits);
    let chunked = || {
        let bytes = Bytes::from(review.clone());
        Body::from_stream(stream::iter([Ok::<_, Infallible>(bytes)]))
    };
    let (first, by_length, by_chunks) = tokio::join!(
        door.post("/validate", review.clone()),
        door.post("/validate", review.clone()),
        door.post("/validate", chunked())
    );
    assert!(first.allowed());
    for shed in [by_length, by_chunks] {
        assert_eq!(
            shed.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{}",
            shed.text
        );
        assert!(!shed.headers.contains_key("retry-after"));
    }
    door.counted("forestall_requests_shed_total{reason=\"memory\"} 2");
    assert!(door.post("/validate", chunked()).await.allowed());
}

#[tokio::test]
async fn what_could_never_be_judged_within_the_memory_is_admitted_and_said() {
    let door = Door::limited(
        Guard::new(Config::default(), Table::default()).unwrap(),
        ReviewLimits::for_memory(32 << 20),
    );
    // Two values of 16 bytes in four characters, so 512 KiB of them take 4 MiB, and what may be said of
    // their texts 8 MiB.
    let list = format!("[{}0]", "[0],".repeat(128 << 10));
    let mut object = deployment("512m");
    object["metadata"]["annotations"] = json!({"here": "@"});
    let review = create(&object).to_string().replace("\"@\"", &list);
    let answer = door.post("/validate", review).await;
    answer.gave_up("more than one review may have; raise --memory-limit");
    // Nobody's share was kept, and what is usual is judged.
    let answer = door.validate(&create(&deployment("512m"))).await;
    assert!(answer.message().contains("512m"));
}

#[test]
fn the_limits_follow_the_memory_limit() {
    assert_eq!(ReviewLimits::for_memory(256 << 20), ReviewLimits::default());
    let small = ReviewLimits::for_memory(64 << 20);
    assert_eq!((small.memory, small.body_bytes), (32 << 20, 24 << 20));
    assert_eq!(ReviewLimits::for_memory(usize::MAX).memory, 1 << 30);
    let peers = forestall::webhook::server::ConnectionLimits::for_memory;
    assert_eq!(
        peers(256 << 20),
        forestall::webhook::server::ConnectionLimits::default()
    );
    assert_eq!(peers(64 << 20).connections, 630);
}

#[tokio::test]
async fn case_21_unusual_headers_are_fine() {
    let door = Door::that_objects(Mode::Enforce);
    let mut request = post("/validate", create(&deployment("1Gi")).to_string());
    for (name, value) in [
        ("content-type", "application/json"),
        ("expect", "100-continue"),
        ("accept", "application/json, */*"),
        ("accept", "text/html"),
        ("accept-encoding", "gzip"),
        ("content-encoding", "identity"),
    ] {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    assert!(!door.send(request).await.allowed());
}

#[tokio::test]
async fn case_22_a_compressed_body_is_not_taken() {
    let door = Door::of_catalogue();
    let mut request = post("/validate", vec![0x1f, 0x8b, 8, 0]);
    request
        .headers_mut()
        .insert("content-encoding", "gzip".parse().unwrap());
    assert_eq!(
        door.send(request).await.status,
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
}
