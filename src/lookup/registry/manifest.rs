//! The question itself: is the image there, and if not, is that proven?
//!
//! "Missing" is what refuses a workload, so it takes all of this: the manifest is absent by HEAD
//! and by GET, in the words of a registry; the list of tags does not hold the tag; and the
//! repository is one that we can read. The last because some registries answer 404 for what they
//! hide from strangers (Artifactory, "Hide Existence of Unauthorized Resources"), while a node with
//! credentials can pull it.

use std::sync::Arc;

use reqwest::header::CONTENT_LENGTH;
use reqwest::{Method, Response};

use super::complaint::{self, read_absence};
use super::obstacle::Obstacle;
use super::session::Session;
use super::tags::{self, MOST_PAGES, Tags};
use super::transport::{MOST_REDIRECTS, body, is_page, rest};
use crate::evidence::{ImageState, Missing, MissingPart};
use crate::review::image::ImageReference;

/// Bytes of a manifest; a larger one is none to a node (containerd, `MaxManifestSize`).
const LONGEST_MANIFEST: u64 = 4 * 1024 * 1024;

const NO_REGISTRY: Obstacle =
    Obstacle::Malformed("answered with a page for people, as no registry does");

/// What a status says of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Present,
    Absent,
    /// The registry has no HEAD.
    NotAllowed,
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
    let tags = tags::list(session, tag, MOST_PAGES).await?;
    if tags.has_wanted {
        return Err(Obstacle::Contradiction(
            "it lists the tag, and has no manifest for it",
        ));
    }
    missing(session, MissingPart::Tag, what, tags)
}

async fn digest_state(session: &Session<'_>, digest: &str) -> Result<ImageState, Obstacle> {
    let Some(what) = absence(session, digest, MissingPart::Digest).await? else {
        return Ok(ImageState::Exists);
    };
    // A node asks for the blob too. Anything but a clear no, even a redirect, may be a yes.
    let url = session.url(&format!("blobs/{digest}"));
    let response = session.ask(Method::HEAD, &url, 0).await?;
    match response.status().as_u16() {
        404 => {}
        200 => {
            return Err(Obstacle::Contradiction(
                "it has the blob, and no manifest of that digest",
            ));
        }
        status => return Err(Obstacle::of_status(status, rest(response.headers()))),
    }
    // Not for the tags: for whether there are any that we can read.
    let tags = tags::list(session, digest, 1).await?;
    missing(session, MissingPart::Digest, what, tags)
}

/// What is missing: the part that was asked for, or the repository, as the registry says.
fn missing(
    session: &Session<'_>,
    asked: MissingPart,
    said: MissingPart,
    tags: Tags,
) -> Result<ImageState, Obstacle> {
    let is_readable = !tags.names.is_empty();
    if !is_readable && !session.endpoint.is_authoritative {
        return Err(Obstacle::Hidden);
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
    }))
}

/// What is missing, or `None` where the manifest is there.
async fn absence(
    session: &Session<'_>,
    reference: &str,
    part: MissingPart,
) -> Result<Option<MissingPart>, Obstacle> {
    let url = session.url(&format!("manifests/{reference}"));
    let head = session.ask(Method::HEAD, &url, MOST_REDIRECTS).await?;
    if seen(&head)? == Seen::Present {
        return Ok(None);
    }
    let get = session.ask(Method::GET, &url, MOST_REDIRECTS).await?;
    match seen(&get)? {
        Seen::Present => Ok(None),
        Seen::NotAllowed => Err(Obstacle::Status(get.status().as_u16())),
        Seen::Absent if is_page(get.headers()) => Err(NO_REGISTRY),
        Seen::Absent => {
            let body = body(get, complaint::LONGEST, session.by).await?;
            read_absence(&body, part).map(Some)
        }
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

/// The length that the header names: the body of an answer to HEAD is empty.
fn length(response: &Response) -> Option<u64> {
    let header = response.headers().get(CONTENT_LENGTH)?;
    header.to_str().ok()?.parse().ok()
}
