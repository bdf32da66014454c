//! One reading of an AdmissionReview: its fields, and its objects as they are or as trees.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{LONGEST_NAME, Verb};
use crate::judging::object;
use crate::review::Subject;
use crate::tree::{Bound, Builder, Tree};

/// An object of the request.
#[derive(Debug)]
pub(super) enum Object<'a> {
    /// As it came.
    Raw(&'a RawValue),
    /// Read on the way, without what [`object::skipped`] leaves out.
    Read(Tree),
}

/// What becomes of the objects while a body is read.
#[derive(Clone, Copy)]
pub(super) enum Objects<'s> {
    /// They stay as they are.
    Raw,
    /// They become trees over this text, of which this much is known.
    Read(&'s Arc<String>, Bound),
}

/// A text of the request itself, which is read no further than it is used.
#[derive(Default)]
pub(super) struct Name(pub(super) String);

/// An AdmissionReview, with as much of its request as is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawReview<T> {
    pub(super) api_version: Option<Name>,
    pub(super) kind: Option<Name>,
    pub(super) request: Option<T>,
}

/// A request of which only the uid is read.
#[derive(Deserialize)]
pub(super) struct RawUid {
    pub(super) uid: Option<Name>,
}

/// A request.
#[derive(Default)]
pub(super) struct RawRequest<'a> {
    pub(super) uid: Option<Name>,
    pub(super) kind: Option<RawKind>,
    pub(super) sub_resource: Option<Name>,
    pub(super) name: Option<Name>,
    pub(super) namespace: Option<Name>,
    pub(super) operation: Option<Name>,
    pub(super) user_info: Option<RawUser>,
    pub(super) dry_run: Option<bool>,
    pub(super) object: Option<Object<'a>>,
    pub(super) old_object: Option<Object<'a>>,
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
pub(super) struct RawKind {
    pub(super) group: Name,
    pub(super) version: Name,
    pub(super) kind: Name,
}

#[derive(Deserialize)]
pub(super) struct RawUser {
    pub(super) username: Option<Name>,
}

/// Reads an AdmissionReview.
///
/// # Errors
/// Where and why `serde_json` does not read it.
pub(super) fn review<'a>(
    body: &'a str,
    objects: Objects<'_>,
) -> Result<RawReview<RawRequest<'a>>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(body);
    let review = ReviewSeed(objects).deserialize(&mut reader)?;
    reader.end().map(|()| review)
}

// === impl Object ===

impl Object<'_> {
    pub(super) fn tree(
        self,
        body: &Arc<String>,
        what: &str,
        subject: &Subject,
    ) -> Result<Tree, String> {
        match self {
            Self::Raw(raw) => object::read(body, raw.get(), what, (&subject.group, &subject.kind)),
            Self::Read(tree) => object::checked(tree, what),
        }
    }
}

// === impl RawRequest ===

impl<'a> RawRequest<'a> {
    pub(super) fn verb(&self) -> Verb {
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
