//! The question itself: is the image there, and if not, is that proven?
//!
//! "Missing" is what refuses a workload, so it takes three answers: the manifest is absent by HEAD
//! and by GET, in the words of a registry, and the list of tags does not hold the tag.

use std::sync::Arc;

use reqwest::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use reqwest::{Method, Response, Url};
use serde::Deserialize;
use tokio::time::Instant;

use super::challenge;
use super::hosts::Endpoint;
use super::obstacle::Obstacle;
use super::tags;
use super::token::{Place, Tokens};
use super::transport::{Ask, MANIFEST_REDIRECTS, Transport, body, is_page, rest};
use crate::evidence::{ImageState, Missing, MissingPart};
use crate::review::image::ImageReference;

/// What a node accepts (containerd, core/remotes/docker/resolver.go). With fewer, distribution
/// answers 404 for images that it has.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*";
/// Bytes of a manifest; a larger one is none to a node (containerd, `MaxManifestSize`).
const LONGEST_MANIFEST: u64 = 4 * 1024 * 1024;
/// Bytes of the body of an error.
const LONGEST_ERROR: usize = 8 * 1024;
/// What registries say of themselves, as older specifications want.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// The question for one image, to one registry, until one moment.
pub(super) struct Session<'a> {
    pub(super) transport: &'a Transport,
    pub(super) tokens: &'a Tokens,
    pub(super) endpoint: &'a Endpoint,
    pub(super) repository: &'a str,
    pub(super) by: Instant,
}

/// What a status says of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Present,
    Absent,
    /// The registry has no HEAD.
    NotAllowed,
}

/// The body of a registry's error (OCI distribution specification, "Error Codes").
#[derive(Deserialize)]
struct Complaint {
    errors: Vec<ComplaintError>,
}

#[derive(Deserialize)]
struct ComplaintError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: Option<String>,
}

/// Whether an image is there.
pub(super) async fn state(
    session: &Session<'_>,
    image: &ImageReference,
) -> Result<ImageState, Obstacle> {
    match (&image.digest, &image.tag) {
        (Some(digest), _) => digest_state(session, digest).await,
        (None, Some(tag)) => tag_state(session, tag).await,
        (None, None) => Err(Obstacle::Malformed(
            "is asked for neither a tag nor a digest",
        )),
    }
}

async fn tag_state(session: &Session<'_>, tag: &str) -> Result<ImageState, Obstacle> {
    let Some(what) = absence(session, tag, MissingPart::Tag).await? else {
        return Ok(ImageState::Exists);
    };
    let tags = tags::list(session, tag).await?;
    if tags.has_wanted {
        return Err(Obstacle::Contradiction(
            "it lists the tag, and has no manifest for it",
        ));
    }
    let what = match what {
        // Some say only here that there is no such repository, others say so too early.
        _ if !tags.names.is_empty() => MissingPart::Tag,
        _ if tags.is_unknown_repository => MissingPart::Repository,
        what => what,
    };
    Ok(session.missing(what, tags.names))
}

async fn digest_state(session: &Session<'_>, digest: &str) -> Result<ImageState, Obstacle> {
    let Some(what) = absence(session, digest, MissingPart::Digest).await? else {
        return Ok(ImageState::Exists);
    };
    // A node asks for the blob too. Anything but a clear no, even a redirect, may be a yes.
    let url = session.url(&format!("blobs/{digest}"));
    let response = session.ask(Method::HEAD, &url, 0).await?;
    match response.status().as_u16() {
        404 => Ok(session.missing(what, Vec::new())),
        200 => Err(Obstacle::Contradiction(
            "it has the blob, and no manifest of that digest",
        )),
        status => Err(Obstacle::of_status(status, rest(response.headers()))),
    }
}

/// What is missing, or `None` where the manifest is there.
async fn absence(
    session: &Session<'_>,
    reference: &str,
    part: MissingPart,
) -> Result<Option<MissingPart>, Obstacle> {
    let url = session.url(&format!("manifests/{reference}"));
    let head = session.ask(Method::HEAD, &url, MANIFEST_REDIRECTS).await?;
    if seen(&head)? == Seen::Present {
        return Ok(None);
    }
    let get = session.ask(Method::GET, &url, MANIFEST_REDIRECTS).await?;
    match seen(&get)? {
        Seen::Present => Ok(None),
        Seen::NotAllowed => Err(Obstacle::Status(get.status().as_u16())),
        Seen::Absent => prove_absence(get, session.by, part).await.map(Some),
    }
}

fn seen(response: &Response) -> Result<Seen, Obstacle> {
    let headers = response.headers();
    match response.status().as_u16() {
        200 if is_page(headers) => Err(NO_REGISTRY),
        200 if length(response).is_some_and(|length| length > LONGEST_MANIFEST) => Err(
            Obstacle::Malformed("answered with a manifest that is too long for a node"),
        ),
        200 => Ok(Seen::Present),
        404 => Ok(Seen::Absent),
        405 => Ok(Seen::NotAllowed),
        status => Err(Obstacle::of_status(status, rest(headers))),
    }
}

const NO_REGISTRY: Obstacle =
    Obstacle::Malformed("answered with a page for people, as no registry does");

/// A 404 is a proof only in the words of a registry: load balancers and web servers say 404 too.
async fn prove_absence(
    response: Response,
    by: Instant,
    part: MissingPart,
) -> Result<MissingPart, Obstacle> {
    if is_page(response.headers()) {
        return Err(NO_REGISTRY);
    }
    let is_signed = response.headers().contains_key(API_VERSION);
    let body = body(response, LONGEST_ERROR, by).await?;
    read_absence(&body, is_signed, part)
}

