//! `helm install`, `upgrade`, `rollback` and `uninstall` at a control plane without nodes: no Pod ever
//! runs, so the webhooks fail closed all the time, and nobody may be blocked by that.

use std::fs;

use forestall::config::Config;
use forestall::lookup::cluster::ClusterView;
use forestall::report::metrics::Metrics;
use kube::Client;
use kube::config::AuthInfo;
use serde_json::{Value, json};

use super::{REGISTRY, helm, template};
use crate::control_plane::{ControlPlane, Output, eventually};
use crate::incidents::example;
use crate::site::{deployment, pod};

const CLOSED: &str = "mode=enforce,webhooks.failurePolicy=Fail";

fn release(cluster: &ControlPlane, verb: &str, arguments: &[&str]) -> Output {
    let namespace = ["--namespace", "forestall"];
    let output = helm(verb, &[&namespace, arguments].concat(), Some(cluster));
    assert!(output.success, "helm {verb}: {}", output.stderr);
    output
}

fn create(cluster: &ControlPlane, namespace: &str, object: &Value) -> Output {
    let arguments = [
        "--namespace",
        namespace,
        "create",
        "--dry-run=server",
        "-f",
        "-",
    ];
    cluster.kubectl(&arguments, &object.to_string())
}

fn is_refused(cluster: &ControlPlane) -> bool {
    let output = create(cluster, "default", &deployment("web", "128Mi"));
    let asked = "failed calling webhook \"validate.forestall.dev\"";
    assert!(
        output.success || output.stderr.contains(asked),
        "{}",
        output.stderr
    );
    !output.success
}

/// What a cluster cannot do without, whatever the webhooks do.
fn nobody_is_blocked(cluster: &ControlPlane) {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let system = pod("a", "128Mi");
    for (namespace, object) in [
        ("default", &map),
        ("kube-system", &system),
        ("kube-node-lease", &map),
        ("forestall", &deployment("web", "128Mi")),
    ] {
        let mut object = object.clone();
        if object["kind"] == "Pod" {
            // No controller has made the account default there.
            object["spec"]["automountServiceAccountToken"] = json!(false);
        }
        let output = create(cluster, namespace, &object);
        assert!(output.success, "{namespace}: {}", output.stderr);
    }
}

fn bundles(cluster: &ControlPlane) -> Vec<String> {
    [
        "mutatingwebhookconfiguration",
        "validatingwebhookconfiguration",
    ]
    .map(|kind| {
        let path = "-o=jsonpath={.webhooks[0].clientConfig.caBundle}";
        cluster.must(&["get", kind, "forestall", path], "")
    })
    .to_vec()
}

