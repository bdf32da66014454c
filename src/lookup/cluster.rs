//! What is seen of the cluster: reflectors over the few kinds that guardrails ask for.
use std::sync::Arc;

use serde_json::Value;

use crate::evidence::Unknown;

/// The view. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ClusterView {}

/// What is known of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceState {
    /// The namespaces have not been listed.
    NotSynced,
    /// There is none of that name, or it is too new.
    Absent,
    /// It is there, with this value of the mode label.
    Known(Option<String>),
}

impl ClusterView {
    /// What is known of a namespace.
    #[must_use]
    pub fn namespace(&self, _name: &str) -> NamespaceState {
        unimplemented!()
    }
    /// The spec of a CustomResourceDefinition.
    pub fn definition(&self, _group: &str, _plural: &str) -> Result<Arc<Value>, Unknown> {
        unimplemented!()
    }
    /// The version of Argo CD that runs here.
    pub fn argocd_version(&self) -> Result<String, Unknown> {
        unimplemented!()
    }
    /// Whether `controller.diff.server.side` is true.
    pub fn argocd_server_side_diff(&self) -> Result<bool, Unknown> {
        unimplemented!()
    }
}
