//! Whether Forestall is registered, for what, and for what not.

use std::collections::{BTreeMap, BTreeSet};

use super::Check;
use super::facts::Facts;
use super::hooks::ServiceName;
use super::hooks::{Hook, Labels, Target, WebhookType};
use crate::config::{Mode, NamespaceLabel};
use crate::guard::SUB_RESOURCES;
use crate::lookup::MODE_LABEL;
use crate::review::WatchedKind;
use crate::review::custom_resource::CUSTOM_RESOURCES;
use crate::rules::Meta;
use crate::rules::catalogue::CATALOGUE;

/// Must always be writable: without what runs in it, nothing can be repaired.
pub(super) const SYSTEM: &str = "kube-system";

/// The timeouts that docs and chart recommend, in seconds.
const SECONDS: [(WebhookType, u32); 2] = [(WebhookType::Mutating, 2), (WebhookType::Validating, 5)];

/// Both webhooks are there, and call one Service.
pub(super) fn registered(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "registered";
    let unread = facts.unread_hooks.iter();
    let mut checks: Vec<_> = unread
        .map(|reason| Check::unread(NAME, "webhook configurations", reason))
        .collect();
    let installations = facts.installations();
    if installations.len() > 1 {
        checks.push(several(NAME, facts, &installations));
    }
    let has = |phase| facts.own().find(|hook| hook.phase == phase);
    match (has(WebhookType::Mutating), has(WebhookType::Validating)) {
        // What could not be read may be what is missing.
        _ if !checks.is_empty() && installations.is_empty() => {}
        (None, None) => checks.push(nowhere(NAME, facts, &installations)),
        (Some(mutating), Some(validating)) => {
            let message = format!(
                "{validating} and {mutating} call {}",
                target(facts.home.as_ref())
            );
            checks.push(Check::ok(NAME, message));
        }
        (Some(only), None) | (None, Some(only)) if facts.unread_hooks.is_empty() => {
            checks.push(half(NAME, only));
        }
        (Some(only), None) | (None, Some(only)) => {
            let message = format!("{only} calls {}", target(facts.home.as_ref()));
            checks.push(Check::ok(NAME, message));
        }
    }
    checks
}

fn target(home: Option<&ServiceName>) -> String {
    home.map_or_else(|| "a URL".to_owned(), |home| format!("Service {home}"))
}

fn several(name: &'static str, facts: &Facts, all: &BTreeSet<ServiceName>) -> Check {
    let (count, listed) = (all.len(), list(all));
    let about = target(facts.home.as_ref());
    let message = format!(
        "{count} installations of Forestall are called: {listed}; what follows is about {about}"
    );
    let cure = "give --namespace to look at another one, and uninstall what is not wanted: each \
                judges the same objects";
    Check::warning(name, message, cure)
}

fn nowhere(name: &'static str, facts: &Facts, all: &BTreeSet<ServiceName>) -> Check {
    match &facts.wanted {
        Some(wanted) if !all.is_empty() => {
            let message = format!(
                "no webhook calls Forestall in namespace {wanted}; they call {}",
                list(all)
            );
            Check::error(name, message, "give another --namespace, or none")
        }
        _ => Check::error(
            name,
            "no webhook named validate.forestall.dev or mutate.forestall.dev is registered, so the \
             API server never asks Forestall",
            "install the chart, or set its mode to audit if it is off: `helm upgrade --install \
             forestall charts/forestall --namespace forestall --create-namespace`",
        ),
    }
}

fn half(name: &'static str, only: &Hook) -> Check {
    match only.phase {
        WebhookType::Mutating => Check::error(
            name,
            format!("only {only} is registered; without validate.forestall.dev nothing is judged"),
            "upgrade the chart: it makes both configurations",
        ),
        WebhookType::Validating => Check::warning(
            name,
            format!("only {only} is registered; without mutate.forestall.dev nothing is repaired"),
            "upgrade the chart, unless all guardrails that repair are off",
        ),
    }
}

/// Timeouts, failurePolicy and matchPolicy.
pub(super) fn settings(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "settings";
    let mut checks = Vec::new();
    let mut seen = Vec::new();
    for hook in facts.own() {
        let seconds = hook.seconds();
        let policy = if hook.fails() { "Fail" } else { "Ignore" };
        seen.push(format!("{}: {policy}, {seconds} s", hook.webhook.name));
        let most = SECONDS.iter().find(|(phase, _)| *phase == hook.phase);
        if let Some((_, most)) = most
            && seconds > *most
        {
            checks.push(Check::warning(
                NAME,
                format!("{hook} has timeoutSeconds {seconds}"),
                format!("write {most}: Forestall itself never takes longer, and while it is down every request waits for that long"),
            ));
        }
        if hook.webhook.match_policy.as_deref() == Some("Exact") {
            checks.push(Check::warning(
                NAME,
                format!(
                    "{hook} has matchPolicy Exact, so objects in other API versions pass unjudged"
                ),
                "write matchPolicy: Equivalent",
            ));
        }
    }
    if checks.is_empty() {
        checks.push(Check::ok(NAME, seen.join("; ")));
    }
    checks
}

