//! What other webhooks do to the cluster: which block it, which could, and how long all may take.

use std::collections::BTreeSet;

use super::Check;
use super::api::Unread;
use super::facts::{Backend, Facts};
use super::hooks::{Hook, Target, WebhookType};
use super::installation::{protected, selected};

/// What must be writable where a cluster is repaired.
const ESSENTIAL: [(&str, &str); 7] = [
    ("", "pods"),
    ("", "configmaps"),
    ("", "secrets"),
    ("apps", "deployments"),
    ("apps", "daemonsets"),
    ("apps", "replicasets"),
    ("coordination.k8s.io", "leases"),
];

/// How long the API server works on one request that writes, in seconds: requestTimeoutUpperBound in
/// k8s.io/apiserver 0.37.2, pkg/endpoints/handlers/rest.go.
const REQUEST_SECONDS: u32 = 34;
/// What the object itself needs of it.
const REST_SECONDS: u32 = 4;

/// Webhooks of others that fail every request they are registered for, because nobody answers.
pub(super) fn blocking(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "other-webhooks";
    let mut checks = Vec::new();
    let mut alive = 0;
    for hook in facts.foreign().filter(|hook| can_block(hook, facts)) {
        let Some(service) = hook.service() else {
            continue;
        };
        let Some(backend) = facts.backends.get(&service) else {
            continue;
        };
        let what = match trouble(backend) {
            Ok(false) => {
                alive += 1;
                continue;
            }
            Ok(true) if matches!(backend.service, Err(Unread::Absent(_))) => "does not exist",
            Ok(true) => "has no ready endpoint",
            Err(reason) => {
                checks.push(Check::unread(NAME, &format!("what {hook} calls"), reason));
                continue;
            }
        };
        let message = format!(
            "{hook} has failurePolicy Fail and calls Service {service}, which {what}: requests \
             about {} fail now",
            resources(hook)
        );
        let cure = format!(
            "bring the Service back; to free the cluster now: `{}`",
            hook.release()
        );
        checks.push(Check::error(NAME, message, cure));
    }
    if checks.is_empty() {
        let all = facts.foreign().count();
        let message = format!(
            "{all} webhooks of others; {alive} could block, and all of them have ready endpoints"
        );
        checks.push(Check::ok(NAME, message));
    }
    checks
}

/// Whether a request fails without it. One for namespaced objects that selects no namespace blocks
/// nothing.
fn can_block(hook: &Hook, facts: &Facts) -> bool {
    let only_in_namespaces = hook
        .rules()
        .iter()
        .all(|rule| rule.scope.as_deref() == Some("Namespaced"));
    let selects_some = match &facts.namespaces {
        Ok(namespaces) => namespaces.values().any(|labels| hook.selects(labels)),
        Err(_) => true,
    };
    hook.fails() && !hook.rules().is_empty() && (selects_some || !only_in_namespaces)
}

/// Whether nobody answers for a Service. What an `ExternalName` stands for cannot be seen.
fn trouble(backend: &Backend) -> Result<bool, &Unread> {
    match (&backend.service, &backend.endpoints) {
        (Err(Unread::Absent(_)), _) => Ok(true),
        (Ok(_), _) if backend.external_name().is_some() => Ok(false),
        (Ok(_), Ok(endpoints)) => Ok(endpoints.ready == 0),
        (Err(reason), _) | (_, Err(reason)) => Err(reason),
    }
}

/// The first resources that a webhook is registered for.
fn resources(hook: &Hook) -> String {
    const MOST: usize = 5;
    let mut all = BTreeSet::new();
    for rule in hook.rules() {
        for resource in rule.resources.iter().flatten() {
            for group in rule.api_groups.iter().flatten() {
                let dot = if group.is_empty() { "" } else { "." };
                all.insert(format!("{resource}{dot}{group}"));
            }
        }
    }
    let more = all.len().saturating_sub(MOST);
    let first: Vec<_> = all.into_iter().take(MOST).collect();
    let more = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    first.join(", ") + &more
}

