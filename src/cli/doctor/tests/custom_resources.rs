//! What is said of custom resources that name images.

use super::{complaints, forbidden, healthy, only};
use crate::cli::doctor::facts::Facts;
use crate::cli::doctor::facts::Served;
use crate::cli::doctor::{Outcome, judge};
use crate::config::{Config, Mode};

/// The kinds that a cluster serves, each by group, kind and plural name.
fn serving(facts: &mut Facts, kinds: &[[&str; 3]]) {
    let served = kinds.iter().map(|[group, kind, plural]| {
        let served = Served {
            plural: (*plural).to_owned(),
            is_namespaced: *kind != "ClusterWidget",
        };
        (((*group).to_owned(), (*kind).to_owned()), served)
    });
    facts.resources = Ok(served.collect());
}

const PROMETHEUS: [&str; 3] = ["monitoring.coreos.com", "Prometheus", "prometheuses"];
const WIDGET: [&str; 3] = ["example.com", "Widget", "widgets"];

#[test]
fn a_path_that_no_rule_reaches_is_named_where_the_cluster_serves_its_kind() {
    let mut facts = healthy();
    let config = "rules: {missing-image: {customResources: [{group: example.com, kind: Widget, \
                  plural: widgets, paths: [spec.image, 'spec.parts[*].image']}]}}";
    facts.config = Ok(Config::parse("config", config).unwrap());
    // What the cluster does not serve is missing nobody, and is told all the same.
    let told = |facts: &Facts| {
        let checks = judge(facts);
        let mut checks = checks.into_iter();
        checks
            .find(|check| check.name == "custom-resources")
            .unwrap()
    };
    assert_eq!(complaints(&facts), []);
    let message = told(&facts).message;
    assert!(
        message.starts_with("the cluster serves no kind"),
        "{message}"
    );
    let absent = "\nnot served here: widgets.example.com, 18 kinds that are built in";
    assert!(message.ends_with(absent), "{message}");
    serving(&mut facts, &[PROMETHEUS]);
    let message = told(&facts).message;
    assert!(
        message.starts_with("the rules reach prometheuses.monitoring.coreos.com\n"),
        "{message}"
    );
    serving(&mut facts, &[PROMETHEUS, WIDGET]);
    only(
        &facts,
        "custom-resources",
        Outcome::Warning,
        &[
            "reaches widgets.example.com, so missing-image does not see its spec.image, \
             spec.parts[*].image",
            "rules.missing-image.customResources",
        ],
    );
    let off = facts
        .config
        .as_mut()
        .unwrap()
        .rules
        .get_mut("missing-image");
    off.unwrap().mode = Some(Mode::Off);
    assert_eq!(complaints(&facts), []);
    facts.config = Ok(Config::default());
    assert_eq!(complaints(&facts), []);
    facts.resources = Err(forbidden());
    only(&facts, "custom-resources", Outcome::Unknown, &["ana"]);
}

#[test]
fn a_kind_that_is_served_otherwise_than_it_is_configured_is_named() {
    let mut facts = healthy();
    let configured = |kind: &str, plural: &str| {
        let text = format!(
            "rules: {{missing-image: {{customResources: [{{group: example.com, kind: {kind}, \
             plural: {plural}, paths: [spec.image]}}]}}}}"
        );
        Ok(Config::parse("config", &text).unwrap())
    };
    serving(&mut facts, &[WIDGET]);
    facts.config = configured("Widget", "widget");
    only(
        &facts,
        "custom-resources",
        Outcome::Warning,
        &[
            "serves widget.example.com as widgets",
            "write plural: widgets",
        ],
    );
    serving(
        &mut facts,
        &[["example.com", "ClusterWidget", "clusterwidgets"]],
    );
    facts.config = configured("ClusterWidget", "clusterwidgets");
    only(
        &facts,
        "custom-resources",
        Outcome::Warning,
        &["clusterwidgets.example.com is cluster-scoped", "remove it"],
    );
}
