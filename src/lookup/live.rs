//! The facts of a running cluster: its registries and its objects.

use std::borrow::Cow;
use std::sync::Arc;

use futures::future::join_all;
use futures::join;
use tokio::time::Instant;

use super::cluster::{ClusterView, NamespaceState};
use super::pull_secrets::Content;
use super::{Lookup, mode_of_label};
use crate::config::NamespaceLabel;
use crate::evidence::{
    Evidence, Holder, ImageConfig, ImagePlatforms, ImageState, Listing, ObjectQuestion, Pull,
    PullSecret, PullSecretState, Puller, Questions,
};
use crate::image::ImageReference;
use crate::objects::{ArgoCdController, Row};
use crate::registry::credentials::PodCredentials;
use crate::registry::{ImageContent, Part, RegistryClient, Urgency};
use crate::review::Door;
use crate::unknown::Unknown;

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
    async fn gather(&self, asked: Questions, door: Door, by: Instant) -> Evidence {
        let Questions {
            presence,
            platforms,
            configs,
            pull_secrets,
            memory,
            objects,
        } = asked;
        let urgency = urgency(door);
        let presence = presence.into_iter().map(async |asked| {
            let answer = self.presence(&asked.0, urgency, by).await;
            (asked, answer)
        });
        let platforms = platforms.into_iter().map(async |asked| {
            let answer = self.platforms(&asked.0, urgency, by).await;
            (asked, answer)
        });
        let configs = configs.into_iter().map(async |asked| {
            let answer = self.config(&asked.0, urgency, by).await;
            (asked, answer)
        });
        let pull_secrets = pull_secrets.into_iter().map(async |asked| {
            let answer = self.pull_secrets(&asked.0, by).await;
            (asked, answer)
        });
        let (presence, platforms, configs, pull_secrets) = join!(
            join_all(presence),
            join_all(platforms),
            join_all(configs),
            join_all(pull_secrets),
        );
        let learnt = Unknown::Unavailable("only configured kills are known".to_owned());
        let memory = memory.into_iter();
        let objects = objects.into_iter();
        Evidence {
            presence: presence.into_iter().collect(),
            platforms: platforms.into_iter().collect(),
            configs: configs.into_iter().collect(),
            pull_secrets: pull_secrets.into_iter().collect(),
            memory: memory.map(|asked| (asked, Err(learnt.clone()))).collect(),
            objects: objects
                .map(|asked| {
                    let answer = self.objects(&asked);
                    (asked, answer)
                })
                .collect(),
        }
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
    async fn presence(
        &self,
        pull: &Pull,
        urgency: Urgency,
        by: Instant,
    ) -> Result<ImageState, Unknown> {
        let registry = self.registry()?;
        let pod = self.credentials(pull.puller.as_ref(), by).await?;
        let mut state = registry.probe_for(&pull.image, &pod, urgency, by).await?;
        if let ImageState::Missing(missing) = &mut state {
            missing.holder = self.holder(&pull.image);
        }
        Ok(state)
    }

    async fn platforms(
        &self,
        pull: &Pull,
        urgency: Urgency,
        by: Instant,
    ) -> Result<ImagePlatforms, Unknown> {
        match self.content(pull, Part::Platforms, urgency, by).await? {
            ImageContent::Platforms(platforms) => Ok(platforms),
            ImageContent::Config(_) => Err(Unknown::NotAsked),
        }
    }

    async fn config(
        &self,
        pull: &Pull,
        urgency: Urgency,
        by: Instant,
    ) -> Result<Arc<ImageConfig>, Unknown> {
        match self.content(pull, Part::Config, urgency, by).await? {
            ImageContent::Config(config) => Ok(config),
            ImageContent::Platforms(_) => Err(Unknown::NotAsked),
        }
    }

    async fn content(
        &self,
        pull: &Pull,
        part: Part,
        urgency: Urgency,
        by: Instant,
    ) -> Result<ImageContent, Unknown> {
        let registry = self.registry()?;
        let pod = self.credentials(pull.puller.as_ref(), by).await?;
        let content = registry.content_for(&pull.image, part, &pod, urgency, by);
        content.await
    }

    async fn pull_secrets(&self, puller: &Puller, by: Instant) -> Result<Vec<PullSecret>, Unknown> {
        let secrets = self.cluster()?.pull_secrets(puller, by).await?;
        let secrets = secrets.into_iter().map(|(name, content)| PullSecret {
            name,
            state: content.map_or(PullSecretState::Absent, |content| content.state()),
        });
        Ok(secrets.collect())
    }

    fn objects(&self, question: &ObjectQuestion) -> Result<Listing, Unknown> {
        if let Some(version) = &self.argocd_version
            && question.row() == Row::of::<ArgoCdController>()
        {
            let version = Ok(version.clone());
            return Ok(Listing::of([(
                "argocd.version",
                ArgoCdController { version },
            )]));
        }
        self.cluster()?.objects(question)
    }

    fn cluster(&self) -> Result<&ClusterView, Unknown> {
        let cluster = self.cluster.as_ref();
        cluster.ok_or_else(|| Unknown::Unavailable("there is no cluster to ask".to_owned()))
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

fn urgency(door: Door) -> Urgency {
    match door {
        Door::Admission => Urgency::Immediate,
        Door::Files => Urgency::Patient,
        Door::Cluster => Urgency::Background,
    }
}
