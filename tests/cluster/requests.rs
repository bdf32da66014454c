//! What a real API server sends, and does with the answers.

use kube::api::ApiResource;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::control_plane::{Output, eventually};
use crate::registry_server::Registry;
use crate::site::{Reach, Scope, Site, deployment, pki, pod};

/// Everything that is judged here needs no registry.
const MEMORY: &str = "rules: {missing-image: {mode: off}}\n";
/// 512 bytes: no container starts under it, and the API server itself says nothing.
const BAD: &str = "512";
const GOOD: &str = "512Mi";

fn refused(output: &Output) -> bool {
    !output.success
        && output
            .stderr
            .contains("denied the request: forestall refuses")
}

fn silent(output: &Output) -> bool {
    output.success && output.stderr.is_empty()
}

/// A merge patch by kubectl.
fn patch(site: &Site, kind: &str, name: &str, rest: &[&str], patch: &Value) -> Output {
    let text = patch.to_string();
    let arguments = ["patch", kind, name, "--type", "strategic", "--patch", &text];
    site.kubectl(&[&arguments, rest].concat(), "")
}

fn template_memory(memory: &str) -> Value {
    let container = json!({"name": "app", "resources": {"limits": {"memory": memory}}});
    json!({"spec": {"template": {"spec": {"containers": [container]}}}})
}

#[test]
fn kubectl_shows_the_whole_refusal_through_a_service_and_through_a_url() {
    for reach in [Reach::Service, Reach::Url] {
        let site = Site::unregistered(MEMORY);
        site.register(reach, Scope::Catalogue);
        let output = site.apply(&deployment("web", BAD));
        assert!(!output.success);
        let namespace = &site.namespace;
        let expected = format!(
            "Error from server (Forbidden): error when creating \"STDIN\": admission webhook \
             \"validate.forestall.dev\" denied the request: forestall refuses Deployment \
             {namespace}/web"
        );
        assert!(
            output.stderr.starts_with(&expected),
            "{reach:?}: {}",
            output.stderr
        );
        for part in [
            "\nimpossible-memory-limit: ",
            "\n  at spec.template.spec.containers[0].resources.limits.memory\n",
            "512Mi",
            "\nto accept it for a time, annotate forestall.dev/allow",
        ] {
            assert!(
                output.stderr.contains(part),
                "{part:?} is not in {}",
                output.stderr
            );
        }
        assert!(silent(&site.apply(&deployment("web", GOOD))));
    }
}

#[test]
fn the_audit_log_says_what_was_decided_and_why() {
    let site = Site::new(MEMORY);
    site.apply(&deployment("web", BAD));
    let of = |annotations: &Value, key: &str| {
        annotations[format!("validate.forestall.dev/{key}")].clone()
    };
    eventually("the audit event", || {
        site.audit_annotations("create").iter().any(|annotations| {
            of(annotations, "decision") == "refuse"
                && of(annotations, "rules") == "impossible-memory-limit"
        })
    });
    let failed_open = |annotations: &Value| annotations.to_string().contains("failed-open");
    assert!(!site.audit_annotations("create").iter().any(failed_open));
}

#[test]
fn case_46_a_pod_without_a_name_is_judged() {
    let site = Site::new(MEMORY);
    let nameless = |memory| {
        let mut pod = pod("unused", memory);
        pod["metadata"] = json!({"generateName": "batch-"});
        site.kubectl(&["create", "-f", "-"], &pod.to_string())
    };
    let output = nameless(BAD);
    assert!(refused(&output), "{}", output.stderr);
    assert!(
        output
            .stderr
            .contains(&format!("Pod {}/batch-", site.namespace)),
        "{}",
        output.stderr
    );
    assert!(silent(&nameless(GOOD)));
}

