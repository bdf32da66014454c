//! What Forestall's own metrics say, over all Pods, and the mode that it runs in.

use std::collections::BTreeMap;

use super::Check;
use super::facts::Facts;
use crate::config::{Config, Mode};
use crate::rules::catalogue::CATALOGUE;

/// Configuration, registries, kinds, repairs, guardrails that failed, what enforce would refuse.
pub(super) fn check(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![mode(facts)];
    if facts.samples().next().is_none() {
        let names = "configuration, registries, kinds, repairs and would-refuse";
        let message = format!("{names}: the metrics of no Pod could be read");
        checks.push(Check::unknown("metrics", message));
        return checks;
    }
    checks.push(configuration(facts));
    checks.extend(leader(facts));
    checks.extend(registries(facts));
    checks.extend(kinds(facts));
    checks.push(repairs(facts));
    checks.extend(events(facts));
    checks.extend(panics(facts));
    checks.push(would_refuse(facts));
    checks
}

/// The default mode, and what differs from it.
fn mode(facts: &Facts) -> Check {
    const NAME: &str = "mode";
    match &facts.config {
        Ok(config) => Check::ok(NAME, described(config)),
        Err(reason) => Check::unread(NAME, "the configuration of the Pods", reason),
    }
}

fn described(config: &Config) -> String {
    let name = |mode: Option<Mode>| mode.unwrap_or(Mode::Enforce).name();
    let default = format!("{} where nothing else is said", name(config.mode));
    let rules = CATALOGUE.iter().filter_map(|meta| {
        let mode = config.rules.get(meta.name)?.mode?;
        Some(format!("{}: {}", meta.name, mode.name()))
    });
    let namespaces = config
        .namespaces
        .iter()
        .filter(|(_, settings)| settings.mode.is_some() || !settings.rules.is_empty())
        .map(|(namespace, _)| format!("settings for namespace {namespace}"));
    let parts: Vec<_> = std::iter::once(default)
        .chain(rules)
        .chain(namespaces)
        .collect();
    parts.join("; ")
}

fn configuration(facts: &Facts) -> Check {
    const NAME: &str = "configuration";
    let old: Vec<_> = facts
        .samples()
        .filter(|(_, samples)| {
            let mut valid = samples.named("forestall_config_valid");
            valid.any(|sample| sample.value < 1.0)
        })
        .map(|(pod, _)| pod.name.as_str())
        .collect();
    if old.is_empty() {
        return Check::ok(NAME, "every Pod uses the newest one");
    }
    let message = format!(
        "{} keep an older one, because the newest is not valid",
        old.join(", ")
    );
    Check::error(NAME, message, "their logs name line, column and cure")
}

/// Who leads, where anybody should: certificates, Events and gauges come from one Pod.
fn leader(facts: &Facts) -> Option<Check> {
    const NAME: &str = "leader";
    let lease = facts
        .samples()
        .find_map(|(pod, _)| pod.argument("--lease"))?;
    let leaders: Vec<_> = facts
        .samples()
        .filter(|(_, samples)| samples.count("forestall_leader", &[]) > 0)
        .map(|(pod, _)| pod.name.as_str())
        .collect();
    Some(match leaders[..] {
        [leader] => Check::ok(NAME, format!("{leader} holds the Lease {lease}")),
        [] => Check::warning(
            NAME,
            format!(
                "no Pod holds the Lease {lease}: certificates are not renewed, and nothing is judged but what is written"
            ),
            "wait half a minute and look again; then see whether their Role may create and update that Lease",
        ),
        _ => Check::warning(
            NAME,
            format!(
                "{} say that they hold the Lease {lease}",
                leaders.join(" and ")
            ),
            "look again: two do so only while it changes hands",
        ),
    })
}

/// The highest value over all Pods, by a label: what one Pod has managed can be managed.
fn best<'a>(facts: &'a Facts, metric: &str, label: &str) -> BTreeMap<&'a str, f64> {
    let mut best = BTreeMap::new();
    for (_, samples) in facts.samples() {
        for sample in samples.named(metric) {
            if let Some(of) = sample.label(label) {
                let value: &mut f64 = best.entry(of).or_default();
                *value = value.max(sample.value);
            }
        }
    }
    best
}

