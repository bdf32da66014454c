//! Webhooks as the API server knows them: whom they call, and what they are asked about.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhook,
    ValidatingWebhookConfiguration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// How Forestall's own webhooks are called; the names are part of its interface.
const MUTATE: &str = "mutate.forestall.dev";
/// The validating one.
const VALIDATE: &str = "validate.forestall.dev";

/// A Service by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ServiceName {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// Labels of a namespace or of another object.
pub(super) type Labels = BTreeMap<String, String>;

/// Which of both kinds a webhook is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WebhookType {
    Mutating,
    Validating,
}

/// One webhook of one configuration.
#[derive(Clone, Debug)]
pub(super) struct Hook {
    pub(super) phase: WebhookType,
    /// The name of the configuration that it is in.
    pub(super) configuration: String,
    /// Its place in there.
    pub(super) index: usize,
    /// Whether it may be asked a second time about the same object.
    pub(super) asked_again: bool,
    /// A mutating one has the same fields, but for that.
    pub(super) webhook: ValidatingWebhook,
}

/// A request that webhooks may be asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) group: &'a str,
    /// The resource, or the resource and a part of it: `pods/resize`.
    pub(super) resource: &'a str,
    pub(super) operation: &'a str,
}

// === impl ServiceName ===

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

// === impl WebhookType ===

impl WebhookType {
    /// The word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Mutating => "mutating",
            Self::Validating => "validating",
        }
    }

    /// The resource, as kubectl takes it.
    pub(super) fn resource(self) -> &'static str {
        match self {
            Self::Mutating => "mutatingwebhookconfiguration",
            Self::Validating => "validatingwebhookconfiguration",
        }
    }
}

// === impl Hook ===

impl Hook {
    /// The webhooks of mutating configurations.
    pub(super) fn of_mutating(all: Vec<MutatingWebhookConfiguration>) -> Vec<Self> {
        let webhooks = all.into_iter().flat_map(|configuration| {
            let name = configuration.metadata.name.unwrap_or_default();
            let webhooks = configuration.webhooks.unwrap_or_default();
            let webhooks = webhooks.into_iter().enumerate();
            webhooks.map(move |(index, webhook)| Self {
                phase: WebhookType::Mutating,
                configuration: name.clone(),
                index,
                asked_again: webhook.reinvocation_policy.as_deref() == Some("IfNeeded"),
                webhook: as_validating(webhook),
            })
        });
        webhooks.collect()
    }

    /// The webhooks of validating configurations.
    pub(super) fn of_validating(all: Vec<ValidatingWebhookConfiguration>) -> Vec<Self> {
        let webhooks = all.into_iter().flat_map(|configuration| {
            let name = configuration.metadata.name.unwrap_or_default();
            let webhooks = configuration.webhooks.unwrap_or_default();
            let webhooks = webhooks.into_iter().enumerate();
            webhooks.map(move |(index, webhook)| Self {
                phase: WebhookType::Validating,
                configuration: name.clone(),
                index,
                asked_again: false,
                webhook,
            })
        });
        webhooks.collect()
    }

    /// Whether it is one of Forestall's, of whichever installation.
    pub(super) fn is_forestall(&self) -> bool {
        self.webhook.name
            == match self.phase {
                WebhookType::Mutating => MUTATE,
                WebhookType::Validating => VALIDATE,
            }
    }

    /// The Service that it calls; none where it calls a URL.
    pub(super) fn service(&self) -> Option<ServiceName> {
        let service = self.webhook.client_config.service.as_ref()?;
        Some(ServiceName {
            namespace: service.namespace.clone(),
            name: service.name.clone(),
        })
    }

    /// The port of the Service that it calls. Source: `ServiceReference` in the API reference.
    pub(super) fn port(&self) -> i32 {
        let service = self.webhook.client_config.service.as_ref();
        service.and_then(|service| service.port).unwrap_or(443)
    }

    /// Whether a request fails where this webhook cannot be asked.
    pub(super) fn fails(&self) -> bool {
        self.webhook.failure_policy.as_deref() != Some("Ignore")
    }

    /// How long the API server waits for it, in seconds. Source: `timeoutSeconds` in the API reference.
    pub(super) fn seconds(&self) -> u32 {
        let seconds = self.webhook.timeout_seconds.unwrap_or(10);
        u32::try_from(seconds).unwrap_or_default()
    }

    /// What it is registered for.
    pub(super) fn rules(&self) -> &[RuleWithOperations] {
        self.webhook.rules.as_deref().unwrap_or_default()
    }

    /// Whether its rules name a request.
    pub(super) fn covers(&self, target: Target<'_>) -> bool {
        self.rules().iter().any(|rule| covers(rule, target))
    }

    /// Whether it is asked about plain objects in a namespace with these labels. What its
    /// matchConditions leave out is not seen.
    pub(super) fn selects(&self, namespace: &Labels) -> bool {
        selects(self.webhook.namespace_selector.as_ref(), namespace)
            && selects(self.webhook.object_selector.as_ref(), &Labels::new())
    }