#[test]
fn case_47_and_48_what_runs_already_is_scaled_moved_and_deleted_however_bad_it_is() {
    let site = Site::unregistered(MEMORY);
    assert!(site.apply(&deployment("old", BAD)).success);
    let pods = || {
        let names = site.must(&["get", "pods", "-o", "name"], "").stdout;
        names
            .lines()
            .map(|name| name["pod/".len()..].to_owned())
            .collect::<Vec<_>>()
    };
    eventually("a Pod", || pods().len() == 1);
    site.register(Reach::Service, Scope::Everything);

    // The controllers act through the same webhook: a ReplicaSet is changed, a Pod is made.
    site.must(&["scale", "deployment", "old", "--replicas", "2"], "");
    eventually("a second Pod", || pods().len() == 2);
    let status = json!({"status": {"conditions": [
        {"type": "Told", "status": "True", "reason": "test", "message": "by hand"}]}});
    let output = patch(
        &site,
        "deployment",
        "old",
        &["--subresource", "status"],
        &status,
    );
    assert!(silent(&output), "{}", output.stderr);
    site.must(&["label", "deployment", "old", "team=a"], "");
    site.must(&["create", "token", "default"], "");

    let path =
        |pod: &str, part: &str| format!("/api/v1/namespaces/{}/pods/{pod}/{part}", site.namespace);
    let [first, second] = pods().try_into().unwrap();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": first},
                         "target": {"apiVersion": "v1", "kind": "Node", "name": "nowhere"}});
    site.must(
        &["create", "--raw", &path(&first, "binding"), "-f", "-"],
        &binding.to_string(),
    );
    let output = site.kubectl(&["exec", &first, "--", "true"], "");
    assert!(!output.stderr.contains("webhook"), "{}", output.stderr);
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": second}});
    site.must(
        &["create", "--raw", &path(&second, "eviction"), "-f", "-"],
        &eviction.to_string(),
    );
    eventually("the Pod in place of the evicted one", || {
        let pods = pods();
        pods.len() == 2 && !pods.contains(&second)
    });

    // One review for each object, and none has a name.
    site.must(
        &["delete", "pods", "--all", "--grace-period", "0", "--force"],
        "",
    );
    site.must(&["delete", "deployments", "--all"], "");
    let metrics = site.forestall.metrics();
    for operation in ["CREATE", "UPDATE", "DELETE", "CONNECT"] {
        assert!(
            metrics.contains(&format!("operation=\"{operation}\"")),
            "{metrics}"
        );
    }
}

#[test]
fn case_49_a_resize_is_judged() {
    let site = Site::new(MEMORY);
    assert!(silent(&site.apply(&pod("app", GOOD))));
    let memory = |memory| {
        json!({"spec": {"containers": [
        {"name": "app", "resources": {"limits": {"memory": memory}, "requests": {"memory": memory}}}]}})
    };
    let resize = ["--subresource", "resize"];
    let output = patch(&site, "pod", "app", &resize, &memory("2Mi"));
    assert!(refused(&output), "{}", output.stderr);
    let output = patch(&site, "pod", "app", &resize, &memory("1Gi"));
    assert!(silent(&output), "{}", output.stderr);
}

#[test]
fn case_49_and_registry_case_102_an_ephemeral_container_is_judged_by_its_image() {
    let registry = Registry::start(&["team/debug:1.2", "team/app:1"]);
    let server = registry.server();
    let site = Site::new(&format!(
        "registries: {{docker.io: {{server: {server:?}}}}}\n"
    ));
    let mut app = pod("app", GOOD);
    app["spec"]["containers"][0]["image"] = json!("team/app:1");
    let output = site.apply(&app);
    assert!(silent(&output), "{}", output.stderr);
    let debug = |image: &str| {
        let container = json!({"name": "debug", "image": image});
        let part = ["--subresource", "ephemeralcontainers"];
        patch(
            &site,
            "pod",
            "app",
            &part,
            &json!({"spec": {"ephemeralContainers": [container]}}),
        )
    };
    let output = debug("team/debug:1.3");
    assert!(
        refused(&output) && output.stderr.contains("1.2"),
        "{}",
        output.stderr
    );
    let output = debug("team/debug:1.2");
    assert!(silent(&output), "{}", output.stderr);
}

