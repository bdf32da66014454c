//! The question itself: is the image there, and if not, is that proven?
//!
//! "Missing" is what refuses a workload, so it takes all of this: every host that a node would ask
//! says so (the [`chain`](super::chain) sees to that); the manifest is absent by HEAD
//! and by GET, in the words of a registry; the list of tags does not hold the tag; and the
//! repository is one that we can read. The last because some registries answer 404 for what they
//! hide from strangers (Artifactory, "Hide Existence of Unauthorized Resources"), while a node with
//! credentials can pull it.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use reqwest::{Method, Response};

use super::endpoint::Standing;
use super::error_body;
use super::probe_error::ProbeError;
use super::session::Session;
use super::tags::{self, MOST_PAGES, Tags};
use super::transport::{MOST_REDIRECTS, body, is_page, rest};
use crate::image::{ImageReference, is_digest};
use crate::image::{ImageState, Missing, MissingPart};

/// Bytes of a manifest; a larger one is none to a node (containerd, `MaxManifestSize`).
const LONGEST_MANIFEST: u64 = 4 * 1024 * 1024;

/// The header in which a registry says which manifest it answers with.
const DIGEST: &str = "docker-content-digest";

/// How long a registry is left alone whose pull limit is reached (Docker Hub counts 6 hours).
const AFTER_PULL_LIMIT: Duration = Duration::from_mins(10);

/// What it means to ask for the content of an image that is not there.
pub(super) const ABSENT: ProbeError = ProbeError::Malformed("has no such manifest");

const NO_REGISTRY: ProbeError =
    ProbeError::Malformed("answered with a page for people, as no registry does");

/// The type of manifests of the first schema (Docker, "Image Manifest Version 2, Schema 1").
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// What a registry said of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) state: ImageState,
    /// What the tag stands for, where that was said.
    pub(super) digest: Option<String>,
}

/// What a status says of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ManifestAnswer {
    Present,
    /// It is there, in a form that nodes do not take any more.
    Schema1,
    Absent,
    /// The registry has no HEAD.
    NotAllowed,
}

/// What is asked for: the digest where there is one, else the tag.
fn wanted(image: &ImageReference) -> Result<(&str, MissingPart), ProbeError> {
    match (&image.digest, &image.tag) {
        (Some(digest), _) => Ok((digest, MissingPart::Digest)),
        (None, Some(tag)) => Ok((tag, MissingPart::Tag)),
        (None, None) => Err(ProbeError::Malformed(
            "is asked for neither a tag nor a digest",
        )),
    }
}

/// A first look: the image if it is there, `None` if not.
pub(super) async fn look(
    session: &Session<'_>,
    image: &ImageReference,
) -> Result<Option<Found>, ProbeError> {
    let (reference, _) = wanted(image)?;
    let url = session.url(&format!("manifests/{reference}"));
    let mut answer = session.ask(Method::HEAD, &url, MOST_REDIRECTS).await?;
    if seen(&answer)? == ManifestAnswer::NotAllowed {
        answer = session.ask(Method::GET, &url, MOST_REDIRECTS).await?;
    }
    let state = seen(&answer)?.state()?;
    let told = answer.headers().get(DIGEST);
    let told = told.and_then(|digest| digest.to_str().ok());
    let told = told.filter(|digest| is_digest(digest));
    let digest = image.digest.as_deref().or(told).map(ToOwned::to_owned);
    Ok(state.map(|state| Found { state, digest }))
}

/// Whether the answer is a manifest.
pub(super) fn check_present(response: &Response) -> Result<(), ProbeError> {
    match seen(response)?.state()? {
        Some(_) => Ok(()),
        None => Err(ABSENT),
    }
}

/// After a first look that did not find it: the proof that the image is missing, or the image if it
/// is there all the same. `None` where this host cannot prove it.
pub(super) async fn prove(
    session: &Session<'_>,
    image: &ImageReference,
) -> Result<Option<ImageState>, ProbeError> {
    let (reference, part) = wanted(image)?;
    if session.endpoint.standing == Standing::Proxy {
        if part == MissingPart::Digest {
            check_no_blob(session, reference).await?;
        }
        return Ok(None);
    }
    let what = match confirmed(session, reference, part).await? {
        Ok(what) => what,
        Err(found) => return Ok(Some(found)),
    };
    let tags = match part {
        MissingPart::Digest => {
            check_no_blob(session, reference).await?;
            // Not for the tags: for whether there are any that we can read.
            tags::list(session, reference, 1).await?
        }
        _ => tags::list(session, reference, MOST_PAGES).await?,
    };
    if tags.has_wanted {
        return Err(ProbeError::Contradiction(
            "it lists the tag, and has no manifest for it",
        ));
    }
    missing(session, part, what, tags).map(Some)
}

/// A node asks for the blob too. Anything but a clear no, even a redirect, may be a yes.
async fn check_no_blob(session: &Session<'_>, digest: &str) -> Result<(), ProbeError> {
    let url = session.url(&format!("blobs/{digest}"));
    let response = session.ask(Method::HEAD, &url, 0).await?;
    match response.status().as_u16() {
        404 => Ok(()),
        200 => Err(ProbeError::Contradiction(
            "it has the blob, and no manifest of that digest",
        )),
        status => Err(ProbeError::of_status(status, rest(response.headers()))),
    }
}

