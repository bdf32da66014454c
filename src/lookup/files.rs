//! The facts in files: other manifests and the evidence file of `forestall check`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::live::Live;
use super::{Lookup, MODE_LABEL, mode_of_label};
use crate::config::{ConfigError, NamespaceLabel, parse_yaml};
use crate::evidence::{
    Evidence, Fact, ImageState, MemoryRecord, Missing, MissingPart, Question, Scalar, Unknown,
};
use crate::review::image::{ImageReference, Repository};
use crate::review::{Subject, text};

/// The evidence file, which `check --evidence` reads and `check --record` writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EvidenceFile {
    /// When it was written (RFC 3339); ages count from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Scalar>,
    /// What registries said of images.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, ImageAnswer>,
    /// The tags of repositories.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, Vec<Scalar>>,
    /// What is inside images.
    #[serde(skip_serializing)]
    #[schemars(with = "BTreeMap<String, BTreeMap<String, Value>>")]
    pub image_configs: BTreeMap<String, serde::de::IgnoredAny>,
    /// Kills and survivals.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<MemoryRecord>,
    /// Argo CD.
    #[serde(skip_serializing_if = "ArgoCdEvidence::is_empty")]
    pub argocd: ArgoCdEvidence,
}

/// What a registry said of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ImageAnswer {
    /// A node could pull it.
    Exists,
    /// It is not there.
    Missing,
    /// The registry does not say.
    Denied,
    /// Nothing is known.
    Unknown,
}

/// What is known of Argo CD.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ArgoCdEvidence {
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Scalar>,
    /// The data of argocd-cm.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cm: BTreeMap<String, Scalar>,
    /// The data of argocd-cmd-params-cm.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cmd_params: BTreeMap<String, Scalar>,
}

impl ArgoCdEvidence {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
