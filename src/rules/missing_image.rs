//! `missing-image`: an image that no node can pull, because it does not exist.
//!
//! Few things refuse: a reference that does not parse, a registry that proves the absence, and where
//! pull secrets are read, one over which kubelet fails. An image that is there in a form that nodes
//! refuse, or that some node has already, is only likely to fail. A registry that is down, slow, or
//! will not say refuses nothing, unless the operator says that its "denied" holds for nodes too.

mod pull_secrets;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::nearest_tag::{Suggestion, nearest};
use super::{Certainty, Finding, Judgement, Meta, Mistake, OwnSettings, Response, Rule};
use crate::evidence::{
    Evidence, Holder, ImagePlatforms, ImageState, Missing, MissingPart, ObjectsOf, Platform,
    PlatformsOf, PresenceOf, Pull, PullSecretsOf, Puller, Questions, Unknown,
};
use crate::image::{ImageReference, InvalidReference};
use crate::objects::{NodeState, PodImages, Reads};
use crate::review::custom_resource::{
    CUSTOM_RESOURCES, CustomResource, CustomResourceSettings, CustomResources,
};
use crate::review::workload::{ImageUse, WORKLOADS};
use crate::review::{Door, Review, WatchedKind};

/// What it is.
pub(crate) static META: Meta = Meta {
    name: "missing-image",
    summary: "an image tag, digest or repository that does not exist",
    incident: "S8",
    watches: WATCHES,
    repairs: false,
    reads: &[Reads::all::<NodeState>(), Reads::all::<PodImages>()],
    page: include_str!("../../docs/rules/missing-image.md"),
};

/// Its settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Whether the pull secrets of workloads are read, and registries asked with them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pull_secrets: bool,
    /// Custom resources that name images, beside those that are built in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub custom_resources: Vec<CustomResourceSettings>,
    /// Whether an image must be built for a platform that a node has. It takes one GET of each
    /// image's manifest, which Docker Hub counts as a pull.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub platforms: bool,
}

impl OwnSettings for Settings {
    fn build(&self) -> Result<Box<dyn Rule>, Mistake> {
        let custom_resources = CustomResources::parse(&self.custom_resources);
        let custom_resources = custom_resources.map_err(|error| Mistake {
            pointer: error.pointer(),
            message: error.to_string(),
        })?;
        Ok(Box::new(MissingImage {
            reads_pull_secrets: self.pull_secrets,
            compares_platforms: self.platforms,
            custom_resources,
        }))
    }
}

/// What is made of pods, and the custom resources that name images.
const WATCHES: &[WatchedKind] = &{
    let mut kinds = [WORKLOADS[0]; WORKLOADS.len() + CUSTOM_RESOURCES.len()];
    let mut index = 1;
    while index < kinds.len() {
        kinds[index] = if index < WORKLOADS.len() {
            WORKLOADS[index]
        } else {
            CUSTOM_RESOURCES[index - WORKLOADS.len()]
        };
        index += 1;
    }
    kinds
};

struct MissingImage {
    reads_pull_secrets: bool,
    /// Whether an image must be built for a platform that a node has.
    compares_platforms: bool,
    custom_resources: CustomResources,
}

/// An object's images that nodes would pull.
struct Wanted<'a> {
    images: Vec<Cow<'a, ImageUse>>,
    /// The kind, where the object is no pod and has no pod template.
    custom_resource: Option<&'a CustomResource>,
    /// Whose pull secrets count, where they are read and known.
    puller: Option<Puller>,
}

impl MissingImage {
    fn wanted<'a>(&'a self, review: &'a Review) -> Result<Wanted<'a>, Unknown> {
        let custom_resource = self.custom_resources.of(&review.subject);
        let mut images: Vec<_> = match custom_resource {
            Some(kind) => kind.images(review)?.into_iter().map(Cow::Owned).collect(),
            None => review.images()?.iter().map(Cow::Borrowed).collect(),
        };
        images
            .retain(|image| is_pulled(image) && (custom_resource.is_none() || is_verbatim(image)));
        let puller = if self.reads_pull_secrets && !images.is_empty() {
            review.puller()?
        } else {
            None
        };
        Ok(Wanted {
            images,
            custom_resource,
            puller,
        })
    }

