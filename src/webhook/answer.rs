//! From a verdict to the answer: the only place that knows what the API server makes of one.
//!
//! What it drops, cuts or turns into an error was tried against kube-apiserver 1.37.2.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use crate::report::visible;
use crate::verdict::wording::LONGEST_REFUSAL;
use crate::verdict::{Phase, Verdict};

/// Characters of all warnings of one review. Where all warnings of a request together are longer than
/// 4,096, the API server cuts each to 256 (k8s.io/apiserver, pkg/endpoints/filters/warning.go); the
/// rest is for other webhooks.
pub const ALL_WARNINGS: usize = 3072;

/// Characters of a warning where all together are longer than [`ALL_WARNINGS`].
pub const LONGEST_WARNING: usize = 256;

/// Warnings of one review.
pub const MOST_WARNINGS: usize = 10;

/// Bytes of the value of an audit annotation. The API server writes any length to its audit log.
pub const LONGEST_ANNOTATION: usize = 1024;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AdmissionReview<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: BTreeMap<&'a str, String>,
}

/// 403 Forbidden: kubectl shows the message whole, and nobody tries again as for 409, 429 or 5xx.
#[derive(Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
}

/// The AdmissionReview that answers a request.
#[must_use]
pub fn encode(uid: &str, phase: Phase, verdict: &Verdict) -> Vec<u8> {
    let refusal = verdict.refusal.as_deref();
    // A patch from the validating webhook fails the request whatever the failurePolicy is, and so
    // does a patchType without a patch.
    let patch = verdict
        .patch
        .as_ref()
        .filter(|patch| phase == Phase::Mutate && refusal.is_none() && !patch.is_empty());
    let patch = patch.and_then(|patch| serde_json::to_vec(patch).ok());
    let review = AdmissionReview {
        api_version: "admission.k8s.io/v1",
        kind: "AdmissionReview",
        response: Response {
            uid,
            allowed: refusal.is_none(),
            status: refusal.map(|message| Status {
                code: 403,
                reason: "Forbidden",
                // It was made to fit; only what was made visible can have made it longer.
                message: shortened(&visible::lines(message), LONGEST_REFUSAL),
            }),
            patch_type: patch.as_ref().map(|_| "JSONPatch"),
            patch: patch.map(|patch| BASE64.encode(patch)),
            warnings: warnings(&verdict.warnings),
            audit_annotations: verdict
                .audit
                .iter()
                .map(|(key, value)| {
                    let value = shortened(&visible::one_line(value), LONGEST_ANNOTATION);
                    (key.as_str(), value)
                })
                .collect(),
        },
    };
    // Strings, and maps with strings as keys, can always be written.
    serde_json::to_vec(&review).unwrap_or_default()
}

/// No control characters, because the API server drops such a warning; none twice, not too many, and
/// whole where there is room: some hold a snippet to copy.
fn warnings(wanted: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut lines: Vec<_> = wanted
        .iter()
        .map(|warning| visible::one_line(warning).into_owned())
        .filter(|line| !line.is_empty() && seen.insert(line.clone()))
        .collect();
    if lines.len() > MOST_WARNINGS {
        let more = lines.len() - (MOST_WARNINGS - 1);
        lines.truncate(MOST_WARNINGS - 1);
        lines.push(format!("forestall: ... and {more} more"));
    }
    if lines.iter().map(|line| line.chars().count()).sum::<usize>() <= ALL_WARNINGS {
        return lines;
    }
    let shorten = |line: String| match visible::cut(&line, LONGEST_WARNING) {
        whole if whole.len() == line.len() => line,
        _ => format!("{}…", visible::cut(&line, LONGEST_WARNING - 1)),
    };
    lines.into_iter().map(shorten).collect()
}

/// At most so many bytes, with `…` where something was cut off, and no character split.
fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    format!(
        "{}…",
        &text[..text.floor_char_boundary(most - '…'.len_utf8())]
    )
}
