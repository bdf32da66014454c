//! The facts of a running cluster: its registries and its objects.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use tokio::time::Instant;

use super::cluster::{ClusterView, NamespaceState};
use super::pull_secrets::Content;
use super::registry::credentials::PodCredentials;
use super::registry::{Part, RegistryClient};
use super::{Lookup, mode_of_label};
use crate::config::NamespaceLabel;
use crate::evidence::{
    Evidence, Fact, Holder, ImageState, PullSecret, PullSecretState, Puller, Question, Unknown,
};
use crate::image::ImageReference;
use crate::review::Door;

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
    async fn gather(&self, asked: BTreeSet<Question>, door: Door, by: Instant) -> Evidence {
        let answers = asked.into_iter().map(async |question| {
            let answer = self.answer(&question, door, by).await;
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
    async fn answer(&self, question: &Question, door: Door, by: Instant) -> Result<Fact, Unknown> {
        let cluster = || {
            self.cluster
                .as_ref()
                .ok_or_else(|| Unknown::Unavailable("there is no cluster to ask".to_owned()))
        };
        match question {
            Question::Image { image, puller } => {
                let registry = self.registry()?;
                let pod = self.credentials(puller.as_ref(), by).await?;
                let mut state = registry.probe_for(image, &pod, door, by).await?;
                if let ImageState::Missing(missing) = &mut state {
                    missing.holder = self.holder(image);
                }
                Ok(Fact::Image(state))
            }
            Question::ImagePlatforms { image, puller } => {
                let part = Part::Platforms;
                self.content(image, part, puller.as_ref(), door, by).await
            }
            Question::ImageConfig { image, puller } => {
                let part = Part::Config;
                self.content(image, part, puller.as_ref(), door, by).await
            }
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
            Question::PullSecrets(puller) => {
                let secrets = cluster()?.pull_secrets(puller, by).await?;
                let secrets = secrets.into_iter().map(|(name, content)| PullSecret {
                    name,
                    state: content.map_or(PullSecretState::Absent, |content| content.state()),
                });
                Ok(Fact::PullSecrets(secrets.collect()))
            }
        }
    }

    /// Who in the cluster has an image, by the name by which nodes are told to pull it.
    pub(super) fn holder(&self, image: &ImageReference) -> Result<Option<Holder>, Unknown> {
        let Some(cluster) = &self.cluster else {
            return Ok(None);
        };
        let registry = self.registry.as_deref();
        let told = registry.map(|registry| registry.rewritten(image));
        cluster.holder(&told.transpose()?.unwrap_or(Cow::Borrowed(image)))
    }

    async fn content(
        &self,
        image: &ImageReference,
        part: Part,
        puller: Option<&Puller>,
        door: Door,
        by: Instant,
    ) -> Result<Fact, Unknown> {
        let registry = self.registry()?;
        let pod = self.credentials(puller, by).await?;
        registry.content_for(image, part, &pod, door, by).await
    }

    fn registry(&self) -> Result<&RegistryClient, Unknown> {
        let registry = self.registry.as_deref();
        registry.ok_or_else(|| Unknown::Unavailable("registries are not asked".to_owned()))
    }

    /// The credentials with which images are pulled for a pod. Where they cannot be read, images are
    /// asked for as they are where nobody reads them.
    async fn credentials(
        &self,
        puller: Option<&Puller>,
        by: Instant,
    ) -> Result<PodCredentials, Unknown> {
        let (Some(puller), Some(cluster)) = (puller, &self.cluster) else {
            return Ok(PodCredentials::default());
        };
        let Ok(secrets) = cluster.pull_secrets(puller, by).await else {
            return Ok(PodCredentials::default());
        };
        let mut pod = PodCredentials {
            is_complete: true,
            ..PodCredentials::default()
        };
        for (name, content) in &secrets {
            match content.as_deref() {
                Some(Content::Usable(config)) => pod.keyring.add(config),
                Some(Content::Ignored { .. }) => {}
                // It may come.
                None => pod.is_complete = false,
                Some(Content::Malformed(_)) => {
                    return Err(Unknown::Unavailable(format!(
                        "nothing is pulled with the malformed pull secret {name}"
                    )));
                }
            }
        }
        Ok(pod)
    }
}
