//! From bytes to a [`Review`]. The uid is read before anything can fail.
//!
//! The API server passes objects that no JSON library reads whole (nested 9,900 deep, say), and takes
//! an answer only with the uid of its request. So the objects stay raw text at first, whatever they
//! are, and are read second.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::object;
use crate::report::visible;
use crate::review::workload::WORKLOADS;
use crate::review::{Door, Operation, Review, Subject, text};

/// Characters of a uid. The API server's are UUIDs of 36.
const LONGEST_UID: usize = 128;

/// Bytes of memory that the values of one request may take once they are read. JSON of many small
/// maps takes eighty times its own length. 64 MiB is far more than any object that etcd stores
/// (1.5 MiB) needs in practice: an Application with 5,000 resources takes 10.
pub(super) const MOST_MEMORY: usize = 64 << 20;

/// Below this length the memory need not be estimated: it is at most 20 MiB.
pub const LARGE: usize = 256 << 10;

/// Why a body is no AdmissionReview that can be answered.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvelopeError {
    /// JSON is UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// It is no JSON, or has no request.
    #[error("the body is no AdmissionReview: {0}")]
    NotAReview(String),
    /// It is another version, or another kind.
    #[error(
        "the body is no AdmissionReview of admission.k8s.io/v1; register the webhook with admissionReviewVersions: [v1]"
    )]
    Version,
    /// There is nothing to answer to.
    #[error("request.uid is missing")]
    NoUid,
    /// Nobody's uid is that long.
    #[error("request.uid is longer than {LONGEST_UID} bytes")]
    LongUid,
}

/// What the API server wants to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verb {
    /// A new object.
    Create,
    /// A changed object.
    Update,
    /// An object is deleted.
    Delete,
    /// A stream, such as exec.
    Connect,
    /// Something that did not exist when this was written.
    #[default]
    Other,
}

/// What is known of a request without its objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The uid, which the answer must repeat.
    pub uid: String,
    /// What is done.
    pub verb: Verb,
    /// To what. The name may be empty: a new object can leave it to the API server, and a
    /// deletecollection has none.
    pub subject: Subject,
    /// The part of the object that is meant, such as `status`.
    pub sub_resource: Option<String>,
    /// Whether nothing is to be stored.
    pub dry_run: bool,
    /// Who asks.
    pub user: String,
}

/// An AdmissionReview whose objects have not been read.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// All but the objects.
    pub head: Head,
    /// Why the rest of the request cannot be used, where only the uid can be read.
    pub broken: Option<String>,
    object: Option<&'a RawValue>,
    previous: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReview<T> {
    api_version: Option<String>,
    kind: Option<String>,
    request: Option<T>,
}