    /// Which platforms count is only known of pods.
    fn compares_platforms_of(&self, wanted: &Wanted<'_>) -> bool {
        self.compares_platforms && wanted.custom_resource.is_none()
    }

    /// Whether others may see what the registry does not show us. Nobody knows with which pull secrets
    /// an operator pulls, and some registries say "not found" to whoever may not read.
    fn may_be_hidden(&self, state: &ImageState, wanted: &Wanted<'_>) -> bool {
        let is_shown = match state {
            ImageState::Denied { .. } => false,
            ImageState::Missing(missing) => !self.reads_pull_secrets || !missing.tags.is_empty(),
            ImageState::Exists | ImageState::Schema1 => true,
        };
        wanted.custom_resource.is_some() && !is_shown
    }

    fn inspect(
        &self,
        image: &ImageUse,
        wanted: &Wanted<'_>,
        review: &Review,
        evidence: &Evidence,
    ) -> Result<Option<Finding>, Unknown> {
        let finding = |certainty, message: String, help: String| Finding {
            certainty,
            path: image.pointer(),
            item: image.item.clone(),
            value: image.written.clone(),
            magnitude: None,
            message,
            help,
            offers: Vec::new(),
            response: Response::Refuse,
        };
        let written = match &image.reference {
            Ok(reference) => reference,
            // The API server refuses it before any webhook is asked; other kinds keep it as written.
            Err(InvalidReference::NotText { .. }) if review.door != Door::Files => {
                return Err(Unknown::unreadable(&image.pointer(), "is no text"));
            }
            Err(error) => {
                let message = format!(
                    "{} has the image {:?}, which is no image reference",
                    image.item,
                    printable(&image.written)
                );
                // A node reads it as it is; of a file, the tool that knows the default makes another.
                let certainty = if review.door == Door::Files && error.has_default() {
                    Certainty::Likely
                } else {
                    Certainty::Proven
                };
                return Ok(Some(Finding {
                    offers: error.instead().into_iter().map(ToOwned::to_owned).collect(),
                    ..finding(certainty, message, error.to_string())
                }));
            }
        };
        let reference = written.pulled();
        let pull = Pull {
            image: reference.clone(),
            puller: wanted.puller.clone(),
        };
        match evidence.get(&PresenceOf(pull.clone()))? {
            ImageState::Exists if self.compares_platforms_of(wanted) => {
                let platforms = evidence.get(&PlatformsOf(pull))?;
                let ImagePlatforms::Only(built) = platforms else {
                    return Ok(None);
                };
                let nodes = evidence.get(&ObjectsOf::<NodeState>::all())?.platforms()?;
                let explained = explain_platforms(image, &reference, built, &nodes, review);
                Ok(explained.map(|(message, help)| finding(Certainty::Likely, message, help)))
            }
            ImageState::Exists => Ok(None),
            ImageState::Schema1 => {
                let message = format!(
                    "{}: {} is an image of Docker's first schema, which containerd 2.0 and later refuse",
                    image.item,
                    reference.familiar()
                );
                let help = "push it again with a tool of today, such as docker buildx or crane";
                Ok(Some(finding(Certainty::Likely, message, help.to_owned())))
            }
            state if self.may_be_hidden(state, wanted) => {
                let why = "with which pull secrets it is pulled is not known";
                Err(Unknown::Unavailable(why.to_owned()))
            }
            ImageState::Missing(missing) => {
                // Who asks the registry in any case gains nothing from what a node has. How the pods of
                // a custom resource ask is for its operator to say.
                let may_be_held = wanted.custom_resource.is_some() || image.is_pulled_once(written);
                let holder = if may_be_held {
                    missing.holder.clone()?
                } else {
                    None
                };
                let (message, help, offers) = explain(image, &reference, missing);
                let found = match holder {
                    None => finding(Certainty::Proven, message, help),
                    Some(holder) => {
                        let who = told(&holder, review);
                        let message =
                            format!("{message}; {who} has it still, but others cannot pull it");
                        finding(Certainty::Likely, message, help)
                    }
                };
                Ok(Some(Finding { offers, ..found }))
            }
            ImageState::Denied { asked } => {
                let message = format!(
                    "{}: {} lets no node read {}",
                    image.item,
                    reference.repository.domain,
                    reference.repository.familiar()
                );
                let help = format!(
                    "write a repository that exists, or name a pull secret that may read it; asked: {asked}"
                );
                Ok(Some(finding(Certainty::Proven, message, help)))
            }
        }
    }
}

