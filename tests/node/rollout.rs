//! Nothing that is done with Forestall loses a request, or blocks the cluster.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::control_plane::{eventually, run};
use crate::load::{Load, Pace, Sent, failures};
use crate::node_under_test::{Node, Turn};
use crate::release::{Release, deployment};

/// How many Deployments a second are created while something happens to Forestall.
const PER_SECOND: u32 = 200;

fn guarded(namespace: &str) -> Pace<'_> {
    Pace {
        namespace,
        object: deployment("unused", "prom/prometheus:v2.55.1"),
        per_second: PER_SECOND,
        dry_run: true,
    }
}

/// An object that a cluster needs to recover, or that nobody guards.
fn free(namespace: &str, object: Value) -> Pace<'_> {
    Pace {
        namespace,
        object,
        per_second: 1,
        dry_run: false,
    }
}

fn config_map() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"key": "value"}})
}

/// A Pod that no node takes.
fn idle_pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "spec": {
        "nodeSelector": {"of": "nobody"},
        "containers": [{"name": "app", "image": "prom/prometheus:v2.55.1"}],
    }})
}

/// Fail needs replicas, and a mode that refuses.
fn fail(replicas: u32) -> Value {
    json!({"mode": "enforce", "replicaCount": replicas, "webhooks": {"failurePolicy": "Fail"}})
}

/// Prints what became of the requests, and gives those that failed.
fn told<'sent>(what: &str, sent: &'sent [Sent]) -> Vec<&'sent Sent> {
    let failed = failures(sent);
    let slowest = sent.iter().map(|sent| sent.took).max().unwrap_or_default();
    println!(
        "{what}: {} sent, {} failed, slowest {slowest:.1?}",
        sent.len(),
        failed.len()
    );
    failed
}

/// The longest time without success, from the first failure to the next success.
fn longest_outage(sent: &mut [Sent]) -> Duration {
    sent.sort_by_key(|sent| sent.at);
    let mut longest = Duration::ZERO;
    let mut began = None;
    for sent in sent {
        if sent.failure.is_some() {
            let began = began.get_or_insert(sent.at);
            longest = longest.max(sent.at + sent.took - *began);
        } else if let Some(began) = began.take() {
            longest = longest.max(sent.at - began);
        }
    }
    longest
}

fn scale(node: &Node, release: &Release<'_>, replicas: u32) {
    let within = ["--namespace", &release.namespace];
    let count = format!("--replicas={replicas}");
    let cluster = &node.cluster;
    cluster.must(
        &[&within[..], &["scale", "deployment", "forestall", &count]].concat(),
        "",
    );
    // Those that leave are no longer asked, but still there: a rollout does not wait for them.
    eventually("the number of Pods", || {
        release.pods().len() == replicas as usize
    });
    rolled(node, release);
}

fn rolled(node: &Node, release: &Release<'_>) {
    let within = ["--namespace", &release.namespace];
    let rolled = [
        "rollout",
        "status",
        "deployment/forestall",
        "--timeout=180s",
    ];
    node.cluster.must(&[&within[..], &rolled].concat(), "");
}

#[test]
fn case_90_no_request_is_lost_while_it_is_rolled_and_scaled() {
    let node = Turn::wait();
    let release = Release::install(&node, &fail(3));
    let namespace = node.cluster.namespace();
    release.until_judged(&namespace, &deployment("web", "prom/prometheus:v2.55.1"));
    let began = Instant::now();
    let load = Load::start(&node, guarded(&namespace));
    let within = ["--namespace", &release.namespace];
    let restart = ["rollout", "restart", "deployment/forestall"];
    node.cluster.must(&[&within[..], &restart].concat(), "");
    rolled(&node, &release);
    scale(&node, &release, 2);
    scale(&node, &release, 3);
    let seconds = began.elapsed().as_secs();
    let sent = load.stop();
    let failed = told("rolled and scaled", &sent);
    assert!(failed.is_empty(), "{:#?}", &failed[..failed.len().min(5)]);
    let paced = usize::try_from(seconds * u64::from(PER_SECOND) * 95 / 100).unwrap();
    assert!(sent.len() > paced, "too few in {seconds} s");
}

