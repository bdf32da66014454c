//! The pull secrets of workloads, read from a real API server and shown to a real registry.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use forestall::config::Config;
use forestall::evidence::{PullSecret, PullSecretState, PullSecretsOf, Puller, Questions, Unknown};
use forestall::lookup::Lookup as _;
use forestall::lookup::cluster::ClusterView;
use forestall::lookup::live::Live;
use forestall::report::metrics::Metrics;
use forestall::review::Door;
use kube::Client;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::control_plane::{ControlPlane, Output};
use crate::registry_server::Registry;
use crate::site::Site;

/// A registry that lets in the robot only, and a namespace that may be judged with its password.
fn private() -> (Site, Registry) {
    let guarded = [
        "--auth",
        "basic",
        "--user",
        "robot",
        "--password",
        "hunter2",
    ];
    let registry = Registry::with(&guarded, &["shop/web:1.0.0", "shop/web:1.1.0"]);
    let site = Site::new(&format!(
        "rules: {{missing-image: {{pullSecrets: true}}}}\n\
         registries: {{registry.test: {{server: \"{}\"}}}}",
        registry.server()
    ));
    (site, registry)
}

fn create_pull_secret(cluster: &ControlPlane, namespace: &str, name: &str) {
    cluster.must(
        &[
            "--namespace",
            namespace,
            "create",
            "secret",
            "docker-registry",
            name,
            "--docker-server=registry.test",
            "--docker-username=robot",
            "--docker-password=hunter2",
        ],
        "",
    );
}

/// A Secret of this type with one key.
fn secret(name: &str, kind: &str, key: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind,
           "data": {key: BASE64_STANDARD.encode(value)}})
}

fn deployment(image: &str, account: &str, secrets: &[&str]) -> Value {
    let secrets: Vec<Value> = secrets.iter().map(|name| json!({"name": name})).collect();
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
            "serviceAccountName": account,
            "imagePullSecrets": secrets,
            "containers": [{"name": "web", "image": format!("registry.test/{image}")}],
        }},
    }})
}

fn create(site: &Site, object: &Value) -> Output {
    site.kubectl(
        &["create", "--dry-run=server", "-f", "-"],
        &object.to_string(),
    )
}

fn admitted(output: &Output, warnings: &[&str]) {
    assert!(output.success, "{}", output.stderr);
    let seen = output.stderr.matches("Warning:").count();
    assert_eq!(seen, warnings.len(), "{}", output.stderr);
    for warning in warnings {
        assert!(
            output.stderr.contains(warning),
            "{warning:?} is not in {}",
            output.stderr
        );
    }
}

fn refused(output: &Output, parts: &[&str]) {
    assert!(!output.success, "admitted: {}", output.stderr);
    for part in parts {
        assert!(
            output.stderr.contains(part),
            "{part:?} is not in {}",
            output.stderr
        );
    }
}

#[test]
fn registry_case_39_a_pull_secret_of_the_workload_shows_what_is_missing() {
    let (site, _registry) = private();
    create_pull_secret(site.cluster, &site.namespace, "regcred");
    admitted(
        &create(
            &site,
            &deployment("shop/web:1.0.0", "default", &["regcred"]),
        ),
        &[],
    );
    let as_whom = format!("as pull secret {}/regcred)", site.namespace);
    refused(
        &create(
            &site,
            &deployment("shop/web:1.2.0", "default", &["regcred"]),
        ),
        &[
            "web: registry.test has no tag 1.2.0 in registry.test/shop/web",
            "nearest: 1.1.0",
            &as_whom,
        ],
    );
    // Without it, nobody knows, and what nobody knows refuses nothing.
    admitted(
        &create(&site, &deployment("shop/web:1.2.0", "default", &[])),
        &["answered 401"],
    );
    let log = site.forestall.log() + &site.forestall.metrics();
    assert!(!log.contains("hunter2"));
}

#[test]
fn registry_case_51_those_of_the_service_account_count_only_where_the_pod_names_none() {
    let (site, _registry) = private();
    create_pull_secret(site.cluster, &site.namespace, "regcred");
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"},
                         "imagePullSecrets": [{"name": "regcred"}]});
    site.must(&["create", "-f", "-"], &account.to_string());
    refused(
        &create(&site, &deployment("shop/web:1.2.0", "web", &[])),
        &["has no tag 1.2.0", "/regcred)"],
    );
    let other = secret(
        "other",
        "kubernetes.io/dockerconfigjson",
        ".dockerconfigjson",
        "{\"auths\":{}}",
    );
    site.must(&["create", "-f", "-"], &other.to_string());
    admitted(
        &create(&site, &deployment("shop/web:1.2.0", "web", &["other"])),
        &["answered 401"],
    );
}

