//! From a body to a [`Review`], in one reading.
//!
//! The API server passes objects that no JSON library reads whole (nested 9,900 deep, say), and takes
//! an answer only with the uid of its request. So where a body cannot be read at once, its objects stay
//! raw text at first, whatever they are.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::object;
use crate::report::visible;
use crate::review::{Door, Operation, Review, Subject};
use crate::tree::{Bound, Builder, Tree};

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

/// An object of the request.
#[derive(Debug)]
enum Object<'a> {
    /// As it came.
    Raw(&'a RawValue),
    /// Read on the way, without what [`object::skipped`] leaves out.
    Read(Tree),
}

/// What becomes of the objects while a body is read.
#[derive(Clone, Copy)]
enum Objects<'s> {
    /// They stay as they are.
    Raw,
    /// They become trees over this text, of which this much is known.
    Read(&'s Arc<String>, Bound),
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

#[derive(Default)]
struct RawRequest<'a> {
    uid: Option<Name>,
    kind: Option<RawKind>,
    sub_resource: Option<Name>,
    name: Option<Name>,
    namespace: Option<Name>,
    operation: Option<Name>,
    user_info: Option<RawUser>,
    dry_run: Option<bool>,
    object: Option<Object<'a>>,
    old_object: Option<Object<'a>>,
}

/// Reads an AdmissionReview.
struct ReviewSeed<'s>(Objects<'s>);

/// Reads its request.
struct RequestSeed<'s>(Objects<'s>);

/// The fields of an AdmissionReview that are read.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum ReviewField {
    ApiVersion,
    Kind,
    Request,
    #[serde(other)]
    Other,
}

/// The fields of a request that are read.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Field {
    Uid,
    Kind,
    SubResource,
    Name,
    Namespace,
    Operation,
    UserInfo,
    DryRun,
    Object,
    OldObject,
    #[serde(other)]
    Other,
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
    /// Reads a body with the objects that can be judged, in one go. Where anything is wrong with it,
    /// it is read as [`Envelope::parse_raw`] does. `bound` is what its text becomes at most.
    ///
    /// # Errors
    /// Only where there is no uid to answer to.
    pub fn parse(body: &'a Arc<String>, bound: Bound) -> Result<Self, EnvelopeError> {
        match Self::read(body, Objects::Read(body, bound)) {
            Ok(review) => Self::of(body, checked(review)?),
            Err(_) => Self::parse_raw(body),
        }
    }

    /// Reads a body, and leaves its objects raw.
    ///
    /// # Errors
    /// As [`Envelope::parse`].
    pub(super) fn parse_raw(body: &'a Arc<String>) -> Result<Self, EnvelopeError> {
        match Self::read(body, Objects::Raw) {
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

    fn read(
        body: &'a str,
        objects: Objects<'_>,
    ) -> Result<RawReview<RawRequest<'a>>, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_str(body);
        let review = ReviewSeed(objects).deserialize(&mut reader)?;
        reader.end().map(|()| review)
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

// === impl Object ===

impl Object<'_> {
    fn tree(self, body: &Arc<String>, what: &str, subject: &Subject) -> Result<Tree, String> {
        match self {
            Self::Raw(raw) => object::read(body, raw.get(), what, (&subject.group, &subject.kind)),
            Self::Read(tree) => object::checked(tree, what),
        }
    }
}

// === impl RawRequest ===

impl<'a> RawRequest<'a> {
    fn verb(&self) -> Verb {
        let operation = self.operation.as_ref();
        operation.map_or(Verb::Other, |operation| Verb::parse(&operation.0))
    }

    /// Reads an object by what is known of the request so far.
    fn object<A: MapAccess<'a>>(
        &self,
        objects: Objects<'_>,
        access: &mut A,
    ) -> Result<Option<Object<'a>>, A::Error> {
        match (&self.kind, self.verb(), objects) {
            (Some(kind), Verb::Create | Verb::Update, Objects::Read(source, bound)) => {
                let builder = Builder::over(source).with_room_for(bound);
                let skipped = object::skipped(&kind.group.0, &kind.kind.0);
                let tree = access.next_value_seed(builder.seed(skipped))?;
                Ok((!tree.root().is_null()).then_some(Object::Read(tree)))
            }
            _ => Ok(access.next_value::<Option<_>>()?.map(Object::Raw)),
        }
    }
}

// === impl ReviewSeed ===