    /// The kubectl line after which its absence blocks nothing any more.
    pub(super) fn release(&self) -> String {
        let (resource, configuration) = (self.phase.resource(), &self.configuration);
        let (index, name) = (self.index, &self.webhook.name);
        format!(
            "kubectl patch {resource} {configuration} --type=json -p '[\
             {{\"op\":\"test\",\"path\":\"/webhooks/{index}/name\",\"value\":\"{name}\"}},\
             {{\"op\":\"replace\",\"path\":\"/webhooks/{index}/failurePolicy\",\"value\":\"Ignore\"}}]'"
        )
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (resource, configuration) = (self.phase.resource(), &self.configuration);
        write!(f, "{} of {resource}/{configuration}", self.webhook.name)
    }
}

fn as_validating(webhook: MutatingWebhook) -> ValidatingWebhook {
    ValidatingWebhook {
        admission_review_versions: webhook.admission_review_versions,
        client_config: webhook.client_config,
        failure_policy: webhook.failure_policy,
        match_conditions: webhook.match_conditions,
        match_policy: webhook.match_policy,
        name: webhook.name,
        namespace_selector: webhook.namespace_selector,
        object_selector: webhook.object_selector,
        rules: webhook.rules,
        side_effects: webhook.side_effects,
        timeout_seconds: webhook.timeout_seconds,
    }
}

/// Versions are left out of account: under matchPolicy Equivalent any of them will do.
fn covers(rule: &RuleWithOperations, target: Target<'_>) -> bool {
    let has = |list: &Option<Vec<String>>, wanted: &dyn Fn(&str) -> bool| {
        let list = list.as_deref().unwrap_or_default();
        list.iter().any(|entry| wanted(entry))
    };
    let (resource, part) = target
        .resource
        .split_once('/')
        .unwrap_or((target.resource, ""));
    let names = |entry: &str| match entry.split_once('/') {
        None => part.is_empty() && (entry == "*" || entry == resource),
        Some((of, entry)) => {
            (of == "*" || of == resource) && (entry == "*" || !part.is_empty() && entry == part)
        }
    };
    has(&rule.api_groups, &|group| {
        group == "*" || group == target.group
    }) && has(&rule.operations, &|operation| {
        operation == "*" || operation == target.operation
    }) && has(&rule.resources, &names)
}

/// Whether a selector selects an object with these labels. An absent one selects everything.
pub(super) fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else {
        return true;
    };
    let mut equal = selector.match_labels.iter().flatten();
    let mut requirements = selector.match_expressions.iter().flatten();
    equal.all(|(key, value)| labels.get(key) == Some(value))
        && requirements.all(|requirement| meets(requirement, labels))
}

/// Source: `LabelSelectorRequirement` in the API reference. `NotIn` holds where there is no label too.
fn meets(requirement: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let label = labels.get(&requirement.key);
    let listed = label.is_some_and(|label| requirement.values.iter().flatten().any(|v| v == label));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => label.is_some(),
        "DoesNotExist" => label.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(resource: &str) -> Target<'_> {
        Target {
            group: "apps",
            resource,
            operation: "CREATE",
        }
    }

    #[test]
    fn rules_cover_what_the_api_server_would_ask_about() {
        let rule = |groups: &[&str], resources: &[&str], operations: &[&str]| {
            let rule = json!({"apiGroups": groups, "apiVersions": ["v1"], "resources": resources,
                              "operations": operations});
            serde_json::from_value::<RuleWithOperations>(rule).unwrap()
        };
        let (deployment, scale) = (target("deployments"), target("deployments/scale"));
        for (resources, whole, part) in [
            (&["deployments"][..], true, false),
            (&["*"], true, false),
            (&["*/*"], true, true),
            (&["deployments/*"], true, true),
            (&["deployments/scale"], false, true),
            (&["*/scale"], false, true),
            (&["pods", "*/status"], false, false),
            (&[], false, false),
        ] {
            let rule = rule(&["apps"], resources, &["CREATE"]);
            assert_eq!(covers(&rule, deployment), whole, "{resources:?}");
            assert_eq!(covers(&rule, scale), part, "{resources:?}");
        }
        assert!(covers(&rule(&["*"], &["*"], &["*"]), deployment));
        assert!(!covers(&rule(&[""], &["*"], &["*"]), deployment));
        assert!(!covers(&rule(&["apps"], &["*"], &["UPDATE"]), deployment));
    }

    #[test]
    fn selectors_select_as_the_api_server_does() {
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            pairs.iter().map(owned).collect()
        };
        let (plain, marked) = (labels(&[]), labels(&[("a", "1"), ("b", "")]));
        let expression = |operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": "a", "operator": operator, "values": values}]});
        for (selector, of_plain, of_marked) in [
            (json!({}), true, true),
            (json!({"matchLabels": {"a": "1"}}), false, true),
            (json!({"matchLabels": {"a": "1", "b": "2"}}), false, false),
            (expression("In", &["0", "1"]), false, true),
            (expression("NotIn", &["0"]), true, true),
            (expression("NotIn", &["1"]), true, false),
            (expression("Exists", &[]), false, true),
            (expression("DoesNotExist", &[]), true, false),
            (expression("Gt", &["0"]), false, false),
        ] {
            let parsed: LabelSelector = serde_json::from_value(selector.clone()).unwrap();
            assert_eq!(selects(Some(&parsed), &plain), of_plain, "{selector}");
            assert_eq!(selects(Some(&parsed), &marked), of_marked, "{selector}");
        }
        assert!(selects(None, &plain));
    }
}
