//! What is known, and why the rest is not.
//!
//! A guardrail asks [`Question`]s before it judges; a lookup answers them all in one batch; the
//! [`Evidence`] is what the guardrail then judges on. It never asks while judging.

mod image;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::image::{
    Holder, ImageConfig, ImagePlatforms, ImageState, Missing, MissingPart, Platform,
};
use crate::image::ImageReference;

/// Something that a guardrail must know before it can judge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// Whether a node could pull an image, and which tags there are if it could not.
    Image {
        /// The image.
        image: ImageReference,
        /// For whom, where that plays a part: else with no pull secrets.
        puller: Option<Puller>,
    },
    /// For which platforms an image is built.
    ImagePlatforms {
        /// The image.
        image: ImageReference,
        /// For whom, as above.
        puller: Option<Puller>,
    },
    /// What an image says of the process that it runs.
    ImageConfig {
        /// The image.
        image: ImageReference,
        /// For whom, as above.
        puller: Option<Puller>,
    },
    /// The platforms of the cluster's nodes.
    NodePlatforms,
    /// The CustomResourceDefinition of a group and plural.
    Definition {
        /// API group.
        group: String,
        /// Plural name.
        plural: String,
    },
    /// The version of Argo CD that reads this cluster's Applications.
    ArgoCdVersion,
    /// Whether Argo CD compares by server-side diff throughout (`controller.diff.server.side`).
    ArgoCdServerSideDiff,
    /// Which containers were killed, or survived, under which memory limit.
    MemoryHistory,
    /// The pull secrets that a node would use for a pod.
    PullSecrets(Puller),
}

/// A pod for which a node pulls images, as far as it decides with which pull secrets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Puller {
    /// Its namespace.
    pub namespace: String,
    /// Its service account, whose pull secrets count if it names none itself.
    pub service_account: String,
    /// The pull secrets that it names itself, as written: an empty name names none.
    pub named: Vec<String>,
}

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

/// What was found out.
#[derive(Clone, Debug)]
pub enum Fact {
    /// Answers [`Question::Image`].
    Image(ImageState),
    /// Answers [`Question::ImagePlatforms`].
    ImagePlatforms(ImagePlatforms),
    /// Answers [`Question::ImageConfig`].
    ImageConfig(Arc<ImageConfig>),
    /// Answers [`Question::NodePlatforms`].
    NodePlatforms(BTreeSet<Platform>),
    /// Answers [`Question::Definition`]: the spec of the definition.
    Definition(Arc<Value>),
    /// Answers [`Question::ArgoCdVersion`].
    Version(String),
    /// Answers [`Question::ArgoCdServerSideDiff`].
    Flag(bool),
    /// Answers [`Question::MemoryHistory`].
    Memory(Arc<Vec<MemoryRecord>>),
    /// Answers [`Question::PullSecrets`], in the order in which they are tried.
    PullSecrets(Vec<PullSecret>),
}

/// Why something is not known. An unknown never refuses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unknown {
    /// Nobody asked for it in time, or it is not among the evidence given.
    NotAsked,
    /// The review's time was up.
    TimedOut,
    /// The cluster view has not been listed yet, or lost its connection.
    NotSynced,
    /// There is no cluster to ask, or it does not have (or show) what is asked for.
    Unavailable(String),
    /// A registry gave no answer that proves anything.
    Registry {
        /// The registry asked.
        host: String,
        /// What happened, in our own words.
        why: String,
        /// Whether that registry has ever let us read anything.
        answered_before: bool,
    },
    /// The registry, named here, is being asked behind the answer, and the next review knows it.
    BeingFetched(String),
    /// The object asks for more facts than one review may.
    TooMany,
    /// The object cannot be read there.
    Unreadable(String),
    /// The guardrail itself failed.
    Panicked,
}

/// All that is known for one review.
#[derive(Clone, Debug, Default)]
pub struct Evidence(BTreeMap<Question, Result<Fact, Unknown>>);

// === impl Unknown ===

impl Unknown {
    /// The object has something else there than its kind allows.
    #[must_use]
    pub fn unreadable(pointer: &str, problem: &str) -> Self {
        Self::Unreadable(format!("{pointer} {problem}"))
    }

    /// Whether asking again will not help: such an unknown is named by a metric, not in warnings.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_)
                | Self::Registry {
                    answered_before: false,
                    ..
                }
        )
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked => f.write_str("not known"),
            Self::TimedOut => f.write_str("out of time"),
            Self::NotSynced => f.write_str("the cluster has not been listed yet"),
            Self::Unavailable(what) | Self::Unreadable(what) => f.write_str(what),
            Self::Registry { host, why, .. } => write!(f, "{host}: {why}"),
            Self::BeingFetched(host) => {
                write!(f, "{host}: the configuration of the image is being fetched")
            }
            Self::TooMany => f.write_str("the object asks for more facts than one review may"),
            Self::Panicked => f.write_str("the guardrail failed; please report it"),
        }
    }
}

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

