//! `forestall doctor` against a real API server, with what it should find: nothing, or what is broken.
//!
//! There are no nodes, so no Pod can run or be reached. A Pod that says it is ready stands for
//! `forestall serve` on this machine; what is asked of it through the API server's Pod proxy is
//! answered by that program's own /metrics. Everything else is asked of the API server itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::chart::custom_resources::{WIDGET, define, widgets};
use crate::control_plane::{ControlPlane, Output, eventually, run};
use crate::pki::Pki;
use crate::site::{Forestall, pki, rules};

const NAMESPACE: &str = "forestall";
const POD: &str = "forestall-0";
/// Nothing runs there; but a Pod of no node is no endpoint.
const NODE: &str = "nowhere";

/// A cluster of its own, in which one test at a time may break things.
struct Ward {
    cluster: ControlPlane,
    forestall: Forestall,
    front: Front,
    busy: Mutex<()>,
}

/// Passes requests on to the API server as its administrator, and those to a Pod to Forestall.
struct Front {
    kubeconfig: PathBuf,
    /// Method, path and query of all requests that could have changed something.
    writes: Arc<Mutex<Vec<String>>>,
    _files: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

/// What `forestall doctor -o json` said.
#[derive(Debug)]
struct Diagnosis {
    status: i32,
    checks: Vec<Value>,
}

// === impl Ward ===

impl Ward {
    /// The cluster, whole again, until the guard is dropped.
    fn enter() -> (&'static Self, MutexGuard<'static, ()>) {
        static WARD: OnceLock<Ward> = OnceLock::new();
        let ward = WARD.get_or_init(Self::start);
        // Another test that failed has left nothing that is not mended here.
        let guard = ward.busy.lock().unwrap_or_else(PoisonError::into_inner);
        ward.mend();
        (ward, guard)
    }

