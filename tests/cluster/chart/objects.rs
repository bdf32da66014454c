//! What is rendered: taken by the real API server, and every value in its place.

use std::fs;
use std::process::Command;

use forestall::config::{Config, Mode};
use forestall::manifest;
use serde_json::{Value, json};

use super::committed::described;
use super::{CASES, case, objects, of_kind, rendered, template, the, values, with};
use crate::control_plane::{ControlPlane, run};

/// Kinds of others that the chart makes objects of: group, kind, plural.
const FOREIGN: [(&str, &str, &str); 4] = [
    ("cert-manager.io", "Certificate", "certificates"),
    ("cert-manager.io", "Issuer", "issuers"),
    ("monitoring.coreos.com", "ServiceMonitor", "servicemonitors"),
    ("monitoring.coreos.com", "PrometheusRule", "prometheusrules"),
];

/// Definitions that know the names of these kinds, and nothing of their fields.
fn definitions() -> String {
    let definition = |(group, kind, plural): (&str, &str, &str)| {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                    {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
            },
        })
    };
    json!({"apiVersion": "v1", "kind": "List", "items": FOREIGN.map(definition)}).to_string()
}

#[test]
fn the_api_server_takes_every_object() {
    let cluster = ControlPlane::shared();
    cluster.must(&["apply", "-f", "-"], &definitions());
    let established = [
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "crd",
    ];
    let names = FOREIGN.map(|(group, _, plural)| format!("{plural}.{group}"));
    let names = names.each_ref().map(String::as_str);
    cluster.must(&[&established[..], &names].concat(), "");
    for name in CASES {
        let namespace = cluster.namespace();
        let values = values(name);
        let text = rendered(&[
            "--namespace",
            &namespace,
            "--values",
            values.to_str().unwrap(),
            "--set",
            &format!("namespaceOverride={namespace}"),
            // They are in a namespace that they name themselves.
            "--set-json",
            "extraObjects=[]",
        ]);
        // A Pod is taken only where its account is.
        for account in objects(&text)
            .iter()
            .filter(|object| object["kind"] == "ServiceAccount")
        {
            cluster.must(&["apply", "-f", "-"], &account.to_string());
        }
        let output = cluster.must(
            &["apply", "--dry-run=server", "--validate=strict", "-f", "-"],
            &text,
        );
        let taken = output.lines().count();
        assert_eq!(taken, objects(&text).len(), "{name}: {output}");
    }
}

/// By the API server's own admission of Pods, which is what a namespace with that label enforces.
#[test]
fn its_pods_keep_to_the_restricted_standard() {
    let cluster = ControlPlane::shared();
    let namespace = cluster.namespace();
    let label = "pod-security.kubernetes.io/enforce=restricted";
    cluster.must(&["label", "namespace", &namespace, label], "");
    let create = |mut spec: Value| {
        spec["serviceAccountName"] = json!("default");
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec});
        let arguments = [
            "--namespace",
            &namespace,
            "create",
            "--dry-run=server",
            "-f",
            "-",
        ];
        cluster.kubectl(&arguments, &pod.to_string())
    };
    let objects = case("default");
    let serving = the(&objects, "Deployment")["spec"]["template"]["spec"].clone();
    let testing = objects.iter().find(|object| object["kind"] == "Pod");
    for spec in [serving.clone(), testing.unwrap()["spec"].clone()] {
        let output = create(spec);
        assert!(output.success, "{}", output.stderr);
    }
    let mut loose = serving;
    loose["containers"][0]["securityContext"]["capabilities"] = json!({});
    let output = create(loose);
    assert!(
        !output.success && output.stderr.contains("restricted"),
        "{output:?}"
    );
}

#[test]
fn the_program_takes_the_arguments_that_it_is_given() {
    for name in CASES {
        let objects = case(name);
        let template = &the(&objects, "Deployment")["spec"]["template"];
        let tests = objects.iter().filter(|object| object["kind"] == "Pod");
        for pod in tests.chain([template]) {
            let container = &pod["spec"]["containers"][0];
            let arguments = container["args"].as_array().unwrap().iter();
            // As the kubelet fills them in.
            let arguments = arguments.map(|argument| {
                let argument = argument.as_str().unwrap();
                let argument = argument.replace("$(POD_NAMESPACE)", "forestall");
                argument.replace("$(MEMORY_LIMIT)", "268435456")
            });
            // Arguments before --help are read all the same.
            let mut forestall = Command::new(env!("CARGO_BIN_EXE_forestall"));
            let output = run(forestall.args(arguments).arg("--help"), "");
            assert!(output.success, "{name}: {}", output.stderr);
        }
    }
}