#[derive(Deserialize)]
struct RawUid {
    uid: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRequest<'a> {
    uid: Option<String>,
    kind: Option<RawKind>,
    sub_resource: Option<String>,
    name: Option<String>,
    namespace: Option<String>,
    operation: Option<String>,
    user_info: Option<RawUser>,
    dry_run: Option<bool>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    old_object: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawKind {
    group: String,
    version: String,
    kind: String,
}

#[derive(Deserialize)]
struct RawUser {
    username: Option<String>,
}

// === impl Verb ===

impl Verb {
    fn parse(operation: &str) -> Self {
        match operation {
            "CREATE" => Self::Create,
            "UPDATE" => Self::Update,
            "DELETE" => Self::Delete,
            "CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// As metrics and logs have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Other => "other",
        }
    }
}

// === impl Envelope ===

impl<'a> Envelope<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// Only where there is no uid to answer to.
    pub fn parse(body: &'a [u8]) -> Result<Self, EnvelopeError> {
        let body = std::str::from_utf8(body).map_err(|_| EnvelopeError::NotUtf8)?;
        // A derived reader would also take a list of the fields in order.
        if !body.trim_ascii_start().starts_with('{') {
            return Err(EnvelopeError::NotAReview("it is no JSON object".to_owned()));
        }
        match serde_json::from_str::<RawReview<RawRequest<'_>>>(body) {
            Ok(review) => {
                let request = checked(review)?;
                let uid = usable(request.uid.as_deref())?;
                Ok(Self::of(uid, request))
            }
            Err(error) => {
                let error = visible::cut(&visible::one_line(&error.to_string()), 200).to_owned();
                let not_a_review = |_| EnvelopeError::NotAReview(error.clone());
                let review =
                    serde_json::from_str::<RawReview<RawUid>>(body).map_err(not_a_review)?;
                let uid = usable(checked(review)?.uid.as_deref())?;
                let head = Head {
                    uid,
                    ..Head::default()
                };
                Ok(Self {
                    head,
                    broken: Some(format!("the request cannot be read: {error}")),
                    object: None,
                    previous: None,
                })
            }
        }
    }

    fn of(uid: String, request: RawRequest<'a>) -> Self {
        let kind = request.kind.unwrap_or_default();
        let user = request.user_info.and_then(|user| user.username);
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Self {
            head: Head {
                uid,
                verb: request
                    .operation
                    .as_deref()
                    .map(Verb::parse)
                    .unwrap_or_default(),
                subject: Subject {
                    group: kind.group,
                    version: kind.version,
                    kind: kind.kind,
                    namespace: given(request.namespace),
                    name: request.name.unwrap_or_default(),
                },
                sub_resource: given(request.sub_resource),
                dry_run: request.dry_run.unwrap_or_default(),
                user: user.unwrap_or_default(),
            },
            broken: None,
            object: request.object,
            previous: request.old_object,
        }
    }

    /// Reads the objects of a CREATE or an UPDATE.
    ///
    /// # Errors
    /// Why they cannot be judged, in words.
    pub fn review(&self, operation: Operation) -> Result<Review, String> {
        let raw = self.object.ok_or("the request has no object")?.get();
        let previous = self.previous.filter(|_| operation == Operation::Update);
        let length = raw.len() + previous.map_or(0, |previous| previous.get().len());
        let objects = [Some(raw), previous.map(RawValue::get)]
            .into_iter()
            .flatten();
        if length > LARGE && objects.map(memory).sum::<usize>() > MOST_MEMORY {
            return Err("the object has too many values".to_owned());
        }
        let subject = &self.head.subject;
        let mut workloads = WORKLOADS.iter();
        let is_workload = workloads.any(|kind| subject.is(kind.group, kind.kind));
        let object = object::read(raw, "object", is_workload)?;
        let mut subject = subject.clone();
        if subject.name.is_empty() {
            let name = text(&object, "/metadata/name").filter(|name| !name.is_empty());
            let name = name.or_else(|| text(&object, "/metadata/generateName"));
            name.unwrap_or_default().clone_into(&mut subject.name);
        }
        Ok(Review {
            operation,
            subject,
            sub_resource: self.head.sub_resource.clone(),
            object: Arc::new(object),
            previous: previous
                .map(|raw| object::read(raw.get(), "oldObject", is_workload).map(Arc::new))
                .transpose()?,
            door: Door::Admission,
        })
    }
}

fn checked<T>(review: RawReview<T>) -> Result<T, EnvelopeError> {
    let is = |text: &Option<String>, wanted| text.as_deref() == Some(wanted);
    if !is(&review.api_version, "admission.k8s.io/v1") || !is(&review.kind, "AdmissionReview") {
        return Err(EnvelopeError::Version);
    }
    let no_request = || EnvelopeError::NotAReview("request is missing".to_owned());
    review.request.ok_or_else(no_request)
}

fn usable(uid: Option<&str>) -> Result<String, EnvelopeError> {
    match uid {
        None | Some("") => Err(EnvelopeError::NoUid),
        Some(uid) if uid.len() > LONGEST_UID => Err(EnvelopeError::LongUid),
        Some(uid) => Ok(uid.to_owned()),
    }
}

/// About how many bytes the values of a JSON text take at most, as `serde_json` 1 holds them: 32 for a
/// value, 56 for an entry of a map with its key, 128 for a list and 640 for a map that has anything.
pub(super) fn memory(json: &str) -> usize {
    let mut bytes = json.len();
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        if escaped {
            escaped = false;
        } else if in_string {
            escaped = byte == b'\\';
            in_string = byte != b'"';
        } else {
            bytes += match byte {
                b'"' => {
                    in_string = true;
                    0
                }
                b',' => 96,
                b'[' => 128,
                b'{' => 640,
                _ => 0,
            };
        }
    }
    bytes
}
