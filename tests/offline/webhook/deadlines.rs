//! Case 74, and the deadline of a review.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forestall::config::{Config, Mode};
use forestall::guard::Guard;
use forestall::review::Review;
use forestall::rules::Meta;
use forestall::webhook::ReviewLimits;
use serde_json::json;

use super::support::{Door, Table, create, deployment, finding, findings, guardrail, meta, pod};

static LOOPS: Meta = meta("test-loops", false);

/// Ends the loops at the end of a test, so that its runtime can end.
struct Loops(Arc<AtomicBool>);

impl Drop for Loops {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A guardrail that never ends on Deployments, and finds something in everything else.
fn looping() -> (Door, Loops) {
    let ended = Arc::new(AtomicBool::new(false));
    let seen = ended.clone();
    let judge = move |review: &Review| {
        while review.subject.kind == "Deployment" && !seen.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        findings([finding("the object", "anything")])
    };
    let config = Config {
        mode: Some(Mode::Enforce),
        ..Config::default()
    };
    let limits = ReviewLimits {
        validate_time: Duration::from_secs(2),
        ..ReviewLimits::default()
    };
    let guard = Guard::with(config, vec![guardrail(&LOOPS, judge)], Table::default());
    (Door::limited(guard, limits), Loops(ended))
}

async fn many_loops_are_cut_and_the_rest_is_served() {
    let (door, _ends) = looping();
    // Woken by a timer, this runs on the worker that waits for sockets and timers on behalf of all.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let began = Instant::now();
    door.validate(&create(&deployment("1Gi")))
        .await
        .gave_up("out of time");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    // One place is lost, and there are others.
    assert!(!door.validate(&create(&pod("1Gi"))).await.allowed());
    let labels = "webhook=\"validating\",resource_kind=\"Deployment\",operation=\"CREATE\",decision=\"error\",dry_run=\"false\"";
    door.counted(&format!("forestall_admission_requests_total{{{labels}}} 1"));

    let loops = (0..12).map(|_| {
        let door = door.clone();
        tokio::spawn(async move { door.validate(&create(&deployment("1Gi"))).await })
    });
    for answer in futures::future::join_all(loops).await {
        answer.unwrap().gave_up("");
    }
    // Nothing can be judged any more; what need not be is answered, and the rest is admitted.
    door.mutate(&create(&deployment("1Gi"))).await.is_plain();
    door.validate(&create(&pod("1Gi")))
        .await
        .gave_up("too busy");
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_74_a_guardrail_that_never_ends_is_cut_at_the_deadline() {
    tokio::spawn(many_loops_are_cut_and_the_rest_is_served())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn case_74_even_on_one_worker() {
    tokio::spawn(many_loops_are_cut_and_the_rest_is_served())
        .await
        .unwrap();
}

#[tokio::test]
async fn case_74_even_on_a_runtime_of_one_thread() {
    many_loops_are_cut_and_the_rest_is_served().await;
}

#[tokio::test]
async fn facts_that_come_late_are_unknown_and_the_rest_is_judged() {
    let limits = ReviewLimits {
        validate_time: Duration::from_secs(2),
        ..ReviewLimits::default()
    };
    let slow = Table {
        delay: Duration::from_mins(1),
        ..Table::default()
    };
    let door = Door::limited(Guard::new(Config::default(), slow).unwrap(), limits);
    assert!(
        door.validate(&create(&deployment("512m")))
            .await
            .message()
            .contains("512m")
    );
    let answer = door.validate(&create(&deployment("1Gi"))).await;
    assert!(answer.allowed());
    assert!(
        answer.warnings()[0].contains("out of time"),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn the_timeout_of_the_api_server_is_kept_with_a_margin() {
    let slow = Table {
        delay: Duration::from_mins(1),
        ..Table::default()
    };
    let door = Door::new(Guard::new(Config::default(), slow).unwrap());
    let review = create(&deployment("1Gi")).to_string();
    let began = Instant::now();
    let answer = door.post("/validate?x=1&timeout=1s", review.clone()).await;
    assert!(
        answer.warnings()[0].contains("out of time"),
        "{}",
        answer.text
    );
    let took = began.elapsed();
    assert!(
        Duration::from_millis(300) < took && took < Duration::from_secs(3),
        "{took:?}"
    );
    for odd in ["timeout=0s", "timeout=1s&timeout=30s"] {
        assert!(
            door.post(&format!("/validate?{odd}"), review.clone())
                .await
                .allowed(),
            "{odd}"
        );
    }
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn what_cannot_be_understood_as_a_timeout_leaves_the_configured_one() {
    let limits = ReviewLimits {
        validate_time: Duration::from_millis(600),
        ..ReviewLimits::default()
    };
    let slow = Table {
        delay: Duration::from_mins(1),
        ..Table::default()
    };
    let door = Door::limited(Guard::new(Config::default(), slow).unwrap(), limits);
    let began = Instant::now();
    for odd in [
        "?timeout=",
        "?timeout=5m",
        "?timeout=-1s",
        "?timeout=99999999999999s",
        "?timeout",
        "?",
    ] {
        let body = create(&deployment("1Gi")).to_string();
        assert!(
            door.post(&format!("/validate{odd}"), body).await.allowed(),
            "{odd}"
        );
    }
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reviews_that_fill_the_places_of_large_ones_leave_the_usual_alone() {
    let (door, _ends) = looping();
    let mut large = deployment("1Gi");
    large["metadata"]["annotations"] = json!({"long": "x".repeat(300 << 10)});
    let large = create(&large);
    let loops = (0..3).map(|_| {
        let (door, large) = (door.clone(), large.clone());
        tokio::spawn(async move { door.validate(&large).await })
    });
    for answer in futures::future::join_all(loops).await {
        answer.unwrap().gave_up("out of time");
    }
    assert!(!door.validate(&create(&pod("1Gi"))).await.allowed());
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_back() {
    let limits = ReviewLimits {
        reviews_in_flight: 1,
        ..ReviewLimits::default()
    };
    let slow = Table {
        delay: Duration::from_millis(200),
        ..Table::default()
    };
    let door = Door::limited(Guard::new(Config::default(), slow).unwrap(), limits);
    let review = create(&deployment("1Gi"));
    let left = tokio::time::timeout(Duration::from_millis(50), door.validate(&review)).await;
    assert!(left.is_err());
    assert!(door.validate(&review).await.allowed());
}
