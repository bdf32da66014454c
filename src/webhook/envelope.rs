//! From a body to a [`Review`], in one reading.
//!
//! The API server passes objects that no JSON library reads whole (nested 9,900 deep, say), and takes
//! an answer only with the uid of its request. So where a body cannot be read at once, its objects stay
//! raw text at first, whatever they are.

mod read;

use std::sync::Arc;

use self::read::{Name, Object, Objects, RawRequest, RawReview, RawUid};
use crate::report::visible;
use crate::review::{Door, Operation, Review, Subject};
use crate::tree::Bound;

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

/// An AdmissionReview.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// All but the objects.
    pub head: Head,
    /// Why the rest of the request cannot be used, where only the uid can be read.
    pub broken: Option<String>,
    /// The whole text, in which raw objects lie.
    body: &'a Arc<String>,
    object: Option<Object<'a>>,
    previous: Option<Object<'a>>,
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
    /// Reads a body with the objects that can be judged, in one go. Where anything is wrong with it,
    /// it is read as if its objects were raw text. `bound` is what its text becomes at most.
    ///
    /// # Errors
    /// Only where there is no uid to answer to.
    pub fn parse(body: &'a Arc<String>, bound: Bound) -> Result<Self, EnvelopeError> {
        match read::review(body, Objects::Read(body, bound)) {
            Ok(review) => Self::of(body, checked(review)?),
            Err(_) => Self::parse_raw(body),
        }
    }

    /// Reads a body, and leaves its objects raw.
    ///
    /// # Errors
    /// As [`Envelope::parse`].
    pub(super) fn parse_raw(body: &'a Arc<String>) -> Result<Self, EnvelopeError> {
        match read::review(body, Objects::Raw) {
            Ok(review) => Self::of(body, checked(review)?),
            Err(error) => {
                let error = visible::cut(&visible::one_line(&error.to_string()), 200).to_owned();
                let not_a_review = |_| EnvelopeError::NotAReview(error.clone());
                let review =
                    serde_json::from_str::<RawReview<RawUid>>(body).map_err(not_a_review)?;
                let head = Head {
                    uid: usable(checked(review)?.uid)?,
                    ..Head::default()
                };
                Ok(Self {
                    head,
                    broken: Some(format!("the request cannot be read: {error}")),
                    body,
                    object: None,
                    previous: None,
                })
            }
        }
    }

    fn of(body: &'a Arc<String>, request: RawRequest<'a>) -> Result<Self, EnvelopeError> {
        let verb = request.verb();
        let kind = request.kind.unwrap_or_default();
        let user = request.user_info.and_then(|user| user.username);
        let given = |text: Option<Name>| text.map(|name| name.0).filter(|name| !name.is_empty());
        Ok(Self {
            head: Head {
                uid: usable(request.uid)?,
                verb,
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
            body,
            object: request.object,
            previous: request.old_object,
        })
    }

    /// The objects of a CREATE or an UPDATE.
    ///
    /// # Errors
    /// Why they cannot be judged, in words.
    pub fn review(&mut self, operation: Operation) -> Result<Review, String> {
        let object = self.object.take().ok_or("the request has no object")?;
        let previous = self
            .previous
            .take()
            .filter(|_| operation == Operation::Update);
        let mut subject = self.head.subject.clone();
        let object = object.tree(self.body, "object", &subject)?;
        let previous = previous.map(|previous| previous.tree(self.body, "oldObject", &subject));
        if subject.name.is_empty() {
            let root = object.root();
            let name = root.text_at("/metadata/name");
            let name = name.filter(|name| !name.is_empty());
            let name = name.or_else(|| root.text_at("/metadata/generateName"));
            name.unwrap_or_default().clone_into(&mut subject.name);
        }
        let mut review = Review::new(operation, subject, Arc::new(object), Door::Admission);
        review.sub_resource.clone_from(&self.head.sub_resource);
        Ok(match previous.transpose()? {
            Some(previous) => review.replacing(Arc::new(previous)),
            None => review,
        })
    }
}

/// The text of a body that may be an AdmissionReview.
///
/// # Errors
/// It is none.
pub fn text_of(body: Vec<u8>) -> Result<Arc<String>, EnvelopeError> {
    let body = String::from_utf8(body).map_err(|_| EnvelopeError::NotUtf8)?;
    // A derived reader would also take a list of the fields in order.
    if !body.trim_ascii_start().starts_with('{') {
        return Err(EnvelopeError::NotAReview("it is no JSON object".to_owned()));
    }
    Ok(Arc::new(body))
}

fn checked<T>(review: RawReview<T>) -> Result<T, EnvelopeError> {
    let is = |text: &Option<Name>, wanted| text.as_ref().is_some_and(|text| text.0 == wanted);
    if !is(&review.api_version, "admission.k8s.io/v1") || !is(&review.kind, "AdmissionReview") {
        return Err(EnvelopeError::Version);
    }
    let no_request = || EnvelopeError::NotAReview("request is missing".to_owned());
    review.request.ok_or_else(no_request)
}

fn usable(uid: Option<Name>) -> Result<String, EnvelopeError> {
    match uid.unwrap_or_default().0 {
        uid if uid.is_empty() => Err(EnvelopeError::NoUid),
        uid if uid.len() > LONGEST_UID => Err(EnvelopeError::LongUid),
        uid => Ok(uid),
    }
}

#[cfg(test)]
mod tests;
