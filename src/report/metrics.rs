//! Metrics, in the OpenMetrics text format. Labels come from closed sets, never from objects.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// Registries that have a label of their own; the images of a cluster name few, an attacker many.
const MOST_REGISTRIES: usize = 64;

/// Seconds: from a cached answer to the longest timeout that an API server allows a webhook.
const SECONDS: [f64; 12] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0,
];

/// Labels of [`Metrics::reviews`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReviewLabels {
    /// `mutating` or `validating`.
    pub webhook: &'static str,
    /// A kind that a guardrail watches, or `other`.
    pub resource_kind: &'static str,
    /// CREATE, UPDATE, DELETE or CONNECT; `other` for what does not exist.
    pub operation: &'static str,
    /// `allow`, `warn`, `patch`, `would_deny` (admitted, but enforce would have refused it), `deny`,
    /// or `error` (it could not be judged as a whole).
    pub decision: &'static str,
    /// Whether it was a dry run.
    pub dry_run: Boolean,
}

/// `true` or `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Boolean(pub bool);

/// Labels of [`Metrics::rule_results`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RuleLabels {
    /// The guardrail.
    pub rule: &'static str,
    /// The mode that held.
    pub mode: &'static str,
    /// `warn`, `fail`, `would_deny`, `patch`, `exempt`, `record` or `unknown`.
    pub result: &'static str,
}

/// Labels of [`Metrics::patches`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PatchLabels {
    /// The guardrail.
    pub rule: &'static str,
    /// `true`, or `false` where the patch would not have applied or settled.
    pub applied: Boolean,
}

/// One label that says which.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WebhookLabel {
    /// `mutating` or `validating`.
    pub webhook: &'static str,
}

/// One label that says which certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CertificateLabel {
    /// `serving`, or `ca`: the authority that signs.
    pub certificate: &'static str,
}

/// One label that says how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    /// How it ended.
    pub result: &'static str,
}

/// One label that says why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// Why.
    pub reason: &'static str,
}

/// One label that names a resource as `plural.group`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResourceLabel {
    /// Which.
    pub resource: String,
}

/// One label that names a guardrail.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RuleLabel {
    /// Which.
    pub rule: &'static str,
}

/// One label that names a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RegistryLabel {
    /// The host in the image reference; `other` beyond the first 64.
    pub registry: String,
}

/// How a request to a registry ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RegistryLabels {
    /// The host in the image reference; `other` beyond the first 64.
    pub registry: String,
    /// `found`, `absent`, `unauthorized`, `rate_limited`, `unreachable`, `malformed` or `blocked`.
    pub outcome: &'static str,
}