    fn start() -> Self {
        let cluster = ControlPlane::start();
        cluster.must(&["create", "namespace", NAMESPACE], "");
        let account = ["--namespace", NAMESPACE, "get", "serviceaccount", "default"];
        eventually("the ServiceAccount default", || {
            cluster.kubectl(&account, "").success
        });
        let config = "mode: audit\nrules: {missing-image: {mode: \"off\"}}\n";
        let forestall = Forestall::start(&cluster, config);
        let secret = pki().path("tls.crt").display().to_string();
        let key = pki().path("tls.key").display().to_string();
        let in_namespace = |arguments: &[&str]| {
            cluster.must(&[&["--namespace", NAMESPACE], arguments].concat(), "");
        };
        let (secret, key) = (format!("--cert={secret}"), format!("--key={key}"));
        in_namespace(&["create", "secret", "tls", "forestall-tls", &secret, &key]);
        let config = format!("--from-literal=config.yaml={config}");
        in_namespace(&["create", "configmap", "forestall", &config]);
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
        for object in [node, pod()] {
            cluster.must(&["apply", "-f", "-"], &object.to_string());
        }
        let status = r#"{"status": {"phase": "Running", "podIP": "192.0.2.1",
            "conditions": [{"type": "Ready", "status": "True"}]}}"#;
        in_namespace(&["patch", "pod", POD, "--subresource=status", "-p", status]);
        let front = Front::start(&cluster, &forestall);
        Self {
            cluster,
            forestall,
            front,
            busy: Mutex::new(()),
        }
    }

    /// Makes everything as it should be.
    fn mend(&self) {
        let kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations";
        self.cluster.must(&["delete", kinds, "--all"], "");
        self.service(&json!({"type": "ExternalName", "externalName": "localhost"}));
        self.register("forestall", NAMESPACE, &json!({}));
        // The API server learns of it within a moment; until then it asks nobody.
        let line = "forestall_admission_requests_total{webhook=\"validating\",resource_kind=\"Deployment\"";
        let deployment = crate::site::deployment("probe", "128Mi").to_string();
        let count = || {
            let metrics = self.forestall.metrics();
            let samples = metrics.lines().filter(|sample| sample.starts_with(line));
            samples
                .map(|sample| sample.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
                .sum::<u64>()
        };
        let before = count();
        eventually("a review", || {
            let probe = ["create", "--dry-run=server", "-f", "-"];
            self.cluster.kubectl(&probe, &deployment);
            count() > before
        });
    }

    /// Replaces the Service.
    fn service(&self, spec: &Value) {
        let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "forestall", "namespace": NAMESPACE}});
        service["spec"] = spec.clone();
        service["spec"]["selector"] = json!({"app": "forestall"});
        service["spec"]["ports"] = json!([{"port": self.forestall.port}]);
        self.remove_service();
        self.cluster
            .must(&["create", "-f", "-"], &service.to_string());
    }

    fn remove_service(&self) {
        let delete = [
            "--namespace",
            NAMESPACE,
            "delete",
            "service",
            "forestall",
            "--ignore-not-found",
        ];
        self.cluster.must(&delete, "");
    }

    /// Registers both webhooks for a Service, with these fields on top.
    fn register(&self, name: &str, namespace: &str, fields: &Value) {
        let configuration = |kind: &str, verb: &str, seconds: u32| {
            let mut webhook = json!({
                "name": format!("{verb}.forestall.dev"),
                "clientConfig": {
                    "service": {"namespace": namespace, "name": "forestall", "path": format!("/{verb}"), "port": self.forestall.port},
                    "caBundle": BASE64.encode(fs::read(pki().path("ca.crt")).unwrap()),
                },
                "rules": rules(verb == "mutate"),
                "failurePolicy": "Ignore",
                "timeoutSeconds": seconds,
                "matchPolicy": "Equivalent",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "namespaceSelector": {"matchExpressions": [{
                    "key": "kubernetes.io/metadata.name", "operator": "NotIn",
                    "values": ["kube-system", NAMESPACE],
                }]},
            });
            json_patch::merge(&mut webhook, fields);
            json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
                   "metadata": {"name": name}, "webhooks": [webhook]})
        };
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [
            configuration("Mutating", "mutate", 2), configuration("Validating", "validate", 5)]});
        self.cluster.must(&["apply", "-f", "-"], &list.to_string());
    }

    fn doctor(&self, arguments: &[&str]) -> Diagnosis {
        let kubeconfig = self.front.kubeconfig.clone();
        Diagnosis::of(
            Command::new(env!("CARGO_BIN_EXE_forestall"))
                .args(["doctor", "-o", "json"])
                .args(arguments)
                .env("KUBECONFIG", kubeconfig),
        )
    }
}

/// A Pod as the chart makes it, as far as doctor looks at it.
fn pod() -> Value {
    let args = [
        "serve",
        "--config=/etc/forestall/config.yaml",
        "--tls-cert=/etc/forestall/tls/tls.crt",
    ];
    json!({"apiVersion": "v1", "kind": "Pod",
    "metadata": {"name": POD, "namespace": NAMESPACE, "labels": {"app": "forestall"}},
    "spec": {
        "nodeName": NODE, "containers": [{"name": "forestall", "image": "forestall:1", "args": args, "volumeMounts": [
            {"name": "config", "mountPath": "/etc/forestall"},
            {"name": "tls", "mountPath": "/etc/forestall/tls"}]}],
        "volumes": [{"name": "config", "configMap": {"name": "forestall"}},
                    {"name": "tls", "secret": {"secretName": "forestall-tls"}}],
    }})
}

// === impl Front ===

