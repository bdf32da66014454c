//! The questions, each a type that names the type of its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::objects::{Listing, ObjectQuestion};
use super::{ImageConfig, ImagePlatforms, ImageState, MemoryRecord, Owner, PullSecret};
use crate::image::ImageReference;
use crate::review::puller::Puller;
use crate::unknown::Unknown;

/// Something that a guardrail must know before it can judge.
pub trait Question {
    /// What is known then.
    type Answer<'e>;

    /// Asks it.
    fn ask(&self, questions: &mut Questions);

    /// What was found out.
    ///
    /// # Errors
    /// Why it is not known; [`Unknown::NotAsked`] where nobody asked.
    fn answer<'e>(&self, evidence: &'e Evidence) -> Result<Self::Answer<'e>, Unknown>;
}

/// An image, and who pulls it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pull {
    /// The image.
    pub image: ImageReference,
    /// For whom, where that plays a part: else with no pull secrets.
    pub puller: Option<Puller>,
}

/// Whether a node could pull an image, and which tags there are if it could not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PresenceOf(pub Pull);

/// For which platforms an image is built.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlatformsOf(pub Pull);

/// What an image says of the process that it runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigOf(pub Pull);

/// The pull secrets that a node would use for a pod, in the order in which they are tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PullSecretsOf(pub Puller);

/// Which containers of a workload were killed, or survived, under which memory limit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemoryOf {
    /// Its namespace.
    pub namespace: String,
    /// The workload.
    pub owner: Owner,
}

/// Defines the questions of one review and what is known of them: a set and a map for each type.
macro_rules! questions {
    ($($(#[$doc:meta])* $field:ident: $question:ty => $answer:ty,)*) => {
        /// All that one review asks.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Questions {
            $($(#[$doc])* pub $field: BTreeSet<$question>,)*
        }

        /// All that is known for one review.
        #[derive(Clone, Debug, Default)]
        pub struct Evidence {
            $($(#[$doc])* pub $field: BTreeMap<$question, Result<$answer, Unknown>>,)*
        }

        impl Questions {
            /// Whether nothing is asked.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                true $(&& self.$field.is_empty())*
            }

            /// Asks what the other ones ask, too.
            pub fn append(&mut self, mut other: Self) {
                $(self.$field.append(&mut other.$field);)*
            }

            /// The evidence that none of it is known, and why.
            #[must_use]
            pub fn unknown(self, reason: &Unknown) -> Evidence {
                Evidence {
                    $($field: self.$field.into_iter().map(|asked| (asked, Err(reason.clone()))).collect(),)*
                }
            }
        }

        impl Evidence {
            /// Adds what else is known.
            pub fn append(&mut self, mut other: Self) {
                $(self.$field.append(&mut other.$field);)*
            }
        }

        $(impl Question for $question {
            type Answer<'e> = &'e $answer;

            fn ask(&self, questions: &mut Questions) {
                questions.$field.insert(self.clone());
            }

            fn answer<'e>(&self, evidence: &'e Evidence) -> Result<&'e $answer, Unknown> {
                let answer = evidence.$field.get(self).ok_or(Unknown::NotAsked)?;
                answer.as_ref().map_err(Clone::clone)
            }
        })*
    };
}

questions! {
    /// Whether nodes could pull images. Each costs requests to a registry.
    presence: PresenceOf => ImageState,
    /// For which platforms images are built. Each costs requests to a registry.
    platforms: PlatformsOf => ImagePlatforms,
    /// What images say of their processes. Each costs requests to a registry.
    configs: ConfigOf => Arc<ImageConfig>,
    /// Pull secrets.
    pull_secrets: PullSecretsOf => Vec<PullSecret>,
    /// What is known about memory.
    memory: MemoryOf => Vec<Arc<MemoryRecord>>,
    /// Other objects.
    objects: ObjectQuestion => Listing,
}

// === impl Questions ===

impl Questions {
    /// Asks one more.
    pub fn ask(&mut self, question: &impl Question) {
        question.ask(self);
    }

    /// Leaves so many questions that cost requests to a registry, and takes out the others. What is
    /// answered from memory is never taken out.
    #[must_use]
    pub(crate) fn split_off_requests(&mut self, mut most: usize) -> Self {
        Self {
            presence: split_off(&mut self.presence, &mut most),
            platforms: split_off(&mut self.platforms, &mut most),
            configs: split_off(&mut self.configs, &mut most),
            ..Self::default()
        }
    }
}

fn split_off<T: Ord + Clone>(asked: &mut BTreeSet<T>, most: &mut usize) -> BTreeSet<T> {
    let first = asked.iter().nth(*most).cloned();
    let others = first.map(|first| asked.split_off(&first));
    *most -= asked.len();
    others.unwrap_or_default()
}

// === impl Evidence ===

impl Evidence {
    /// What was found out about a question.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn get<Q: Question>(&self, question: &Q) -> Result<Q::Answer<'_>, Unknown> {
        question.answer(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pull(index: usize) -> Pull {
        Pull {
            image: ImageReference::parse(&format!("a.b/c:{index}")).unwrap(),
            puller: None,
        }
    }

    #[test]
    fn only_questions_to_registries_are_bounded() {
        let mut questions = Questions::default();
        for index in 0..5 {
            questions.ask(&PresenceOf(pull(index)));
            questions.ask(&ConfigOf(pull(index)));
            questions.ask(&MemoryOf {
                namespace: "shop".to_owned(),
                owner: Owner {
                    kind: "Deployment".to_owned(),
                    name: index.to_string(),
                },
            });
        }
        let left_out = questions.split_off_requests(7);
        let counts = |questions: &Questions| {
            (
                questions.presence.len(),
                questions.configs.len(),
                questions.memory.len(),
            )
        };
        assert_eq!(counts(&questions), (5, 2, 5));
        assert_eq!(counts(&left_out), (0, 3, 0));
        assert!(questions.split_off_requests(64).is_empty());
    }

    #[test]
    fn what_nobody_asked_is_not_known() {
        let asked = PresenceOf(pull(1));
        let mut evidence = Evidence::default();
        assert_eq!(evidence.get(&asked), Err(Unknown::NotAsked));
        let answer = Ok(ImageState::Exists);
        evidence.presence.insert(asked.clone(), answer);
        assert_eq!(evidence.get(&asked), Ok(&ImageState::Exists));
        // The same image is another question there.
        let other = evidence.get(&PlatformsOf(pull(1)));
        assert_eq!(other, Err(Unknown::NotAsked));
    }
}
