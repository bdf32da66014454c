//! What is known, and why the rest is not.
//!
//! A guardrail asks [`Questions`] before it judges; a lookup answers them all in one batch; the
//! [`Evidence`] is what the guardrail then judges on. It never asks while judging. A question is a type,
//! and names the type of its answer.

mod memory;
mod objects;
mod question;

pub use self::memory::{MemoryHistory, MemoryOutcome, MemoryRecord, Owner};
pub use self::objects::{Found, Listing, ObjectOf, ObjectQuestion, ObjectsOf, ReferrersOf};
pub(crate) use self::objects::{Listed, ProjectedObject, Wanted};
pub use self::question::{
    ConfigOf, Evidence, MemoryOf, PlatformsOf, PresenceOf, Pull, PullSecretsOf, Question, Questions,
};
pub use crate::image::{
    Holder, ImageConfig, ImagePlatforms, ImageState, Missing, MissingPart, Platform,
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
