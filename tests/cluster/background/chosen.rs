//! The same judgement in the process of the test, so that time, evidence and faults can be chosen.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::Request;
use forestall::background::{Background, Pace};
use forestall::config::{Config, NamespaceLabel};
use forestall::evidence::{Evidence, ImageState, Missing, MissingPart, Questions, Unknown};
use forestall::guard::Guard;
use forestall::judging::Judging;
use forestall::lookup::Lookup;
use forestall::report::metrics::Metrics;
use forestall::review::Door;
use kube::Client;
use kube::client::Body;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{DROPPED, IMPOSSIBLE, MISSING, Scene, with_tag};
use crate::faulty::{Answer, Faulty};
use crate::site::{deployment, sample};

const QUICK: Pace = Pace {
    everything: Duration::from_mins(10),
    unknown: Duration::from_millis(500),
    retry: Duration::from_millis(500),
    look: Duration::from_millis(200),
};

/// What is known of every image.
#[derive(Clone)]
struct Table(Arc<Mutex<Result<ImageState, Unknown>>>);

impl Table {
    fn set(&self, answer: Result<ImageState, Unknown>) {
        *self.0.lock().unwrap() = answer;
    }
}

impl Lookup for Table {
    async fn gather(&self, asked: Questions, _: Door, _: Instant) -> Evidence {
        let answer = self.0.lock().unwrap().clone();
        let presence = asked.presence.into_iter();
        Evidence {
            presence: presence.map(|asked| (asked, answer.clone())).collect(),
            ..Evidence::default()
        }
    }

    fn label(&self, _namespace: &str) -> NamespaceLabel {
        NamespaceLabel::Known(None)
    }
}

fn missing() -> ImageState {
    ImageState::Missing(Missing {
        what: MissingPart::Tag,
        asked: "registry.test".to_owned(),
        tags: Arc::default(),
        holder: Ok(None),
    })
}

fn down() -> Result<ImageState, Unknown> {
    Err(Unknown::Registry {
        host: "registry.test".to_owned(),
        why: "it does not answer".to_owned(),
        answered_before: false,
    })
}

/// A judgement in this process. It ends with this.
struct Judgement {
    metrics: Arc<Metrics>,
    table: Table,
    _tasks: JoinSet<()>,
}

