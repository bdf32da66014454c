//! Who leads, at a real API server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forestall::leader::Candidate;
use forestall::report::metrics::Metrics;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::control_plane::{ControlPlane, eventually};
use crate::site::Forestall;
use crate::view::{Line, State};

/// Nothing is on, so that nothing but the Lease is asked for.
const QUIET: &str = "mode: off";

/// A replica that may lead.
fn replica(cluster: &ControlPlane, namespace: &str) -> Forestall {
    let lease = format!("--lease={namespace}/forestall");
    Forestall::start_with(cluster.kubeconfig(), QUIET, &[&lease])
}

fn leads(replica: &Forestall) -> bool {
    replica.number("forestall_leader") == Some(1.0)
}

fn record(cluster: &ControlPlane, namespace: &str) -> Value {
    let lease = [
        "--namespace",
        namespace,
        "get",
        "lease",
        "forestall",
        "-o",
        "json",
    ];
    let lease: Value = serde_json::from_str(&cluster.must(&lease, "")).unwrap();
    lease["spec"].clone()
}

#[test]
fn one_of_two_processes_leads_and_a_stop_hands_over_at_once_and_a_kill_after_the_lease() {
    let cluster = ControlPlane::shared();
    let namespace = cluster.namespace();
    let first = replica(cluster, &namespace);
    eventually("a leader", || leads(&first));
    let second = replica(cluster, &namespace);
    std::thread::sleep(Duration::from_secs(5));
    assert!(leads(&first) && !leads(&second));
    let record_of_first = record(cluster, &namespace);
    assert_eq!(record_of_first["leaseDurationSeconds"], 15);
    assert_eq!(record_of_first["leaseTransitions"], 0);

    let told = Instant::now();
    first.signal("TERM");
    eventually("a second leader", || leads(&second));
    let took = told.elapsed();
    // Two seconds, and the time that this machine takes.
    assert!(took < Duration::from_secs(5), "{took:?} to hand over");
    assert!(!leads(&first), "it still answers, as it drains for 15 s");
    let record_of_second = record(cluster, &namespace);
    assert_eq!(record_of_second["leaseTransitions"], 1);
    assert_ne!(
        record_of_second["holderIdentity"],
        record_of_first["holderIdentity"]
    );

    let third = replica(cluster, &namespace);
    std::thread::sleep(Duration::from_secs(5));
    assert!(leads(&second) && !leads(&third));
    second.signal("KILL");
    let killed = Instant::now();
    eventually("a third leader", || leads(&third));
    let took = killed.elapsed();
    let expected = Duration::from_secs(12)..Duration::from_secs(20);
    assert!(expected.contains(&took), "{took:?} to take over");
    assert_eq!(record(cluster, &namespace)["leaseTransitions"], 2);
}

/// A candidate of this process, whose work says that it runs.
fn candidate(
    client: Client,
    namespace: &str,
    name: &str,
) -> (Arc<AtomicBool>, oneshot::Sender<()>) {
    struct Works(Arc<AtomicBool>);
    impl Drop for Works {
        fn drop(&mut self) {
            self.0.store(false, Ordering::SeqCst);
        }
    }
    let works = Arc::new(AtomicBool::new(false));
    let (goodbye, told) = oneshot::channel::<()>();
    let lease = format!("{namespace}/forestall").parse().unwrap();
    let candidate = Candidate::new(client, lease, name.to_owned(), Arc::new(Metrics::default()));
    let of_work = Arc::clone(&works);
    let work = move || {
        of_work.store(true, Ordering::SeqCst);
        let works = Works(Arc::clone(&of_work));
        async move {
            let _works = works;
            std::future::pending::<()>().await;
        }
    };
    tokio::spawn(candidate.run(work, async {
        let _ = told.await;
    }));
    (works, goodbye)
}

/// Waits until it is so, and gives how long that took.
async fn until(what: &str, is: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !is() {
        assert!(
            begun.elapsed() < Duration::from_mins(1),
            "{what} never came"
        );
        sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn case_80_without_an_api_server_nobody_leads_until_it_is_there() {
    let cluster = ControlPlane::shared();
    let namespace = cluster.namespace();
    let line = Line::to(cluster.config().await, State::Cut).await;
    let (works, _leave) = candidate(line.client(), &namespace, "first");
    sleep(Duration::from_secs(5)).await;
    assert!(!works.load(Ordering::SeqCst));
    line.set(State::Open);
    until("a leader", || works.load(Ordering::SeqCst)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn case_86_a_leader_that_is_cut_off_stops_its_work_before_another_begins() {
    let cluster = ControlPlane::shared();
    let namespace = cluster.namespace();
    let line = Line::to(cluster.config().await, State::Open).await;
    let (first, _leave_first) = candidate(line.client(), &namespace, "first");
    until("a leader", || first.load(Ordering::SeqCst)).await;
    let (second, _leave_second) = candidate(cluster.client().await, &namespace, "second");
    sleep(Duration::from_secs(4)).await;
    assert!(first.load(Ordering::SeqCst) && !second.load(Ordering::SeqCst));
    line.set(State::Silent);
    let took = until("the end of its work", || !first.load(Ordering::SeqCst)).await;
    assert!(took < Duration::from_secs(11), "{took:?}");
    assert!(!second.load(Ordering::SeqCst), "two leaders");
    until("the next leader", || second.load(Ordering::SeqCst)).await;
    line.set(State::Open);
    sleep(Duration::from_secs(6)).await;
    assert!(!first.load(Ordering::SeqCst) && second.load(Ordering::SeqCst));
    assert_eq!(
        record(cluster, &namespace)["holderIdentity"],
        json!("second")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_lease_is_taken_from_it_stops() {
    let cluster = ControlPlane::shared();
    let namespace = cluster.namespace();
    let (works, leave) = candidate(cluster.client().await, &namespace, "first");
    until("a leader", || works.load(Ordering::SeqCst)).await;
    let patch = r#"{"spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 3}}"#;
    let patched = [
        "--namespace",
        &namespace,
        "patch",
        "lease",
        "forestall",
        "--type=merge",
        "-p",
        patch,
    ];
    cluster.must(&patched, "");
    let took = until("the end of its work", || !works.load(Ordering::SeqCst)).await;
    assert!(took < Duration::from_secs(4), "{took:?}");
    // Somebody's Lease lasts as long as it says.
    until("its return", || works.load(Ordering::SeqCst)).await;
    leave.send(()).unwrap();
    until("the end", || {
        record(cluster, &namespace)["holderIdentity"] == json!("")
    })
    .await;
    assert!(!works.load(Ordering::SeqCst));
}
