//! The checks over a cluster that is whole, and over what can break in it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use super::api::Unread;
use super::facts::{Backend, Endpoints, Facts, Proof, Resources};
use super::hooks::{Hook, Labels, ServiceName, WebhookType};
use super::pods::Runner;
use super::samples::Samples;
use super::{Check, Outcome, judge};
use crate::config::Config;
use crate::rules::catalogue::CATALOGUE;

mod custom_resources;

/// An authority and a certificate by it, in PEM.
struct Pair {
    authority: String,
    certificate: String,
}

fn pair(name: &str) -> Pair {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = parameters.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(parameters, key);
    let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
    parameters.not_after = rcgen::date_time_ymd(2096, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.signed_by(&key, &issuer).unwrap().pem();
    Pair {
        authority,
        certificate,
    }
}

fn home() -> ServiceName {
    ServiceName {
        namespace: "guard".to_owned(),
        name: "forestall".to_owned(),
    }
}

/// A webhook that is asked about everything outside kube-system and `guard`.
fn hook(
    phase: WebhookType,
    name: &str,
    service: &ServiceName,
    policy: &str,
    authority: &str,
) -> Hook {
    let webhook = json!({
        "name": name,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {
            "service": {"namespace": service.namespace, "name": service.name},
            "caBundle": base64(authority),
        },
        "failurePolicy": policy,
        "matchPolicy": "Equivalent",
        "timeoutSeconds": if phase == WebhookType::Mutating { 2 } else { 5 },
        "rules": rules(),
        "namespaceSelector": {"matchExpressions": [{
            "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", "guard"],
        }]},
    });
    Hook {
        phase,
        configuration: "forestall".to_owned(),
        index: 0,
        asked_again: false,
        webhook: serde_json::from_value(webhook).unwrap(),
    }
}

fn base64(text: &str) -> Value {
    use base64::Engine as _;
    json!(base64::engine::general_purpose::STANDARD.encode(text))
}

/// Whatever any guardrail watches.
fn rules() -> Value {
    let kinds = CATALOGUE.iter().flat_map(|meta| meta.watches);
    let rule = |group: &str, resources: Value| {
        json!({"apiGroups": [group], "apiVersions": ["*"],
        "resources": resources, "operations": ["CREATE", "UPDATE"], "scope": "Namespaced"})
    };
    let mut all: Vec<_> = kinds
        .map(|kind| rule(kind.group, json!([kind.plural])))
        .collect();
    all.push(rule("", json!(["pods/ephemeralcontainers", "pods/resize"])));
    json!(all)
}

fn healthy() -> Facts {
    let pair = pair("forestall.guard.svc");
    let hooks = vec![
        hook(
            WebhookType::Mutating,
            "mutate.forestall.dev",
            &home(),
            "Ignore",
            &pair.authority,
        ),
        hook(
            WebhookType::Validating,
            "validate.forestall.dev",
            &home(),
            "Ignore",
            &pair.authority,
        ),
    ];
    let named = |name: &str| {
        let label = ("kubernetes.io/metadata.name".to_owned(), name.to_owned());
        (name.to_owned(), Labels::from([label]))
    };
    Facts {
        now: Timestamp::now(),
        hooks,
        unread_hooks: Vec::new(),
        namespaces: Ok(["default", "guard", "kube-system"].map(named).into()),
        wanted: None,
        home: Some(home()),
        backends: BTreeMap::from([(home(), backend(2))]),
        pods: Ok(vec![pod("a", METRICS), pod("b", METRICS)]),
        config: Ok(Config::default()),
        certificate: Ok((
            "secret/forestall-tls".to_owned(),
            pair.certificate.into_bytes(),
        )),
        groups: Ok([("external-secrets.io".to_owned(), vec!["v1".to_owned()])].into()),
        resources: Ok(Resources::new()),
        proof: made(&[("a", 3), ("b", 0)]),
    }
}

