//! The evidence file: facts that somebody wrote down, or that `check --record` did.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::evidence::{
    ConfigOf, Evidence, ImageConfig, ImagePlatforms, ImageState, MemoryHistory, MissingPart,
    ObjectsOf, Platform, PlatformsOf, PresenceOf, Pull,
};
use crate::image::{ImageReference, Repository};
use crate::objects::{ImageSet, NodeState, SERVER_SIDE_DIFF};
use crate::review::patch::escape;
use crate::review::scheduling::{ARCHITECTURE_LABEL, OS_LABEL};
use crate::rules::argocd;
use crate::unknown::Unknown;
use crate::yaml_file::{self, Scalar, YamlFileError};

/// The evidence file, which `check --evidence` reads and `check --record` writes.
///
/// Every key may be left out. What is left out is not known.
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
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub image_configs: BTreeMap<String, ImageConfigEvidence>,
    /// Kills and survivals.
    #[serde(skip_serializing_if = "MemoryHistory::is_empty")]
    pub memory: MemoryHistory,
    /// Argo CD.
    #[serde(skip_serializing_if = "ArgoCdEvidence::is_empty")]
    pub argocd: ArgoCdEvidence,
    /// The nodes of the cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<Value>,
}

/// What a registry said of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ImageAnswer {
    /// A node could pull it.
    Exists,
    /// It is there in Docker's first schema, which containerd 2.0 and later refuse.
    Schema1,
    /// It is not there.
    Missing,
    /// The registry has no such repository.
    MissingRepository,
    /// The registry lets nobody read it. It says no more than that, unless the configuration has
    /// `trustDenied` for the registry.
    Denied,
    /// Nothing is known.
    Unknown,
}

/// What is inside an image. An entry with one of `env`, `entrypoint`, `cmd` and `labels` says all of
/// them: what it leaves out is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ImageConfigEvidence {
    /// Environment variables, as NAME=value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<Scalar>>,
    /// The program and its first arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<Scalar>>,
    /// The arguments after them, where a container gives none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<Scalar>>,
    /// Labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, Scalar>>,
    /// The platforms that it is built for, such as linux/amd64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platforms: Option<Vec<Scalar>>,
}

/// What is known of Argo CD.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ArgoCdEvidence {
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Scalar>,
    /// The data of argocd-cm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cm: Option<BTreeMap<String, Scalar>>,
    /// The data of argocd-cmd-params-cm; empty says that nothing is set there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd_params: Option<BTreeMap<String, Scalar>>,
}

/// A JSON pointer into the file, and what is wrong there.
type Mistake = (String, String);

// === impl EvidenceFile ===

impl EvidenceFile {
    /// Reads an evidence file.
    ///
    /// # Errors
    /// The first mistake, with its place and the cure.
    pub fn parse(file: &str, text: &str) -> Result<Self, YamlFileError> {
        let evidence: Self = yaml_file::parse(file, text)?;
        evidence
            .check()
            .map_err(|(pointer, message)| YamlFileError::at(file, text, &pointer, message))?;
        Ok(evidence)
    }

    /// The file as it is written.
    ///
    /// # Errors
    /// Where a value has no form in YAML.
    pub fn to_yaml(&self) -> Result<String, serde_saphyr::ser::Error> {
        serde_saphyr::to_string(self)
    }