impl<'de> DeserializeSeed<'de> for ReviewSeed<'_> {
    type Value = RawReview<RawRequest<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ReviewSeed<'_> {
    type Value = RawReview<RawRequest<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an AdmissionReview")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let (mut api_version, mut kind, mut request) = (None, None, None);
        while let Some(field) = access.next_key()? {
            match field {
                ReviewField::ApiVersion => once(&mut api_version, "apiVersion", &mut access)?,
                ReviewField::Kind => once(&mut kind, "kind", &mut access)?,
                ReviewField::Request => {
                    is_first(request.as_ref(), "request")?;
                    request = access.next_value_seed(RequestSeed(self.0))?;
                }
                ReviewField::Other => {
                    access.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(RawReview {
            api_version,
            kind,
            request,
        })
    }
}

// === impl RequestSeed ===

impl<'de> DeserializeSeed<'de> for RequestSeed<'_> {
    type Value = Option<RawRequest<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RequestSeed<'_> {
    type Value = Option<RawRequest<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut request = RawRequest::default();
        while let Some(field) = access.next_key()? {
            let access = &mut access;
            match field {
                Field::Uid => once(&mut request.uid, "uid", access)?,
                Field::Kind => once(&mut request.kind, "kind", access)?,
                Field::SubResource => once(&mut request.sub_resource, "subResource", access)?,
                Field::Name => once(&mut request.name, "name", access)?,
                Field::Namespace => once(&mut request.namespace, "namespace", access)?,
                Field::Operation => once(&mut request.operation, "operation", access)?,
                Field::UserInfo => once(&mut request.user_info, "userInfo", access)?,
                Field::DryRun => once(&mut request.dry_run, "dryRun", access)?,
                Field::Object => {
                    is_first(request.object.as_ref(), "object")?;
                    request.object = request.object(self.0, access)?;
                }
                Field::OldObject => {
                    is_first(request.old_object.as_ref(), "oldObject")?;
                    request.old_object = request.object(self.0, access)?;
                }
                Field::Other => {
                    access.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Some(request))
    }
}

fn once<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    place: &mut Option<T>,
    name: &'static str,
    access: &mut A,
) -> Result<(), A::Error> {
    is_first(place.as_ref(), name)?;
    *place = access.next_value()?;
    Ok(())
}

fn is_first<T, E: de::Error>(place: Option<&T>, name: &'static str) -> Result<(), E> {
    place.map_or(Ok(()), |_| Err(E::duplicate_field(name)))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// With the fields in the order in which an API server writes them.
    fn body(group: &str, kind: &str, operation: &str, object: &str, previous: &str) -> String {
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"u",
            "kind":{{"group":"{group}","version":"v1","kind":"{kind}"}},"name":"","namespace":"shop",
            "operation":"{operation}","userInfo":{{"username":"alice"}},"object":{object},
            "oldObject":{previous},"dryRun":true,"options":null}}}}"#
        )
    }

    fn parse(body: &Arc<String>) -> Envelope<'_> {
        Envelope::parse(body, Bound::of(body.as_bytes())).unwrap()
    }

    const OBJECT: &str = r#"{"metadata":{"generateName":"web-","managedFields":[{"a":{}}]},
        "spec":{"a":"\u003c\ud83d\ude00","a":[1,-1,0.5,1e3,null,true]},"status":{"b":2}}"#;

    #[test]
    fn an_object_that_is_read_on_the_way_gives_the_same_review() {
        let deep = format!("{{\"spec\":{}{}}}", "[".repeat(127), "]".repeat(127));
        let objects = [
            OBJECT,
            "null",
            "{}",
            "[]",
            "1",
            "\"a\"",
            &deep,
            "{\"a\":1e999}",
            "{\"a\":\"\\ud800\"}",
        ];
        let kinds = [("apps", "Deployment"), ("argoproj.io", "Application")];
        let operations = ["CREATE", "UPDATE", "DELETE", "CONNECT", "PATCH"];
        for (object, previous) in objects.iter().flat_map(|a| objects.map(|b| (*a, b))) {
            for ((group, kind), operation) in kinds
                .iter()
                .flat_map(|kind| operations.map(|operation| (*kind, operation)))
            {
                let body = body(group, kind, operation, object, previous);
                let body = Arc::new(body);
                let mut on_the_way = parse(&body);
                let mut after = Envelope::parse_raw(&body).unwrap();
                assert_eq!(on_the_way.head, after.head, "{body}");
                let is_create = operation == "CREATE";
                let operation = [Operation::Update, Operation::Create][usize::from(is_create)];
                assert_eq!(
                    format!("{:?}", on_the_way.review(operation)),
                    format!("{:?}", after.review(operation)),
                    "{body}"
                );
            }
        }
    }

    #[test]
    fn an_object_is_read_on_the_way_where_it_can_be_judged() {
        let is_read = |operation, object| {
            let body = body("apps", "Deployment", operation, object, "null");
            let body = Arc::new(body);
            matches!(parse(&body).object, Some(Object::Read(_)))
        };
        assert!(is_read("CREATE", OBJECT) && is_read("UPDATE", OBJECT));
        assert!(!is_read("DELETE", OBJECT) && !is_read("CREATE", "{\"a\":1e999}"));
    }
}
