//! Values that make no sense are refused, with the key and the cure.

use super::{REGISTRY, rendered, template};

const CLOSED: [&str; 2] = ["webhooks.failurePolicy=Fail", "mode=enforce"];

/// Renders with these settings, which must fail with these words.
fn refused(settings: &[&str], words: &[&str]) {
    let mut arguments = vec!["--set", REGISTRY];
    for setting in settings {
        // A namespace is an argument and not a value.
        if let Some(namespace) = setting.strip_prefix("--namespace=") {
            arguments.extend(["--namespace", namespace]);
        } else {
            arguments.extend(["--set-json", setting]);
        }
    }
    let output = template(&arguments);
    assert!(!output.success, "{settings:?} is rendered");
    for word in words {
        assert!(
            output.stderr.contains(word),
            "{settings:?}: {word:?} is not in {}",
            output.stderr
        );
    }
}

/// Settings of the command line in the form of `--set-json`.
fn json(settings: &[&str]) -> Vec<String> {
    let quoted = |setting: &&str| {
        let (key, value) = setting.split_once('=').unwrap();
        format!("{key}={value:?}")
    };
    settings.iter().map(quoted).collect()
}

#[test]
fn the_namespaces_of_the_cluster_are_no_place_for_it() {
    for namespace in ["kube-system", "kube-node-lease", "kube-public"] {
        let argument = format!("--namespace={namespace}");
        refused(
            &[&argument],
            &[namespace, "--namespace forestall --create-namespace"],
        );
        let value = format!("namespaceOverride={namespace:?}");
        refused(&[&value], &[namespace]);
    }
}

#[test]
fn an_image_that_nobody_published_is_not_installed() {
    let output = template(&[]);
    assert!(
        !output.success && output.stderr.contains("image.registry: no image"),
        "{output:?}"
    );
    for cure in [
        "image.registry=registry.example.com",
        "global.imageRegistry=registry.example.com",
        "image.repository=registry.example.com/tools/forestall",
    ] {
        rendered(&["--set", cure]);
    }
}