impl Judgement {
    fn start(
        client: Client,
        scene: &Scene<'_>,
        answer: Result<ImageState, Unknown>,
        pace: Pace,
    ) -> Self {
        let config = format!(
            "mode: off\nnamespaces: {{{}: {{mode: audit}}}}\n",
            scene.namespace
        );
        let table = Table(Arc::new(Mutex::new(answer)));
        let metrics = Arc::new(Metrics::default());
        let guard = Guard::new(Config::parse("test", &config).unwrap(), table.clone()).unwrap();
        let judging = Arc::new(Judging::new(guard, 128 << 20));
        let instance = "test".to_owned();
        let background = Background::new(client, judging, instance, Arc::clone(&metrics), pace);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { background.run().await });
        Self {
            metrics,
            table,
            _tasks: tasks,
        }
    }

    fn number(&self, series: &str) -> Option<f64> {
        sample(&self.metrics.encode(), series)
    }

    async fn shows(&self, series: &str, number: f64) {
        let begun = Instant::now();
        while self.number(series) != Some(number) {
            let waited = begun.elapsed();
            assert!(
                waited < Duration::from_mins(1),
                "{series} never was {number}: {}",
                self.metrics.encode()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_unknown_is_judged_again_and_everything_once_in_a_while() {
    let scene = Scene::new();
    scene.apply(&with_tag("web", "1.0.0"));
    let client = scene.cluster.client().await;
    let judgement = Judgement::start(client.clone(), &scene, down(), QUICK);
    judgement.shows(MISSING, 0.0).await;
    assert!(scene.events().is_empty(), "what is unknown is no finding");
    judgement.table.set(Ok(missing()));
    judgement.shows(MISSING, 1.0).await;
    // What is known is not asked again before its time.
    judgement.table.set(Ok(ImageState::Exists));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(judgement.number(MISSING), Some(1.0));
    drop(judgement);

    let pace = Pace {
        everything: Duration::from_secs(2),
        ..QUICK
    };
    let judgement = Judgement::start(client, &scene, Ok(ImageState::Exists), pace);
    judgement.shows(MISSING, 0.0).await;
    for (state, number) in [(missing(), 1.0), (ImageState::Exists, 0.0)] {
        judgement.table.set(Ok(state));
        judgement.shows(MISSING, number).await;
    }
    assert_eq!(scene.notes().len(), 1, "{:?}", scene.notes());
}

#[tokio::test(flavor = "multi_thread")]
async fn case_87_an_api_that_fails_drops_events_and_holds_up_nothing() {
    let json = "Content-Type: application/json";
    let body = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no","reason":"No","code":500}"#;
    for answer in [
        Answer::Http("429 Too Many Requests", "Retry-After: 30", "slow down"),
        Answer::Http("500 Internal Server Error", json, body),
        Answer::Silence,
        Answer::HangUp,
    ] {
        let scene = Scene::new();
        let faulty = Faulty::start(answer);
        let healthy = scene.cluster.client().await;
        let is_event = |path: &str| path.starts_with("/apis/events.k8s.io/");
        let client = partly_elsewhere(&healthy, &faulty, is_event);
        let judgement = Judgement::start(client, &scene, Ok(missing()), QUICK);
        judgement.shows(MISSING, 0.0).await;
        for name in ["a", "b", "c"] {
            scene.apply(&with_tag(name, "9.9.9"));
        }
        judgement.shows(MISSING, 3.0).await;
        judgement.shows(DROPPED, 3.0).await;
        scene.must(&["delete", "deployment", "a", "b", "c"], "");
        judgement.shows(MISSING, 0.0).await;
        assert!(scene.events().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_cannot_be_listed_is_named_and_makes_no_number_until_it_can() {
    let scene = Scene::new();
    scene.apply(&deployment("web", "512m"));
    let json = "Content-Type: application/json";
    let body = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no","reason":"InternalError","code":500}"#;
    let faulty = Faulty::start(Answer::Http("500 Internal Server Error", json, body));
    let is_healed = Arc::new(AtomicBool::new(false));
    let healed = Arc::clone(&is_healed);
    let healthy = scene.cluster.client().await;
    let client = partly_elsewhere(&healthy, &faulty, move |path| {
        path == "/apis/batch/v1/cronjobs" && !healed.load(Ordering::SeqCst)
    });
    let judgement = Judgement::start(client, &scene, Ok(ImageState::Exists), QUICK);
    let available = "forestall_kind_available{resource=\"cronjobs.batch\"}";
    judgement.shows(available, 0.0).await;
    let others = "forestall_would_refuse{rule=\"unignored-live-fields\"}";
    judgement.shows(others, 0.0).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        judgement.number(IMPOSSIBLE),
        None,
        "a number that lacks a kind"
    );
    is_healed.store(true, Ordering::SeqCst);
    judgement.shows(IMPOSSIBLE, 1.0).await;
    judgement.shows(available, 1.0).await;
}

/// The real API server, but for some paths.
fn partly_elsewhere(
    healthy: &Client,
    faulty: &Faulty,
    is_elsewhere: impl Fn(&str) -> bool + Send + 'static,
) -> Client {
    let elsewhere = kube::Config::new(faulty.server.parse().unwrap());
    let elsewhere = Client::try_from(elsewhere).unwrap();
    let healthy = healthy.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let client = if is_elsewhere(request.uri().path()) {
            &elsewhere
        } else {
            &healthy
        };
        let client = client.clone();
        async move { client.send(request).await }
    });
    Client::new(service, "default")
}
