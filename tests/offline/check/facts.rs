//! What is known beside the manifests: evidence, configuration, the cluster's state.

use serde_json::{Value, json};

use super::{BAD_POD, ODD_POD, Place, assert_error, outcome, places};
use crate::registry_server::Registry;

const PROMETHEUS: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: prometheus}
spec:
  template:
    spec:
      containers:
      - name: prometheus
        image: prom/prometheus:v2.56.1
        resources: {limits: {memory: 512Mi}}
";

const EVIDENCE: &str = "\
images:
  docker.io/prom/prometheus:v2.56.1: missing
tags:
  prom/prometheus: [v2.55.0, v2.55.1, v3.0.0]
memory:
- {container: prometheus, limit: 512Mi, outcome: oomKilled, times: 3, quick: 3}
argocd: {version: 2.10, cm: {a: 1}, cmdParams: {controller.diff.server.side: true}}
imageConfigs: {nginx: {env: [a=b], labels: {a: b}}}
nodes: [{os: linux, memory: 4Gi, images: [nginx]}]
";

fn rules(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|found| found["rule"].as_str().unwrap())
        .collect()
}

#[test]
fn s06_s08_evidence_leads_to_findings() {
    let place = Place::with(&[("a.yaml", PROMETHEUS), ("e.yaml", EVIDENCE)]);
    let report = place.report("-f a.yaml --evidence e.yaml");
    assert_eq!(rules(&report), ["missing-image", "oom-killed-memory-limit"]);
    let [image, memory] = [0, 1].map(|index| &report["findings"][index]);
    let message = image["message"].as_str().unwrap();
    assert!(
        message.contains("has no tag v2.56.1 in prom/prometheus"),
        "{message}"
    );
    assert!(
        image["help"]
            .as_str()
            .unwrap()
            .starts_with("nearest: v2.55.1"),
        "{image}"
    );
    assert_eq!(memory["certainty"], "observed");
    assert_eq!(
        memory["source"],
        json!({"file": "a.yaml", "line": 10, "column": 38})
    );
}

#[test]
fn findings_are_in_the_order_of_files_and_lines() {
    let impossible = PROMETHEUS.replace("512Mi", "512m");
    let place = Place::with(&[
        ("a.yaml", &impossible),
        ("z.yaml", &impossible),
        ("e.yaml", EVIDENCE),
    ]);
    let expected = [
        "missing-image a.yaml:9",
        "impossible-memory-limit a.yaml:10",
        "oom-killed-memory-limit a.yaml:10",
        "missing-image z.yaml:9",
        "impossible-memory-limit z.yaml:10",
        "oom-killed-memory-limit z.yaml:10",
    ];
    for files in ["a.yaml z.yaml", "z.yaml a.yaml"] {
        assert_eq!(
            places(&place.report(&format!("-f {files} --evidence e.yaml"))),
            expected
        );
    }
}

#[test]
fn what_is_recorded_reads_back_equal() {
    let place = Place::with(&[("a.yaml", PROMETHEUS), ("e.yaml", EVIDENCE)]);
    let first = place.report("-f a.yaml --evidence e.yaml --record r.yaml");
    let again = place.report("-f a.yaml --evidence r.yaml --record s.yaml");
    assert_eq!(first, again);
    let [once, twice] =
        ["r.yaml", "s.yaml"].map(|name| std::fs::read_to_string(place.path(name)).unwrap());
    assert_eq!(once, twice);
    let value: Value = serde_saphyr::from_str(&once).unwrap();
    assert_eq!(value["argocd"]["version"], "2.10");
    assert_eq!(value["nodes"][0]["memory"], "4Gi");
}