fn read_absence(body: &[u8], is_signed: bool, part: MissingPart) -> Result<MissingPart, Obstacle> {
    let Some(errors) = complaints(body) else {
        let is_markup = body.trim_ascii_start().starts_with(b"<");
        return if is_signed && !is_markup {
            Ok(part)
        } else {
            Err(Obstacle::Malformed(
                "answered 404, but not as a registry does",
            ))
        };
    };
    for error in &errors {
        let message = error
            .message
            .as_deref()
            .unwrap_or_default()
            .to_ascii_lowercase();
        if message.contains("accept header") {
            return Err(Obstacle::Malformed(
                "has the image in a form that was not asked for",
            ));
        }
        let is_absence = match error.code.as_str() {
            // NOT_FOUND is Harbor's word; some others say UNKNOWN and put it into the message.
            "MANIFEST_UNKNOWN" | "NAME_UNKNOWN" | "NOT_FOUND" => true,
            "UNKNOWN" => message.contains("not found"),
            _ => false,
        };
        if !is_absence {
            return Err(Obstacle::Malformed(
                "answered 404, but with another reason than absence",
            ));
        }
    }
    let is_repository = errors.iter().any(|error| error.code == "NAME_UNKNOWN");
    Ok(if is_repository {
        MissingPart::Repository
    } else {
        part
    })
}

/// Whether this is a registry's error about the repository.
pub(super) async fn is_unknown_repository(response: Response, session: &Session<'_>) -> bool {
    let body = body(response, LONGEST_ERROR, session.by).await;
    let errors = body.ok().and_then(|body| complaints(&body));
    errors.is_some_and(|errors| errors.iter().any(|error| error.code == "NAME_UNKNOWN"))
}

fn complaints(body: &[u8]) -> Option<Vec<ComplaintError>> {
    let complaint: Complaint = serde_json::from_slice(body).ok()?;
    (!complaint.errors.is_empty()).then_some(complaint.errors)
}

/// The length that the header names: the body of an answer to HEAD is empty.
fn length(response: &Response) -> Option<u64> {
    let header = response.headers().get(CONTENT_LENGTH)?;
    header.to_str().ok()?.parse().ok()
}

// === impl Session ===

impl Session<'_> {
    /// The address of something in the repository. Its grammar leaves nothing to escape.
    pub(super) fn url(&self, rest: &str) -> Url {
        let mut url = self.endpoint.base.clone();
        url.set_path(&format!("/v2/{}/{rest}", self.repository));
        url
    }

    /// Asks, with a token where the registry wants one.
    pub(super) async fn ask(
        &self,
        method: Method,
        url: &Url,
        redirects: usize,
    ) -> Result<Response, Obstacle> {
        let ask = |token| Ask {
            method: method.clone(),
            url: url.clone(),
            accept: ACCEPT,
            token,
            redirects,
            by: self.by,
        };
        let kept = self.tokens.kept(&self.place()).await;
        let response = self.transport.send(ask(kept.as_ref())).await?;
        // Only the registry itself is given a token, so only its own challenge counts.
        let is_own = response.url().origin() == url.origin();
        if response.status() != 401 || !is_own {
            return Ok(response);
        }
        let Some(challenge) = challenge::bearer(response.headers()) else {
            return Ok(response);
        };
        let token: HeaderValue = self
            .tokens
            .fetch(self.transport, self.place(), &challenge, self.by)
            .await?;
        self.transport.send(ask(Some(&token))).await
    }

    fn place(&self) -> Place {
        let authority = self.endpoint.base.authority().to_owned();
        (authority, self.repository.to_owned())
    }

    fn missing(&self, what: MissingPart, tags: Vec<String>) -> ImageState {
        ImageState::Missing(Missing {
            what,
            asked: self.endpoint.asked.clone(),
            tags: Arc::new(tags),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str, is_signed: bool) -> Option<MissingPart> {
        read_absence(body.as_bytes(), is_signed, MissingPart::Tag).ok()
    }

    fn error(code: &str, message: &str) -> String {
        serde_json::json!({"errors": [{"code": code, "message": message}]}).to_string()
    }

    #[test]
    fn a_404_proves_absence_only_in_the_words_of_a_registry() {
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
            assert_eq!(
                read(&error(code, message), true),
                proven,
                "{code} {message}"
            );
            assert_eq!(
                read(&error(code, message), false),
                proven,
                "{code} {message}"
            );
        }
    }

    #[test]
    fn a_404_without_such_words_needs_the_header_and_must_be_no_page() {
        for body in [
            "",
            "404 page not found\n",
            "{}",
            "{\"errors\":[]}",
            "[1",
            "null",
        ] {
            assert_eq!(read(body, true), Some(MissingPart::Tag), "{body}");
            assert_eq!(read(body, false), None, "{body}");
        }
        for body in ["<html>", "  <!DOCTYPE html>", "<?xml version=\"1.0\"?>"] {
            assert_eq!(read(body, true), None, "{body}");
        }
    }

    #[test]
    fn one_error_that_is_not_about_absence_is_enough_to_doubt() {
        let both = r#"{"errors":[{"code":"MANIFEST_UNKNOWN"},{"code":"DENIED"}]}"#;
        assert_eq!(read(both, true), None);
    }
}