#[test]
fn a_release_comes_changes_goes_back_and_goes_and_blocks_nobody() {
    let cluster = ControlPlane::start();
    let set = format!("{REGISTRY},{CLOSED}");
    let installed = release(&cluster, "install", &["--create-namespace", "--set", &set]);
    eventually("the closed webhook", || is_refused(&cluster));
    nobody_is_blocked(&cluster);

    // What the leader does, and what no upgrade may undo.
    let bundle = "Zm9yZXN0YWxs";
    let patch =
        json!([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": bundle}]);
    let patch = patch.to_string();
    for kind in [
        "mutatingwebhookconfiguration",
        "validatingwebhookconfiguration",
    ] {
        cluster.must(
            &["patch", kind, "forestall", "--type=json", "-p", &patch],
            "",
        );
    }
    release(
        &cluster,
        "upgrade",
        &[
            "--reset-then-reuse-values",
            "--set",
            "replicaCount=3,webhooks.timeoutSeconds.validating=4",
        ],
    );
    assert_eq!(bundles(&cluster), [bundle, bundle]);
    let replicas = [
        "--namespace",
        "forestall",
        "get",
        "deployment",
        "forestall",
        "-o=jsonpath={.spec.replicas}",
    ];
    assert_eq!(cluster.must(&replicas, ""), "3");
    assert!(is_refused(&cluster));
    nobody_is_blocked(&cluster);
    // An upgrade that fails on its way leaves all as usable.
    let waiting = [
        "--namespace",
        "forestall",
        "--reset-then-reuse-values",
        "--set",
        "image.tag=none",
        "--wait",
        "--timeout",
        "2s",
    ];
    assert!(!helm("upgrade", &waiting, Some(&cluster)).success);
    nobody_is_blocked(&cluster);
    release(&cluster, "rollback", &["1"]);
    assert_eq!(bundles(&cluster), [bundle, bundle]);
    assert_eq!(cluster.must(&replicas, ""), "2");
    nobody_is_blocked(&cluster);

    // The line of the notes, and the way back.
    let line = installed
        .stdout
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("kubectl delete "));
    let words: Vec<_> = line.unwrap().split_whitespace().skip(1).collect();
    cluster.must(&words, "");
    eventually("a free cluster", || !is_refused(&cluster));
    release(&cluster, "upgrade", &["--reset-then-reuse-values"]);
    eventually("the closed webhook", || is_refused(&cluster));

    release(&cluster, "uninstall", &[]);
    eventually("a free cluster", || !is_refused(&cluster));
    let label = ["-l", "app.kubernetes.io/instance=forestall", "-o", "name"];
    let kinds = "deploy,svc,sa,cm,pdb,role,rolebinding,clusterrole,clusterrolebinding,\
                 mutatingwebhookconfiguration,validatingwebhookconfiguration";
    let left = cluster.must(&[&["get", kinds, "-A"][..], &label].concat(), "");
    assert_eq!(left, "");
}

#[test]
fn webhooks_are_made_last_and_deleted_first() {
    let cluster = ControlPlane::start();
    release(
        &cluster,
        "install",
        &["--create-namespace", "--set", REGISTRY],
    );
    release(&cluster, "uninstall", &[]);
    let log = fs::read_to_string(cluster.audit_log()).unwrap();
    let events: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let places = |verb: &str, is_webhook: bool| -> Vec<usize> {
        let is_so = |event: &Value| {
            let resource = event["objectRef"]["resource"].as_str().unwrap_or_default();
            // Helm's own notes of its releases.
            resource != "secrets"
                && resource != "namespaces"
                && event["verb"] == verb
                && event["userAgent"]
                    .as_str()
                    .unwrap_or_default()
                    .starts_with("Helm/")
                && resource.ends_with("webhookconfigurations") == is_webhook
        };
        (0..events.len())
            .filter(|index| is_so(&events[*index]))
            .collect()
    };
    let (made, others_made) = (places("create", true), places("create", false));
    let (deleted, others_deleted) = (places("delete", true), places("delete", false));
    assert_eq!(
        (others_made.len(), others_deleted.len()),
        (9, 9),
        "Helm makes and deletes something else"
    );
    assert!(made[0] > others_made[8], "{made:?} {others_made:?}");
    // Twice each: the real one, and the empty one that the hook makes in its place.
    assert!(
        deleted[3] < others_deleted[0],
        "{deleted:?} {others_deleted:?}"
    );
}

/// The account's own rights, and not the administrator's, let everything be seen.
#[tokio::test(flavor = "multi_thread")]
async fn the_account_may_do_what_the_program_does_and_nothing_else() {
    let cluster = ControlPlane::start();
    let definitions = example("crds");
    cluster.must(&["apply", "-f", definitions.to_str().unwrap()], "");
    release(
        &cluster,
        "install",
        &["--create-namespace", "--set", REGISTRY],
    );
    let token = ["--namespace", "forestall", "create", "token", "forestall"];
    let token = cluster.must(&token, "");
    let mut config = cluster.config().await;
    config.auth_info = AuthInfo {
        token: Some(token.trim_end().to_owned().into()),
        ..AuthInfo::default()
    };
    let metrics = std::sync::Arc::new(Metrics::default());
    let client = Client::try_from(config).unwrap();
    let (_view, listed) = ClusterView::start(client, metrics.clone(), &Config::default());
    listed.await;
    let text = metrics.encode();
    let kinds: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("forestall_kind_available{"))
        .collect();
    assert!(
        kinds.len() >= 7 && kinds.iter().all(|line| line.ends_with(" 1")),
        "{kinds:#?}"
    );

    let may = |question: &str| {
        let user = "--as=system:serviceaccount:forestall:forestall";
        let words = question.split_whitespace();
        let arguments: Vec<_> = ["auth", "can-i", user].into_iter().chain(words).collect();
        cluster.kubectl(&arguments, "").success
    };
    for allowed in [
        "watch deployments.apps -A",
        "list nodes",
        "list applications.argoproj.io -A",
        "create events.events.k8s.io -A",
        "get secret/forestall-tls -n forestall",
        "update secret/forestall-tls -n forestall",
        "update lease/forestall -n forestall",
        "patch validatingwebhookconfiguration/forestall",
        "list endpointslices.discovery.k8s.io -n forestall",
    ] {
        assert!(may(allowed), "{allowed}");
    }
    for forbidden in [
        "list secrets -n forestall",
        "get secret/other -n forestall",
        "get secret/forestall-tls -n default",
        "update lease/other -n forestall",
        "patch validatingwebhookconfiguration/other",
        "create validatingwebhookconfigurations",
        "delete validatingwebhookconfiguration/forestall",
        "update deployments.apps -A",
        "create pods -A",
        "delete pods -A",
        "list configmaps -A",
        "list customresourcedefinitions",
    ] {
        assert!(!may(forbidden), "{forbidden}");
    }
}