#[test]
fn mistakes_in_evidence_are_named_with_place_and_cure() {
    for (text, place, message) in [
        (
            "image: {}\n",
            "e.yaml:1:1",
            "unknown field `image`, expected one of",
        ),
        (
            "images:\n  nginx:1: gone\n",
            "e.yaml:2:12",
            "unknown variant `gone`",
        ),
        (
            "images:\n  Nginx:1: missing\n",
            "e.yaml:2:12",
            "capital letters; write nginx:1",
        ),
        (
            "images: {nginx:1: missing, docker.io/library/nginx:1: exists}\n",
            "e.yaml:1:19",
            "are one image; keep one",
        ),
        ("tags: {nginx:1: [1]}\n", "e.yaml:1:17", "without a tag"),
        (
            "memory:\n- {limit: 512MB, outcome: survived}\n",
            "e.yaml:2:3",
            "memory[0]: limit \"512MB\"",
        ),
        (
            "memory:\n- {limit: 1Gi, outcome: survived, image: A}\n",
            "e.yaml:2:3",
            "memory[0]: image \"A\"",
        ),
        (
            "memory:\n- {limit: 1Gi, outcome: survived, times: often}\n",
            "e.yaml:2:3",
            "write a whole number",
        ),
        (
            "memory:\n- {limit: 1Gi, outcome: survived, owner: web}\n",
            "e.yaml:2:3",
            "such as Deployment/web",
        ),
        (
            "memory:\n- {outcome: survived}\n",
            "e.yaml:2:3",
            "memory[0]: limit is missing; write the limit seen",
        ),
        (
            "memory:\n- {outcome: died}\n",
            "e.yaml:2:13",
            "unknown variant `died`",
        ),
        (
            "at: yesterday\n",
            "e.yaml:1:5",
            "write it as 2026-11-25T12:00:00Z",
        ),
        ("argocd: {version: [1]}\n", "e.yaml:1:19", ""),
        ("images: [\n", "e.yaml:1:9", ""),
    ] {
        let files = Place::with(&[("a.yaml", BAD_POD), ("e.yaml", text)]);
        let outcome = files.check("-o json -f a.yaml --evidence e.yaml");
        assert_eq!(outcome.status, 2, "{outcome:?}");
        assert_error(&outcome.json(), place, message);
        assert!(
            outcome.stderr.starts_with(&format!("{place}: ")),
            "{outcome:?}"
        );
    }
}

#[test]
fn case_77_mistakes_in_the_configuration_are_named_with_place_and_cure() {
    for (text, complaint) in [
        (
            "mode: enforce\nrules:\n  missing-images: {}\n",
            "c.yaml:3:3: rules: there is no guardrail \"missing-images\"; did you mean missing-image?\n",
        ),
        (
            "mode: enforced\n",
            "c.yaml:1:7: \"enforced\" is no mode; write off, audit, warn or enforce\n",
        ),
        (
            "rule: {}\n",
            "c.yaml:1:1: unknown field `rule`, expected one of",
        ),
    ] {
        let files = Place::with(&[("a.yaml", BAD_POD), ("c.yaml", text)]);
        let outcome = files.check("-f a.yaml --config c.yaml");
        assert_eq!(outcome.status, 2, "{outcome:?}");
        assert!(outcome.stderr.starts_with(complaint), "{}", outcome.stderr);
    }
}

#[test]
fn modes_do_not_matter_but_what_is_off_is_silent() {
    let place = Place::with(&[("a.yaml", BAD_POD), ("o.yaml", ODD_POD)]);
    let status = |name: &str, config: &str| {
        place.write("c.yaml", config.as_bytes());
        place.check(&format!("-f {name} --config c.yaml")).status
    };
    assert_eq!(status("a.yaml", "mode: audit\n"), 1);
    assert_eq!(status("a.yaml", "mode: warn\n"), 1);
    assert_eq!(status("a.yaml", "mode: off\n"), 0);
    assert_eq!(
        status("a.yaml", "rules: {impossible-memory-limit: {mode: off}}\n"),
        0
    );
    assert_eq!(status("a.yaml", "namespaces: {shop: {mode: off}}\n"), 0);
    assert_eq!(status("a.yaml", "namespaces: {other: {mode: off}}\n"), 1);
    // Likely is a warning, unless the operator opted in.
    assert_eq!(status("o.yaml", "{}\n"), 0);
    assert_eq!(
        status(
            "o.yaml",
            "rules: {impossible-memory-limit: {refuseLikely: true}}\n"
        ),
        1
    );
    let off = place.report("-f a.yaml --config c.yaml");
    assert_eq!(off["errors"], json!([]));
}

#[test]
fn what_somebody_accepted_is_no_finding() {
    let annotated = |until: &str| {
        let annotations = format!(
            "  annotations: {{forestall.dev/allow: impossible-memory-limit, forestall.dev/allow-until: \"{until}\", \
             forestall.dev/allow-reason: a test}}\n"
        );
        BAD_POD.replace(
            "  namespace: shop\n",
            &format!("  namespace: shop\n{annotations}"),
        )
    };
    let config = "exemptions: [{rule: impossible-memory-limit, kind: Pod, name: b*, reason: a test, until: 2999-12-31}]\n";
    let place = Place::with(&[
        ("accepted.yaml", &annotated("2999-12-31")),
        ("ended.yaml", &annotated("2020-01-01")),
        ("bad.yaml", BAD_POD),
        ("config.yaml", config),
    ]);
    assert_eq!(place.check("-f accepted.yaml").status, 0);
    let ended = place.check("-f ended.yaml");
    assert_eq!(ended.status, 1);
    let notice = "ended.yaml:6:16: warning: forestall.dev/allow ended on 2020-01-01\n";
    assert_eq!(ended.stderr, notice);
    assert_eq!(place.check("-f bad.yaml").status, 1);
    assert_eq!(place.check("-f bad.yaml --config config.yaml").status, 0);
}