    fn check(&self) -> Result<(), Mistake> {
        if let Some(Scalar(at)) = &self.at
            && at.parse::<jiff::Timestamp>().is_err()
        {
            let message = format!("at {at:?} is no time; write it as 2026-11-25T12:00:00Z");
            return Err(("/at".to_owned(), message));
        }
        let mut seen = BTreeMap::new();
        for (key, answer) in &self.images {
            let pointer = format!("/images/{}", escape(key));
            let image = reference(key, &pointer, "images")?.pulled();
            if let Some((other, before)) = seen.insert(image, (key, answer))
                && before != answer
            {
                let message = format!("images: {key:?} and {other:?} are one image; keep one");
                return Err((pointer, message));
            }
        }
        for key in self.tags.keys() {
            repository(key).map_err(|message| {
                (
                    format!("/tags/{}", escape(key)),
                    format!("tags: {key:?}: {message}"),
                )
            })?;
        }
        for key in self.image_configs.keys() {
            reference(
                key,
                &format!("/imageConfigs/{}", escape(key)),
                "imageConfigs",
            )?;
        }
        for (index, node) in self.nodes.iter().enumerate() {
            for (image, held) in held(node).enumerate() {
                let section = format!("nodes[{index}].images");
                let pointer = format!("/nodes/{index}/images/{image}");
                reference(held, &pointer, &section)?;
            }
        }
        Ok(())
    }

    /// Writes down what was found out, where this file has a place for it. Objects are given by
    /// --cluster-state.
    pub(super) fn remember(&mut self, found: &Evidence) {
        for (PresenceOf(Pull { image, .. }), answer) in &found.presence {
            self.remember_presence(image, answer);
        }
        for (PlatformsOf(Pull { image, .. }), answer) in &found.platforms {
            if let Ok(ImagePlatforms::Only(platforms)) = answer {
                let listed = platforms.iter();
                let listed = listed.map(|platform| Scalar(platform.to_string()));
                self.config(image).platforms = Some(listed.collect());
            }
        }
        for (ConfigOf(Pull { image, .. }), answer) in &found.configs {
            if let Ok(config) = answer {
                self.config(image).write_down(config);
            }
        }
        let nodes = found.get(&ObjectsOf::<NodeState>::all());
        if let Ok(platforms) = nodes.and_then(|nodes| nodes.platforms()) {
            self.remember_platforms(&platforms);
        }
        if let Ok(version) = argocd::version(found) {
            self.argocd.version = Some(Scalar(version.to_owned()));
        }
        if let Ok(flag) = argocd::server_side_diff(found) {
            let params = self.argocd.cmd_params.get_or_insert_default();
            params.insert(SERVER_SIDE_DIFF.to_owned(), Scalar(flag.to_string()));
        }
    }

    fn remember_presence(&mut self, image: &ImageReference, answer: &Result<ImageState, Unknown>) {
        let written = match answer {
            Ok(ImageState::Exists) => ImageAnswer::Exists,
            Ok(ImageState::Schema1) => ImageAnswer::Schema1,
            Ok(ImageState::Missing(missing)) => {
                if !missing.tags.is_empty() {
                    let tags = missing.tags.iter().cloned().map(Scalar).collect();
                    self.tags.insert(image.repository.to_string(), tags);
                }
                if let Ok(Some(_)) = missing.holder {
                    self.remember_held(&image.to_string());
                }
                match missing.what {
                    MissingPart::Repository => ImageAnswer::MissingRepository,
                    MissingPart::Tag | MissingPart::Digest => ImageAnswer::Missing,
                }
            }
            Ok(ImageState::Denied { .. }) => ImageAnswer::Denied,
            Err(_) => ImageAnswer::Unknown,
        };
        self.images.insert(image.to_string(), written);
    }

    fn remember_platforms(&mut self, platforms: &BTreeSet<Platform>) {
        let node = |platform: &Platform| json!({"os": platform.os, "arch": platform.architecture});
        let before = std::mem::take(&mut self.nodes);
        self.nodes = platforms.iter().map(node).collect();
        before
            .iter()
            .flat_map(held)
            .for_each(|image| self.remember_held(image));
    }

    fn config(&mut self, image: &ImageReference) -> &mut ImageConfigEvidence {
        self.image_configs.entry(image.to_string()).or_default()
    }
}

