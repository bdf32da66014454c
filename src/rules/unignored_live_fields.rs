//! `unignored-live-fields`.

use super::catalogue::Entry;
use super::{Judgement, Meta, Rule};
use crate::evidence::Evidence;
use crate::review::{Review, WatchedKind};

/// The entry in the catalogue.
pub(super) const RULE: Entry = Entry {
    meta: Meta {
        name: "unignored-live-fields",
        summary: "",
        incident: "S2, S3",
        watches: &[WatchedKind {
            group: "external-secrets.io",
            kind: "ExternalSecret",
            plural: "externalsecrets",
        }],
        repairs: true,
        reads: &[],
        settings: &[],
        page: include_str!("../../docs/rules/unignored-live-fields.md"),
    },
    build: |_| Ok(Box::new(UnignoredLiveFields)),
};

struct UnignoredLiveFields;

impl Rule for UnignoredLiveFields {
    fn judge(&self, _: &Review, _: &Evidence) -> Judgement {
        Judgement::default()
    }
}