#[test]
fn case_50_a_sidecar_is_judged_as_a_container() {
    let site = Site::new(MEMORY);
    let mut pod = pod("app", GOOD);
    pod["spec"]["initContainers"] = json!([{
        "name": "proxy", "image": "proxy:1", "restartPolicy": "Always",
        "resources": {"limits": {"memory": BAD}},
    }]);
    let output = site.apply(&pod);
    assert!(refused(&output), "{}", output.stderr);
    let place = "at spec.initContainers[0].resources.limits.memory";
    assert!(output.stderr.contains(place), "{}", output.stderr);
}

#[test]
fn case_51_the_mirror_of_a_static_pod_is_left_alone() {
    let site = Site::unregistered(MEMORY);
    site.register(Reach::Service, Scope::Everything);
    let mut mirror = pod("static-node", BAD);
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "1"});
    mirror["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Node", "name": "node", "uid": "1", "controller": true}]);
    mirror["spec"]["nodeName"] = json!("node");
    let output = site.kubectl(&["create", "-f", "-"], &mirror.to_string());
    assert!(output.success, "{}", output.stderr);
    let stored = site.stored("pod", "static-node");
    assert_eq!(
        stored["spec"]["containers"][0]["resources"]["limits"]["memory"],
        BAD
    );
}

#[test]
fn case_52_what_is_being_deleted_is_judged_and_let_go() {
    let site = Site::new(MEMORY);
    let mut object = deployment("web", GOOD);
    object["metadata"]["finalizers"] = json!(["forestall.test/wait"]);
    assert!(silent(&site.apply(&object)));
    site.must(&["delete", "deployment", "web", "--wait=false"], "");
    let output = patch(&site, "deployment", "web", &[], &template_memory(BAD));
    assert!(refused(&output), "{}", output.stderr);
    let output = patch(
        &site,
        "deployment",
        "web",
        &[],
        &json!({"metadata": {"finalizers": null}}),
    );
    assert!(output.success, "{}", output.stderr);
    eventually("its end", || {
        !site.kubectl(&["get", "deployment", "web"], "").success
    });
}

#[test]
fn case_53_and_54_only_a_new_mistake_is_refused() {
    let site = Site::unregistered(MEMORY);
    assert!(site.apply(&deployment("old", BAD)).success);
    site.register(Reach::Service, Scope::Catalogue);

    // 53: nothing changes. A server-side apply asks even so.
    assert!(silent(&site.apply(&deployment("old", BAD))));
    let again = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    let output = site.kubectl(&again, &deployment("old", BAD).to_string());
    assert!(silent(&output), "{}", output.stderr);
    assert!(silent(
        &site.kubectl(&["annotate", "deployment", "old", "team=a"], "")
    ));
    // 54: something else changes; the old mistake is told, not punished.
    let output = patch(
        &site,
        "deployment",
        "old",
        &[],
        &json!({"spec": {"minReadySeconds": 5}}),
    );
    assert!(output.success, "{}", output.stderr);
    assert!(
        output.stderr.contains("Warning: impossible-memory-limit"),
        "{}",
        output.stderr
    );
    // A step towards repair is one, even where it does not arrive.
    let output = patch(&site, "deployment", "old", &[], &template_memory("1Mi"));
    assert!(output.success, "{}", output.stderr);
    // A new mistake beside it is new.
    let beside = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "other", "image": "other:1", "resources": {"limits": {"memory": BAD}}}]}}}});
    let output = patch(&site, "deployment", "old", &[], &beside);
    assert!(refused(&output), "{}", output.stderr);
    let output = patch(&site, "deployment", "old", &[], &template_memory(GOOD));
    assert!(silent(&output), "{}", output.stderr);
}