impl ImageConfigEvidence {
    /// For which platforms the image is built, where that is said.
    pub(super) fn platforms(&self) -> Option<ImagePlatforms> {
        let platforms = self.platforms.as_ref()?.iter().map(|platform| {
            let (os, architecture) = platform.0.split_once('/')?;
            Some(Platform {
                os: os.to_owned(),
                // A variant, such as v8, says nothing that nodes have as a label.
                architecture: architecture.split('/').next()?.to_owned(),
            })
        });
        platforms.collect::<Option<_>>().map(ImagePlatforms::Only)
    }

    /// What the image says of its process, where any of it is said.
    pub(super) fn config(&self) -> Option<ImageConfig> {
        let Self {
            env,
            entrypoint,
            cmd,
            labels,
            platforms: _,
        } = self;
        let texts = |scalars: &Option<Vec<Scalar>>| {
            let scalars = scalars.iter().flatten();
            scalars.map(|scalar| scalar.0.clone()).collect()
        };
        let is_said = [env, entrypoint, cmd].into_iter().any(Option::is_some) || labels.is_some();
        is_said.then(|| ImageConfig {
            env: texts(env),
            entrypoint: texts(entrypoint),
            cmd: texts(cmd),
            labels: labels
                .iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.0.clone()))
                .collect(),
        })
    }

    fn write_down(&mut self, config: &ImageConfig) {
        let scalars = |texts: &[String]| Some(texts.iter().cloned().map(Scalar).collect());
        self.env = scalars(&config.env);
        self.entrypoint = scalars(&config.entrypoint);
        self.cmd = scalars(&config.cmd);
        let labels = config.labels.clone().into_iter();
        self.labels = Some(labels.map(|(key, value)| (key, Scalar(value))).collect());
    }
}

impl EvidenceFile {
    /// Writes down that some node has an image.
    fn remember_held(&mut self, image: &str) {
        if self.nodes.iter().flat_map(held).any(|known| known == image) {
            return;
        }
        if self.nodes.is_empty() {
            self.nodes.push(json!({}));
        }
        let images = self.nodes[0].as_object_mut().map(|node| {
            let images = node.entry("images").or_insert_with(|| json!([]));
            images.as_array_mut()
        });
        if let Some(Some(images)) = images {
            images.push(json!(image));
        }
    }
}

impl ArgoCdEvidence {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The repository that a key of `tags` names.
pub(super) fn repository(key: &str) -> Result<Repository, String> {
    let reference = ImageReference::parse(key).map_err(|error| error.to_string())?;
    if reference.tag.is_some() || reference.digest.is_some() {
        return Err("write the repository without a tag and without a digest".to_owned());
    }
    Ok(reference.repository)
}

/// What the nodes are and have, by name.
pub(super) fn node_states(nodes: &[Value]) -> impl Iterator<Item = (String, NodeState)> {
    nodes.iter().enumerate().map(|(index, node)| {
        let name = node.get("name").and_then(Value::as_str);
        let name = name.map_or_else(|| format!("nodes[{index}]"), str::to_owned);
        let said = |key: &str, label: &str| {
            let labelled = node.get("labels").and_then(|labels| labels.get(label));
            let said = node.get(key).or(labelled)?;
            said.as_str().map(ToOwned::to_owned)
        };
        let platform = said("os", OS_LABEL).zip(said("arch", ARCHITECTURE_LABEL));
        let state = NodeState {
            platform: platform.map(|(os, architecture)| Platform { os, architecture }),
            images: ImageSet::of(held(node)),
            has_crio: false,
        };
        (name, state)
    })
}

/// The references that a node lists.
fn held(node: &Value) -> impl Iterator<Item = &str> {
    let images = node.get("images").and_then(Value::as_array);
    images.into_iter().flatten().filter_map(Value::as_str)
}

fn reference(key: &str, pointer: &str, section: &str) -> Result<ImageReference, Mistake> {
    ImageReference::parse(key)
        .map_err(|error| (pointer.to_owned(), format!("{section}: {key:?}: {error}")))
}
