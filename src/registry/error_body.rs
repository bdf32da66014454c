//! Errors in the words of a registry (OCI distribution specification, "Error Codes").

use serde::Deserialize;

use super::probe_error::ProbeError;
use crate::image::MissingPart;

/// Bytes of the body of an error.
pub(super) const LONGEST: usize = 8 * 1024;
/// The code of a repository that the registry does not know.
const NAME_UNKNOWN: &str = "NAME_UNKNOWN";

/// The body of an error.
#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: Option<String>,
}

/// What the body of a 404 says is missing.
///
/// # Errors
/// Web servers and load balancers say 404 too, and registries say it of what they have and do not
/// show. Only words that mean absence prove it.
pub(super) fn read_absence(body: &[u8], part: MissingPart) -> Result<MissingPart, ProbeError> {
    let reasons = reasons(body);
    if reasons.is_empty() {
        return Err(ProbeError::Malformed(
            "answered 404, but not in the words of a registry",
        ));
    }
    for reason in &reasons {
        reason.check_absence()?;
    }
    let of_repository = reasons.iter().any(|reason| reason.code == NAME_UNKNOWN);
    Ok(if of_repository {
        MissingPart::Repository
    } else {
        part
    })
}

/// Whether the body of an error says that there is no such repository.
pub(super) fn is_about_repository(body: &[u8]) -> bool {
    reasons(body)
        .iter()
        .any(|reason| reason.code == NAME_UNKNOWN)
}

/// Whether the body of a 429 says that the pulls of some hours are used up (Docker Hub, "Usage and
/// limits"), and not that requests came too fast.
pub(super) fn is_pull_limit(body: &[u8]) -> bool {
    reasons(body).iter().any(|reason| {
        let message = reason.message.as_deref().unwrap_or_default();
        reason.code == "TOOMANYREQUESTS" && message.contains("increase-rate-limit")
    })
}

fn reasons(body: &[u8]) -> Vec<Reason> {
    serde_json::from_slice(body).map_or_else(|_| Vec::new(), |ErrorBody { errors }| errors)
}

// === impl Reason ===

impl Reason {
    fn check_absence(&self) -> Result<(), ProbeError> {
        let message = self.message.as_deref().unwrap_or_default();
        let message = message.to_ascii_lowercase();
        // distribution 2 and 3 answer so for an image in a form that the client does not accept.
        if message.contains("accept header") {
            return Err(ProbeError::Malformed(
                "has the image in a form that was not asked for",
            ));
        }
        let is_absence = match self.code.as_str() {
            // NOT_FOUND is Harbor's word; some others say UNKNOWN and put it into the message.
            "MANIFEST_UNKNOWN" | NAME_UNKNOWN | "NOT_FOUND" => true,
            "UNKNOWN" => message.contains("not found"),
            _ => false,
        };
        if is_absence {
            return Ok(());
        }
        Err(ProbeError::Malformed(
            "answered 404, but with another reason than absence",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Option<MissingPart> {
        read_absence(body.as_bytes(), MissingPart::Tag).ok()
    }

    #[test]
    fn a_404_proves_absence_only_in_words_that_mean_it() {
        let tag = Some(MissingPart::Tag);
        for (code, message, proven) in [
            ("MANIFEST_UNKNOWN", "manifest unknown", tag),
            ("NAME_UNKNOWN", "", Some(MissingPart::Repository)),
            ("NOT_FOUND", "artifact a:b not found", tag),
            ("UNKNOWN", "Not Found", tag),
            ("UNKNOWN", "unknown error", None),
            ("DENIED", "requested access to the resource is denied", None),
            ("UNAUTHORIZED", "", None),
            ("TOOMANYREQUESTS", "", None),
            ("UNSUPPORTED", "", None),
            ("", "", None),
            (
                "MANIFEST_UNKNOWN",
                "OCI manifest found, but accept header does not support OCI manifests",
                None,
            ),
        ] {
            let error = serde_json::json!({"errors": [{"code": code, "message": message}]});
            assert_eq!(read(&error.to_string()), proven, "{code} {message}");
        }
    }

    #[test]
    fn one_reason_that_is_not_absence_is_enough_to_doubt() {
        let both = r#"{"errors":[{"code":"MANIFEST_UNKNOWN"},{"code":"DENIED"}]}"#;
        assert_eq!(read(both), None);
    }

    #[test]
    fn other_words_prove_nothing() {
        for body in [
            "",
            "404 page not found\n",
            "default backend - 404",
            "<html>",
            "{}",
            "null",
            "[1",
            "{\"errors\":[]}",
            "{\"errors\":[{\"code\":404,\"message\":\"not found\"}]}",
            "{\"message\":\"no Route matched with those values\"}",
        ] {
            assert_eq!(read(body), None, "{body}");
        }
    }
}
