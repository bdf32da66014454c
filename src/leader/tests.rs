//! The rules of time, on a clock that stands still while anybody works, against a server that keeps
//! versions as the API server does and whose lines can be broken.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use axum::http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::service_fn;

use super::*;

const DAY: i64 = 86_400;

/// Keeps one Lease, and knows who leads.
#[derive(Default)]
struct Server {
    lease: Mutex<Option<Value>>,
    versions: AtomicU64,
    lines: Mutex<BTreeMap<&'static str, Line>>,
    /// Whoever leads now.
    leaders: Mutex<Vec<&'static str>>,
    most_leaders: AtomicUsize,
    starts: Mutex<BTreeMap<&'static str, u32>>,
}

/// The way from a candidate to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// It takes so many milliseconds there, and so many back.
    Takes(u64, u64),
    /// Requests arrive, answers do not.
    Silent,
    /// Nothing arrives.
    Cut,
}

/// Leads as long as it is there.
struct Leads(Arc<Server>, &'static str);

/// A candidate that runs.
struct Running {
    task: JoinHandle<()>,
    leave: Option<oneshot::Sender<()>>,
    metrics: Arc<Metrics>,
}

// === impl Server ===

impl Server {
    fn line(&self, candidate: &str) -> Line {
        let lines = self.lines.lock().unwrap();
        lines.get(candidate).copied().unwrap_or(Line::Takes(1, 1))
    }

    fn set_line(&self, candidate: &'static str, line: Line) {
        self.lines.lock().unwrap().insert(candidate, line);
    }

    async fn answer(&self, candidate: &str, request: Request<Body>) -> (StatusCode, Value) {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let line = self.line(candidate);
        match line {
            Line::Takes(there, _) => sleep(Duration::from_millis(there)).await,
            Line::Silent => {}
            Line::Cut => std::future::pending().await,
        }
        let answer = self.apply(&method, &path, serde_json::from_slice(&body).ok());
        match line {
            Line::Takes(_, back) => sleep(Duration::from_millis(back)).await,
            Line::Silent | Line::Cut => std::future::pending().await,
        }
        answer
    }

    fn apply(&self, method: &Method, path: &str, sent: Option<Value>) -> (StatusCode, Value) {
        let mut stored = self.lease.lock().unwrap();
        let is_named = path.ends_with("/namespaces/a/leases/b");
        let refuse = |status: StatusCode, reason: &str| {
            let code = status.as_u16();
            let answer = json!({"kind": "Status", "status": "Failure", "reason": reason, "message": "no", "code": code});
            (status, answer)
        };
        match (method.as_str(), &*stored, sent) {
            ("GET", Some(lease), _) if is_named => return (StatusCode::OK, lease.clone()),
            ("POST", None, Some(lease)) if path.ends_with("/namespaces/a/leases") => {
                *stored = Some(lease);
            }
            ("PUT", Some(before), Some(lease)) if is_named => {
                let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
                if version(before) != version(&lease) {
                    return refuse(StatusCode::CONFLICT, "Conflict");
                }
                *stored = Some(lease);
            }
            ("GET" | "PUT", None, _) => return refuse(StatusCode::NOT_FOUND, "NotFound"),
            ("POST", Some(_), _) => return refuse(StatusCode::CONFLICT, "AlreadyExists"),
            other => panic!("{other:?}"),
        }
        let version = self.versions.fetch_add(1, Ordering::SeqCst).to_string();
        let lease = stored.as_mut().unwrap();
        lease["metadata"]["resourceVersion"] = version.into();
        (StatusCode::OK, lease.clone())
    }

    /// Somebody else writes to the record.
    fn edit(&self, edit: impl FnOnce(&mut Value)) {
        let mut lease = self.lease.lock().unwrap().clone().unwrap();
        edit(&mut lease["spec"]);
        let path = "/apis/coordination.k8s.io/v1/namespaces/a/leases/b";
        let (status, _) = self.apply(&Method::PUT, path, Some(lease));
        assert_eq!(status, StatusCode::OK);
    }

    fn record(&self) -> Value {
        let lease = self.lease.lock().unwrap();
        lease.as_ref().map(|lease| lease["spec"].clone()).unwrap()
    }

    fn client(self: &Arc<Self>, candidate: &'static str) -> Client {
        let server = Arc::clone(self);
        let service = service_fn(move |request: Request<Body>| {
            let server = Arc::clone(&server);
            async move {
                // A task of its own: what is under way arrives, even where nobody waits any more.
                let answer = async move { server.answer(candidate, request).await };
                let (status, answer) = tokio::spawn(answer).await.unwrap();
                let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
                *response.status_mut() = status;
                Ok::<_, Infallible>(response)
            }
        });
        Client::new(service, "a")
    }

    /// A candidate whose work is to be counted.
    fn start(self: &Arc<Self>, name: &'static str) -> Running {
        let server = Arc::clone(self);
        self.start_with(name, move || {
            let leads = Leads::new(&server, name);
            async move {
                let _leads = leads;
                std::future::pending::<()>().await;
            }
        })
    }

    fn start_with<Work>(
        self: &Arc<Self>,
        name: &'static str,
        work: impl Fn() -> Work + Send + 'static,
    ) -> Running
    where
        Work: Future<Output = ()> + Send + 'static,
    {
        let metrics = Arc::new(Metrics::default());
        let lease = "a/b".parse().unwrap();
        let client = self.client(name);
        let candidate = Candidate::new(client, lease, self.identity(name), Arc::clone(&metrics));
        let (goodbye, told) = oneshot::channel::<()>();
        let told = async {
            if told.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        Running {
            task: tokio::spawn(async move { candidate.run(work, told).await }),
            leave: Some(goodbye),
            metrics,
        }
    }

    /// Its name, the first time.
    fn identity(&self, name: &'static str) -> String {
        let mut starts = self.starts.lock().unwrap();
        let before = starts.entry(name).or_default();
        *before += 1;
        match *before {
            1 => name.to_owned(),
            times => format!("{name}-{times}"),
        }
    }

    fn leaders(&self) -> Vec<&'static str> {
        self.leaders.lock().unwrap().clone()
    }

    /// Waits until exactly these lead, and gives how long that took.
    async fn until(&self, leaders: &[&str]) -> Duration {
        let begun = Instant::now();
        while self.leaders() != leaders {
            let waited = begun.elapsed();
            assert!(
                waited < Duration::from_mins(10),
                "{leaders:?} never lead: {:?}",
                self.leaders()
            );
            sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }
}

// === impl Leads ===

impl Leads {
    fn new(server: &Arc<Server>, name: &'static str) -> Self {
        let mut leaders = server.leaders.lock().unwrap();
        leaders.push(name);
        server
            .most_leaders
            .fetch_max(leaders.len(), Ordering::SeqCst);
        Self(Arc::clone(server), name)
    }
}

impl Drop for Leads {
    fn drop(&mut self) {
        self.0
            .leaders
            .lock()
            .unwrap()
            .retain(|name| *name != self.1);
    }
}

// === impl Running ===

impl Running {
    /// As SIGTERM: it may say goodbye.
    async fn leave(mut self) {
        self.leave.take().unwrap().send(()).unwrap();
        self.task.await.unwrap();
    }

    fn is_leader(&self) -> bool {
        self.metrics.encode().contains("\nforestall_leader 1\n")
    }
}

fn seconds_between(least: f64, most: f64, took: Duration) {
    let took = took.as_secs_f64();
    assert!(
        (least..=most).contains(&took),
        "{took} s is not within {least} to {most} s"
    );
}

#[tokio::test(start_paused = true)]
async fn one_of_two_leads_and_goes_on_leading() {
    let server = Arc::new(Server::default());
    let first = server.start("first");
    server.until(&["first"]).await;
    let second = server.start("second");
    let acquired = server.record()["acquireTime"].clone();
    for _ in 0..300 {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(server.leaders(), ["first"]);
    }
    assert!(first.is_leader() && !second.is_leader());
    let record = server.record();
    assert_eq!(record["holderIdentity"], "first");
    assert_eq!(record["leaseDurationSeconds"], 15);
    assert_eq!(record["leaseTransitions"], 0);
    assert_eq!(record["acquireTime"], acquired);
    let renewals = server.versions.load(Ordering::SeqCst);
    assert!(
        (140..=151).contains(&renewals),
        "{renewals} writes in 300 s"
    );
}

#[tokio::test(start_paused = true)]
async fn who_leaves_hands_over_within_two_seconds() {
    let server = Arc::new(Server::default());
    let first = server.start("first");
    server.until(&["first"]).await;
    let _second = server.start("second");
    sleep(Duration::from_secs(7)).await;
    first.leave().await;
    assert_eq!(server.leaders(), [""; 0]);
    let record = server.record();
    assert_eq!(
        (&record["holderIdentity"], &record["leaseDurationSeconds"]),
        (&json!(""), &json!(1))
    );
    seconds_between(0.0, 2.1, server.until(&["second"]).await);
    let record = server.record();
    assert_eq!(
        (&record["holderIdentity"], &record["leaseTransitions"]),
        (&json!("second"), &json!(1))
    );
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_who_is_cut_off_ends_after_fifteen_seconds_and_its_work_before() {
    for line in [Line::Cut, Line::Silent] {
        let server = Arc::new(Server::default());
        let first = server.start("first");
        server.until(&["first"]).await;
        let _second = server.start("second");
        sleep(Duration::from_secs(9)).await;
        server.set_line("first", line);
        let silent_from = Instant::now();
        // Eight to ten seconds: the last renewal was up to two seconds ago.
        seconds_between(7.9, 10.1, server.until(&[]).await);
        assert!(!first.is_leader());
        server.until(&["second"]).await;
        // A renewal that arrived without an answer counts for who looks.
        let (least, most) = if line == Line::Cut {
            (13.0, 17.1)
        } else {
            (15.0, 26.1)
        };
        seconds_between(least, most, silent_from.elapsed());
        server.set_line("first", Line::Takes(1, 1));
        sleep(Duration::from_mins(2)).await;
        assert_eq!(server.leaders(), ["second"]);
        assert_eq!(server.most_leaders.load(Ordering::SeqCst), 1, "{line:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_counts_from_when_the_last_renewal_was_sent() {
    let server = Arc::new(Server::default());
    let _first = server.start("first");
    server.until(&["first"]).await;
    server.set_line("first", Line::Takes(1, 4500));
    // It has just sent a renewal, whose answer takes its time.
    let before = server.versions.load(Ordering::SeqCst);
    while server.versions.load(Ordering::SeqCst) == before {
        sleep(Duration::from_millis(1)).await;
    }
    let sent = Instant::now();
    sleep(Duration::from_millis(4600)).await;
    server.set_line("first", Line::Cut);
    server.until(&[]).await;
    seconds_between(9.9, 10.1, sent.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_cut_shorter_than_the_deadline_changes_nothing() {
    let server = Arc::new(Server::default());
    let _first = server.start("first");
    server.until(&["first"]).await;
    let _second = server.start("second");
    for _ in 0..20 {
        server.set_line("first", Line::Cut);
        sleep(Duration::from_millis(2900)).await;
        server.set_line("first", Line::Takes(1, 1));
        sleep(Duration::from_secs(8)).await;
        assert_eq!(server.leaders(), ["first"]);
    }
    assert_eq!(server.record()["leaseTransitions"], 0);
}

#[tokio::test(start_paused = true)]
async fn case_85_times_in_the_record_decide_nothing() {
    for days in [-1, 0, 1] {
        let server = Arc::new(Server::default());
        let time = Timestamp::now() + jiff::SignedDuration::from_secs(days * DAY);
        let time = format!("{time:.6}");
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "b", "namespace": "a"},
            "spec": {"holderIdentity": "gone", "leaseDurationSeconds": 15, "leaseTransitions": 4,
                     "acquireTime": time, "renewTime": time},
        });
        let path = "/apis/coordination.k8s.io/v1/namespaces/a/leases";
        server.apply(&Method::POST, path, Some(lease));
        let _first = server.start("first");
        // As long as the record changes, whatever it says, somebody is there.
        for day in 0..10 {
            let time = Timestamp::now() - jiff::SignedDuration::from_secs(day * DAY);
            server.edit(|record| record["renewTime"] = json!(format!("{time:.6}")));
            sleep(Duration::from_secs(10)).await;
            assert_eq!(server.leaders(), [""; 0]);
        }
        seconds_between(5.0, 9.1, server.until(&["first"]).await);
        assert_eq!(server.record()["leaseTransitions"], 5);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_record_renews_nothing() {
    let server = Arc::new(Server::default());
    let _first = server.start("first");
    server.until(&["first"]).await;
    let _second = server.start("second");
    sleep(Duration::from_secs(9)).await;
    server.set_line("first", Line::Cut);
    let labelling = async {
        for number in 0.. {
            sleep(Duration::from_secs(3)).await;
            server.lease.lock().unwrap().as_mut().unwrap()["metadata"]["labels"] =
                json!({"number": number.to_string()});
            server.edit(|_| {});
        }
    };
    tokio::select! {
        () = labelling => {}
        took = async { server.until(&["second"]).await } => seconds_between(13.0, 17.1, took),
    }
}

#[tokio::test(start_paused = true)]
async fn who_sees_another_holder_stops_at_once() {
    let server = Arc::new(Server::default());
    let _first = server.start("first");
    server.until(&["first"]).await;
    server.edit(|record| record["holderIdentity"] = "somebody".into());
    seconds_between(0.0, 2.1, server.until(&[]).await);
    seconds_between(13.0, 17.1, server.until(&["first"]).await);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_deleted_is_made_anew() {
    let server = Arc::new(Server::default());
    let _first = server.start("first");
    server.until(&["first"]).await;
    *server.lease.lock().unwrap() = None;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(server.leaders(), ["first"]);
    assert_eq!(server.record()["holderIdentity"], "first");
}

#[tokio::test(start_paused = true)]
async fn work_that_panics_is_for_another_replica() {
    let server = Arc::new(Server::default());
    let first = server.start_with("first", || async {
        sleep(Duration::from_secs(5)).await;
        panic!("on purpose");
    });
    sleep(Duration::from_secs(1)).await;
    let _second = server.start("second");
    assert!(first.is_leader());
    seconds_between(3.9, 6.1, server.until(&["second"]).await);
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_given_up_when_the_work_has_ended_and_not_before() {
    struct Ends(Arc<Server>, Arc<Mutex<Vec<Value>>>);
    impl Drop for Ends {
        fn drop(&mut self) {
            let holder = self.0.record()["holderIdentity"].clone();
            self.1.lock().unwrap().push(holder);
        }
    }
    let server = Arc::new(Server::default());
    let holders: Arc<Mutex<Vec<Value>>> = Arc::default();
    let of_work = (Arc::clone(&server), Arc::clone(&holders));
    let first = server.start_with("first", move || {
        let ends = Ends(Arc::clone(&of_work.0), Arc::clone(&of_work.1));
        async move {
            let _ends = ends;
            std::future::pending::<()>().await;
        }
    });
    sleep(Duration::from_secs(1)).await;
    first.leave().await;
    assert_eq!(*holders.lock().unwrap(), [json!("first")]);
    assert_eq!(server.record()["holderIdentity"], "");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Lines break, slow down and heal at random; candidates come and go. There are never two
    /// leaders, and when all is well again there is one.
    #[test]
    fn case_86_there_are_never_two_leaders(
        steps in proptest::collection::vec((0..3_usize, 0..6_u8, 0..9_000_u64, 0..8_000_u64), 1..40),
    ) {
        const NAMES: [&str; 3] = ["first", "second", "third"];
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let server = Arc::new(Server::default());
            let mut running: BTreeMap<&str, Running> =
                NAMES.map(|name| (name, server.start(name))).into();
            for (candidate, what, milliseconds, slow) in steps {
                let name = NAMES[candidate];
                match what {
                    0 => server.set_line(name, Line::Cut),
                    1 => server.set_line(name, Line::Silent),
                    2 => server.set_line(name, Line::Takes(slow, 1)),
                    3 => server.set_line(name, Line::Takes(1, slow)),
                    4 => server.set_line(name, Line::Takes(1, 1)),
                    _ => {
                        let leaves = running.remove(name).unwrap();
                        leaves.leave().await;
                        running.insert(name, server.start(name));
                    }
                }
                sleep(Duration::from_millis(milliseconds)).await;
            }
            for name in NAMES {
                server.set_line(name, Line::Takes(1, 1));
            }
            sleep(Duration::from_secs(40)).await;
            assert_eq!(server.leaders().len(), 1);
            assert_eq!(server.most_leaders.load(Ordering::SeqCst), 1);
        });
    }
}

#[test]
fn two_processes_of_one_pod_have_two_identities() {
    assert_ne!(identity(), identity());
}