#[test]
fn replicas_may_ask_each_other_which_certificate_they_serve() {
    let policy = |more: &[&str]| {
        let api_servers = "networkPolicy.webhookFrom[0].ipBlock.cidr=10.0.0.0/16";
        let settings = [&["networkPolicy.enabled=true", api_servers], more].concat();
        let all = with(&settings);
        let labels = &the(&all, "Deployment")["spec"]["selector"]["matchLabels"];
        let replicas = json!({"podSelector": {"matchLabels": labels}});
        (the(&all, "NetworkPolicy")["spec"].clone(), replicas)
    };
    let (own, replicas) = policy(&[]);
    let ports = json!([{"port": 9443, "protocol": "TCP"}]);
    let asked = &own["ingress"][0];
    assert_eq!(asked["ports"], ports);
    assert_eq!(asked["from"][1], replicas);
    let asks = json!({"ports": ports, "to": [replicas]});
    assert!(own["egress"].as_array().unwrap().contains(&asks), "{own}");
    // cert-manager does not ask.
    let (other, _) = policy(&["certManager.enabled=true"]);
    assert!(
        !other["egress"].as_array().unwrap().contains(&asks),
        "{other}"
    );
    assert_eq!(other["ingress"][0]["from"].as_array().unwrap().len(), 1);
}

#[test]
fn forestall_has_nothing_against_its_own_chart() {
    for name in CASES {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rendered.yaml");
        fs::write(
            &file,
            rendered(&["--values", values(name).to_str().unwrap()]),
        )
        .unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_forestall"));
        check
            .args(["check", "--offline", "-o", "json", "-f"])
            .arg(file);
        let output = run(&mut check, "");
        assert!(output.success, "{name}: {output:?}");
        let report: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(report["findings"], json!([]), "{name}");
        assert_eq!(report["errors"], json!([]), "{name}");
    }
}

/// The text that the Pods read.
fn configuration(objects: &[Value]) -> &str {
    let maps = of_kind(objects, "ConfigMap");
    let mut texts = maps
        .iter()
        .filter_map(|map| map["data"]["config.yaml"].as_str());
    texts.next().unwrap()
}

#[test]
fn the_configuration_arrives_as_it_was_written() {
    let keys = [
        "mode",
        "rules",
        "namespaces",
        "exemptions",
        "registries",
        "imageRewrites",
        "hostsDirectory",
        "registryCredentials",
        "credentialProviders",
        "argocd",
    ];
    for name in CASES {
        let objects = case(name);
        let text = configuration(&objects);
        let arrived = Config::parse("config.yaml", text).unwrap();
        let written = fs::read(values(name)).unwrap();
        let (documents, _) = manifest::read("values.yaml", &written);
        let mut written = documents[0].object.root().to_value();
        let excluded = written["excludeNamespaces"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        // What is never asked about is not judged by the leader either.
        let own = of_kind(&objects, "Deployment")[0]["metadata"]["namespace"].clone();
        let always = [json!("kube-system"), json!("kube-node-lease"), own];
        for namespace in always.into_iter().chain(excluded) {
            let entry = &mut written["namespaces"][namespace.as_str().unwrap()];
            if entry.is_null() {
                *entry = json!({"mode": "off"});
            }
        }
        written
            .as_object_mut()
            .unwrap()
            .retain(|key, _| keys.contains(&key.as_str()));
        if written.get("mode").is_none() {
            written["mode"] = json!("audit");
        }
        let written = Config::parse("values.yaml", &written.to_string()).unwrap();
        assert_eq!(arrived, written, "{name}");
    }
    for (setting, mode) in [
        ("mode=off", Mode::Off),
        ("mode=false", Mode::Off),
        ("mode=audit", Mode::Audit),
        ("mode=warn", Mode::Warn),
        ("mode=enforce", Mode::Enforce),
    ] {
        let objects = with(&[setting]);
        let text = configuration(&objects);
        let config = Config::parse("config.yaml", text).unwrap();
        assert_eq!(config.mode, Some(mode), "{setting}");
    }
}

#[test]
fn every_value_changes_something() {
    let written = |name: &str| {
        let (documents, _) = manifest::read("values.yaml", &fs::read(values(name)).unwrap());
        documents[0].object.root().to_value()
    };
    let cases = CASES.map(|name| {
        let text = rendered(&["--values", values(name).to_str().unwrap()]);
        (written(name), text)
    });
    let folder = tempfile::tempdir().unwrap();
    for value in described() {
        let (parent, key) = value.name.rsplit_once('.').unwrap_or(("", &value.name));
        let parent = match parent {
            "" => String::new(),
            _ => format!("/{}", parent.replace('.', "/")),
        };
        let without = |written: &Value| {
            let mut written = written.clone();
            written.pointer_mut(&parent)?.as_object_mut()?.remove(key)?;
            Some(written)
        };
        let uses: Vec<_> = cases
            .iter()
            .filter_map(|(written, text)| Some((without(written)?, text)))
            .collect();
        assert!(
            !uses.is_empty(),
            "no file of charts/forestall/ci sets {}",
            value.name
        );
        let file = folder.path().join("values.json");
        let changes = uses.iter().any(|(without, text)| {
            fs::write(&file, without.to_string()).unwrap();
            let output = template(&["--values", file.to_str().unwrap()]);
            // What cannot be left out does something too.
            !output.success || output.stdout != **text
        });
        assert!(changes, "{} changes nothing", value.name);
    }
}