impl Front {
    fn start(cluster: &ControlPlane, forestall: &Forestall) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let client = runtime.block_on(cluster.client());
        let admin = forestall.admin();
        let writes: Arc<Mutex<Vec<String>>> = Arc::default();
        let written = Arc::clone(&writes);
        let pass = async move |request: Request| -> Response {
            let path = request.uri().to_string();
            if request.method() != Method::GET {
                let mut written = written.lock().unwrap();
                written.push(format!("{} {path}", request.method()));
            }
            let to_pod = format!("/api/v1/namespaces/{NAMESPACE}/pods/{POD}:8080/proxy/metrics");
            if path == to_pod {
                let url = format!("http://{admin}/metrics");
                return reqwest::get(url)
                    .await
                    .unwrap()
                    .text()
                    .await
                    .unwrap()
                    .into_response();
            }
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, 1 << 20).await.unwrap();
            let mut forwarded = axum::http::Request::builder()
                .method(parts.method)
                .uri(path);
            if let Some(kind) = parts.headers.get("content-type") {
                forwarded = forwarded.header("content-type", kind);
            }
            let forwarded = forwarded.body(kube::client::Body::from(body)).unwrap();
            let answer = client.send(forwarded).await.unwrap();
            let status: StatusCode = answer.status();
            let bytes = answer.into_body().collect().await.unwrap().to_bytes();
            (status, Body::from(bytes)).into_response()
        };
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(pass);
        runtime.spawn(async move { axum::serve(listener, router).await });
        let files = tempfile::tempdir().unwrap();
        let kubeconfig = files.path().join("kubeconfig");
        fs::write(
            &kubeconfig,
            kubeconfig_of(&format!("http://{address}"), &json!({})),
        )
        .unwrap();
        Self {
            kubeconfig,
            writes,
            _files: files,
            _runtime: runtime,
        }
    }
}

fn kubeconfig_of(server: &str, user: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "Config", "current-context": "test",
           "clusters": [{"name": "test", "cluster": {"server": server, "insecure-skip-tls-verify": true}}],
           "users": [{"name": "test", "user": user}],
           "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}]})
    .to_string()
}

// === impl Diagnosis ===

impl Diagnosis {
    fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let report: Value = serde_json::from_str(&stdout)
            .unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
        assert_eq!(report["schemaVersion"], 1);
        Self {
            status: output.status.code().unwrap(),
            checks: report["checks"].as_array().unwrap().clone(),
        }
    }

    /// The names of the checks that ended so.
    fn named(&self, result: &str) -> BTreeSet<&str> {
        let checks = self.checks.iter().filter(|check| check["result"] == result);
        checks
            .map(|check| check["name"].as_str().unwrap())
            .collect()
    }

    /// A check that ended so, with all of these words in message or cure.
    #[track_caller]
    fn shows(&self, name: &str, result: &str, words: &[&str]) -> String {
        let of = |check: &&Value| check["name"] == name && check["result"] == result;
        let texts = self.checks.iter().filter(of).map(|check| {
            let cure = check["cure"].as_str().unwrap_or_default();
            format!("{}\n{cure}", check["message"].as_str().unwrap())
        });
        let mut texts = texts.filter(|text| words.iter().all(|word| text.contains(word)));
        texts
            .next()
            .unwrap_or_else(|| panic!("no {name} {result} with {words:?}: {self:#?}"))
    }
}

