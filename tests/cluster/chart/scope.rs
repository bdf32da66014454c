//! The webhooks ask about, and the roles allow, what the guardrails that are on need, and no more.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{CASES, case, catalogue, of_kind, the, with};

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