#[test]
fn the_notes_tell_what_happens_now_and_how_to_stop_it() {
    let notes = |settings: &[&str]| {
        let all = [&[REGISTRY], settings].concat().join(",");
        // Other tests may have a Service in the namespace forestall, which Helm would not take over.
        let arguments = ["--namespace", "platform", "--dry-run=client", "--set", &all];
        let output = helm("install", &arguments, Some(ControlPlane::shared()));
        assert!(output.success, "{}", output.stderr);
        let (_, notes) = output.stdout.split_once("NOTES:\n").unwrap();
        notes.to_owned()
    };
    let audit = notes(&[]);
    for words in [
        "Mode: audit (it records what enforce would refuse, and changes nothing",
        "kubectl delete validatingwebhookconfiguration,mutatingwebhookconfiguration forestall --ignore-not-found",
        "helm test forestall --namespace platform",
        "--set mode=enforce",
        "changes pass without being judged",
        "leaves the Lease forestall and the Secret forestall-tls",
    ] {
        assert!(audit.contains(words), "{words:?} is not in {audit}");
    }
    assert!(
        !audit.contains("WARNING") && !audit.contains("Fail"),
        "{audit}"
    );
    let closed = notes(&[CLOSED, "excludeNamespaces={cni}"]);
    for words in [
        "Mode: enforce (it refuses what is proven to fail",
        "guarded kinds are refused until the first Pod is Ready, at most 30 s",
        "kube-system, kube-node-lease, platform, cni and all other kinds stay writable",
    ] {
        assert!(closed.contains(words), "{words:?} is not in {closed}");
    }
    assert!(!closed.contains("--set mode=enforce"), "{closed}");
    assert!(notes(&["mode=off"]).contains("Mode: off"));
    assert!(notes(&["mode=warn"]).contains("Mode: warn"));
    assert!(notes(&["replicaCount=1"]).contains("WARNING: with one replica"));
    assert!(notes(&["namespaceOverride=default"]).contains("WARNING: Forestall does not judge"));
    assert!(template(&["--set", REGISTRY]).success);
}
