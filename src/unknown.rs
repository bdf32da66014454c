//! Why something is not known.

use std::fmt;

/// Why something is not known. An unknown never refuses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unknown {
    /// Nobody asked for it in time, or it is not among the evidence given.
    NotAsked,
    /// The review's time was up.
    TimedOut,
    /// The cluster view has not been listed yet, or lost its connection.
    NotSynced,
    /// There is no cluster to ask, or it does not have (or show) what is asked for.
    Unavailable(String),
    /// A registry gave no answer that proves anything.
    Registry {
        /// The registry asked.
        host: String,
        /// What happened, in our own words.
        why: String,
        /// Whether that registry has ever let us read anything.
        answered_before: bool,
    },
    /// The registry, named here, is being asked behind the answer, and the next review knows it.
    BeingFetched(String),
    /// The object asks for more facts than one review may.
    TooMany,
    /// The object cannot be read there.
    Unreadable(String),
    /// The guardrail itself failed.
    Panicked,
}

// === impl Unknown ===

impl Unknown {
    /// The object has something else there than its kind allows.
    #[must_use]
    pub fn unreadable(pointer: &str, problem: &str) -> Self {
        Self::Unreadable(format!("{pointer} {problem}"))
    }

    /// Whether asking again will not help: such an unknown is named by a metric, not in warnings.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_)
                | Self::Registry {
                    answered_before: false,
                    ..
                }
        )
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked => f.write_str("not known"),
            Self::TimedOut => f.write_str("out of time"),
            Self::NotSynced => f.write_str("the cluster has not been listed yet"),
            Self::Unavailable(what) | Self::Unreadable(what) => f.write_str(what),
            Self::Registry { host, why, .. } => write!(f, "{host}: {why}"),
            Self::BeingFetched(host) => {
                write!(f, "{host}: the configuration of the image is being fetched")
            }
            Self::TooMany => f.write_str("the object asks for more facts than one review may"),
            Self::Panicked => f.write_str("the guardrail failed; please report it"),
        }
    }
}