/// Everything that is counted. One for the whole process, handed down, never a global.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    known_registries: Mutex<BTreeSet<String>>,
    /// Reviews, by what was answered.
    pub reviews: Family<ReviewLabels, Counter>,
    /// Seconds from the first byte of the body read to the answer.
    pub review_seconds: Family<WebhookLabel, Histogram, fn() -> Histogram>,
    /// Findings and abstentions.
    pub rule_results: Family<RuleLabels, Counter>,
    /// Patches.
    pub patches: Family<PatchLabels, Counter>,
    /// Guardrails that panicked and so abstained.
    pub panics: Family<RuleLabel, Counter>,
    /// Reviews in a namespace that the cache lacks.
    pub unknown_namespaces: Counter,
    /// Requests to registries.
    pub registry_requests: Family<RegistryLabels, Counter>,
    /// Seconds of one question to a registry that somebody waits for, with tokens and confirmation.
    pub registry_seconds: Family<RegistryLabel, Histogram, fn() -> Histogram>,
    /// Answers taken from the cache.
    pub registry_cache_hits: Counter,
    /// Answers that were not in the cache.
    pub registry_cache_misses: Counter,
    /// 1 where the registry has ever let Forestall read anything, else 0.
    pub registry_readable: Family<RegistryLabel, Gauge>,
    /// 1 where a host of a registry is left alone for a while, else 0.
    pub registry_left_alone: Family<RegistryLabel, Gauge>,
    /// How many requests a host of a registry still gives, as it said last. Docker Hub counts pulls.
    pub registry_ratelimit_remaining: Family<RegistryLabel, Gauge>,
    /// 1 where a kind that guardrails ask for can be listed, else 0.
    pub kind_available: Family<ResourceLabel, Gauge>,
    /// Objects that guardrails ask for and that could not be read, each time they were shown.
    pub objects_unreadable: Family<ResourceLabel, Counter>,
    /// Requests turned away before they were judged.
    pub shed: Family<ReasonLabel, Counter>,
    /// Open connections to the webhook.
    pub connections: Gauge,
    /// TLS handshakes that failed.
    pub handshake_failures: Counter,
    /// Looks at the certificate's files or Secret that found new content.
    pub certificate_reloads: Family<ResultLabel, Counter>,
    /// Unix time at which a certificate ends.
    pub certificate_expiry: Family<CertificateLabel, Gauge>,
    /// 1 where the API server is told to trust the authorities that are kept, else 0; of the leader.
    pub webhook_configured: Family<WebhookLabel, Gauge>,
    /// Looks at the configuration file that found new content.
    pub config_reloads: Family<ResultLabel, Counter>,
    /// 1 where the configuration file is the one that holds; 0 where an older one is kept.
    pub config_valid: Gauge,
    /// 1 where this replica leads.
    pub leader: Gauge,
    /// Objects in the cluster that enforce would refuse; none but the leader's, when all were judged.
    pub would_refuse: Family<RuleLabel, Gauge>,
    /// Events that were not written.
    pub events_dropped: Counter,
}

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("forestall");
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", build);
        let metrics = Self {
            registry: Registry::default(),
            known_registries: Mutex::default(),
            reviews: Family::default(),
            review_seconds: Family::new_with_constructor(seconds),
            rule_results: Family::default(),
            patches: Family::default(),
            panics: Family::default(),
            unknown_namespaces: Counter::default(),
            registry_requests: Family::default(),
            registry_seconds: Family::new_with_constructor(seconds),
            registry_cache_hits: Counter::default(),
            registry_cache_misses: Counter::default(),
            registry_readable: Family::default(),
            registry_left_alone: Family::default(),
            registry_ratelimit_remaining: Family::default(),
            kind_available: Family::default(),
            objects_unreadable: Family::default(),
            shed: Family::default(),
            connections: Gauge::default(),
            handshake_failures: Counter::default(),
            certificate_reloads: Family::default(),
            certificate_expiry: Family::default(),
            webhook_configured: Family::default(),
            config_reloads: Family::default(),
            config_valid: Gauge::default(),
            leader: Gauge::default(),
            would_refuse: Family::default(),
            events_dropped: Counter::default(),
        };
        macro_rules! register {
            ($($name:literal, $help:literal, $field:ident;)*) => {
                $(registry.register($name, $help, metrics.$field.clone());)*
            };
        }
        register! {
            "admission_requests", "Reviews, by what was answered", reviews;
            "admission_review_duration_seconds", "Seconds from the request to the answer", review_seconds;
            "rule_results", "Findings and abstentions of guardrails", rule_results;
            "mutations", "Patches, and those that were dropped", patches;
            "rule_panics", "Guardrails that failed and so abstained", panics;
            "unknown_namespaces", "Reviews in a namespace that the cache lacks", unknown_namespaces;
            "registry_requests", "Questions to registries, by how they ended", registry_requests;
            "registry_request_duration_seconds", "Seconds of one question to a registry", registry_seconds;
            "registry_cache_hits", "Answers about images taken from the cache", registry_cache_hits;
            "registry_cache_misses", "Answers about images that were not in the cache", registry_cache_misses;
            "registry_readable", "Whether a registry has ever let Forestall read anything", registry_readable;
            "registry_left_alone", "1 where a host is not asked for a while: it failed, or wanted rest", registry_left_alone;
            "registry_ratelimit_remaining", "Requests that a host still gives, as it said last", registry_ratelimit_remaining;
            "kind_available", "Whether a kind that guardrails ask for can be listed", kind_available;
            "objects_unreadable", "Objects that guardrails ask for and that could not be read", objects_unreadable;
            "requests_shed", "Requests turned away before they were judged", shed;
            "connections", "Open connections to the webhook", connections;
            "tls_handshake_failures", "TLS handshakes that failed", handshake_failures;
            "tls_reload", "New certificates, by whether they could be used", certificate_reloads;
            "certificate_expiry_timestamp_seconds", "When a certificate ends", certificate_expiry;
            "webhook_configured", "Whether a webhook configuration has the right caBundle", webhook_configured;
            "config_reload", "New configuration files, by whether they could be used", config_reloads;
            "config_valid", "Whether the configuration file is the one that holds", config_valid;
            "leader", "Whether this replica leads", leader;
            "would_refuse", "Objects in the cluster that enforce would refuse", would_refuse;
            "events_dropped", "Events that were not written", events_dropped;
        }
        Self {
            registry,
            ..metrics
        }
    }
}

impl Metrics {
    /// The text of /metrics.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    /// The label of a registry: its host, or `other` when there are too many.
    #[must_use]
    pub fn registry_label(&self, host: &str) -> String {
        let mut known = self
            .known_registries
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if known.contains(host) || known.len() < MOST_REGISTRIES && known.insert(host.to_owned()) {
            host.to_owned()
        } else {
            "other".to_owned()
        }
    }
}

impl EncodeLabelValue for Boolean {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&if self.0 { "true" } else { "false" }, encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_prefix_and_the_unit() {
        let metrics = Metrics::default();
        let labels = WebhookLabel {
            webhook: "validating",
        };
        metrics.review_seconds.get_or_create(&labels).observe(0.002);
        metrics
            .patches
            .get_or_create(&PatchLabels {
                rule: "a",
                applied: Boolean(true),
            })
            .inc();
        let text = metrics.encode();
        assert!(
            text.contains(
                "forestall_admission_review_duration_seconds_count{webhook=\"validating\"} 1"
            ),
            "{text}"
        );
        assert!(
            text.contains("forestall_mutations_total{rule=\"a\",applied=\"true\"} 1"),
            "{text}"
        );
        assert!(text.contains("forestall_build_info{version="), "{text}");
    }

    #[test]
    fn registries_beyond_the_limit_share_a_label() {
        let metrics = Metrics::default();
        for index in 0..MOST_REGISTRIES {
            assert_eq!(
                metrics.registry_label(&format!("{index}.example.com")),
                format!("{index}.example.com")
            );
        }
        assert_eq!(metrics.registry_label("one-more.example.com"), "other");
        assert_eq!(metrics.registry_label("0.example.com"), "0.example.com");
    }
}
