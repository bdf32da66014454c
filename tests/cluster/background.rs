//! The leader's own judgement of what is in the cluster: the number to read before enforcing, and
//! Events on what it is about.

mod chosen;
mod custom_resources;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, eventually};
use crate::registry_server::Registry;
use crate::site::{Forestall, Reach, Scope, deployment, install_webhook, pki};

const IMAGES: [&str; 2] = ["team/app:1.0.0", "team/app:1.0.1"];
const MISSING: &str = "forestall_would_refuse{rule=\"missing-image\"}";
const IMPOSSIBLE: &str = "forestall_would_refuse{rule=\"impossible-memory-limit\"}";
const DROPPED: &str = "forestall_events_dropped_total";

/// Off everywhere but in one namespace, as the tests share their cluster.
fn only_in(namespace: &str, mode: &str, registry: &Registry) -> String {
    format!(
        "mode: off
namespaces: {{{namespace}: {{mode: {mode}}}}}
registries: {{registry.test: {{server: \"{}\"}}}}
",
        registry.server()
    )
}

/// A Deployment with this tag of the image.
fn with_tag(name: &str, tag: &str) -> Value {
    let mut deployment = deployment(name, "128Mi");
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] =
        json!(format!("registry.test/team/app:{tag}"));
    deployment
}

/// A namespace, and a leader for it.
struct Scene<'a> {
    cluster: &'a ControlPlane,
    namespace: String,
}

impl<'a> Scene<'a> {
    fn new() -> Self {
        Self::on(ControlPlane::shared())
    }

    fn on(cluster: &'a ControlPlane) -> Self {
        let namespace = cluster.namespace();
        Self { cluster, namespace }
    }

    fn leader(&self, config: &str) -> Forestall {
        let lease = format!("--lease={}/forestall", self.namespace);
        Forestall::start_with(self.cluster.kubeconfig(), config, &[&lease])
    }

    fn must(&self, arguments: &[&str], input: &str) -> String {
        let namespace = ["--namespace", self.namespace.as_str()];
        self.cluster.must(&[&namespace, arguments].concat(), input)
    }

    fn apply(&self, object: &Value) {
        self.must(&["apply", "-f", "-"], &object.to_string());
    }

    fn stored(&self, kind: &str, name: &str) -> Value {
        let stored = self.must(
            &["get", kind, name, "-o", "json", "--show-managed-fields"],
            "",
        );
        serde_json::from_str(&stored).unwrap()
    }

    /// The Events that Forestall wrote in the namespace.
    fn events(&self) -> Vec<Value> {
        let list = self.must(&["get", "events.events.k8s.io", "-o", "json"], "");
        let mut list: Value = serde_json::from_str(&list).unwrap();
        let mut events: Vec<Value> = serde_json::from_value(list["items"].take()).unwrap();
        events.retain(|event| event["reportingController"] == "forestall.dev/webhook");
        events
    }

    fn notes(&self) -> BTreeSet<String> {
        let events = self.events();
        let note = |event: &Value| event["note"].as_str().unwrap().to_owned();
        events.iter().map(note).collect()
    }

    /// A kubeconfig of an account that may do what the chart grants, except for some of it.
    fn kubeconfig_without(&self, resource: &str) -> (tempfile::TempDir, PathBuf) {
        let namespace = &self.namespace;
        let grant = |name: &str, verbs: &str, resources: &[&str], names: &[&str]| {
            let resources: Vec<_> = resources
                .iter()
                .filter(|granted| **granted != resource)
                .copied()
                .collect();
            if resources.is_empty() {
                return;
            }
            let mut create = vec![
                "create".to_owned(),
                "clusterrole".to_owned(),
                format!("{namespace}-{name}"),
            ];
            create.push(format!("--verb={verbs}"));
            create.push(format!("--resource={}", resources.join(",")));
            create.extend(names.iter().map(|name| format!("--resource-name={name}")));
            self.cluster
                .must(&create.iter().map(String::as_str).collect::<Vec<_>>(), "");
            let binding = format!("{namespace}-{name}");
            let role = format!("--clusterrole={binding}");
            let account = format!("--serviceaccount={namespace}:leader");
            self.cluster.must(
                &["create", "clusterrolebinding", &binding, &role, &account],
                "",
            );
        };
        self.must(&["create", "serviceaccount", "leader"], "");
        grant("lease", "create", &["leases.coordination.k8s.io"], &[]);
        grant(
            "own-lease",
            "get,update",
            &["leases.coordination.k8s.io"],
            &["forestall"],
        );
        grant("events", "create", &["events.events.k8s.io"], &[]);
        let watched = [
            "namespaces",
            "nodes",
            "pods",
            "replicationcontrollers",
            "deployments.apps",
            "replicasets.apps",
            "statefulsets.apps",
            "daemonsets.apps",
            "jobs.batch",
            "cronjobs.batch",
        ];
        grant("watched", "list,watch", &watched, &[]);
        let token = self.must(&["create", "token", "leader"], "");
        let files = tempfile::tempdir().unwrap();
        let path = files.path().join("kubeconfig");
        let kubeconfig = fs::read_to_string(self.cluster.kubeconfig()).unwrap();
        let users = kubeconfig.find("users:").unwrap();
        let contexts = kubeconfig.find("contexts:").unwrap();
        let user = format!(
            "users: [{{name: administrator, user: {{token: {}}}}}]\n",
            token.trim_end()
        );
        fs::write(
            &path,
            [&kubeconfig[..users], &user, &kubeconfig[contexts..]].concat(),
        )
        .unwrap();
        (files, path)
    }
}

#[test]
fn what_enforce_would_refuse_is_counted_and_told_once_however_often_the_leader_changes() {
    let scene = Scene::new();
    let registry = Registry::start(&IMAGES);
    let config = only_in(&scene.namespace, "audit", &registry);
    scene.apply(&with_tag("web", "9.9.9"));
    scene.apply(&with_tag("good", "1.0.0"));
    eventually("what controllers make of it", || {
        scene
            .must(&["get", "pods", "-o", "name"], "")
            .lines()
            .count()
            == 2
    });
    let before = scene.stored("deployment", "web");

    let first = scene.leader(&config);
    eventually("the number", || first.number(MISSING) == Some(1.0));
    assert_eq!(
        first.number(IMPOSSIBLE),
        Some(0.0),
        "nothing is a zero, not a missing series"
    );
    eventually("an Event", || !scene.events().is_empty());
    let events = scene.events();
    let [event] = &events[..] else {
        panic!("one Event, and none for its children: {events:?}")
    };
    assert_eq!(
        (&event["type"], &event["reason"]),
        (&json!("Warning"), &json!("WouldRefuse"))
    );
    let regarding = &event["regarding"];
    assert_eq!(
        (&regarding["kind"], &regarding["name"]),
        (&json!("Deployment"), &json!("web"))
    );
    assert_eq!(regarding["uid"], before["metadata"]["uid"]);
    let note = event["note"].as_str().unwrap();
    let start = "missing-image: app: registry.test has no tag 9.9.9 in registry.test/team/app; nearest: 1.0.1";
    assert!(note.starts_with(start), "{note}");
    let described = scene.must(&["describe", "deployment", "web"], "");
    assert!(
        described.contains("WouldRefuse") && described.contains("has no tag 9.9.9"),
        "{described}"
    );
    // In audit, nothing changes for anybody.
    let after = scene.stored("deployment", "web");
    assert_eq!(
        (&before["spec"], &before["metadata"]["annotations"]),
        (&after["spec"], &after["metadata"]["annotations"])
    );
    assert!(!after.to_string().contains("forestall"), "{after}");

    let second = scene.leader(&config);
    assert_eq!(second.number(MISSING), None, "only the leader counts");
    first.signal("TERM");
    eventually("the number of the next leader", || {
        second.number(MISSING) == Some(1.0)
    });
    assert_eq!(first.number(MISSING), None);
    assert_eq!(second.number("forestall_leader"), Some(1.0));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(scene.events().len(), 1, "the same was told twice");
    assert_eq!(second.number(DROPPED), Some(0.0));

    // What changes to another mistake is told, and what is repaired is not counted any more.
    scene.apply(&with_tag("web", "9.9.8"));
    eventually("another Event", || scene.events().len() == 2);
    assert_eq!(second.number(MISSING), Some(1.0));
    scene.must(&["scale", "deployment", "web", "--replicas=2"], "");
    scene.must(&["label", "deployment", "web", "a=b"], "");
    scene.apply(&with_tag("web", "1.0.1"));
    eventually("the repair", || second.number(MISSING) == Some(0.0));
    assert_eq!(scene.events().len(), 2, "{:?}", scene.events());
}

#[test]
fn the_number_goes_down_when_an_object_goes_or_is_accepted() {
    let scene = Scene::new();
    let registry = Registry::start(&IMAGES);
    let config = only_in(&scene.namespace, "warn", &registry);
    let leader = scene.leader(&config);
    eventually("the first look", || leader.number(IMPOSSIBLE) == Some(0.0));
    for name in ["deleted", "annotated", "exempt"] {
        scene.apply(&deployment(name, "512m"));
    }
    eventually("three", || leader.number(IMPOSSIBLE) == Some(3.0));
    eventually("three Events", || scene.events().len() == 3);
    scene.must(&["delete", "deployment", "deleted"], "");
    eventually("two", || leader.number(IMPOSSIBLE) == Some(2.0));
    let allowed = [
        "annotate",
        "deployment",
        "annotated",
        "forestall.dev/allow=impossible-memory-limit",
        "forestall.dev/allow-until=2999-01-01",
        "forestall.dev/allow-reason=it is a test",
    ];
    scene.must(&allowed, "");
    eventually("one", || leader.number(IMPOSSIBLE) == Some(1.0));
    let exemption = format!(
        "exemptions: [{{rule: impossible-memory-limit, namespace: {}, name: exempt, reason: a test, until: 2999-01-01}}]\n",
        scene.namespace
    );
    leader.reconfigure(&(config.clone() + &exemption));
    eventually("none", || leader.number(IMPOSSIBLE) == Some(0.0));
    leader.reconfigure(&config);
    eventually("one again", || leader.number(IMPOSSIBLE) == Some(1.0));
    assert_eq!(
        scene.events().len(),
        3,
        "a new configuration told the same again"
    );
    // What is off is no work, and no number.
    leader.reconfigure(&config.replace("{mode: warn}", "{mode: off}"));
    eventually("off", || leader.number(IMPOSSIBLE) == Some(0.0));
}

// Alone with its cluster: a label holds for the leaders of other tests, too.
#[test]
fn the_label_of_a_namespace_turns_the_judgement_on_and_off() {
    let cluster = ControlPlane::start();
    let scene = Scene::on(&cluster);
    scene.apply(&deployment("web", "512m"));
    let leader = scene.leader("mode: off");
    eventually("the first look", || leader.number(IMPOSSIBLE) == Some(0.0));
    assert!(scene.events().is_empty());
    let label = |label: &str| {
        scene.cluster.must(
            &["label", "--overwrite", "namespace", &scene.namespace, label],
            "",
        );
    };
    label("forestall.dev/mode=audit");
    eventually("on", || leader.number(IMPOSSIBLE) == Some(1.0));
    label("forestall.dev/mode=off");
    eventually("off", || leader.number(IMPOSSIBLE) == Some(0.0));
    label("forestall.dev/mode-");
    scene.apply(&deployment("other", "512m"));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(scene.events().len(), 1, "{:?}", scene.events());
}

#[test]
fn a_forged_review_writes_no_event_and_moves_no_number() {
    let scene = Scene::new();
    let registry = Registry::start(&IMAGES);
    let leader = scene.leader(&only_in(&scene.namespace, "enforce", &registry));
    eventually("the first look", || leader.number(IMPOSSIBLE) == Some(0.0));
    let mut forged = deployment("forged", "512m");
    forged["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000001");
    forged["metadata"]["namespace"] = json!(scene.namespace);
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "1", "operation": "CREATE", "namespace": scene.namespace, "name": "forged",
        "kind": {"group": "apps", "version": "v1", "kind": "Deployment"}, "object": forged,
    }});
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ca = fs::read(pki().path("ca.crt")).unwrap();
    let port = leader.port;
    let answer: Value = runtime.block_on(async move {
        let ca = reqwest::Certificate::from_pem(&ca).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([ca])
            .build()
            .unwrap();
        let url = format!("https://localhost:{port}/validate");
        client
            .post(url)
            .json(&review)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    });
    assert_eq!(answer["response"]["allowed"], false, "{answer}");
    std::thread::sleep(Duration::from_secs(3));
    assert!(scene.events().is_empty(), "{:?}", scene.events());
    assert_eq!(leader.number(IMPOSSIBLE), Some(0.0));
}