/// Webhooks of others without which kube-system or Forestall's own namespace cannot be repaired.
pub(super) fn entangled(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "dependencies";
    let namespaces = match &facts.namespaces {
        Ok(namespaces) => namespaces,
        Err(reason) => return vec![Check::unread(NAME, "labels of namespaces", reason)],
    };
    let protected = protected(facts);
    let mut checks = Vec::new();
    for hook in facts.foreign().filter(|hook| hook.fails()) {
        let selected = selected(hook, &protected, namespaces);
        let essential: Vec<_> = ESSENTIAL
            .iter()
            .filter(|(group, resource)| {
                ["CREATE", "UPDATE"].iter().any(|operation| {
                    hook.covers(Target {
                        group,
                        resource,
                        operation,
                    })
                })
            })
            .map(|(_, resource)| *resource)
            .collect();
        if selected.is_empty() || essential.is_empty() {
            continue;
        }
        let message = format!(
            "{hook} has failurePolicy Fail and is asked about {} in {}: when it is down, they \
             cannot be repaired",
            essential.join(", "),
            selected.join(" and "),
        );
        let cure = format!(
            "leave {} out by its namespaceSelector, or accept it",
            selected.join(" and ")
        );
        checks.push(Check::warning(NAME, message, cure));
    }
    if checks.is_empty() {
        let listed = protected.join(" and ");
        checks.push(Check::ok(
            NAME,
            format!("no webhook of others stands in the way of repairs in {listed}"),
        ));
    }
    checks
}

/// How long the creation of a Deployment may wait for webhooks.
pub(super) fn time(facts: &Facts) -> Check {
    const NAME: &str = "timeouts";
    if let Some(reason) = facts.unread_hooks.first() {
        return Check::unread(NAME, "webhook configurations", reason);
    }
    let deployment = Target {
        group: "apps",
        resource: "deployments",
        operation: "CREATE",
    };
    let asked: Vec<_> = facts
        .hooks
        .iter()
        .filter(|hook| hook.covers(deployment))
        .collect();
    // Without a right to see namespaces, it is the worst that any of them could meet.
    let anywhere = [("any namespace", None)];
    let everywhere: Vec<_> = match &facts.namespaces {
        Ok(all) => all
            .iter()
            .map(|(name, labels)| (name.as_str(), Some(labels)))
            .collect(),
        Err(_) => anywhere.to_vec(),
    };
    // Of equals the last one counts, so that it is the first by name.
    let worst = everywhere
        .into_iter()
        .rev()
        .map(|(namespace, labels)| {
            let met = |hook: &&&Hook| labels.is_none_or(|labels| hook.selects(labels));
            let met: Vec<&Hook> = asked.iter().filter(met).copied().collect();
            (wait(&met), namespace, met)
        })
        .max_by_key(|(seconds, ..)| *seconds);
    let Some((seconds, namespace, met)) = worst else {
        return Check::ok(NAME, "there is no namespace");
    };
    let listed: Vec<_> = met
        .iter()
        .map(|hook| {
            let again = if hook.asked_again {
                ", perhaps twice"
            } else {
                ""
            };
            let phase = hook.phase.word();
            format!("{hook}: {phase}, {} s{again}", hook.seconds())
        })
        .collect();
    let message = format!(
        "where no webhook answers, creating a Deployment in {namespace} waits for {seconds} s: \
         mutating ones one after another, validating ones together; the API server gives a \
         request {REQUEST_SECONDS} s"
    );
    let message = std::iter::once(message)
        .chain(listed)
        .collect::<Vec<_>>()
        .join("\n");
    if seconds + REST_SECONDS > REQUEST_SECONDS {
        let cure = "lower the timeoutSeconds of the mutating ones: a request that runs out of time \
                    fails, even where each webhook has failurePolicy Ignore";
        return Check::warning(NAME, message, cure);
    }
    Check::ok(NAME, message)
}

/// Seconds: mutating webhooks are asked one after another, validating ones at the same time.
fn wait(hooks: &[&Hook]) -> u32 {
    let (mutating, validating): (Vec<&Hook>, Vec<&Hook>) = hooks
        .iter()
        .partition(|hook| hook.phase == WebhookType::Mutating);
    let times = |hook: &Hook| if hook.asked_again { 2 } else { 1 };
    let in_turn: u32 = mutating
        .iter()
        .map(|hook| hook.seconds().saturating_mul(times(hook)))
        .sum();
    in_turn
        + validating
            .iter()
            .map(|hook| hook.seconds())
            .max()
            .unwrap_or_default()
}
