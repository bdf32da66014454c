//! Of a namespace: the label that sets the mode.

use super::{Projection, ReadableKind};
use crate::review::WatchedKind;
use crate::tree::Node;
use crate::unknown::Unknown;

/// The namespace label that sets the mode.
pub const MODE_LABEL: &str = "forestall.dev/mode";

/// What the mode label of a namespace says, where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceMode(pub Option<Box<str>>);

impl Projection for NamespaceMode {
    const KINDS: &'static [ReadableKind] = &[ReadableKind::v1(WatchedKind::cluster(
        "",
        "Namespace",
        "namespaces",
    ))];

    fn of(namespace: Node<'_>, _: WatchedKind) -> Result<Option<Self>, Unknown> {
        let labels = namespace.at("/metadata/labels");
        let label = labels.and_then(|labels| labels.get(MODE_LABEL)?.as_str());
        Ok(Some(Self(label.map(Into::into))))
    }
}