impl Rule for MissingImage {
    fn also_watches(&self) -> &[WatchedKind] {
        self.custom_resources.added()
    }

    fn reads_pull_secrets(&self) -> Option<bool> {
        Some(self.reads_pull_secrets)
    }

    fn questions(&self, review: &Review) -> Questions {
        let mut questions = Questions::default();
        let Ok(wanted) = self.wanted(review) else {
            return questions;
        };
        let compares_platforms = self.compares_platforms_of(&wanted);
        let Wanted { images, puller, .. } = wanted;
        let images = images.iter();
        let references = images.filter_map(|image| image.reference.as_ref().ok());
        for image in references.map(ImageReference::pulled) {
            let puller = puller.clone();
            let pull = Pull { image, puller };
            if compares_platforms {
                questions.ask(&PlatformsOf(pull.clone()));
                questions.ask(&ObjectsOf::<NodeState>::all());
            }
            questions.ask(&PresenceOf(pull));
        }
        if let Some(puller) = puller {
            questions.ask(&PullSecretsOf(puller));
        }
        questions
    }

    fn judge(&self, review: &Review, evidence: &Evidence) -> Judgement {
        let wanted = match self.wanted(review) {
            Ok(wanted) => wanted,
            Err(reason) => return Judgement::abstain("images", reason),
        };
        let mut judgement = Judgement::default();
        if let Some(puller) = &wanted.puller {
            match pull_secrets::findings(review, puller, evidence) {
                Ok(findings) => judgement.findings.extend(findings),
                Err(reason) => judgement.add("pull secrets", Err(reason)),
            }
        }
        let runs_steps = wanted.custom_resource.is_some_and(|kind| kind.runs_steps);
        for image in &wanted.images {
            match self.inspect(image, &wanted, review, evidence) {
                Ok(finding) if runs_steps => judgement.findings.extend(finding.map(unless_made)),
                Ok(finding) => judgement.findings.extend(finding),
                Err(reason) => {
                    let item = format!("{} ({})", image.item, printable(&image.written));
                    judgement.add(item, Err(reason));
                }
            }
        }
        judgement
    }
}

/// Placeholders that another webhook replaces (Istio's `auto`, a blank), and images that are never
/// pulled, are no business of a registry.
fn is_pulled(image: &ImageUse) -> bool {
    image.pull_policy.as_deref() != Some("Never") && !matches!(image.written.trim(), "" | "auto")
}

/// What an operator hands on as it is written. Other programs have placeholders of their own (Argo's
/// and Tekton's parameters, variables of a shell), and some operators give a name without a tag the
/// version that they know.
fn is_verbatim(image: &ImageUse) -> bool {
    let has_placeholder = ["{{", "$(", "${"]
        .iter()
        .any(|mark| image.written.contains(mark));
    let is_whole = |image: &ImageReference| image.tag.is_some() || image.digest.is_some();
    !has_placeholder && image.reference.as_ref().map_or(true, is_whole)
}