#[test]
fn the_namespace_given_is_where_objects_without_one_go() {
    let bad = BAD_POD.replace("  namespace: shop\n", "");
    let config = "namespaces: {shop: {mode: off}}\n";
    let labelled = "apiVersion: v1\nkind: Namespace\nmetadata: {name: dev, labels: {forestall.dev/mode: \"off\"}}\n";
    let place = Place::with(&[("a.yaml", &bad), ("c.yaml", config), ("ns.yaml", labelled)]);
    assert_eq!(place.check("-f a.yaml --config c.yaml").status, 1);
    assert_eq!(place.check("-f a.yaml --config c.yaml -n shop").status, 0);
    // The label of a namespace counts too, wherever its manifest is given.
    assert_eq!(place.check("-f a.yaml -n dev").status, 1);
    assert_eq!(
        place
            .check("-f a.yaml -n dev --cluster-state ns.yaml")
            .status,
        0
    );
    assert_eq!(place.check("-f a.yaml ns.yaml -n dev").status, 0);
    let namespace =
        |arguments: &str| place.report(arguments)["findings"][0]["object"]["namespace"].clone();
    assert_eq!(namespace("-f a.yaml"), Value::Null);
    assert_eq!(namespace("-f a.yaml -n other"), "other");
}

#[test]
fn the_state_of_the_cluster_is_not_judged_but_a_change_is_judged_against_it() {
    let killed = "memory: [{container: prometheus, limit: 1Gi, outcome: oomKilled}]\n";
    let smaller = PROMETHEUS.replace("512Mi", "256Mi");
    let place = Place::with(&[
        ("new.yaml", PROMETHEUS),
        ("old.yaml", &smaller),
        ("e.yaml", killed),
    ]);
    let found = |arguments: &str| {
        let report = place.report(&format!("-f new.yaml --evidence e.yaml {arguments}"));
        places(&report)
    };
    assert_eq!(found(""), ["oom-killed-memory-limit new.yaml:10"]);
    // A limit that is raised is never held up, however low it still is.
    assert_eq!(found("--cluster-state old.yaml"), [""; 0]);
    assert_eq!(found("--cluster-state old.yaml -n other"), [""; 0]);
}

#[test]
fn s08_a_registry_is_asked_and_what_it_says_can_be_replayed_without_it() {
    let registry = Registry::start(&["prom/prometheus:v2.55.1", "prom/prometheus:v3.0.0"]);
    let config = format!(
        "registries: {{docker.io: {{server: \"{}\"}}}}\n",
        registry.server()
    );
    let both = format!(
        "{PROMETHEUS}---\n{}",
        PROMETHEUS.replace("v2.56.1", "v3.0.0")
    );
    let place = Place::with(&[("a.yaml", &both), ("c.yaml", &config)]);
    let live = place
        .run("check -f a.yaml --config c.yaml --record r.yaml -o json")
        .json();
    drop(registry);
    let message = |report: &Value| {
        report["findings"][0]["message"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(places(&live), ["missing-image a.yaml:9"]);
    assert!(
        message(&live).contains("has no tag v2.56.1 in prom/prometheus"),
        "{live}"
    );
    assert_eq!(live["abstained"], json!([]));

    let recorded = std::fs::read_to_string(place.path("r.yaml")).unwrap();
    let recorded: Value = serde_saphyr::from_str(&recorded).unwrap();
    assert_eq!(
        recorded["images"],
        json!({
            "docker.io/prom/prometheus:v2.56.1": "missing",
            "docker.io/prom/prometheus:v3.0.0": "exists",
        })
    );
    assert_eq!(
        recorded["tags"],
        json!({"docker.io/prom/prometheus": ["v2.55.1", "v3.0.0"]})
    );

    let replayed = place.report("-f a.yaml --config c.yaml --evidence r.yaml");
    assert_eq!(places(&replayed), places(&live));
    let gone = place.run("check -f a.yaml --config c.yaml -o json").json();
    assert_eq!(gone["findings"], json!([]));
    assert_eq!(gone["abstained"].as_array().unwrap().len(), 2);
}

#[test]
fn a_cluster_that_is_named_and_cannot_be_asked_is_an_error() {
    let place = Place::with(&[("a.yaml", BAD_POD)]);
    let mut command = place.command("check -f a.yaml --context nowhere -o json");
    let outcome = outcome(command.env("KUBECONFIG", place.path("absent")));
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(
        outcome.stderr.starts_with("--context nowhere: "),
        "{outcome:?}"
    );
    assert_eq!(
        places(&outcome.json()),
        ["impossible-memory-limit a.yaml:9"]
    );
}
