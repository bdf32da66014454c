//! From a request to the bytes of its body, within the limits.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::ReviewLimits;
use super::envelope::EnvelopeError;
use crate::judging::memory::{Budget, Denied, Share};

/// Why a request is answered with an HTTP error. The API server then does what the failurePolicy
/// says, so none of these is for an object that is merely hard to judge.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejection {
    #[error("send Content-Type: application/json")]
    ContentType,
    #[error("send the body without Content-Encoding")]
    ContentEncoding,
    #[error("the body is empty; send an AdmissionReview")]
    Empty,
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the body did not arrive in time")]
    Slow,
    #[error("the body ended early")]
    Short,
    #[error("too many reviews at once")]
    Reviews,
    #[error("too much memory is taken by other reviews")]
    Memory,
    #[error("the body takes more memory than one review may have; raise --memory-limit")]
    Unwieldy,
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

/// A body, and its share of the memory.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    pub(super) share: Share,
}

/// Reads the body of a review.
pub(super) async fn read(
    request: Request,
    limits: &ReviewLimits,
    budget: &Arc<Budget>,
    by: Instant,
) -> Result<Received, Rejection> {
    let (head, body) = request.into_parts();
    check_type(&head.headers)?;
    let declared = declared_length(&head.headers, &body);
    if declared == Some(0) {
        return Err(Rejection::Empty);
    }
    if declared.is_some_and(|length| length > limits.body_bytes as u64) {
        return Err(Rejection::TooLarge(limits.body_bytes));
    }
    // The whole length at once, so that a body that was begun can also be ended.
    let length = declared.and_then(|length| usize::try_from(length).ok());
    let mut share = budget.take(length.unwrap_or_default())?;
    let bytes = timeout_at(by, collect(body, length, limits, &mut share))
        .await
        .map_err(|_| Rejection::Slow)??;
    Ok(Received { bytes, share })
}

fn check_type(headers: &HeaderMap) -> Result<(), Rejection> {
    let text = |name| {
        headers
            .get(name)
            .map(|value: &HeaderValue| value.to_str().unwrap_or("?"))
    };
    let media_type = text(CONTENT_TYPE).and_then(|value| value.split(';').next());
    if !media_type.is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json")) {
        return Err(Rejection::ContentType);
    }
    match text(CONTENT_ENCODING) {
        Some(coding) if !coding.eq_ignore_ascii_case("identity") => Err(Rejection::ContentEncoding),
        _ => Ok(()),
    }
}

fn declared_length(headers: &HeaderMap, body: &Body) -> Option<u64> {
    let header = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    header
        .and_then(|length| length.parse().ok())
        .or_else(|| body.size_hint().exact())
}

async fn collect(
    mut body: Body,
    declared: Option<usize>,
    limits: &ReviewLimits,
    share: &mut Share,
) -> Result<Vec<u8>, Rejection> {
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Rejection::Short)?.into_data() else {
            continue;
        };
        let length = all.len() + data.len();
        if length > limits.body_bytes {
            return Err(Rejection::TooLarge(limits.body_bytes));
        }
        if length > all.capacity() {
            let capacity = declared.unwrap_or(2 * length).max(length);
            if declared.is_none() {
                share.grow(capacity)?;
            }
            all.reserve_exact(capacity - all.len());
        }
        all.extend_from_slice(&data);
    }
    match declared {
        Some(length) if all.len() != length => Err(Rejection::Short),
        _ if all.is_empty() => Err(Rejection::Empty),
        _ => Ok(all),
    }
}

// === impl Rejection ===

impl Rejection {
    /// The label of [`crate::report::metrics::Metrics::shed`].
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge(_) | Self::Unwieldy => "too_large",
            Self::Slow => "slow_body",
            Self::Reviews => "reviews",
            Self::Memory => "memory",
            _ => "bad_request",
        }
    }

    /// Whether it was turned away for what others ask, not for what it is.
    pub(super) fn is_shed(&self) -> bool {
        matches!(self, Self::Reviews | Self::Memory)
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::ContentType | Self::ContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge(_) | Self::Unwieldy => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            // Without Retry-After: with it, the API server would wait, and retry up to ten times
            // (k8s.io/client-go, rest/with_retry.go).
            Self::Reviews | Self::Memory => StatusCode::SERVICE_UNAVAILABLE,
            Self::Empty | Self::Short | Self::Envelope(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl From<Denied> for Rejection {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Now => Self::Memory,
            Denied::Ever => Self::Unwieldy,
        }
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let mut response = (self.status(), format!("{self}\n")).into_response();
        if matches!(self, Self::Slow | Self::Short | Self::TooLarge(_)) {
            // The rest of the body is not worth reading.
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
