//! Where facts come from. Only this side of the program touches the world.

pub mod cluster;
pub mod files;
pub mod live;
mod made_secret;
mod pull_secrets;
mod registry_metrics;
mod store;

use std::future::Future;

use tokio::time::Instant;

use crate::config::{Mode, NamespaceLabel};
use crate::evidence::{Evidence, Questions};
pub use crate::objects::MODE_LABEL;
use crate::review::Door;

/// Answers questions.
pub trait Lookup: Send + Sync {
    /// Answers all questions that it can by the deadline; the others have no entry, or the reason.
    /// The door says who waits: a review is not held up by what the background asks.
    fn gather(
        &self,
        asked: Questions,
        door: Door,
        by: Instant,
    ) -> impl Future<Output = Evidence> + Send;

    /// What the label of a namespace says.
    fn label(&self, namespace: &str) -> NamespaceLabel;
}

/// The mode that a label's value means. A value that is none counts as warn: its author wanted
/// something, and a warning is seen without hurting.
#[must_use]
pub fn mode_of_label(value: Option<&str>) -> NamespaceLabel {
    NamespaceLabel::Known(value.map(|value| Mode::parse(value).unwrap_or(Mode::Warn)))
}
