//! Everything that `doctor` learns of a cluster before it judges.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;

use super::api::Unread;
use super::hooks::{Hook, Labels, ServiceName};
use super::pods::Runner;
use super::samples::Samples;
use crate::config::Config;

/// What stands behind a webhook.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) service: Result<Service, Unread>,
    pub(super) endpoints: Result<Endpoints, Unread>,
}

/// How many addresses a Service leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoints {
    pub(super) ready: usize,
    pub(super) all: usize,
}

/// A kind as the cluster serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) plural: String,
    pub(super) is_namespaced: bool,
}

/// The kinds of some API groups, by group and kind.
pub(super) type Resources = BTreeMap<(String, String), Served>;

/// Reviews by Pod.
pub(super) type Counts = BTreeMap<String, u64>;

/// What became of the dry run.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Proof {
    /// It was made, and counted.
    Made {
        /// What was created, and where.
        what: String,
        /// How many reviews each Pod judged because of it.
        judged: Counts,
        /// How the last creation ended.
        ended: Result<(), Unread>,
    },
    /// It was made, but the Pods' counters could not be read.
    Uncounted {
        /// What was created, and where.
        what: String,
        /// Why the counters are not known.
        reason: Unread,
        /// How the last creation ended.
        ended: Result<(), Unread>,
    },
    /// It was not made.
    Unknown(Unread),
}

/// What is known of a cluster.
#[derive(Debug)]
pub(super) struct Facts {
    /// The time by this machine's clock.
    pub(super) now: Timestamp,
    /// All webhooks that could be read.
    pub(super) hooks: Vec<Hook>,
    /// Why others could not.
    pub(super) unread_hooks: Vec<Unread>,
    /// Labels by namespace.
    pub(super) namespaces: Result<BTreeMap<String, Labels>, Unread>,
    /// The namespace that the user asked for.
    pub(super) wanted: Option<String>,
    /// The Service of the installation that all this is about.
    pub(super) home: Option<ServiceName>,
    /// The Services of Forestall and of webhooks whose absence blocks.
    pub(super) backends: BTreeMap<ServiceName, Backend>,
    /// Forestall's Pods.
    pub(super) pods: Result<Vec<Runner>, Unread>,
    /// The configuration that they run with.
    pub(super) config: Result<Config, Unread>,
    /// The certificate, in PEM, that they are given.
    pub(super) certificate: Result<(String, Vec<u8>), Unread>,
    /// The API groups that the cluster serves, each with its versions.
    pub(super) groups: Result<BTreeMap<String, Vec<String>>, Unread>,
    /// The kinds of those groups that custom resources with images are in.
    pub(super) resources: Result<Resources, Unread>,
    /// What became of the dry run.
    pub(super) proof: Proof,
}

// === impl Facts ===

impl Facts {
    /// The webhooks of the installation that all this is about.
    pub(super) fn own(&self) -> impl Iterator<Item = &Hook> {
        let ours = self.hooks.iter().filter(|hook| hook.is_forestall());
        ours.filter(|hook| hook.service() == self.home)
    }

    /// The webhooks of everybody else.
    pub(super) fn foreign(&self) -> impl Iterator<Item = &Hook> {
        self.hooks.iter().filter(|hook| !hook.is_forestall())
    }

    /// The Services of all installations of Forestall.
    pub(super) fn installations(&self) -> BTreeSet<ServiceName> {
        let ours = self.hooks.iter().filter(|hook| hook.is_forestall());
        ours.filter_map(Hook::service).collect()
    }

    /// Forestall's Pods whose metrics could be read, with these.
    pub(super) fn samples(&self) -> impl Iterator<Item = (&Runner, &Samples)> {
        let pods = self.pods.iter().flatten();
        pods.filter_map(|pod| Some((pod, pod.samples.as_ref().ok()?)))
    }
}

// === impl Backend ===

impl Backend {
    /// The name that an `ExternalName` Service stands for: there are no endpoints to look at.
    pub(super) fn external_name(&self) -> Option<&str> {
        let spec = self.service.as_ref().ok()?.spec.as_ref()?;
        spec.external_name
            .as_deref()
            .filter(|_| spec.type_.as_deref() == Some("ExternalName"))
    }
}