#[test]
fn case_55_a_kind_of_the_same_name_in_another_group_is_none_of_our_business() {
    let site = Site::unregistered(MEMORY);
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "deployments.requests.forestall.test"},
        "spec": {"group": "requests.forestall.test", "scope": "Namespaced",
            "names": {"plural": "deployments", "kind": "Deployment"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]},
    });
    site.cluster
        .must(&["apply", "-f", "-"], &definition.to_string());
    let name = "crd/deployments.requests.forestall.test";
    site.cluster
        .must(&["wait", "--for=condition=Established", name], "");
    site.register(Reach::Service, Scope::Everything);
    let mut object = deployment("web", BAD);
    object["apiVersion"] = json!("requests.forestall.test/v1");
    let output = site.apply(&object);
    assert!(silent(&output), "{}", output.stderr);
}

#[test]
fn case_57_a_quantity_means_what_the_api_server_takes_it_for() {
    let site = Site::new(MEMORY);
    let create = |memory: Value| {
        let mut pod = pod("app", GOOD);
        pod["spec"]["containers"][0]["resources"]["limits"]["memory"] = memory;
        site.kubectl(&["create", "--dry-run=server", "-f", "-"], &pod.to_string())
    };
    for fine in [
        json!("512Mi"),
        json!("0.5Gi"),
        json!("536870912"),
        json!(536_870_912),
        json!("1e9"),
        json!("512M"),
        json!("128974848000m"),
        json!("4Mi"),
    ] {
        let output = create(fine.clone());
        assert!(
            output.success && !output.stderr.contains("impossible"),
            "{fine}: {}",
            output.stderr
        );
    }
    for bad in [
        json!("512"),
        json!("512m"),
        json!(512),
        json!("1e3"),
        json!("0.5"),
        json!("4095Ki"),
    ] {
        let output = create(bad.clone());
        assert!(refused(&output), "{bad}: {}", output.stderr);
    }
    // The API server's own refusals stay its own.
    for invalid in [
        json!("-1"),
        json!(""),
        json!("1Ki5"),
        json!("1 Gi"),
        json!({}),
        json!([]),
    ] {
        let output = create(invalid.clone());
        assert!(!output.success, "{invalid}");
        assert!(
            !output.stderr.contains("webhook"),
            "{invalid}: {}",
            output.stderr
        );
    }
}

#[test]
fn case_58_and_59_odd_images_and_missing_config_maps_pass_where_nothing_is_known_of_them() {
    let site = Site::unregistered(MEMORY);
    site.register(Reach::Service, Scope::Everything);
    let digest = "0".repeat(64);
    let long = "a".repeat(300);
    for image in [
        "a",
        "a:443/b",
        &format!("a/b@sha256:{digest}"),
        &format!("a:tag@sha256:{digest}"),
        "A/B",
        &long,
        "[::1]:5000/x",
        "münchen.example/x",
        "169.254.169.254/x",
        "kubernetes.default.svc/x",
        "a:",
    ] {
        let mut pod = pod("app", GOOD);
        pod["spec"]["containers"][0]["image"] = json!(image);
        pod["spec"]["containers"][0]["envFrom"] = json!([
            {"configMapRef": {"name": "missing"}},
            {"configMapRef": {"name": "missing", "optional": true}}]);
        let output = site.kubectl(&["create", "--dry-run=server", "-f", "-"], &pod.to_string());
        assert!(output.success, "{image}: {}", output.stderr);
    }
}

