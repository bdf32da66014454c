//! Whether the API server trusts what Forestall's Pods show it: the caBundle and the certificate.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls::RootCertStore;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;

use super::Check;
use super::facts::Facts;
use super::hooks::Hook;
use super::hooks::ServiceName;
use super::samples::Sample;
use crate::tls::pair::validity;

const NAME: &str = "certificate";
/// When a certificate that ends soon is told; the alert of docs/metrics.md has the same.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
/// What makes a caBundle right again.
const REPAIR: &str = "the leader writes it within seconds: see its log, and whether its ClusterRole \
                      may patch the configuration; with cert-manager, see its cainjector; with a \
                      Secret of your own, set the chart's caBundle";

/// The caBundle of each webhook, the certificate that the Pods are given, and what they say of it.
pub(super) fn check(facts: &Facts) -> Vec<Check> {
    let mut checks: Vec<_> = facts
        .own()
        .filter_map(|hook| bundle(hook, facts.now).err())
        .collect();
    if checks.is_empty() {
        checks.extend(served(facts));
    }
    checks.extend(told_expiry(facts));
    checks.extend(told_bundle(facts));
    checks
}

/// The certificates in a caBundle that hold now.
fn bundle(hook: &Hook, now: Timestamp) -> Result<Vec<CertificateDer<'static>>, Check> {
    let bundle = hook.webhook.client_config.ca_bundle.as_ref();
    let pem = bundle.map_or(&[][..], |bundle| &bundle.0);
    if pem.is_empty() {
        let message = format!("the caBundle of {hook} is empty, so the API server trusts no Pod");
        return Err(Check::error(NAME, message, REPAIR));
    }
    let odd = |reason: &str| {
        let message = format!("the caBundle of {hook} {reason}");
        Check::error(NAME, message, REPAIR)
    };
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|_| odd("is no PEM"))?;
    let dated: Option<Vec<_>> = all
        .into_iter()
        .map(|certificate| Some((validity(&certificate)?, certificate)))
        .collect();
    let dated = dated.ok_or_else(|| odd("holds what is no certificate"))?;
    let last = dated.iter().map(|((_, ends), _)| *ends).max();
    let last = last.ok_or_else(|| odd("holds no certificate"))?;
    if last < now {
        return Err(odd(&format!("expired at {last}")));
    }
    let valid = dated
        .into_iter()
        .filter(|((begins, ends), _)| *begins <= now && now <= *ends);
    let valid: Vec<_> = valid.map(|(_, certificate)| certificate).collect();
    if valid.is_empty() {
        return Err(odd("holds only certificates that are not valid yet"));
    }
    if last.duration_since(now) < SOON {
        let message = format!("the caBundle of {hook} ends at {last}");
        return Err(Check::warning(NAME, message, REPAIR));
    }
    Ok(valid)
}

/// Whether every caBundle verifies the certificate that the Pods are given, and whether they serve it.
fn served(facts: &Facts) -> Vec<Check> {
    let (Some(home), (place, pem)) = (
        &facts.home,
        match &facts.certificate {
            Ok(certificate) => certificate,
            Err(reason) => return vec![Check::unread(NAME, "the certificate", reason)],
        },
    ) else {
        return vec![Check::unknown(
            NAME,
            "Forestall is called by URL, so it is not known by which name",
        )];
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.unwrap_or_default();
    let Some((leaf, issuers)) = chain.split_first() else {
        let message = format!("{place} holds no certificate in PEM");
        return vec![Check::error(NAME, message, SERVE)];
    };
    let Some((begins, ends)) = validity(leaf) else {
        let message = format!("{place} holds a certificate that cannot be decoded");
        return vec![Check::error(NAME, message, SERVE)];
    };
    if facts.now < begins || ends < facts.now {
        let message = format!("the certificate in {place} is valid from {begins} to {ends} only");
        return vec![Check::error(NAME, message, SERVE)];
    }
    for hook in facts.own() {
        let trusted = bundle(hook, facts.now).unwrap_or_default();
        if let Err(reason) = verify(&trusted, leaf, issuers, home, facts.now) {
            let message = format!(
                "the caBundle of {hook} does not verify the certificate in {place}: {reason}"
            );
            let cure = match &reason {
                Distrust::Name(name) => format!("make the certificate anew, with the name {name}"),
                Distrust::Other(_) => REPAIR.to_owned(),
            };
            return vec![Check::error(NAME, message, cure)];
        }
    }
    let late: Vec<_> = facts
        .samples()
        .filter(|(_, samples)| {
            let mut expiries = samples.named(EXPIRY).filter(|sample| is_serving(sample));
            expiries.any(|sample| seconds(sample) != ends.as_second())
        })
        .map(|(pod, _)| pod.name.as_str())
        .collect();
    if !late.is_empty() {
        let message = format!(
            "{} serve another certificate than the one in {place}, which ends at {ends}",
            late.join(", ")
        );
        return vec![Check::warning(
            NAME,
            message,
            "wait a minute; then see the log of these Pods",
        )];
    }
    let pods: Vec<_> = facts.samples().map(|(pod, _)| pod.name.as_str()).collect();
    let by = match &pods[..] {
        [] => "whether the Pods serve it was not read".to_owned(),
        pods => format!("served by {}", pods.join(", ")),
    };
    let message =
        format!("every caBundle verifies the certificate in {place}, which ends at {ends}; {by}");
    vec![Check::ok(NAME, message)]
}

/// What makes a certificate right again.
const SERVE: &str = "with certificates of its own, delete the Secret and the leader makes it anew; \
                     else renew it where it comes from";
/// The metric of docs/metrics.md.
const EXPIRY: &str = "forestall_certificate_expiry_timestamp_seconds";

fn is_serving(sample: &Sample) -> bool {
    sample
        .label("certificate")
        .is_none_or(|which| which == "serving")
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "whole seconds; a cast of what is none saturates"
)]
fn seconds(sample: &Sample) -> i64 {
    sample.value as i64
}

