//! What is rendered: taken by the real API server, as narrow as it can be, and every value in its place.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use forestall::config::{Config, Mode};
use forestall::manifest;
use serde_json::{Value, json};

use super::committed::described;
use super::{CASES, case, catalogue, objects, of_kind, rendered, template, the, values, with};
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

fn strings(value: &Value) -> BTreeSet<String> {
    let items = value.as_array().into_iter().flatten();
    items
        .filter_map(Value::as_str)
        .map(ToOwned::to_owned)
        .collect()
}

/// What a list of rules names: group, resource and whatever else there is.
fn named(rules: &Value, also: &[&str]) -> BTreeSet<Vec<String>> {
    let mut named = BTreeSet::new();
    for rule in rules.as_array().into_iter().flatten() {
        let rest = also.iter().map(|key| rule[key].to_string());
        for group in strings(&rule["apiGroups"]) {
            for resource in strings(&rule["resources"]) {
                let entry = [group.clone(), resource].into_iter().chain(rest.clone());
                named.insert(entry.collect());
            }
        }
    }
    named
}

/// What the catalogue says of the guardrails that are not left out.
fn of_catalogue(
    key: &str,
    also: &[&str],
    is_in: impl Fn(&str, bool) -> bool,
) -> BTreeSet<Vec<String>> {
    let all = catalogue();
    let guardrails = all.iter().filter(|guardrail| {
        is_in(
            guardrail["name"].as_str().unwrap(),
            guardrail["repairs"].as_bool().unwrap(),
        )
    });
    guardrails
        .flat_map(|guardrail| named(&guardrail[key], also))
        .collect()
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
        "argocd",
    ];
    for name in CASES {
        let objects = case(name);
        let text = configuration(&objects);
        let arrived = Config::parse("config.yaml", text).unwrap();
        let written = fs::read(values(name)).unwrap();
        let (documents, _) = manifest::read("values.yaml", &written);
        let mut written = documents[0].object.clone();
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
fn the_webhooks_ask_about_what_guardrails_watch_and_no_more() {
    let also = ["apiVersions", "operations", "scope"];
    let objects = case("default");
    let rules = |kind| named(&the(&objects, kind)["webhooks"][0]["rules"], &also);
    assert_eq!(
        rules("ValidatingWebhookConfiguration"),
        of_catalogue("rules", &also, |_, _| true)
    );
    assert_eq!(
        rules("MutatingWebhookConfiguration"),
        of_catalogue("rules", &also, |_, repairs| repairs)
    );
    for kind in [
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
    ] {
        for entry in rules(kind) {
            assert!(
                !entry[0].contains('*') && !entry[1].contains('*'),
                "{entry:?}"
            );
        }
    }
}

#[test]
fn what_is_off_everywhere_is_neither_registered_nor_allowed() {
    // Both guardrails that repair are off.
    let objects = case("enforce");
    let off = ["implicit-external-secret-defaults", "unignored-live-fields"];
    assert_eq!(
        of_kind(&objects, "MutatingWebhookConfiguration"),
        Vec::<&Value>::new()
    );
    let validating = the(&objects, "ValidatingWebhookConfiguration");
    assert_eq!(
        named(&validating["webhooks"][0]["rules"], &[]),
        of_catalogue("rules", &[], |name, _| !off.contains(&name))
    );
    let role = the(&objects, "ClusterRole").to_string();
    for word in [
        "external-secrets.io",
        "applications",
        "customresourcedefinitions",
        "argocd",
    ] {
        assert!(!role.contains(word), "{word}: {role}");
    }
    // One namespace brings a guardrail back.
    let off = "rules.unignored-live-fields.mode=off";
    let back = "namespaces.argocd.rules.unignored-live-fields=audit";
    assert!(
        !the(&with(&[off]), "ClusterRole")
            .to_string()
            .contains("argocd-cmd-params-cm")
    );
    assert!(
        the(&with(&[off, back]), "ClusterRole")
            .to_string()
            .contains("argocd-cmd-params-cm")
    );
    // A label may bring back what is off by default only.
    assert!(
        the(&with(&["mode=off"]), "ClusterRole")
            .to_string()
            .contains("argocd-cmd-params-cm")
    );
    // Without a guardrail there is nothing to ask about.
    let all: Vec<_> = catalogue()
        .iter()
        .map(|guardrail| format!("rules.{}.mode=off", guardrail["name"].as_str().unwrap()))
        .collect();
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    let objects = with(&all);
    assert_eq!(
        of_kind(&objects, "ValidatingWebhookConfiguration"),
        Vec::<&Value>::new()
    );
}

#[test]
fn the_roles_name_what_they_allow() {
    for name in CASES {
        let objects = case(name);
        for role in [of_kind(&objects, "Role"), of_kind(&objects, "ClusterRole")].concat() {
            for rule in role["rules"].as_array().unwrap() {
                assert!(!rule.to_string().contains('*'), "{name}: {rule}");
            }
        }
    }
    let objects = case("default");
    let also = ["resourceNames", "verbs"];
    let own = |rules: &Value| -> BTreeSet<Vec<String>> {
        let permissions = of_catalogue("permissions", &also, |_, _| true);
        named(rules, &also)
            .difference(&permissions)
            .cloned()
            .collect()
    };
    let entry = |parts: [&str; 4]| parts.map(ToOwned::to_owned).to_vec();
    let name = r#"["forestall"]"#;
    assert_eq!(
        own(&the(&objects, "ClusterRole")["rules"]),
        BTreeSet::from([
            entry(["", "namespaces", "null", r#"["list","watch"]"#]),
            entry(["events.k8s.io", "events", "null", r#"["create"]"#]),
            entry([
                "admissionregistration.k8s.io",
                "mutatingwebhookconfigurations",
                name,
                r#"["get","list","watch","patch"]"#
            ]),
            entry([
                "admissionregistration.k8s.io",
                "validatingwebhookconfigurations",
                name,
                r#"["get","list","watch","patch"]"#
            ]),
        ])
    );
    assert_eq!(
        own(&the(&objects, "Role")["rules"]),
        BTreeSet::from([
            entry(["coordination.k8s.io", "leases", "null", r#"["create"]"#]),
            entry(["coordination.k8s.io", "leases", name, r#"["get","update"]"#]),
            entry(["", "secrets", "null", r#"["create"]"#]),
            entry([
                "",
                "secrets",
                r#"["forestall-tls"]"#,
                r#"["get","list","watch","update"]"#
            ]),
            entry([
                "discovery.k8s.io",
                "endpointslices",
                "null",
                r#"["get","list","watch"]"#
            ]),
        ])
    );
    // Where others make the certificate, it needs to read none.
    let role = the(&case("cert-manager"), "Role").to_string();
    assert!(
        !role.contains("secrets") && role.contains("leases"),
        "{role}"
    );
    let objects = case("own-certificate");
    for kind in [
        "Role",
        "ClusterRole",
        "RoleBinding",
        "ClusterRoleBinding",
        "ServiceAccount",
    ] {
        assert_eq!(of_kind(&objects, kind), Vec::<&Value>::new());
    }
}

#[test]
fn every_value_changes_something() {
    let written = |name: &str| {
        let (documents, _) = manifest::read("values.yaml", &fs::read(values(name)).unwrap());
        documents[0].object.clone()
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