#[test]
fn case_93_no_request_is_lost_while_its_authority_is_replaced() {
    let node = Turn::wait();
    let release = Release::install(&node, &fail(3));
    let namespace = node.cluster.namespace();
    release.until_judged(&namespace, &deployment("web", "prom/prometheus:v2.55.1"));
    let trusted = || {
        let path = "jsonpath={.webhooks[*].clientConfig.caBundle}";
        let both = "validatingwebhookconfiguration,mutatingwebhookconfiguration";
        let kinds = both.split(',').map(|kind| {
            let arguments = ["get", kind, "forestall", "-o", path];
            node.cluster.must(&arguments, "")
        });
        kinds.collect::<Vec<_>>()
    };
    let before = trusted();
    let load = Load::start(&node, guarded(&namespace));
    // certs/README.md: the leader makes a new authority, and lets go of the old one when all have the new.
    let take_away = r#"[{"op": "remove", "path": "/data/ca.key"}]"#;
    let arguments = [
        "patch",
        "secret",
        "forestall-tls",
        "--type=json",
        "--patch",
        take_away,
    ];
    let within = ["--namespace", &release.namespace];
    node.cluster.must(&[&within[..], &arguments].concat(), "");
    let both_are_trusted = |now: &[String]| {
        now.iter()
            .zip(&before)
            .all(|(now, before)| now.len() > before.len() * 3 / 2)
    };
    eventually("both authorities", || both_are_trusted(&trusted()));
    eventually("only the new authority", || {
        let now = trusted();
        now.iter().zip(&before).all(|(now, before)| now != before) && !both_are_trusted(&now)
    });
    let sent = load.stop();
    let failed = told("authority replaced", &sent);
    assert!(failed.is_empty(), "{:#?}", &failed[..failed.len().min(5)]);
}

#[test]
fn case_91_a_pod_that_is_killed_takes_only_what_it_was_asked() {
    let node = Turn::wait();
    let release = Release::install(&node, &fail(3));
    let namespace = node.cluster.namespace();
    release.until_judged(&namespace, &deployment("web", "prom/prometheus:v2.55.1"));
    let load = Load::start(&node, guarded(&namespace));
    std::thread::sleep(Duration::from_secs(2));
    let killed = kill(&release.pods()[0]);
    std::thread::sleep(Duration::from_secs(15));
    let sent = load.stop();
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
    assert_eq!(release.pods().iter().filter_map(restarts).sum::<u64>(), 1);
    let failed = told("a Pod killed", &sent);
    let in_flight = failed.iter().filter(|sent| sent.at < killed).count();
    let last = failed
        .iter()
        .map(|sent| sent.at.saturating_duration_since(killed))
        .max();
    println!(
        "{in_flight} were in flight, {} came after it, the last {:.1?} after it",
        failed.len() - in_flight,
        last.unwrap_or_default()
    );
    assert!(
        last.unwrap_or_default() < Duration::from_secs(5),
        "{failed:#?}"
    );
}

/// Kills the program of a Pod, as the kernel does, and says when.
fn kill(pod: &Value) -> Instant {
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let mut killed = None;
    for process in fs::read_dir("/proc").unwrap() {
        let path = process.unwrap().path();
        let is = |file: &str, text: &str| {
            fs::read_to_string(path.join(file)).is_ok_and(|content| content.contains(text))
        };
        if is("cgroup", uid) && is("comm", "forestall") {
            let id = path.file_name().unwrap();
            killed = Some(Instant::now());
            assert!(run(Command::new("kill").arg("-KILL").arg(id), "").success);
        }
    }
    killed.expect("a Pod of Forestall has a process of that name")
}

