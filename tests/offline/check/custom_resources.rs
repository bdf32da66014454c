//! Custom resources that name images, in files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::Place;

fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/custom-resources.yaml");
    fs::read_to_string(path).unwrap()
}

#[test]
fn ordinary_custom_resources_are_read_to_the_last_image_and_nothing_is_said() {
    let place = Place::with(&[("a.yaml", &example())]);
    let report = place.report("-f a.yaml");
    assert_eq!(report["findings"].as_array().unwrap().len(), 0, "{report}");
    assert_eq!(report["errors"].as_array().unwrap().len(), 0, "{report}");
    let abstained = report["abstained"].as_array().unwrap();
    let seen: BTreeSet<_> = abstained
        .iter()
        .map(|entry| {
            let [kind, reason] = [&entry["object"]["kind"], &entry["reason"]];
            let (kind, reason) = (kind.as_str().unwrap(), reason.as_str().unwrap());
            let (item, _) = reason.split_once(": ").unwrap();
            format!("{kind} {item}")
        })
        .collect();
    let expected = [
        "Prometheus spec.image (quay.io/prometheus/prometheus:v3.1.0)",
        "Prometheus spec.thanos.image (quay.io/thanos/thanos:v0.37.2)",
        "Prometheus spec.initContainers[permissions].image (docker.io/library/busybox:1.37)",
        "Alertmanager spec.image (quay.io/prometheus/alertmanager:v0.28.0)",
        "Alertmanager spec.containers[proxy].image (quay.io/oauth2-proxy/oauth2-proxy:v7.7.1)",
        "ThanosRuler spec.image (quay.io/thanos/thanos:v0.37.2)",
        "OpenTelemetryCollector spec.image (ghcr.io/open-telemetry/opentelemetry-collector-releases/opentelemetry-collector-contrib:0.116.1)",
        "Instrumentation spec.java.image (ghcr.io/open-telemetry/opentelemetry-operator/autoinstrumentation-java:2.11.0)",
        "Instrumentation spec.java.extensions[*].image (registry.example.com/otel/java-extension:1.2.0)",
        "Kafka spec.kafka.image (registry.example.com/strimzi/kafka:0.45.0-kafka-3.9.0)",
        "Kafka spec.entityOperator.userOperator.image (registry.example.com/strimzi/operator:0.45.0)",
        "Workflow spec.templates[build].container.image (moby/buildkit:v0.18.2-rootless)",
        "Workflow spec.templates[smoke].sidecars[postgres].image (postgres:17.2)",
        "CronWorkflow spec.workflowSpec.templates[sweep].script.image (python:3.13-alpine)",
        "Cluster spec.imageName (ghcr.io/cloudnative-pg/postgresql:17.2)",
        "ScaledJob spec.jobTargetRef.template.spec.containers[send].image (registry.example.com/shop/mailer:2.3.0)",
        "RayCluster spec.headGroupSpec.template.spec.containers[ray-head].image (rayproject/ray:2.41.0)",
        "RayCluster spec.workerGroupSpecs[*].template.spec.containers[ray-worker].image (rayproject/ray:2.41.0-gpu)",
    ];
    let expected = BTreeSet::from(expected.map(ToOwned::to_owned));
    assert_eq!(seen, expected);
}

#[test]
fn an_entry_that_cannot_be_used_is_named_with_line_column_and_cure() {
    let place = Place::with(&[("a.yaml", &example())]);
    let entry = |key: &str, value: &str| {
        let mut lines = vec![
            ("group", "example.com"),
            ("kind", "Widget"),
            ("plural", "widgets"),
            ("paths", "[spec.image]"),
        ];
        for line in &mut lines {
            if line.0 == key {
                line.1 = value;
            }
        }
        let lines: Vec<_> = lines
            .iter()
            .map(|(key, value)| format!("        {key}: {value}\n"))
            .collect();
        let lines = lines.concat();
        format!(
            "rules:\n  missing-image:\n    customResources:\n      -{}",
            &lines[7..]
        )
    };
    place.write("good.yaml", entry("", "").as_bytes());
    let good = place.check("--config good.yaml -f a.yaml");
    assert_eq!(good.status, 0, "{good:?}");
    for (key, value, start) in [
        (
            "group",
            "apps",
            "bad.yaml:4:16: rules.missing-image.customResources[0].group: \"apps\" is no API group of custom resources; write it",
        ),
        (
            "kind",
            "widget",
            "bad.yaml:5:15: rules.missing-image.customResources[0].kind: \"widget\" is no kind; write it",
        ),
        (
            "plural",
            "'*'",
            "bad.yaml:6:17: rules.missing-image.customResources[0].plural: \"*\" is no resource name; write it",
        ),
        (
            "paths",
            "[spec.image, 'spec.parts[0].image']",
            "bad.yaml:7:29: rules.missing-image.customResources[0].paths[1]: \"spec.parts[0].image\" is no path; write keys",
        ),
        ("paths", "spec.image", "bad.yaml:7:16: "),
    ] {
        place.write("bad.yaml", entry(key, value).as_bytes());
        let bad = place.check("--config bad.yaml -f a.yaml");
        assert_eq!(bad.status, 2, "{bad:?}");
        assert!(bad.stderr.starts_with(start), "{start}: {}", bad.stderr);
    }
    let other = "rules: {oom-killed-memory-limit: {customResources: [{group: a.b, kind: C, plural: cs, paths: [d]}]}}";
    place.write("bad.yaml", other.as_bytes());
    let bad = place.check("--config bad.yaml -f a.yaml");
    assert!(
        bad.stderr.contains(
            "oom-killed-memory-limit.customResources: this guardrail has no such setting"
        ),
        "{bad:?}"
    );
}