#[test]
fn a_cluster_that_is_whole_is_found_so_and_left_as_it_is() {
    let (ward, _guard) = Ward::enter();
    let versions = || {
        let kinds = "pods,services,configmaps,secrets,namespaces,replicationcontrollers,daemonsets,deployments,\
                     mutatingwebhookconfigurations,validatingwebhookconfigurations,serviceaccounts";
        let line =
            "{range .items[*]}{.kind} {.metadata.name} {.metadata.resourceVersion}{'\\n'}{end}";
        let line = format!("jsonpath={}", line.replace('\'', "\""));
        ward.cluster
            .must(&["get", kinds, "--all-namespaces", "-o", &line], "")
    };
    let before = versions();
    ward.front.writes.lock().unwrap().clear();
    let diagnosis = ward.doctor(&[]);
    assert_eq!(diagnosis.status, 0, "{diagnosis:#?}");
    // An ExternalName Service has no endpoints, and nobody leads here yet.
    let unknown = BTreeSet::from(["service", "would-refuse"]);
    assert_eq!(diagnosis.named("unknown"), unknown, "{diagnosis:#?}");
    assert_eq!(
        diagnosis.named("warning"),
        BTreeSet::new(),
        "{diagnosis:#?}"
    );
    diagnosis.shows(
        "dry-run",
        "ok",
        &[
            "all 3",
            "ReplicationController in namespace default",
            "forestall-0 (3)",
        ],
    );
    diagnosis.shows(
        "certificate",
        "ok",
        &["secret/forestall-tls", "served by forestall-0"],
    );
    diagnosis.shows(
        "mode",
        "ok",
        &["audit where nothing else is said; missing-image: off"],
    );
    diagnosis.shows("timeouts", "ok", &["in default waits for 5 s"]);
    assert_eq!(versions(), before);
    let writes = ward.front.writes.lock().unwrap();
    let dry = "POST /api/v1/namespaces/default/replicationcontrollers?dryRun=All";
    assert_eq!(*writes, [dry; 3]);
}