#[test]
fn case_95_the_cluster_can_be_used_in_each_second_of_what_helm_does() {
    let node = Turn::wait();
    let namespace = node.cluster.namespace();
    let ordinary = Load::start(&node, free(&namespace, config_map()));
    let system = Load::start(&node, free("kube-system", idle_pod()));
    let mut outages = Vec::new();
    let mut watched = |what: &str, change: &dyn Fn()| {
        let pace = Pace {
            per_second: 10,
            ..guarded(&namespace)
        };
        let load = Load::start(&node, pace);
        change();
        std::thread::sleep(Duration::from_secs(3));
        let mut sent = load.stop();
        told(what, &sent);
        outages.push((what.to_owned(), longest_outage(&mut sent)));
    };
    let wait = ["--wait", "--timeout", "120s"];
    let release = Release::prepare(&node);
    watched("install", &|| release.must_helm("install", &wait, &fail(2)));
    let mut changed = fail(2);
    changed["podAnnotations"] = json!({"release": "second"});
    watched("upgrade", &|| release.must_helm("upgrade", &wait, &changed));
    let mut broken = fail(2);
    broken["image"] = json!({"registry": "registry.test:5000", "tag": "of-nobody"});
    watched("failed upgrade", &|| {
        assert!(
            !release
                .helm("upgrade", &["--wait", "--timeout", "15s"], &broken)
                .success
        );
    });
    watched("rollback", &|| release.must_rollback());
    watched("uninstall", &|| release.must_uninstall());
    for (what, sent) in [
        ("ConfigMaps", ordinary.stop()),
        ("Pods of kube-system", system.stop()),
    ] {
        let failed = told(what, &sent);
        assert!(failed.is_empty(), "{failed:#?}");
    }
    println!("guarded kinds were refused for at most: {outages:.1?}");
    for (what, outage) in outages {
        let most = if what == "install" { 30 } else { 0 };
        assert!(
            outage <= Duration::from_secs(most),
            "{what}: refused for {outage:.1?}"
        );
    }
    let system = [
        "--namespace",
        "kube-system",
        "delete",
        "pods",
        "--all",
        "--wait=false",
    ];
    node.cluster.must(&system, "");
}

#[test]
fn case_96_without_pods_ignore_lets_everything_through_and_fail_what_the_cluster_needs() {
    let node = Turn::wait();
    let release = Release::install(&node, &json!({"mode": "enforce"}));
    let namespace = node.cluster.namespace();
    let web = deployment("web", "prom/prometheus:v2.55.9");
    assert!(!release.until_judged(&namespace, &web).success);
    scale(&node, &release, 0);
    let began = Instant::now();
    let admitted = release.apply(&namespace, &web);
    assert!(admitted.success, "{}", admitted.stderr);
    // What both webhooks may take, and a little for kubectl.
    assert!(
        began.elapsed() < Duration::from_secs(9),
        "{:?}",
        began.elapsed()
    );

    release.must_helm("upgrade", &["--wait", "--timeout", "120s"], &fail(2));
    scale(&node, &release, 0);
    let other = deployment("other", "prom/prometheus:v2.55.1");
    eventually("a refusal for want of Pods", || {
        !release.apply(&namespace, &other).success
    });
    for needed in ["kube-system", &release.namespace] {
        let mut pod = idle_pod();
        pod["metadata"] = json!({"name": "needed"});
        let admitted = release.apply(needed, &pod);
        assert!(admitted.success, "{needed}: {}", admitted.stderr);
        node.cluster.must(
            &[
                "--namespace",
                needed,
                "delete",
                "pod",
                "needed",
                "--wait=false",
            ],
            "",
        );
    }
    let emergency = [
        "delete",
        "validatingwebhookconfiguration,mutatingwebhookconfiguration",
        "forestall",
    ];
    node.cluster.must(&emergency, "");
    eventually("a free cluster", || {
        release.apply(&namespace, &other).success
    });
}