fn registries(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "registries";
    let all = best(facts, "forestall_registry_readable", "registry");
    let unread: Vec<_> = all.iter().filter(|(_, value)| **value < 1.0).collect();
    if unread.is_empty() {
        let message = match all.len() {
            0 => "none was asked yet".to_owned(),
            count => format!("{count} asked, all of them readable"),
        };
        return vec![Check::ok(NAME, message)];
    }
    let warn = |(registry, _): &(&&str, &f64)| {
        Check::warning(
            NAME,
            format!(
                "{registry} has never let Forestall read anything, so its images are not checked"
            ),
            format!(
                "give `registries: {{{registry}: {{server: …}}}}` a mirror that can be read without credentials, or accept it"
            ),
        )
    };
    unread.iter().map(warn).collect()
}

fn kinds(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "kinds";
    let all = best(facts, "forestall_kind_available", "resource");
    // A kind that the cluster does not serve is missing nobody.
    let is_served = |resource: &str| {
        let group = resource.split_once('.').map(|(_, group)| group);
        match (&facts.groups, group) {
            (Ok(groups), Some(group)) => groups.contains_key(group),
            _ => true,
        }
    };
    let unread: Vec<_> = all
        .iter()
        .filter(|(resource, value)| **value < 1.0 && is_served(resource))
        .collect();
    if unread.is_empty() {
        let message = format!(
            "{} watched, all that the cluster serves are readable",
            all.len()
        );
        return vec![Check::ok(NAME, message)];
    }
    let warn = |(resource, _): &(&&str, &f64)| {
        Check::warning(
            NAME,
            format!("Forestall cannot list {resource}, so what depends on it is unknown"),
            format!("give its ServiceAccount list and watch on {resource}; its log has the reason"),
        )
    };
    unread.iter().map(warn).collect()
}

fn repairs(facts: &Facts) -> Check {
    const NAME: &str = "repairs";
    let count = |applied| {
        let counts = facts.samples().map(|(_, samples)| {
            samples.count("forestall_mutations_total", &[("applied", applied)])
        });
        counts.sum::<u64>()
    };
    let (made, dropped) = (count("true"), count("false"));
    if dropped == 0 {
        return Check::ok(NAME, format!("{made} made, none dropped"));
    }
    let message =
        format!("{made} made, and {dropped} dropped, because they would not apply or settle");
    Check::warning(
        NAME,
        message,
        "the log lines of these reviews say which; report it",
    )
}

fn events(facts: &Facts) -> Option<Check> {
    let dropped = facts
        .samples()
        .map(|(_, samples)| samples.count("forestall_events_dropped_total", &[]));
    let dropped: u64 = dropped.sum();
    let message = format!("{dropped} Events could not be written");
    let cure =
        "see whether the ClusterRole may create events.events.k8s.io; the log has the reason";
    (dropped > 0).then(|| Check::warning("events", message, cure))
}

fn panics(facts: &Facts) -> Option<Check> {
    let all = best(facts, "forestall_rule_panics_total", "rule");
    let rules: Vec<_> = all
        .iter()
        .filter(|(_, count)| **count > 0.0)
        .map(|(rule, _)| *rule)
        .collect();
    let message = format!(
        "{} failed on some object, and so did not judge it",
        rules.join(", ")
    );
    (!rules.is_empty())
        .then(|| Check::warning("failures", message, "it is a bug: report it with the log"))
}

/// The number to read before enforcing.
fn would_refuse(facts: &Facts) -> Check {
    const NAME: &str = "would-refuse";
    let all = best(facts, "forestall_would_refuse", "rule");
    if all.is_empty() {
        return Check::unknown(
            NAME,
            "no Pod tells forestall_would_refuse: none leads yet, or its first look at all objects \
             is not over",
        );
    }
    let some: Vec<_> = all
        .iter()
        .filter(|(_, count)| **count > 0.0)
        .map(|(rule, count)| format!("{rule} {count}"))
        .collect();
    if some.is_empty() {
        return Check::ok(NAME, "enforce would refuse no object that is there now");
    }
    let message = format!("objects that enforce would refuse now: {}", some.join(", "));
    Check::ok(NAME, message)
}
