//! Alerts and the dashboard: they speak of what there is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{case, of_kind, source, the, with};
use crate::go::answers;

const ALERTS: &str = "metrics.prometheusRule.enabled=true";

/// The names in a text that begin like Forestall's metrics, as docs/metrics.md has them.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    let names = words.filter(|word| word.starts_with("forestall_"));
    names
        .map(|name| name.trim_end_matches("_bucket").to_owned())
        .collect()
}

fn described() -> BTreeSet<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    metrics(&fs::read_to_string(page).unwrap())
}

fn alerts(settings: &[&str]) -> Vec<Value> {
    let objects = with(settings);
    let groups = &the(&objects, "PrometheusRule")["spec"]["groups"];
    groups[0]["rules"].as_array().unwrap().clone()
}

#[test]
fn every_metric_that_an_alert_or_a_panel_asks_for_exists() {
    let objects = case("everything");
    // One alert is about certificates of its own, which that case does not have.
    let rule = the(&with(&[ALERTS]), "PrometheusRule")["spec"].to_string();
    let dashboards = of_kind(&objects, "ConfigMap");
    let dashboard = dashboards
        .iter()
        .find_map(|map| map["data"]["guard.json"].as_str())
        .unwrap();
    for text in [rule.as_str(), dashboard] {
        let asked = metrics(text);
        assert!(asked.len() > 8, "{asked:?}");
        let unknown: Vec<_> = asked.difference(&described()).cloned().collect();
        assert!(unknown.is_empty(), "{unknown:?} are not in docs/metrics.md");
    }
}

/// By the parser of Prometheus.
#[test]
fn every_expression_is_one() {
    let dashboard = fs::read_to_string(source().join("files/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let targets = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    // What Grafana puts in.
    let filled_in = |text: &str| text.replace("$__rate_interval", "5m");
    let expressions: Vec<_> = alerts(&[ALERTS])
        .iter()
        .chain(targets)
        .map(|holder| filled_in(holder["expr"].as_str().unwrap()))
        .collect();
    for (expression, answer) in expressions
        .iter()
        .zip(answers::<Value>("promql", &expressions))
    {
        assert_eq!(answer, json!({}), "{expression}");
    }
    let wrong = answers::<Value>("promql", &["sum(rate(a[5m)) > 1".to_owned()]);
    assert!(wrong[0]["error"].is_string(), "{wrong:?}");
}

#[test]
fn every_alert_tells_what_it_means_and_where_to_read_on() {
    let alerts = alerts(&[ALERTS]);
    let names: BTreeSet<_> = alerts
        .iter()
        .map(|alert| alert["alert"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), alerts.len(), "a name is there twice");
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let guide = fs::read_to_string(guide).unwrap();
    let told: BTreeSet<_> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("### Forestall"))
        .collect();
    assert_eq!(told.len(), alerts.len(), "{told:?}");
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        let is_told = name
            .strip_prefix("Forestall")
            .is_some_and(|rest| told.contains(rest));
        assert!(is_told, "{name} is not in docs/operations.md");
        let page = format!("operations.md#{}", name.to_lowercase());
        let link = alert["annotations"]["runbook_url"].as_str().unwrap();
        assert!(link.ends_with(&page), "{link}");
        for key in ["summary", "description"] {
            let text = alert["annotations"][key].as_str().unwrap();
            assert!(text.len() > 10, "{name}: {text}");
        }
        assert!(
            ["info", "warning", "critical"]
                .contains(&alert["labels"]["severity"].as_str().unwrap())
        );
        let expression = alert["expr"].as_str().unwrap();
        assert!(
            expression.contains("namespace=\"forestall\"")
                || expression.contains("[.]forestall[.]dev"),
            "{name} looks at other installations: {expression}"
        );
    }
}

#[test]
fn nobody_is_alerted_of_what_the_chart_did_not_install() {
    let registered = |settings: &[&str]| -> Option<String> {
        let all = alerts(&[&[ALERTS], settings].concat());
        let alert = all
            .into_iter()
            .find(|alert| alert["alert"] == "ForestallNotRegistered");
        Some(alert?["expr"].as_str().unwrap().to_owned())
    };
    assert!(
        registered(&[])
            .unwrap()
            .contains("webhook=~\"mutating|validating\"")
    );
    let without_repairs = [
        "rules.implicit-external-secret-defaults.mode=off",
        "rules.unignored-live-fields.mode=off",
    ];
    assert!(
        registered(&without_repairs)
            .unwrap()
            .contains("webhook=~\"validating\"")
    );
    assert_eq!(registered(&["certManager.enabled=true"]), None);
}

#[test]
fn the_dashboard_is_one_that_grafana_reads() {
    let text = fs::read_to_string(source().join("files/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut places = BTreeSet::new();
    for panel in panels {
        assert!(
            places.insert(panel["gridPos"].to_string()),
            "two panels in one place"
        );
        assert!(
            panel["title"].is_string() && panel["targets"][0]["expr"].is_string(),
            "{panel}"
        );
        let place = &panel["gridPos"];
        assert!(
            place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24,
            "{panel}"
        );
    }
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
}