// === impl Evidence ===

impl FromIterator<(Question, Result<Fact, Unknown>)> for Evidence {
    fn from_iter<T: IntoIterator<Item = (Question, Result<Fact, Unknown>)>>(answers: T) -> Self {
        Self(answers.into_iter().collect())
    }
}

impl IntoIterator for Evidence {
    type Item = (Question, Result<Fact, Unknown>);
    type IntoIter = std::collections::btree_map::IntoIter<Question, Result<Fact, Unknown>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Evidence {
    /// Adds one answer.
    pub fn insert(&mut self, question: Question, answer: Result<Fact, Unknown>) {
        self.0.insert(question, answer);
    }

    /// The questions that have an answer, or a reason why not.
    #[must_use]
    pub fn answered(&self) -> BTreeSet<&Question> {
        self.0.keys().collect()
    }

    fn get(&self, question: &Question) -> Result<&Fact, Unknown> {
        self.0
            .get(question)
            .ok_or(Unknown::NotAsked)?
            .as_ref()
            .map_err(Clone::clone)
    }

    /// What is known of an image, pulled for this pod or for any.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn image(
        &self,
        image: &ImageReference,
        puller: Option<&Puller>,
    ) -> Result<&ImageState, Unknown> {
        let question = Question::Image {
            image: image.clone(),
            puller: puller.cloned(),
        };
        match self.get(&question)? {
            Fact::Image(state) => Ok(state),
            _ => Err(Unknown::NotAsked),
        }
    }

    /// The pull secrets of a pod.
    ///
    /// # Errors
    /// Why they are not known.
    pub fn pull_secrets(&self, puller: &Puller) -> Result<&[PullSecret], Unknown> {
        match self.get(&Question::PullSecrets(puller.clone()))? {
            Fact::PullSecrets(secrets) => Ok(secrets),
            _ => Err(Unknown::NotAsked),
        }
    }

    /// For which platforms an image is built, that this puller pulls.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn image_platforms(
        &self,
        image: &ImageReference,
        puller: Option<&Puller>,
    ) -> Result<&ImagePlatforms, Unknown> {
        let question = Question::ImagePlatforms {
            image: image.clone(),
            puller: puller.cloned(),
        };
        match self.get(&question)? {
            Fact::ImagePlatforms(platforms) => Ok(platforms),
            _ => Err(Unknown::NotAsked),
        }
    }

    /// What an image says of the process that it runs, as this puller pulls it.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn image_config(
        &self,
        image: &ImageReference,
        puller: Option<&Puller>,
    ) -> Result<&ImageConfig, Unknown> {
        let question = Question::ImageConfig {
            image: image.clone(),
            puller: puller.cloned(),
        };
        match self.get(&question)? {
            Fact::ImageConfig(config) => Ok(config),
            _ => Err(Unknown::NotAsked),
        }
    }

    /// The platforms of the cluster's nodes.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn node_platforms(&self) -> Result<&BTreeSet<Platform>, Unknown> {
        match self.get(&Question::NodePlatforms)? {
            Fact::NodePlatforms(platforms) => Ok(platforms),
            _ => Err(Unknown::NotAsked),
        }
    }

    /// The spec of a CustomResourceDefinition.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn definition(&self, group: &str, plural: &str) -> Result<&Value, Unknown> {
        let question = Question::Definition {
            group: group.to_owned(),
            plural: plural.to_owned(),
        };
        match self.get(&question)? {
            Fact::Definition(spec) => Ok(spec),
            _ => Err(Unknown::NotAsked),
        }
    }

    /// The version of Argo CD, as `v2.10.0` or `2.10.0`.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn argocd_version(&self) -> Result<&str, Unknown> {
        match self.get(&Question::ArgoCdVersion)? {
            Fact::Version(version) => Ok(version),
            _ => Err(Unknown::NotAsked),
        }
    }

    /// Whether Argo CD is set to server-side diff throughout.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn argocd_server_side_diff(&self) -> Result<bool, Unknown> {
        match self.get(&Question::ArgoCdServerSideDiff)? {
            Fact::Flag(flag) => Ok(*flag),
            _ => Err(Unknown::NotAsked),
        }
    }

    /// What is known about memory.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn memory(&self) -> Result<&[MemoryRecord], Unknown> {
        match self.get(&Question::MemoryHistory)? {
            Fact::Memory(records) => Ok(records),
            _ => Err(Unknown::NotAsked),
        }
    }
}
