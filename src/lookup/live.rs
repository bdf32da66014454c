//! The facts of a running cluster: its registries and its objects.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use tokio::time::Instant;

use super::cluster::{ClusterView, NamespaceState};
use super::registry::RegistryClient;
use super::{Lookup, mode_of_label};
use crate::config::NamespaceLabel;
use crate::evidence::{Evidence, Fact, Question, Unknown};

/// Registries, and the cluster where there is one.
#[derive(Clone)]
pub struct Live {
    /// Answers for images; `None` asks no registry.
    pub registry: Option<Arc<RegistryClient>>,
    /// Answers for objects; `None` without a cluster.
    pub cluster: Option<ClusterView>,
    /// The version of Argo CD that is configured; holds over what is seen.
    pub argocd_version: Option<String>,
}

impl Lookup for Live {
    async fn gather(&self, asked: BTreeSet<Question>, by: Instant) -> Evidence {
        let answers = asked.into_iter().map(async |question| {
            let answer = self.answer(&question, by).await;
            (question, answer)
        });
        join_all(answers).await.into_iter().collect()
    }

    fn label(&self, namespace: &str) -> NamespaceLabel {
        match self
            .cluster
            .as_ref()
            .map(|cluster| cluster.namespace(namespace))
        {
            None => NamespaceLabel::Known(None),
            Some(NamespaceState::Absent) => NamespaceLabel::Absent,
            Some(NamespaceState::NotSynced) => NamespaceLabel::NotSynced,
            Some(NamespaceState::Known(label)) => mode_of_label(label.as_deref()),
        }
    }
}

impl Live {
    async fn answer(&self, question: &Question, by: Instant) -> Result<Fact, Unknown> {
        let cluster = || {
            self.cluster
                .as_ref()
                .ok_or_else(|| Unknown::Unavailable("there is no cluster to ask".to_owned()))
        };
        match question {
            Question::Image(image) => match &self.registry {
                Some(registry) => registry.probe(image, by).await.map(Fact::Image),
                None => Err(Unknown::Unavailable("registries are not asked".to_owned())),
            },
            Question::ImagePlatforms(image) => match &self.registry {
                Some(registry) => {
                    let platforms = registry.platforms(image, by).await;
                    platforms.map(Fact::ImagePlatforms)
                }
                None => Err(Unknown::Unavailable("registries are not asked".to_owned())),
            },
            Question::NodePlatforms => cluster()?.node_platforms().map(Fact::NodePlatforms),
            Question::Definition { group, plural } => {
                cluster()?.definition(group, plural).map(Fact::Definition)
            }
            Question::ArgoCdVersion => match &self.argocd_version {
                Some(version) => Ok(Fact::Version(version.clone())),
                None => cluster()?.argocd_version().map(Fact::Version),
            },
            Question::ArgoCdServerSideDiff => cluster()?.argocd_server_side_diff().map(Fact::Flag),
            Question::MemoryHistory => Err(Unknown::Unavailable(
                "only configured kills are known".to_owned(),
            )),
        }
    }
}