#[test]
fn guardrails_that_do_not_exist_are_named() {
    refused(
        &[r#"rules={"missing-imgae": {"mode": "audit"}}"#],
        &["rules.missing-imgae", "missing-image,"],
    );
    refused(
        &[r#"namespaces={"shop": {"rules": {"missing": "audit"}}}"#],
        &["namespaces.shop.rules.missing", "missing-image,"],
    );
    refused(
        &[r#"exemptions=[{"rule": "no-such", "reason": "a", "until": "2027-01-31"}]"#],
        &["exemptions[0].rule", "no-such", "missing-image,"],
    );
    refused(
        &[r#"rules={"missing-image": {"known": []}}"#],
        &["/rules/missing-image", "'known' not allowed"],
    );
}

#[test]
fn failing_closed_takes_two_replicas_and_something_to_enforce() {
    let [fail, enforce] = &json(&CLOSED)[..] else {
        unreachable!()
    };
    refused(
        &[fail, enforce, "replicaCount=1"],
        &["replicaCount", "2 or more", "Ignore"],
    );
    for mode in ["\"off\"", "\"audit\"", "\"warn\"", "false"] {
        let mode = format!("mode={mode}");
        refused(
            &[fail, &mode],
            &["webhooks.failurePolicy", "enforce in mode"],
        );
    }
    for enforced in [
        "mode=\"enforce\"",
        r#"rules={"missing-image": {"mode": "enforce"}}"#,
        r#"namespaces={"shop": {"mode": "enforce"}}"#,
        r#"namespaces={"shop": {"rules": {"missing-image": "enforce"}}}"#,
        r#"namespaces={"shop": {"rules": {"missing-image": {"mode": "enforce"}}}}"#,
    ] {
        rendered(&[
            "--set",
            REGISTRY,
            "--set-json",
            fail,
            "--set-json",
            enforced,
        ]);
    }
}

#[test]
fn nobody_waits_longer_than_forestall_takes() {
    for (webhook, most) in [("mutating", 2), ("validating", 5)] {
        let key = format!("webhooks.timeoutSeconds.{webhook}");
        let longer = format!("{key}={}", most + 1);
        refused(&[&longer], &[&key, &format!("write {most} or less")]);
        refused(&[&format!("{key}=0")], &[webhook]);
    }
}

#[test]
fn certificates_come_from_one_place() {
    let secret = r#"tls.existingSecret="own""#;
    let authority = r#"tls.caBundle="-----BEGIN CERTIFICATE-----\n…""#;
    refused(
        &[secret, authority, "certManager.enabled=true"],
        &["tls.existingSecret", "certManager.enabled"],
    );
    refused(&[secret], &["tls.caBundle", "--set-file"]);
    refused(&[authority], &["tls.caBundle", "tls.existingSecret"]);
    refused(
        &[secret, r#"tls.caBundle="LS0tLS1CRUdJTg==""#],
        &["tls.caBundle", "PEM"],
    );
}

#[test]
fn a_node_can_always_be_drained() {
    for minimum in [2, 3] {
        let setting = format!("podDisruptionBudget.minAvailable={minimum}");
        refused(
            &[&setting],
            &["podDisruptionBudget.minAvailable", "less than replicaCount"],
        );
    }
    let one = rendered(&["--set", REGISTRY, "--set", "replicaCount=1"]);
    assert!(!one.contains("PodDisruptionBudget"), "{one}");
}

#[test]
fn the_memory_limit_is_one() {
    for limit in ["null", "\"\"", "\"lots\"", "\"-1Gi\"", "\"256MB\""] {
        let setting = format!("resources.limits={{\"memory\": {limit}}}");
        refused(&[&setting], &["resources.limits.memory", "256Mi"]);
    }
    refused(&["resources.limits=null"], &["resources.limits.memory"]);
    for little in ["\"63Mi\"", "\"64M\"", "1000000", "\"0.05Gi\""] {
        let setting = format!("resources.limits.memory={little}");
        refused(&[&setting], &["resources.limits.memory", "64Mi or more"]);
    }
    for enough in ["\"64Mi\"", "\"0.5Gi\"", "\"1G\"", "268435456"] {
        let setting = format!("resources.limits.memory={enough}");
        rendered(&["--set", REGISTRY, "--set-json", &setting]);
    }
}

#[test]
fn two_ports_are_two() {
    refused(&["adminPort=9443"], &["adminPort", "webhookPort"]);
}

/// The schema: what is misspelt, and what is of another kind.
#[test]
fn typos_are_refused_with_their_key() {
    for (setting, words) in [
        ("mdoe=\"audit\"", &["mdoe"][..]),
        ("mode=\"enforced\"", &["mode", "enforce"]),
        ("webhooks.failurePolicies=\"Fail\"", &["failurePolicies"]),
        (
            "webhooks.failurePolicy=\"fail\"",
            &["failurePolicy", "Ignore"],
        ),
        ("webhooks.timeoutSeconds=5", &["timeoutSeconds"]),
        ("webhooks.timeoutSeconds.mutate=1", &["mutate"]),
        ("rules={\"missing-image\": {\"mod\": \"audit\"}}", &["mod"]),
        (
            "rules={\"missing-image\": {\"mode\": \"on\"}}",
            &["missing-image", "enforce"],
        ),
        ("namespaces={\"shop\": {\"modes\": \"audit\"}}", &["modes"]),
        (
            "exemptions=[{\"rule\": \"missing-image\", \"until\": \"2027-01-31\"}]",
            &["reason"],
        ),
        (
            "registries={\"docker.io\": {\"servers\": \"https://a\"}}",
            &["servers"],
        ),
        ("argocd.version=2.10", &["version", "string"]),
        ("argocd.versions=\"v2.10.0\"", &["versions"]),
        ("certManager.enable=true", &["enable"]),
        ("tls.secret=\"a\"", &["secret"]),
        ("image.tags=\"a\"", &["tags"]),
        ("image.digest=\"sha256:abc\"", &["digest"]),
        ("image.architectures=[\"x86_64\"]", &["architectures"]),
        ("image.architectures=[]", &["architectures"]),
        ("replicaCount=0", &["replicaCount"]),
        ("replicaCount=\"2\"", &["replicaCount"]),
        ("replicas=2", &["replicas"]),
        ("rules=null", &["rules"]),
        ("webhooks.timeoutSeconds=null", &["timeoutSeconds"]),
        ("resources.limit={}", &["limit"]),
        ("listenAddress=\"localhost\"", &["listenAddress"]),
        ("webhookPort=70000", &["webhookPort"]),
        (
            "podDisruptionBudget.minAvailable=\"50%\"",
            &["minAvailable"],
        ),
        ("serviceAccount.annotation={}", &["annotation"]),
        ("networkPolicy.enable=true", &["enable"]),
        ("metrics.serviceMonitors={}", &["serviceMonitors"]),
        ("metrics.prometheusRule.enabled=\"yes\"", &["enabled"]),
        ("metrics.dashboard.label={}", &["label"]),
    ] {
        refused(&[setting], words);
    }
    // Another chart may have its own keys in what all charts of a release share.
    rendered(&["--set", REGISTRY, "--set", "global.storageClass=fast"]);
}

#[test]
fn a_kind_of_custom_resources_names_itself_and_no_others() {
    for (field, value) in [
        ("group", ""),
        ("group", "*"),
        ("group", "apps"),
        ("plural", "*"),
        ("plural", "widgets/status"),
        ("kind", "widgets"),
    ] {
        let mut entry = super::custom_resources::widgets();
        entry[field] = value.into();
        let rules = serde_json::json!({"missing-image": {"customResources": [entry]}});
        refused(&[&format!("rules={rules}")], &["customResources", field]);
    }
}
