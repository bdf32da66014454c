//! Findings that somebody accepts for a time.

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::review::Subject;

/// A named person's decision that a finding is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exemption {
    /// The guardrail.
    pub rule: String,
    /// Only in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only this name; a `*` at the end matches any rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    pub reason: String,
    /// The last day on which it holds (UTC), such as 2027-01-31.
    #[schemars(with = "String")]
    pub until: Date,
}

// === impl Exemption ===

impl Exemption {
    /// Whether it accepts what this guardrail finds in this object today.
    pub(super) fn accepts(&self, rule: &str, subject: &Subject, today: Date) -> bool {
        let is = |wanted: &Option<String>, seen: Option<&str>| {
            wanted.is_none() || wanted.as_deref() == seen
        };
        self.rule == rule
            && self.until >= today
            && is(&self.namespace, subject.namespace.as_deref())
            && is(&self.kind, Some(&subject.kind))
            && self
                .name
                .as_ref()
                .is_none_or(|wanted| matches(wanted, &subject.name))
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}
