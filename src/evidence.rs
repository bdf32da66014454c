//! What is known, and why the rest is not.
//!
//! A guardrail asks [`Questions`] before it judges; a lookup answers them all in one batch; the
//! [`Evidence`] is what the guardrail then judges on. It never asks while judging. A question is a type,
//! and names the type of its answer.

mod image;
mod objects;
mod question;

use serde::{Deserialize, Serialize};

pub use self::image::{
    Holder, ImageConfig, ImagePlatforms, ImageState, Missing, MissingPart, Platform,
};
pub use self::objects::{Found, Listing, ObjectOf, ObjectQuestion, ObjectsOf, ReferrersOf};
pub(crate) use self::objects::{Kept, Listed, Wanted};
pub use self::question::{
    ConfigOf, Evidence, MemoryOf, PlatformsOf, PresenceOf, Pull, PullSecretsOf, Question, Questions,
};
pub use crate::review::puller::Puller;
pub use crate::unknown::Unknown;

/// A pull secret of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullSecret {
    /// Its name.
    pub name: String,
    /// What kubelet makes of it.
    pub state: PullSecretState,
}

/// What kubelet makes of a pull secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullSecretState {
    /// It reads credentials from it.
    Usable,
    /// There is none of that name; kubelet goes on without it.
    Absent,
    /// It is of a type, or lacks the key, that kubelet reads; kubelet goes on without it.
    Ignored {
        /// Its type.
        kind: String,
    },
    /// kubelet fails over it, and pulls no image for the pod.
    Malformed {
        /// What is wrong with it.
        problem: String,
    },
}

/// One row of what is known about memory: a container under a limit, and how it ended.
///
/// A field that is left out matches anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemoryRecord {
    /// Namespace of the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The workload, as Kind/name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Container name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Image; without a tag it stands for every tag of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The memory limit, as a Kubernetes quantity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Scalar>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<MemoryOutcome>,
    /// How many kills by the memory controller were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Scalar>,
    /// How many of them came soon after start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quick: Option<Scalar>,
    /// How many pods were hit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<Scalar>,
    /// First time seen (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Scalar>,
    /// Last time seen (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Scalar>,
    /// How long the longest of them ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime: Option<Scalar>,
}

/// How a container ended under its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum MemoryOutcome {
    /// The kernel killed it for its memory.
    OomKilled,
    /// It ran for the time that counts as survival.
    Survived,
}

/// A scalar that is read as text, however it is written: `512`, `512Mi` or `"512"`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Scalar(pub String);

// === impl Scalar ===

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // YAML gives the text as it is written, so that 2.10 does not become 2.1.
        String::deserialize(deserializer).map(Self)
    }
}

impl schemars::JsonSchema for Scalar {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": ["string", "number", "boolean"]})
    }
}