/// Why the API server would not trust a certificate.
#[derive(Debug, thiserror::Error)]
enum Distrust {
    #[error("it is not valid for {0}, by which the API server calls the Service")]
    Name(String),
    #[error("{0}")]
    Other(String),
}

/// As the API server verifies it, by the name under which it calls the Service.
fn verify(
    trusted: &[CertificateDer<'static>],
    leaf: &CertificateDer<'_>,
    issuers: &[CertificateDer<'_>],
    home: &ServiceName,
    now: Timestamp,
) -> Result<(), Distrust> {
    let name = format!("{}.{}.svc", home.name, home.namespace);
    let server = ServerName::try_from(name.clone()).map_err(|error| distrust(&error))?;
    let parsed = ParsedCertificate::try_from(leaf).map_err(|error| distrust(&error))?;
    verify_server_name(&parsed, &server).map_err(|_| Distrust::Name(name))?;
    // Go trusts a listed certificate itself too, which the verifier takes for an authority only.
    if trusted.contains(leaf) {
        return Ok(());
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted.iter().cloned());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| distrust(&error))?;
    let now = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default());
    let now = UnixTime::since_unix_epoch(now);
    let result = verifier.verify_server_cert(leaf, issuers, &server, &[], now);
    result.map(drop).map_err(|error| distrust(&error))
}

fn distrust(error: &dyn std::fmt::Display) -> Distrust {
    Distrust::Other(error.to_string())
}

/// What the Pods say of the ends of their certificates.
fn told_expiry(facts: &Facts) -> Vec<Check> {
    let mut checks = Vec::new();
    for (pod, samples) in facts.samples() {
        for sample in samples.named(EXPIRY) {
            let Ok(ends) = Timestamp::from_second(seconds(sample)) else {
                continue;
            };
            let which = sample.label("certificate").unwrap_or("serving");
            let name = &pod.name;
            if ends < facts.now {
                let message = format!("the {which} certificate of Pod {name} expired at {ends}");
                checks.push(Check::error(NAME, message, SERVE));
            } else if ends.duration_since(facts.now) < SOON {
                let message = format!("the {which} certificate of Pod {name} ends at {ends}");
                checks.push(Check::warning(NAME, message, SERVE));
            }
        }
    }
    checks
}

/// What the leader says of the caBundles: one Pod that knows them to be right is enough.
fn told_bundle(facts: &Facts) -> Vec<Check> {
    let mut checks = Vec::new();
    for webhook in ["mutating", "validating"] {
        let samples = facts.samples().flat_map(|(_, samples)| {
            let all = samples.named("forestall_webhook_configured");
            all.filter(|sample| sample.is("webhook", webhook))
        });
        let values: Vec<_> = samples.map(seconds).collect();
        if !values.is_empty() && !values.contains(&1) {
            let message =
                format!("the Pods say that the caBundle of the {webhook} webhook is not theirs");
            checks.push(Check::error(NAME, message, REPAIR));
        }
    }
    checks
}