#[test]
fn text_has_a_line_for_each_check() {
    let (ward, _guard) = Ward::enter();
    ward.remove_service();
    let mut command = Command::new(env!("CARGO_BIN_EXE_forestall"));
    let output: Output = run(
        command
            .arg("doctor")
            .env("KUBECONFIG", &ward.front.kubeconfig),
        "",
    );
    assert!(!output.success, "{output:?}");
    let text = output.stdout;
    assert!(
        text.contains("\nerror    service           Service forestall/forestall does not exist\n"),
        "{text}"
    );
    assert!(
        text.contains("\n                           cure: upgrade the chart"),
        "{text}"
    );
    assert!(
        text.lines().last().unwrap().starts_with("1 error, "),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_cluster_that_never_asks_is_told_so() {
    let (ward, _guard) = Ward::enter();
    let kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations";
    ward.cluster.must(&["delete", kinds, "--all"], "");
    let diagnosis = ward.doctor(&[]);
    assert_eq!(diagnosis.status, 1);
    diagnosis.shows(
        "registered",
        "error",
        &["never asks Forestall", "helm upgrade --install"],
    );
}

#[test]
fn a_service_without_a_pod_lets_everything_pass() {
    let (ward, _guard) = Ward::enter();
    ward.remove_service();
    let gone = ward.doctor(&[]);
    assert_eq!(gone.status, 1);
    gone.shows("service", "error", &["forestall/forestall does not exist"]);

    // The API server itself routes to no headless Service; the Pod behind it is ready all the same.
    ward.service(&json!({"clusterIP": "None"}));
    eventually("an endpoint", || {
        ward.doctor(&[]).named("ok").contains("service")
    });
    let unreachable = ward.doctor(&[]);
    assert_eq!(unreachable.status, 1);
    unreachable.shows("service", "ok", &["1 ready of 1 endpoints"]);
    unreachable.shows("dry-run", "error", &["none of 1 Pods was asked"]);

    let ready = |status: &str| {
        let patch =
            json!({"status": {"conditions": [{"type": "Ready", "status": status}]}}).to_string();
        let patch = [
            "--namespace",
            NAMESPACE,
            "patch",
            "pod",
            POD,
            "--subresource=status",
            "-p",
            &patch,
        ];
        ward.cluster.must(&patch, "");
    };
    ready("False");
    eventually("no ready endpoint", || {
        ward.doctor(&[]).named("error").contains("service")
    });
    let unready = ward.doctor(&[]);
    ready("True");
    unready.shows("service", "error", &["no ready endpoint (1 not ready)"]);
    unready.shows("pods", "warning", &["not ready: forestall-0"]);
}

#[test]
fn a_bundle_of_another_authority_is_found_out() {
    let (ward, _guard) = Ward::enter();
    let other = Pki::new(&["elsewhere.test"]);
    let bundle = BASE64.encode(fs::read(other.path("ca.crt")).unwrap());
    ward.register(
        "forestall",
        NAMESPACE,
        &json!({"clientConfig": {"caBundle": bundle}}),
    );
    // The API server uses the new bundle from a moment later on.
    eventually("the new bundle", || {
        ward.doctor(&[]).named("error").contains("dry-run")
    });
    let diagnosis = ward.doctor(&[]);
    diagnosis.shows(
        "certificate",
        "error",
        &["does not verify", "secret/forestall-tls"],
    );
    diagnosis.shows("dry-run", "error", &["none of 1 Pods"]);
}

#[test]
fn a_webhook_for_kube_system_is_told_by_what_it_can_do() {
    let (ward, _guard) = Ward::enter();
    let all = json!({"namespaceSelector": {"matchExpressions": null}});
    ward.register("forestall", NAMESPACE, &all);
    let diagnosis = ward.doctor(&[]);
    assert_eq!(diagnosis.status, 0, "{diagnosis:#?}");
    diagnosis.shows("exclusions", "warning", &["kube-system and forestall"]);
    let mut insisting = all;
    insisting["failurePolicy"] = json!("Fail");
    ward.register("forestall", NAMESPACE, &insisting);
    let diagnosis = ward.doctor(&[]);
    assert_eq!(diagnosis.status, 1);
    diagnosis.shows("exclusions", "error", &["cannot be written"]);
}

#[test]
fn the_line_that_is_given_frees_the_cluster() {
    let (ward, _guard) = Ward::enter();
    let blocking = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": "engine"}, "webhooks": [{
        "name": "deny.engine.test", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"namespace": "engine", "name": "gone"}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
    }]});
    ward.cluster
        .must(&["apply", "-f", "-"], &blocking.to_string());
    let write = ["create", "configmap", "probe", "--dry-run=server"];
    eventually("a blocked write", || {
        !ward.cluster.kubectl(&write, "").success
    });
    let diagnosis = ward.doctor(&[]);
    assert_eq!(diagnosis.status, 1);
    let text = diagnosis.shows(
        "other-webhooks",
        "error",
        &[
            "deny.engine.test",
            "engine/gone",
            "does not exist",
            "configmaps",
        ],
    );
    diagnosis.shows(
        "dependencies",
        "warning",
        &["configmaps in kube-system and forestall"],
    );
    let line = text.rsplit('`').nth(1).unwrap();
    let (words, patch) = line
        .strip_prefix("kubectl ")
        .unwrap()
        .split_once(" -p '")
        .unwrap();
    let mut arguments: Vec<_> = words.split(' ').collect();
    arguments.extend(["-p", patch.strip_suffix('\'').unwrap()]);
    ward.cluster.must(&arguments, "");
    eventually("a free cluster", || {
        ward.cluster.kubectl(&write, "").success
    });
    assert_eq!(ward.doctor(&[]).status, 0);
}

#[test]
fn two_installations_are_told_and_one_is_chosen() {
    let (ward, _guard) = Ward::enter();
    ward.register("second", "elsewhere", &json!({}));
    let diagnosis = ward.doctor(&["--namespace", NAMESPACE]);
    diagnosis.shows(
        "registered",
        "warning",
        &[
            "elsewhere/forestall, forestall/forestall",
            "about Service forestall/forestall",
        ],
    );
    assert_eq!(diagnosis.named("error"), BTreeSet::new(), "{diagnosis:#?}");
    let diagnosis = ward.doctor(&["--namespace", "elsewhere"]);
    diagnosis.shows("service", "error", &["elsewhere/forestall does not exist"]);
    let diagnosis = ward.doctor(&["--namespace", "nowhere"]);
    diagnosis.shows(
        "registered",
        "error",
        &["in namespace nowhere", "elsewhere/forestall"],
    );
}

