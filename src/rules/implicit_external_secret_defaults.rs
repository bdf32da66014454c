//! `implicit-external-secret-defaults`.

use super::catalogue::Entry;
use super::{Judgement, Meta, Rule};
use crate::evidence::Evidence;
use crate::review::{Review, WatchedKind};

/// The entry in the catalogue.
pub(super) const RULE: Entry = Entry {
    meta: Meta {
        name: "implicit-external-secret-defaults",
        summary: "",
        incident: "S2",
        watches: &[WatchedKind {
            group: "external-secrets.io",
            kind: "ExternalSecret",
            plural: "externalsecrets",
        }],
        repairs: true,
        reads: &[],
        settings: &["defaults"],
        page: include_str!("../../docs/rules/implicit-external-secret-defaults.md"),
    },
    build: |_| Ok(Box::new(ImplicitExternalSecretDefaults)),
};

struct ImplicitExternalSecretDefaults;

impl Rule for ImplicitExternalSecretDefaults {
    fn judge(&self, _: &Review, _: &Evidence) -> Judgement {
        Judgement::default()
    }
}