/// What a Pod says that has nothing to complain of. 3976214400 is 2096-01-01.
const METRICS: &str = concat!(
    "forestall_build_info{version=\"",
    env!("CARGO_PKG_VERSION"),
    "\"} 1\n",
    "forestall_certificate_expiry_timestamp_seconds{certificate=\"serving\"} 3976214400\n",
    "forestall_webhook_configured{webhook=\"mutating\"} 1\n",
    "forestall_config_valid 1\n",
    "forestall_would_refuse{rule=\"missing-image\"} 0\n",
);

fn pod(name: &str, metrics: &str) -> Runner {
    let pod = json!({
        "metadata": {"name": name, "namespace": "guard"},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    let pod = Runner::of(serde_json::from_value(pod).unwrap());
    Runner {
        samples: Ok(Samples::parse(metrics)),
        ..pod
    }
}

fn backend(ready: usize) -> Backend {
    let service = json!({"spec": {"ports": [{"port": 443}]}});
    Backend {
        service: Ok(serde_json::from_value(service).unwrap()),
        endpoints: Ok(Endpoints { ready, all: 2 }),
    }
}

fn no_backend() -> Backend {
    Backend {
        service: Err(Unread::Absent("services \"x\" not found".to_owned())),
        ..backend(0)
    }
}

fn made(judged: &[(&str, u64)]) -> Proof {
    let judged = judged
        .iter()
        .map(|(pod, count)| ((*pod).to_owned(), *count));
    Proof::Made {
        what: "a ReplicationController in namespace default".to_owned(),
        judged: judged.collect(),
        ended: Ok(()),
    }
}

fn forbidden() -> Unread {
    Unread::Forbidden("User \"ana\" cannot list resource".to_owned())
}

/// The checks that are not ok, but for those of one Pod's twin.
fn complaints(facts: &Facts) -> Vec<Check> {
    let checks = judge(facts).into_iter();
    checks.filter(|check| check.result != Outcome::Ok).collect()
}

/// The only complaint there is.
#[track_caller]
fn only(facts: &Facts, name: &str, result: Outcome, words: &[&str]) {
    let complaints = complaints(facts);
    let [check] = &complaints[..] else {
        panic!("{complaints:#?}");
    };
    assert_eq!((check.name, check.result), (name, result), "{check:?}");
    let cure = check.cure.as_deref().unwrap_or_default();
    let text = format!("{} {cure}", check.message);
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {check:?}");
    }
}

/// The validating webhook, to break it.
fn validating(facts: &mut Facts) -> &mut Hook {
    let mut hooks = facts.hooks.iter_mut();
    hooks
        .find(|hook| hook.phase == WebhookType::Validating)
        .unwrap()
}

#[test]
fn nothing_is_wrong_with_a_cluster_that_is_whole() {
    assert_eq!(complaints(&healthy()), []);
}

#[test]
fn a_missing_configuration_is_named() {
    let mut facts = healthy();
    facts.hooks.truncate(1);
    let complaints = complaints(&facts);
    assert_eq!(complaints[0].name, "registered");
    assert_eq!(complaints[0].result, Outcome::Error);
    let mut facts = healthy();
    facts.hooks.remove(0);
    only(
        &facts,
        "registered",
        Outcome::Warning,
        &["mutate.forestall.dev"],
    );
    facts.hooks.clear();
    facts.home = None;
    only(
        &facts,
        "registered",
        Outcome::Error,
        &["never asks", "helm"],
    );
}

#[test]
fn several_installations_are_told_apart() {
    let mut facts = healthy();
    let other = ServiceName {
        namespace: "other".to_owned(),
        ..home()
    };
    let hook = hook(
        WebhookType::Validating,
        "validate.forestall.dev",
        &other,
        "Ignore",
        "",
    );
    facts.hooks.push(hook);
    only(
        &facts,
        "registered",
        Outcome::Warning,
        &["guard/forestall, other/forestall", "--namespace"],
    );
}

#[test]
fn a_guardrail_that_no_rule_reaches_is_named_unless_it_is_off() {
    let mut facts = healthy();
    for hook in &mut facts.hooks {
        let rules = hook.webhook.rules.as_mut().unwrap();
        rules.retain(|rule| rule.resources != Some(vec!["externalsecrets".to_owned()]));
    }
    let complaints = complaints(&facts);
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    for check in complaints {
        assert!(
            check
                .message
                .contains("externalsecrets.external-secrets.io"),
            "{check:?}"
        );
    }
    let off = "rules: {implicit-external-secret-defaults: {mode: 'off'}}";
    facts.config = Ok(Config::parse("config", off).unwrap());
    assert_eq!(self::complaints(&facts), []);
    let on = format!(
        "{off}\nnamespaces: {{default: {{rules: {{implicit-external-secret-defaults: audit}}}}}}"
    );
    facts.config = Ok(Config::parse("config", &on).unwrap());
    assert_eq!(self::complaints(&facts).len(), 2);
}

#[test]
fn settings_that_cost_time_or_let_objects_pass_are_named() {
    let mut facts = healthy();
    validating(&mut facts).webhook.timeout_seconds = None;
    only(
        &facts,
        "settings",
        Outcome::Warning,
        &["timeoutSeconds 10", "write 5"],
    );
    let mut facts = healthy();
    validating(&mut facts).webhook.match_policy = Some("Exact".to_owned());
    only(&facts, "settings", Outcome::Warning, &["Equivalent"]);
}

#[test]
fn namespaces_that_must_stay_writable_must_be_left_alone() {
    let mut facts = healthy();
    validating(&mut facts).webhook.namespace_selector = None;
    only(
        &facts,
        "exclusions",
        Outcome::Warning,
        &["kube-system and guard", "NotIn"],
    );
    validating(&mut facts).webhook.failure_policy = Some("Fail".to_owned());
    only(&facts, "exclusions", Outcome::Error, &["cannot be written"]);
    facts.namespaces = Err(forbidden());
    let complaints = complaints(&facts);
    assert!(
        complaints
            .iter()
            .all(|check| check.result == Outcome::Unknown),
        "{complaints:?}"
    );
}

#[test]
fn a_service_that_leads_nowhere_is_an_error() {
    let mut facts = healthy();
    facts.backends = BTreeMap::from([(home(), backend(0))]);
    only(
        &facts,
        "service",
        Outcome::Error,
        &["no ready endpoint", "get pods"],
    );
    facts.backends = BTreeMap::from([(home(), no_backend())]);
    only(&facts, "service", Outcome::Error, &["does not exist"]);
    validating(&mut facts).webhook.failure_policy = None;
    only(
        &facts,
        "service",
        Outcome::Error,
        &["`kubectl delete validatingwebhookconfiguration forestall`"],
    );
    facts.backends = BTreeMap::from([(home(), backend(1))]);
    only(
        &facts,
        "service",
        Outcome::Warning,
        &["one ready endpoint", "replicas"],
    );
    let mut facts = healthy();
    let service = validating(&mut facts)
        .webhook
        .client_config
        .service
        .as_mut();
    service.unwrap().port = Some(9443);
    only(&facts, "service", Outcome::Error, &["port 9443", "[443]"]);
}

#[test]
fn an_admitted_object_proves_nothing_and_a_count_does() {
    let mut facts = healthy();
    facts.proof = made(&[("a", 0), ("b", 0)]);
    only(
        &facts,
        "dry-run",
        Outcome::Error,
        &["none of 2 Pods", "network policies"],
    );
    facts.proof = made(&[("a", 1), ("b", 1)]);
    only(&facts, "dry-run", Outcome::Warning, &["only 2 were judged"]);
    facts.proof = made(&[("a", 9), ("b", 0)]);
    only(&facts, "dry-run", Outcome::Warning, &["somebody else"]);
    let uncounted = |ended| Proof::Uncounted {
        what: "a Deployment".to_owned(),
        reason: forbidden(),
        ended,
    };
    facts.proof = uncounted(Ok(()));
    only(
        &facts,
        "dry-run",
        Outcome::Unknown,
        &["proves nothing", "\"ana\""],
    );
    let refused =
        r#"Internal error occurred: failed calling webhook "validate.forestall.dev": EOF"#;
    facts.proof = uncounted(Err(Unread::Refused(refused.to_owned())));
    only(&facts, "dry-run", Outcome::Error, &["EOF"]);
    facts.proof = uncounted(Err(Unread::Forbidden("a policy denied it".to_owned())));
    only(&facts, "dry-run", Outcome::Unknown, &["a policy denied it"]);
    validating(&mut facts).webhook.failure_policy = Some("Fail".to_owned());
    facts.proof = uncounted(Ok(()));
    assert_eq!(complaints(&facts), []);
}

#[test]
fn a_bundle_that_does_not_verify_is_an_error() {
    let mut facts = healthy();
    let other = pair("forestall.guard.svc").authority;
    let bundle = |facts: &mut Facts, text: &str| {
        let bundle = serde_json::from_value(base64(text)).unwrap();
        validating(facts).webhook.client_config.ca_bundle = Some(bundle);
    };
    bundle(&mut facts, &other);
    only(
        &facts,
        "certificate",
        Outcome::Error,
        &["does not verify", "invalid peer certificate"],
    );
    for (text, words) in [
        ("", "is empty"),
        ("hello", "holds no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAA", "is no PEM"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "what is no certificate",
        ),
    ] {
        bundle(&mut facts, text);
        only(
            &facts,
            "certificate",
            Outcome::Error,
            &[words, "cert-manager"],
        );
    }
    let mut facts = healthy();
    facts.home.as_mut().unwrap().name = "another".to_owned();
    facts.backends = BTreeMap::from([(facts.home.clone().unwrap(), backend(2))]);
    for hook in &mut facts.hooks {
        hook.webhook.client_config.service.as_mut().unwrap().name = "another".to_owned();
    }
    let words = [
        "not valid for another.guard.svc",
        "with the name another.guard.svc",
    ];
    only(&facts, "certificate", Outcome::Error, &words);
}

#[test]
fn a_certificate_that_signs_itself_is_verified_as_the_api_server_does() {
    let mut facts = healthy();
    let mut parameters = CertificateParams::new(vec!["forestall.guard.svc".to_owned()]).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.not_after = rcgen::date_time_ymd(2096, 1, 1);
    let key = KeyPair::generate().unwrap();
    let pem = parameters.self_signed(&key).unwrap().pem();
    for hook in &mut facts.hooks {
        let bundle = serde_json::from_value(base64(&pem)).unwrap();
        hook.webhook.client_config.ca_bundle = Some(bundle);
    }
    facts.certificate = Ok(("secret/own".to_owned(), pem.into_bytes()));
    assert_eq!(complaints(&facts), []);
}

#[test]
fn certificates_that_end_are_told_before() {
    let mut facts = healthy();
    facts.now += SignedDuration::from_hours(24 * 365 * 3000);
    let complaints = complaints(&facts);
    assert!(
        complaints[0].message.contains("expired at 4096"),
        "{complaints:?}"
    );
    let mut facts = healthy();
    facts.now += SignedDuration::from_hours(24 * 365 * 500);
    let complaints = self::complaints(&facts);
    let text = &complaints[0].message;
    assert!(
        text.contains("valid from 1975-01-01") && text.contains("to 2096"),
        "{text}"
    );
    let soon = Timestamp::now().as_second() + 86_400;
    let mut facts = healthy();
    let line = format!(
        "{}{{certificate=\"ca\"}} {soon}\n",
        "forestall_certificate_expiry_timestamp_seconds"
    );
    facts.pods = Ok(vec![pod("a", &(METRICS.to_owned() + &line))]);
    only(
        &facts,
        "certificate",
        Outcome::Warning,
        &["the ca certificate of Pod a"],
    );
    let other = METRICS.replace("3976214400", "3976214401");
    facts.pods = Ok(vec![pod("a", &other), pod("b", METRICS)]);
    only(
        &facts,
        "certificate",
        Outcome::Warning,
        &["a serve another certificate"],
    );
    let not_ours = METRICS.replace("{webhook=\"mutating\"} 1", "{webhook=\"mutating\"} 0");
    facts.pods = Ok(vec![pod("a", &not_ours), pod("b", &not_ours)]);
    only(
        &facts,
        "certificate",
        Outcome::Error,
        &["mutating webhook is not theirs"],
    );
}

#[test]
fn a_foreign_webhook_that_nobody_answers_is_named_with_the_line_that_frees_the_cluster() {
    let mut facts = healthy();
    let gone = ServiceName {
        namespace: "policy".to_owned(),
        name: "engine".to_owned(),
    };
    facts.hooks.push(hook(
        WebhookType::Validating,
        "deny.policy.test",
        &gone,
        "Fail",
        "",
    ));
    facts.backends.insert(gone.clone(), backend(1));
    assert_eq!(complaints(&facts), []);
    facts.backends.insert(gone.clone(), backend(0));
    let line = "kubectl patch validatingwebhookconfiguration forestall --type=json";
    only(
        &facts,
        "other-webhooks",
        Outcome::Error,
        &["policy/engine", "no ready endpoint", line],
    );
    facts.backends.insert(gone, no_backend());
    only(
        &facts,
        "other-webhooks",
        Outcome::Error,
        &["does not exist", "applications.argoproj.io"],
    );
    let last = facts.hooks.last_mut().unwrap();
    last.webhook.namespace_selector =
        serde_json::from_value(json!({"matchLabels": {"a": "b"}})).unwrap();
    assert_eq!(complaints(&facts), [], "it selects no namespace");
}

#[test]
fn a_foreign_webhook_in_the_way_of_repairs_is_a_warning() {
    let mut facts = healthy();
    let engine = ServiceName {
        namespace: "policy".to_owned(),
        name: "engine".to_owned(),
    };
    let mut hook = hook(
        WebhookType::Validating,
        "deny.policy.test",
        &engine,
        "Fail",
        "",
    );
    hook.webhook.namespace_selector = None;
    facts.hooks.push(hook);
    facts.backends.insert(engine, backend(2));
    only(
        &facts,
        "dependencies",
        Outcome::Warning,
        &["kube-system and guard", "pods, "],
    );
    let rules = facts.hooks.last_mut().unwrap().webhook.rules.as_mut();
    for rule in rules.unwrap() {
        rule.api_groups = Some(vec!["policy.test".to_owned()]);
    }
    assert_eq!(complaints(&facts), [], "its own kinds are its own business");
}

#[test]
fn timeouts_add_up_as_the_api_server_waits() {
    let mut facts = healthy();
    let time = |facts: &Facts| {
        let checks = judge(facts);
        let check = checks.iter().find(|check| check.name == "timeouts");
        check.unwrap().clone()
    };
    assert!(
        time(&facts).message.contains("in default waits for 7 s"),
        "{facts:?}"
    );
    facts.hooks[0].asked_again = true;
    assert!(time(&facts).message.contains("waits for 9 s"));
    let mut slow = facts.hooks[0].clone();
    slow.webhook.name = "slow.test".to_owned();
    slow.webhook.timeout_seconds = Some(11);
    facts.hooks.push(slow);
    let check = time(&facts);
    assert!(check.message.contains("waits for 31 s"), "{check:?}");
    assert_eq!(check.result, Outcome::Warning);
    assert!(check.message.contains("slow.test"), "{check:?}");
}

#[test]
fn what_the_pods_complain_of_is_told_over_all_of_them() {
    let mut facts = healthy();
    let lines = |lines: &str| pod("b", &(METRICS.to_owned() + lines));
    let told = |facts: &mut Facts, pods: Vec<Runner>| {
        facts.pods = Ok(pods);
        let complaints = complaints(facts);
        let texts = complaints
            .iter()
            .map(|check| format!("{}: {}", check.name, check.message));
        texts.collect::<Vec<_>>()
    };
    let registry = |value| {
        lines(&format!(
            "forestall_registry_readable{{registry=\"quay.io\"}} {value}\n"
        ))
    };
    let unread = told(&mut facts, vec![registry(0), registry(0)]);
    assert!(
        unread[0].starts_with("registries: quay.io has never"),
        "{unread:?}"
    );
    assert_eq!(told(&mut facts, vec![registry(0), registry(1)]), [""; 0]);
    let kind = |resource| {
        lines(&format!(
            "forestall_kind_available{{resource=\"{resource}\"}} 0\n"
        ))
    };
    let unserved = kind("applications.argoproj.io");
    assert_eq!(told(&mut facts, vec![unserved]), [""; 0]);
    let served = told(
        &mut facts,
        vec![kind("externalsecrets.external-secrets.io")],
    );
    assert!(
        served[0].starts_with("kinds: Forestall cannot list externalsecrets"),
        "{served:?}"
    );
    let old = METRICS.replace("config_valid 1", "config_valid 0");
    let old = told(&mut facts, vec![pod("a", METRICS), pod("b", &old)]);
    assert!(
        old[0].starts_with("configuration: b keep an older one"),
        "{old:?}"
    );
    let dropped = lines(
        "forestall_mutations_total{rule=\"x\",applied=\"false\"} 2\nforestall_rule_panics_total{rule=\"y\"} 1\n",
    );
    let dropped = told(&mut facts, vec![dropped]);
    assert!(
        dropped[0].starts_with("repairs: 0 made, and 2 dropped"),
        "{dropped:?}"
    );
    assert!(dropped[1].starts_with("failures: y failed"), "{dropped:?}");
    facts.pods = Ok(vec![pod(
        "a",
        &METRICS.replace("missing-image\"} 0", "missing-image\"} 4"),
    )]);
    let checks = judge(&facts);
    let would = checks
        .iter()
        .find(|check| check.name == "would-refuse")
        .unwrap();
    assert!(would.message.ends_with("missing-image 4"), "{would:?}");
    assert_eq!(would.result, Outcome::Ok);
}

#[test]
fn what_may_not_be_read_is_unknown_and_never_an_error() {
    let mut facts = healthy();
    facts.hooks.clear();
    facts.home = None;
    facts.unread_hooks = vec![forbidden(), forbidden()];
    facts.namespaces = Err(forbidden());
    facts.pods = Err(forbidden());
    let complaints = complaints(&facts);
    assert!(complaints.len() >= 3, "{complaints:?}");
    for check in complaints {
        assert_eq!(check.result, Outcome::Unknown, "{check:?}");
        assert!(check.message.contains("\"ana\""), "{check:?}");
    }
}

#[test]
fn one_pod_must_lead_where_there_is_a_lease() {
    let mut facts = healthy();
    let with_lease = |name: &str, leads: u8| {
        let spec = json!({"containers": [{"name": "forestall", "args": ["serve", "--lease=guard/forestall"]}]});
        let mut runner = pod(name, &format!("{METRICS}forestall_leader {leads}\n"));
        runner.pod.spec = serde_json::from_value(spec).unwrap();
        runner
    };
    facts.pods = Ok(vec![with_lease("a", 0), with_lease("b", 1)]);
    assert_eq!(complaints(&facts), []);
    facts.pods = Ok(vec![with_lease("a", 0), with_lease("b", 0)]);
    only(
        &facts,
        "leader",
        Outcome::Warning,
        &["no Pod holds the Lease guard/forestall"],
    );
    facts.pods = Ok(vec![with_lease("a", 1), with_lease("b", 1)]);
    only(&facts, "leader", Outcome::Warning, &["a and b say"]);
}