/// Every guardrail of this program is asked about what it watches. Custom resources that name images
/// have a check of their own: most clusters serve few of them.
pub(super) fn guardrails(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "guardrails";
    let mut checks = Vec::new();
    for meta in CATALOGUE.iter().filter(|meta| is_on(meta, facts)) {
        let watches = meta.watches.iter().copied();
        let watches = watches.filter(|kind| !CUSTOM_RESOURCES.contains(kind));
        let watches: Vec<_> = watches.collect();
        for phase in phases(facts, meta) {
            let missing = unreached(facts, &watches, phase);
            if missing.is_empty() {
                continue;
            }
            let message = format!(
                "no rule of the {} webhook reaches {} for {}",
                phase.word(),
                missing.join(", "),
                meta.name
            );
            let cure = "upgrade the chart to the version of this program, or take over the rules \
                        of `forestall rules -o json`";
            checks.push(Check::warning(NAME, message, cure));
        }
    }
    if checks.is_empty() {
        let count = CATALOGUE.len();
        let message = format!("the rules reach what the {count} guardrails of {VERSION} watch");
        checks.push(Check::ok(NAME, message));
    }
    checks
}

/// The version of this program.
pub(super) const VERSION: &str = concat!("forestall ", env!("CARGO_PKG_VERSION"));

/// Whether a guardrail runs anywhere; where that cannot be seen, it counts as on.
pub(super) fn is_on(meta: &Meta, facts: &Facts) -> bool {
    let (Ok(config), Ok(namespaces)) = (&facts.config, &facts.namespaces) else {
        return true;
    };
    let mode = |(namespace, labels): (&String, &Labels)| {
        let label = labels.get(MODE_LABEL).and_then(|mode| Mode::parse(mode));
        config.mode(meta.name, Some(namespace), NamespaceLabel::Known(label))
    };
    namespaces.iter().map(mode).any(|mode| mode > Mode::Off)
}

/// The webhooks that a guardrail needs, among those that are registered.
fn phases(facts: &Facts, meta: &Meta) -> Vec<WebhookType> {
    let registered = |phase| facts.own().any(|hook| hook.phase == phase);
    let mutating =
        (meta.repairs && registered(WebhookType::Mutating)).then_some(WebhookType::Mutating);
    let validating = registered(WebhookType::Validating).then_some(WebhookType::Validating);
    mutating.into_iter().chain(validating).collect()
}

/// What a guardrail watches and no rule names, as `resource.group`.
pub(super) fn unreached(facts: &Facts, watches: &[WatchedKind], phase: WebhookType) -> Vec<String> {
    let hooks: Vec<_> = facts.own().filter(|hook| hook.phase == phase).collect();
    let mut missing = Vec::new();
    for kind in watches {
        let mut resources = vec![kind.plural.to_owned()];
        if (kind.group, kind.kind) == ("", "Pod") {
            let parts = SUB_RESOURCES.iter();
            resources.extend(parts.map(|part| format!("{}/{part}", kind.plural)));
        }
        for resource in resources {
            let is_reached = ["CREATE", "UPDATE"].iter().all(|operation| {
                // Parts of an object are only ever updated.
                resource.contains('/') && *operation == "CREATE"
                    || hooks.iter().any(|hook| {
                        hook.covers(Target {
                            group: kind.group,
                            resource: &resource,
                            operation,
                        })
                    })
            });
            if !is_reached {
                missing.push(qualified(&resource, kind.group));
            }
        }
    }
    missing
}

pub(super) fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}

/// kube-system and Forestall's own namespace are left alone.
pub(super) fn exclusions(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "exclusions";
    let namespaces = match &facts.namespaces {
        Ok(namespaces) => namespaces,
        Err(reason) => return vec![Check::unread(NAME, "labels of namespaces", reason)],
    };
    let protected = protected(facts);
    let mut checks = Vec::new();
    for hook in facts.own() {
        let selected = selected(hook, &protected, namespaces);
        if selected.is_empty() {
            continue;
        }
        let listed = selected.join(" and ");
        let cure = format!(
            "leave it out by the namespaceSelector: key kubernetes.io/metadata.name, operator \
             NotIn, values [{}]",
            protected.join(", ")
        );
        checks.push(if hook.fails() {
            let message = format!(
                "{hook} is asked about {listed} with failurePolicy Fail: while Forestall is down, \
                 what would repair the cluster, or Forestall itself, cannot be written"
            );
            Check::error(NAME, message, cure)
        } else {
            Check::warning(NAME, format!("{hook} is asked about {listed}"), cure)
        });
    }
    if checks.is_empty() {
        let listed = protected.join(" and ");
        checks.push(Check::ok(NAME, format!("{listed} are left alone")));
    }
    checks
}

/// The namespaces that must stay writable whatever happens to webhooks.
pub(super) fn protected(facts: &Facts) -> Vec<&str> {
    let home = facts.home.as_ref().map(|home| home.namespace.as_str());
    [Some(SYSTEM), home.filter(|home| *home != SYSTEM)]
        .into_iter()
        .flatten()
        .collect()
}

/// Those of the namespaces that a webhook is asked about.
pub(super) fn selected<'a>(
    hook: &Hook,
    names: &[&'a str],
    namespaces: &BTreeMap<String, Labels>,
) -> Vec<&'a str> {
    let is_selected = |name: &&&str| {
        let labels = namespaces.get(**name);
        labels.is_some_and(|labels| hook.selects(labels))
    };
    names.iter().filter(is_selected).copied().collect()
}

fn list(services: &BTreeSet<ServiceName>) -> String {
    let services: Vec<_> = services.iter().map(ToString::to_string).collect();
    services.join(", ")
}