#[test]
fn registry_case_103_a_dry_run_leaves_no_event() {
    let scene = Scene::new();
    let registry = Registry::start(&IMAGES);
    let leader = scene.leader(&only_in(&scene.namespace, "warn", &registry));
    eventually("the first look", || leader.number(MISSING) == Some(0.0));
    let namespace = &scene.namespace;
    install_webhook(
        scene.cluster,
        &leader,
        namespace,
        Reach::Service,
        Scope::Catalogue,
    );
    let object = with_tag("web", "9.9.9");
    let dry_run = ["create", "--dry-run=server", "-f", "-"];
    let arguments = [&["--namespace", namespace], &dry_run[..]].concat();
    eventually("a judged dry run", || {
        let output = scene.cluster.kubectl(&arguments, &object.to_string());
        output.success && output.stderr.contains("has no tag 9.9.9")
    });
    std::thread::sleep(Duration::from_secs(2));
    assert!(scene.events().is_empty(), "{:?}", scene.events());
    assert_eq!(leader.number(MISSING), Some(0.0));
    scene.apply(&object);
    eventually("the Event of what is there", || scene.events().len() == 1);
}

#[test]
fn case_81_a_kind_that_may_not_be_read_is_named_and_the_others_are_judged() {
    let scene = Scene::new();
    let registry = Registry::start(&IMAGES);
    scene.apply(&deployment("web", "512m"));
    let (_files, kubeconfig) = scene.kubeconfig_without("pods");
    let lease = format!("--lease={}/forestall", scene.namespace);
    let config = only_in(&scene.namespace, "audit", &registry);
    let leader = Forestall::start_with(&kubeconfig, &config, &[&lease]);
    eventually("the number", || leader.number(IMPOSSIBLE) == Some(1.0));
    assert_eq!(
        leader.number("forestall_kind_available{resource=\"pods\"}"),
        Some(0.0)
    );
    let deployments = "forestall_kind_available{resource=\"daemonsets.apps\"}";
    assert_eq!(leader.number(deployments), Some(1.0));
    // Nobody installed it here, which is nobody's mistake.
    assert_eq!(
        leader.number("forestall_kind_available{resource=\"rollouts.argoproj.io\"}"),
        None
    );
    assert!(
        leader.log().contains("Forestall may not read pods (403)"),
        "{}",
        leader.log()
    );
    eventually("an Event, by what the chart grants", || {
        scene.events().len() == 1
    });
}

#[test]
fn case_87_events_that_may_not_be_written_are_counted_and_the_judgement_goes_on() {
    let scene = Scene::new();
    let registry = Registry::start(&IMAGES);
    scene.apply(&deployment("web", "512m"));
    let (_files, kubeconfig) = scene.kubeconfig_without("events.events.k8s.io");
    let lease = format!("--lease={}/forestall", scene.namespace);
    let config = only_in(&scene.namespace, "audit", &registry);
    let leader = Forestall::start_with(&kubeconfig, &config, &[&lease]);
    eventually("a dropped Event", || leader.number(DROPPED) == Some(1.0));
    assert_eq!(leader.number(IMPOSSIBLE), Some(1.0));
    assert!(leader.log().contains("an Event was dropped: the API server says 403 (Forbidden); Forestall needs create on events"), "{}", leader.log());
    scene.apply(&deployment("other", "512m"));
    eventually("the next object", || leader.number(IMPOSSIBLE) == Some(2.0));
    assert!(scene.events().is_empty());
}
