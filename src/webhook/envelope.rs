//! From bytes to a [`Review`]. The uid is read before anything can fail.
//!
//! The API server passes objects that no JSON library reads whole (nested 9,900 deep, say), and takes
//! an answer only with the uid of its request. So the objects stay raw text at first, whatever they
//! are, and are read second.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::object;
use crate::report::visible;
use crate::review::workload::WORKLOADS;
use crate::review::{Door, Operation, Review, Subject, text};

/// Characters of a uid. The API server's are UUIDs of 36.
const LONGEST_UID: usize = 128;

/// Bytes of any other text of the request itself. Names have at most 253, and users are called by URLs
/// at the longest.
const LONGEST_NAME: usize = 4096;

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

/// A text of the request itself, which is read no further than it is used.
#[derive(Default)]
struct Name(String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReview<T> {
    api_version: Option<Name>,
    kind: Option<Name>,
    request: Option<T>,
}

#[derive(Deserialize)]
struct RawUid {
    uid: Option<Name>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRequest<'a> {
    uid: Option<Name>,
    kind: Option<RawKind>,
    sub_resource: Option<Name>,
    name: Option<Name>,
    namespace: Option<Name>,
    operation: Option<Name>,
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
    group: Name,
    version: Name,
    kind: Name,
}

#[derive(Deserialize)]
struct RawUser {
    username: Option<Name>,
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
                let uid = usable(request.uid.as_ref())?;
                Ok(Self::of(uid, request))
            }
            Err(error) => {
                let error = visible::cut(&visible::one_line(&error.to_string()), 200).to_owned();
                let not_a_review = |_| EnvelopeError::NotAReview(error.clone());
                let review =
                    serde_json::from_str::<RawReview<RawUid>>(body).map_err(not_a_review)?;
                let uid = usable(checked(review)?.uid.as_ref())?;
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
        let given = |text: Option<Name>| text.map(|name| name.0).filter(|name| !name.is_empty());
        Self {
            head: Head {
                uid,
                verb: request
                    .operation
                    .map(|operation| Verb::parse(&operation.0))
                    .unwrap_or_default(),
                subject: Subject {
                    group: kind.group.0,
                    version: kind.version.0,
                    kind: kind.kind.0,
                    namespace: given(request.namespace),
                    name: request.name.unwrap_or_default().0,
                },
                sub_resource: given(request.sub_resource),
                dry_run: request.dry_run.unwrap_or_default(),
                user: user.unwrap_or_default().0,
            },
            broken: None,
            object: request.object,
            previous: request.old_object,
        }
    }

    /// The objects as they came.
    pub(super) fn objects(&self) -> impl Iterator<Item = &'a str> {
        let objects = [self.object, self.previous].into_iter().flatten();
        objects.map(RawValue::get)
    }

    /// Reads the objects of a CREATE or an UPDATE.
    ///
    /// # Errors
    /// Why they cannot be judged, in words.
    pub fn review(&self, operation: Operation) -> Result<Review, String> {
        let raw = self.object.ok_or("the request has no object")?.get();
        let previous = self.previous.filter(|_| operation == Operation::Update);
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
    let is = |text: &Option<Name>, wanted| text.as_ref().is_some_and(|text| text.0 == wanted);
    if !is(&review.api_version, "admission.k8s.io/v1") || !is(&review.kind, "AdmissionReview") {
        return Err(EnvelopeError::Version);
    }
    let no_request = || EnvelopeError::NotAReview("request is missing".to_owned());
    review.request.ok_or_else(no_request)
}

fn usable(uid: Option<&Name>) -> Result<String, EnvelopeError> {
    match uid.map_or("", |uid| &uid.0) {
        "" => Err(EnvelopeError::NoUid),
        uid if uid.len() > LONGEST_UID => Err(EnvelopeError::LongUid),
        uid => Ok(uid.to_owned()),
    }
}

// === impl Name ===

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Self::default())
    }
}

impl Visitor<'_> for Name {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(mut self, text: &str) -> Result<Self, E> {
        if text.len() > LONGEST_NAME {
            let problem = "a text of the request is longer than";
            return Err(E::custom(format_args!("{problem} {LONGEST_NAME} bytes")));
        }
        self.0.push_str(text);
        Ok(self)
    }
}