#[test]
fn a_path_of_a_custom_resource_that_no_rule_reaches_is_named() {
    let (ward, _guard) = Ward::enter();
    define(&ward.cluster, &[WIDGET]);
    let in_map = |verb: &str, rest: &[&str]| {
        let words = ["--namespace", NAMESPACE, verb, "configmap", "forestall"];
        ward.cluster.must(&[&words, rest].concat(), "")
    };
    let configure = |config: &Value| {
        let patch = json!({"data": {"config.yaml": config}}).to_string();
        in_map("patch", &["--type=merge", "-p", &patch]);
    };
    let before = in_map("get", &["-o", "json"]);
    let before: Value = serde_json::from_str(&before).unwrap();
    let rules_with = json!({"missing-image": {"customResources": [widgets()]}});
    configure(&json!(
        json!({"mode": "audit", "rules": rules_with}).to_string()
    ));
    let unreached = ward.doctor(&[]);
    let mut all = rules(false);
    all.push(
        json!({"apiGroups": ["example.com"], "apiVersions": ["*"], "resources": ["widgets"],
                    "operations": ["CREATE", "UPDATE"], "scope": "Namespaced"}),
    );
    ward.register("forestall", NAMESPACE, &json!({"rules": all}));
    let reached = ward.doctor(&[]);
    configure(&before["data"]["config.yaml"]);

    assert_eq!(unreached.status, 0, "{unreached:#?}");
    unreached.shows(
        "custom-resources",
        "warning",
        &[
            "reaches widgets.example.com",
            "missing-image does not see its spec.image, spec.parts[*].image",
            "customResources",
        ],
    );
    reached.shows(
        "custom-resources",
        "ok",
        &[
            "the rules reach widgets.example.com\n",
            "not served here: 18 kinds that are built in",
        ],
    );
}

#[test]
fn what_the_user_may_not_read_is_unknown_and_names_the_right() {
    let (ward, _guard) = Ward::enter();
    let config = fs::read_to_string(ward.cluster.kubeconfig()).unwrap();
    let server = config
        .lines()
        .find_map(|line| line.trim().strip_prefix("server: "))
        .unwrap();
    let token = ward.cluster.must(
        &["--namespace", "default", "create", "token", "default"],
        "",
    );
    let files = tempfile::tempdir().unwrap();
    let kubeconfig = files.path().join("kubeconfig");
    fs::write(
        &kubeconfig,
        kubeconfig_of(server, &json!({"token": token.trim()})),
    )
    .unwrap();
    let doctor = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forestall"));
        Diagnosis::of(
            command
                .args(["doctor", "-o", "json"])
                .env("KUBECONFIG", &kubeconfig),
        )
    };
    let nothing = doctor();
    assert_eq!(nothing.status, 0, "{nothing:#?}");
    assert_eq!(nothing.named("error"), BTreeSet::new());
    nothing.shows(
        "registered",
        "unknown",
        &["cannot list resource \"validatingwebhookconfigurations\""],
    );

    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "looks"}, "rules": [
        {"apiGroups": ["admissionregistration.k8s.io"], "verbs": ["list"],
         "resources": ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"]},
        {"apiGroups": [""], "verbs": ["list", "get"], "resources": ["namespaces", "services", "pods"]},
    ]});
    ward.cluster.must(&["apply", "-f", "-"], &role.to_string());
    let bind = [
        "create",
        "clusterrolebinding",
        "looks",
        "--clusterrole=looks",
        "--serviceaccount=default:default",
    ];
    ward.cluster.must(&bind, "");
    eventually("the right to look", || {
        doctor().named("ok").contains("registered")
    });
    let some = doctor();
    assert_eq!(some.status, 0, "{some:#?}");
    some.shows("pods", "unknown", &["\"pods/proxy\""]);
    some.shows(
        "certificate",
        "unknown",
        &["cannot get resource \"secrets\""],
    );
    some.shows("mode", "unknown", &["cannot get resource \"configmaps\""]);
    some.shows("dry-run", "unknown", &["cannot create resource"]);
}
