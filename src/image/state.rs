//! What is known of an image.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::unknown::Unknown;

/// What a registry said of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageState {
    /// A node could pull it.
    Exists,
    /// It is there, in a form that nodes with containerd 2.0 or later refuse: a manifest of Docker's
    /// first schema.
    Schema1,
    /// Every host that a node would ask says that it is not there.
    Missing(Missing),
    /// The registry lets nobody read it with the credentials that a node has. Known only where the
    /// operator says that nodes have no others.
    Denied {
        /// Who was asked, and as whom.
        asked: String,
    },
}

/// A kind of machine that images are built for (OCI image specification, "Image Index").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64`.
    pub architecture: String,
}

/// For which platforms an image is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImagePlatforms {
    /// A node of any platform pulls it; whether it runs there is not said.
    Any,
    /// Nodes of other platforms do not pull it.
    Only(Vec<Platform>),
}

/// What an image says of the process that it runs, in its author's words (OCI image specification,
/// "Image Configuration").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Environment variables, as `NAME=value`.
    pub env: Vec<String>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// The arguments after them, where a container gives none.
    pub cmd: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// The proof that an image is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What is missing.
    pub what: MissingPart,
    /// Who was asked, such as `registry-1.docker.io (anonymous)`.
    pub asked: String,
    /// The tags that the repository has; empty where they are not known.
    pub tags: Arc<Vec<String>>,
    /// Who has it all the same, or why that may be known only later. `None` where nobody is known to.
    pub holder: Result<Option<Holder>, Unknown>,
}

/// Somebody who has an image without a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// The node of this name.
    Node(String),
    /// The node of a Pod that was started with it.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// The part of a reference that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingPart {
    /// The repository has no such tag.
    Tag,
    /// The repository has no such digest.
    Digest,
    /// There is no such repository.
    Repository,
}

// === impl Platform ===

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}