/// What is missing: the part that was asked for, or the repository, as the registry says.
fn missing(
    session: &Session<'_>,
    asked: MissingPart,
    said: MissingPart,
    tags: Tags,
) -> Result<ImageState, ProbeError> {
    let is_readable = !tags.names.is_empty();
    if !is_readable && session.endpoint.standing != Standing::Replica {
        return Err(ProbeError::Hidden);
    }
    let what = match said {
        // Some say too early that there is no such repository, others only here.
        _ if is_readable => asked,
        _ if tags.is_unknown_repository => MissingPart::Repository,
        said => said,
    };
    let names = match what {
        MissingPart::Tag => tags.names,
        MissingPart::Digest | MissingPart::Repository => Vec::new(),
    };
    Ok(ImageState::Missing(Missing {
        what,
        // Said when it is told: the answer is kept for all who have the same credentials.
        asked: String::new(),
        tags: Arc::new(names),
        // For the cluster to say.
        holder: Ok(None),
    }))
}

/// What is missing in the registry's words, or the image if GET finds what HEAD did not.
async fn confirmed(
    session: &Session<'_>,
    reference: &str,
    part: MissingPart,
) -> Result<Result<MissingPart, ImageState>, ProbeError> {
    let url = session.url(&format!("manifests/{reference}"));
    let get = session.ask(Method::GET, &url, MOST_REDIRECTS).await?;
    if get.status() == 429 {
        let told = rest(get.headers());
        let body = body(get, error_body::LONGEST, session.by).await;
        let rest = rest_after(told, &body.unwrap_or_default());
        return Err(ProbeError::RateLimited { rest });
    }
    if let Some(found) = seen(&get)?.state()? {
        return Ok(Err(found));
    }
    if is_page(get.headers()) {
        return Err(NO_REGISTRY);
    }
    let body = body(get, error_body::LONGEST, session.by).await?;
    error_body::read_absence(&body, part).map(Ok)
}

/// How long to leave a registry alone that says 429 with this body.
fn rest_after(told: Duration, body: &[u8]) -> Duration {
    if error_body::is_pull_limit(body) {
        told.max(AFTER_PULL_LIMIT)
    } else {
        told
    }
}

// === impl Found ===

impl Found {
    /// Whether a node finds it.
    pub(super) fn is_there(&self) -> bool {
        matches!(self.state, ImageState::Exists | ImageState::Schema1)
    }
}

impl From<ImageState> for Found {
    fn from(state: ImageState) -> Self {
        Self {
            state,
            digest: None,
        }
    }
}

// === impl ManifestAnswer ===

impl ManifestAnswer {
    fn state(self) -> Result<Option<ImageState>, ProbeError> {
        match self {
            Self::Present => Ok(Some(ImageState::Exists)),
            Self::Schema1 => Ok(Some(ImageState::Schema1)),
            Self::Absent => Ok(None),
            Self::NotAllowed => Err(ProbeError::Status(405)),
        }
    }
}

fn seen(response: &Response) -> Result<ManifestAnswer, ProbeError> {
    let headers = response.headers();
    match response.status().as_u16() {
        200 if is_page(headers) => Err(NO_REGISTRY),
        200 if length(response).is_some_and(|length| length > LONGEST_MANIFEST) => Err(
            ProbeError::Malformed("answered with a manifest that is too long for a node"),
        ),
        200 if kind(headers) == Some(SCHEMA_1) => Ok(ManifestAnswer::Schema1),
        200 => Ok(ManifestAnswer::Present),
        404 => Ok(ManifestAnswer::Absent),
        405 => Ok(ManifestAnswer::NotAllowed),
        status => Err(ProbeError::of_status(status, rest(headers))),
    }
}

/// The type of the answer, without its parameters.
pub(super) fn kind(headers: &HeaderMap) -> Option<&str> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(kind.split(';').next().unwrap_or(kind).trim())
}

/// The length that the header names: the body of an answer to HEAD is empty.
pub(super) fn length(response: &Response) -> Option<u64> {
    let header = response.headers().get(CONTENT_LENGTH)?;
    header.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_case_64_a_pull_limit_takes_longer_than_too_many_requests() {
        let minute = Duration::from_mins(1);
        let said = |message: &str| {
            let error = serde_json::json!({"code": "TOOMANYREQUESTS", "message": message});
            serde_json::json!({"errors": [error]}).to_string()
        };
        let limit = said("You have reached your pull rate limit. https://a/increase-rate-limit");
        assert_eq!(
            rest_after(minute, limit.as_bytes()),
            Duration::from_mins(10)
        );
        assert_eq!(
            rest_after(11 * minute, limit.as_bytes()),
            Duration::from_mins(11)
        );
        for body in [said("slow down").as_str(), "Too Many Requests", ""] {
            assert_eq!(rest_after(minute, body.as_bytes()), minute);
        }
    }
}