/// Asks the webhook as no API server does.
async fn ask(site: &Site, path: &str, namespace: &str, object: &Value) -> Value {
    let api_version = object["apiVersion"].as_str().unwrap();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "1", "operation": "CREATE", "namespace": namespace, "name": object["metadata"]["name"],
        "kind": {"group": group, "version": version, "kind": object["kind"]},
        "resource": {"group": group, "version": version, "resource": "any"},
        "object": object, "oldObject": null, "dryRun": false,
        "userInfo": {"username": "test"}, "options": null,
    }});
    let ca = std::fs::read(pki().path("ca.crt")).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()])
        .build()
        .unwrap();
    let url = format!("https://localhost:{}{path}", site.forestall.port);
    let answer = client.post(url).json(&review).send().await.unwrap();
    answer.json::<Value>().await.unwrap()["response"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn case_78_a_namespace_that_the_cache_lacks_has_the_default_mode_and_is_counted() {
    let site = Site::unregistered(MEMORY);
    let answer = ask(&site, "/validate", "nowhere", &pod("app", BAD)).await;
    assert_eq!(answer["allowed"], false, "{answer}");
    let metrics = site.forestall.metrics();
    assert!(
        metrics.contains("forestall_unknown_namespaces_total 1\n"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn case_60_to_62_versions_and_shapes_that_no_guardrail_knows_pass_unchanged() {
    let site = Site::unregistered(MEMORY);
    let conversion = |client: Value| {
        json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"conversion": {"strategy": "Webhook", "webhook":
            {"conversionReviewVersions": ["v1"], "clientConfig": client}}}})
    };
    let secret = |version: &str, spec: Value| {
        json!({
        "apiVersion": format!("external-secrets.io/{version}"), "kind": "ExternalSecret",
        "metadata": {"name": "a"}, "spec": spec})
    };
    let objects = [
        conversion(json!({"service": {"namespace": "gone", "name": "gone"}})),
        conversion(json!({"url": "https://127.0.0.1:1/convert"})),
        secret("v1alpha1", json!({"target": {}})),
        secret(
            "v1beta1",
            json!({"target": {"template": {"templateFrom": [{"secret": null}]}}}),
        ),
        secret(
            "v1",
            json!({"data": [{"secretKey": "a", "remoteRef": null}]}),
        ),
        json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": "a"},
               "spec": {"sources": [{"repoURL": "a"}], "ignoreDifferences": [{"kind": "ExternalSecret",
                   "group": "external-secrets.io", "jsonPointers": ["/spec/data", "/spec"]}]}}),
    ];
    for object in &objects {
        for path in ["/mutate", "/validate"] {
            let answer = ask(&site, path, &site.namespace, object).await;
            assert_eq!(answer["allowed"], true, "{object}: {answer}");
            assert_eq!(answer.get("patch"), None, "{object}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_79_a_review_sees_one_mode_however_the_label_flips() {
    let site = Site::new(MEMORY);
    let label = |mode: &str| {
        let label = format!("forestall.dev/mode={mode}");
        let arguments = ["label", "--overwrite", "namespace", &site.namespace, &label];
        site.cluster.must(&arguments, "");
    };
    let create = || {
        site.kubectl(
            &["create", "--dry-run=server", "-f", "-"],
            &pod("app", BAD).to_string(),
        )
    };
    for (mode, expected) in [
        ("audit", silent as fn(&Output) -> bool),
        ("warn", |output| {
            output.success && output.stderr.contains("Warning: impossible-memory-limit")
        }),
        ("off", silent),
        ("enforce", refused),
    ] {
        label(mode);
        eventually(mode, || expected(&create()));
    }

    let gvk = GroupVersionKind::gvk("", "v1", "Pod");
    let resource = ApiResource::from_gvk(&gvk);
    let client = site.cluster.client().await;
    let pods: Api<DynamicObject> = Api::namespaced_with(client, &site.namespace, &resource);
    let bad: DynamicObject = serde_json::from_value(pod("app", BAD)).unwrap();
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let (mut admitted, mut denied) = (0, 0);
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let flips =
                scope.spawn(|| (0..10).for_each(|turn| label(["audit", "enforce"][turn % 2])));
            while !flips.is_finished() {
                let created = pods.create(&dry_run, &bad);
                match tokio::runtime::Handle::current().block_on(created) {
                    Ok(_) => admitted += 1,
                    Err(kube::Error::Api(status)) => {
                        assert_eq!(status.code, 403, "{status:?}");
                        assert!(
                            status.message.contains("forestall refuses Pod"),
                            "{status:?}"
                        );
                        denied += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
    });
    assert!(
        admitted > 0 && denied > 0,
        "{admitted} admitted, {denied} denied"
    );
}
