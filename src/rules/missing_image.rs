//! `missing-image`: an image that no node can pull, because it does not exist.
//!
//! Few things refuse: a reference that does not parse, a registry that proves the absence, and where
//! pull secrets are read, one over which kubelet fails. An image that is there in a form that nodes
//! refuse, or that some node has already, is only likely to fail. A registry that is down, slow, or
//! will not say refuses nothing, unless the operator says that its "denied" holds for nodes too.

mod pull_secrets;

use std::collections::BTreeSet;

use super::catalogue::Entry;
use super::nearest_tag::nearest;
use super::{Certainty, Finding, Judgement, Meta, Reads, Rule};
use crate::evidence::{
    Evidence, Holder, ImagePlatforms, ImageState, Missing, MissingPart, Platform, Puller, Question,
    Unknown,
};
use crate::review::Review;
use crate::review::image::ImageReference;
use crate::review::workload::{ImageUse, WORKLOADS};

/// The entry in the catalogue.
pub(super) const RULE: Entry = Entry {
    meta: Meta {
        name: "missing-image",
        summary: "an image tag, digest or repository that does not exist",
        incident: "S8",
        watches: WORKLOADS,
        repairs: false,
        reads: &[Reads::Images],
        settings: &["platforms", "pullSecrets"],
        page: include_str!("../../docs/rules/missing-image.md"),
    },
    build: |settings| {
        Ok(Box::new(MissingImage {
            reads_pull_secrets: settings.pull_secrets == Some(true),
            compares_platforms: settings.platforms,
        }))
    },
};

struct MissingImage {
    reads_pull_secrets: bool,
    /// Whether an image must be built for a platform that a node has.
    compares_platforms: bool,
}

impl MissingImage {
    /// Whose pull secrets count, where they are read and there is something to pull.
    fn puller(&self, review: &Review, images: &[ImageUse<'_>]) -> Option<Puller> {
        let reads = self.reads_pull_secrets && images.iter().any(is_pulled);
        reads.then(|| review.puller().ok().flatten()).flatten()
    }
}

impl MissingImage {
    fn inspect(
        &self,
        image: &ImageUse<'_>,
        puller: Option<&Puller>,
        review: &Review,
        evidence: &Evidence,
    ) -> Result<Option<Finding>, Unknown> {
        let finding = |certainty, message: String, help: String| Finding {
            certainty,
            path: image.pointer(),
            item: image.item.clone().into_owned(),
            value: image.reference.to_owned(),
            magnitude: None,
            message,
            help,
            fix: None,
        };
        let written = match ImageReference::parse(image.reference) {
            Ok(reference) => reference,
            Err(error) => {
                let message = format!(
                    "{} has the image {:?}, which is no image reference",
                    image.item,
                    printable(image.reference)
                );
                let help = error.to_string();
                return Ok(Some(finding(Certainty::Proven, message, help)));
            }
        };
        let reference = written.pulled();
        match evidence.image(&reference, puller)? {
            ImageState::Exists if self.compares_platforms => {
                let platforms = evidence.image_platforms(&reference, puller)?;
                let ImagePlatforms::Only(built) = platforms else {
                    return Ok(None);
                };
                let nodes = evidence.node_platforms()?;
                let explained = explain_platforms(image, &reference, built, nodes, review);
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
            ImageState::Missing(missing) => {
                // Who asks the registry in any case gains nothing from what a node has.
                let holder = if image.is_pulled_once(&written) {
                    missing.holder.clone()?
                } else {
                    None
                };
                let (message, help) = explain(image, &reference, missing);
                Ok(Some(match holder {
                    None => finding(Certainty::Proven, message, help),
                    Some(holder) => {
                        let who = told(&holder, review);
                        let message =
                            format!("{message}; {who} has it still, but others cannot pull it");
                        finding(Certainty::Likely, message, help)
                    }
                }))
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
    fn questions(&self, review: &Review) -> Vec<Question> {
        let images = review.images().unwrap_or_default();
        let puller = self.puller(review, &images);
        let images = images.iter().filter(|image| is_pulled(image));
        let references = images.filter_map(|image| ImageReference::parse(image.reference).ok());
        let mut questions = Vec::new();
        for image in references.map(|reference| reference.pulled()) {
            let puller = puller.clone();
            if self.compares_platforms {
                let (image, puller) = (image.clone(), puller.clone());
                questions.push(Question::ImagePlatforms { image, puller });
                questions.push(Question::NodePlatforms);
            }
            questions.push(Question::Image { image, puller });
        }
        questions.extend(puller.map(Question::PullSecrets));
        questions
    }

    fn judge(&self, review: &Review, evidence: &Evidence) -> Judgement {
        let images = match review.images() {
            Ok(images) => images,
            Err(reason) => return Judgement::abstain("containers", reason),
        };
        let mut judgement = Judgement::default();
        let puller = self.puller(review, &images);
        if let Some(puller) = &puller {
            match pull_secrets::findings(review, puller, evidence) {
                Ok(findings) => judgement.findings.extend(findings),
                Err(reason) => judgement.add("pull secrets", Err(reason)),
            }
        }
        for image in images.iter().filter(|image| is_pulled(image)) {
            match self.inspect(image, puller.as_ref(), review, evidence) {
                Ok(finding) => judgement.findings.extend(finding),
                Err(reason) => {
                    let item = format!("{} ({})", image.item, printable(image.reference));
                    judgement.add(item, Err(reason));
                }
            }
        }
        judgement
    }
}

/// Placeholders that another webhook replaces (Istio's `auto`, a blank), and images that are never
/// pulled, are no business of a registry.
fn is_pulled(image: &ImageUse<'_>) -> bool {
    image.pull_policy != Some("Never") && !matches!(image.reference.trim(), "" | "auto")
}

/// The message is the same whoever answered; the help says who did, and what there is instead.
fn explain(
    image: &ImageUse<'_>,
    reference: &ImageReference,
    missing: &Missing,
) -> (String, String) {
    let Missing {
        what, asked, tags, ..
    } = missing;
    let repository = reference.repository.familiar();
    let host = &reference.repository.domain;
    let item = &image.item;
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
            (
                format!("tag {tag} in {repository}"),
                nearest_tags(tag, tags),
            )
        }
    };
    (
        format!("{item}: {host} has no {lacks}"),
        format!("{cure}; asked: {asked}"),
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
    image: &ImageUse<'_>,
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

fn nearest_tags(wanted: &str, tags: &[String]) -> String {
    let near = nearest(wanted, tags);
    if near.is_empty() {
        return "write a tag that exists, or push the image first".to_owned();
    }
    let listed: Vec<_> = near
        .iter()
        .map(|suggestion| format!("{} ({})", suggestion.tag, suggestion.why))
        .collect();
    format!("nearest: {}", listed.join(", "))
}

/// A reference as it may be shown: what a user wrote may hold anything.
fn printable(reference: &str) -> String {
    let clean = |char: char| if char.is_ascii_graphic() { char } else { '?' };
    reference.chars().take(200).map(clean).collect()
}

#[cfg(test)]
mod tests;