/// A finding of an object whose own steps may make the image before another one pulls it.
fn unless_made(finding: Finding) -> Finding {
    let help = format!("{}; or have a step before make it", finding.help);
    Finding {
        certainty: Certainty::Likely,
        help,
        ..finding
    }
}

/// The message is the same whoever answered; the help says who did, and what there is instead, which
/// comes as references, too.
fn explain(
    image: &ImageUse,
    reference: &ImageReference,
    missing: &Missing,
) -> (String, String, Vec<String>) {
    let Missing {
        what, asked, tags, ..
    } = missing;
    let repository = reference.repository.familiar();
    let host = &reference.repository.domain;
    let item = &image.item;
    let mut offers = Vec::new();
    let (lacks, cure) = match what {
        MissingPart::Repository => (
            format!("repository {repository}"),
            "write a repository that exists, or push the image first".to_owned(),
        ),
        MissingPart::Digest => (
            format!(
                "{} in {repository}",
                reference.digest.as_deref().unwrap_or_default()
            ),
            "write the digest of an image that exists, or a tag".to_owned(),
        ),
        MissingPart::Tag => {
            let tag = reference.tag.as_deref().unwrap_or_default();
            let near = nearest(tag, tags);
            let whole = near.iter().map(|near| format!("{repository}:{}", near.tag));
            offers.extend(whole);
            (format!("tag {tag} in {repository}"), in_words(&near))
        }
    };
    (
        format!("{item}: {host} has no {lacks}"),
        format!("{cure}; asked: {asked}"),
        offers,
    )
}

/// Who has an image, as the author of the object may hear it: what others run is not for everybody
/// who can name an image.
fn told(holder: &Holder, review: &Review) -> String {
    match holder {
        Holder::Node(name) => format!("node {}", printable(name)),
        Holder::Pod { namespace, name } if review.subject.namespace.as_ref() == Some(namespace) => {
            format!(
                "the node of Pod {}/{}",
                printable(namespace),
                printable(name)
            )
        }
        Holder::Pod { .. } => "the node of a running Pod".to_owned(),
    }
}

/// Message and help, where no node that may get the pod is of a platform that the image is built for.
/// It may be that such a node is only made when the pod waits for it.
fn explain_platforms(
    image: &ImageUse,
    reference: &ImageReference,
    built: &[Platform],
    nodes: &BTreeSet<Platform>,
    review: &Review,
) -> Option<(String, String)> {
    let mut nodes = nodes
        .iter()
        .filter(|node| review.may_run_on(node))
        .peekable();
    let list = |platforms: &mut dyn Iterator<Item = &Platform>| {
        let words: Vec<_> = platforms.map(ToString::to_string).collect();
        words.join(", ")
    };
    if nodes.peek().is_none() || built.is_empty() {
        return None;
    }
    let nodes: Vec<_> = nodes.collect();
    if nodes.iter().any(|node| built.contains(node)) {
        return None;
    }
    let message = format!(
        "{}: {} is built for {}, and no node that may get the pod is: they are {}",
        image.item,
        reference.familiar(),
        list(&mut built.iter()),
        list(&mut nodes.into_iter())
    );
    let help = "build the image for the nodes, or select nodes of its platform (nodeSelector \
                kubernetes.io/arch)";
    Some((message, help.to_owned()))
}

fn in_words(near: &[Suggestion]) -> String {
    if near.is_empty() {
        return "write a tag that exists, or push the image first".to_owned();
    }
    let listed: Vec<_> = near
        .iter()
        .map(|suggestion| format!("{} ({})", suggestion.tag, suggestion.why))
        .collect();
    format!("nearest: {}", listed.join(", "))
}

/// A reference as it may be shown: what a user wrote may hold anything. Blanks are what nobody sees,
/// so they have a sign.
fn printable(reference: &str) -> String {
    let clean = |char: char| match char {
        char if char.is_ascii_graphic() => char,
        char if char.is_whitespace() => '␠',
        _ => '?',
    };
    reference.chars().take(200).map(clean).collect()
}