#[test]
fn registry_case_52_what_kubelet_fails_over_is_refused_and_what_it_ignores_is_said() {
    let (site, _registry) = private();
    let json = "kubernetes.io/dockerconfigjson";
    let broken = r#"{"auths":{"elsewhere.test":{"auth":"%"}}}"#;
    for secret in [
        secret("broken", json, ".dockerconfigjson", broken),
        secret("opaque", "Opaque", ".dockerconfigjson", "{}"),
    ] {
        site.must(&["create", "-f", "-"], &secret.to_string());
    }
    create_pull_secret(site.cluster, &site.namespace, "regcred");
    let image = "shop/web:1.0.0";
    let both = &deployment(image, "default", &["regcred", "broken"]);
    refused(
        &create(&site, both),
        &[
            "pull secret broken is malformed: an \"auth\" in it is not the base64 of USERNAME:PASSWORD",
        ],
    );
    admitted(
        &create(&site, &deployment(image, "default", &["opaque", "regcred"])),
        &["pull secret opaque has the type \"Opaque\""],
    );
    admitted(
        &create(&site, &deployment(image, "default", &["absent", "regcred"])),
        &["pull secret absent does not exist in namespace"],
    );
    // Repaired, it is soon seen.
    let fixed = secret("broken", json, ".dockerconfigjson", "{\"auths\":{}}");
    site.must(&["replace", "-f", "-"], &fixed.to_string());
    crate::control_plane::eventually("the repaired pull secret", || create(&site, both).success);
}

async fn pull_secrets(client: Client, puller: &Puller) -> Result<Vec<PullSecret>, Unknown> {
    let (view, listed) =
        ClusterView::start(client, Arc::new(Metrics::default()), &Config::default());
    listed.await;
    let live = Live {
        registry: None,
        cluster: Some(view),
        argocd_version: None,
    };
    let question = PullSecretsOf(puller.clone());
    let mut asked = Questions::default();
    asked.ask(&question);
    let by = Instant::now() + Duration::from_secs(20);
    let evidence = live.gather(asked, Door::Admission, by).await;
    evidence.get(&question).cloned()
}

fn puller(namespace: &str, named: &[&str]) -> Puller {
    Puller {
        namespace: namespace.to_owned(),
        service_account: "default".to_owned(),
        named: named.iter().map(ToString::to_string).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_leads_to_no_other_namespace() {
    let cluster = ControlPlane::shared();
    let (own, other) = (cluster.namespace(), cluster.namespace());
    create_pull_secret(cluster, &other, "regcred");
    let names = [
        format!("../../{other}/secrets/regcred"),
        "regcred".to_owned(),
        String::new(),
    ];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = pull_secrets(cluster.client().await, &puller(&own, &names))
        .await
        .unwrap();
    // An empty name is none to kubelet.
    let states: Vec<_> = found.into_iter().map(|secret| secret.state).collect();
    assert_eq!(states, [PullSecretState::Absent, PullSecretState::Absent]);
    let read = pull_secrets(cluster.client().await, &puller(&other, &["regcred"])).await;
    assert_eq!(read.unwrap()[0].state, PullSecretState::Usable);
    let nowhere = pull_secrets(cluster.client().await, &puller("", &["regcred"])).await;
    assert!(
        matches!(nowhere, Err(Unknown::Unavailable(_))),
        "{nowhere:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_is_unknown_and_says_what_to_grant() {
    let cluster = ControlPlane::shared();
    let namespace = cluster.namespace();
    create_pull_secret(cluster, &namespace, "regcred");
    let mut config = cluster.config().await;
    config.auth_info.impersonate = Some("system:serviceaccount:nowhere:nobody".to_owned());
    let client = Client::try_from(config).unwrap();
    let unknown = pull_secrets(client, &puller(&namespace, &["regcred"]))
        .await
        .unwrap_err();
    assert_eq!(
        unknown.to_string(),
        format!("Forestall may not read Secret {namespace}/regcred; grant it get there")
    );
}
