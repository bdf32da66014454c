//! What holds in single namespaces.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::mode::Mode;

/// Settings of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NamespaceSettings {
    /// The mode in this namespace; holds over the namespace's label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The mode of single guardrails in this namespace; holds over everything else.
    pub rules: BTreeMap<String, ModeEntry>,
}

/// A mode, written `audit` or `{mode: audit}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ModeEntry {
    /// `audit`
    Plain(Mode),
    /// `{mode: audit}`
    Settings {
        /// The mode.
        mode: Mode,
    },
}

/// What a namespace's label says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceLabel {
    /// The label's mode, or none.
    Known(Option<Mode>),
    /// The cache lacks the namespace: it was made a moment ago, and has no label that we know.
    Absent,
    /// The namespaces have not been listed, so the label may say anything.
    NotSynced,
}

// === impl ModeEntry ===

impl ModeEntry {
    /// The mode, however it is written.
    pub(super) fn mode(self) -> Mode {
        match self {
            Self::Plain(mode) | Self::Settings { mode } => mode,
        }
    }
}

impl<'de> Deserialize<'de> for ModeEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = ModeEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mode, or a map with the key mode")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ModeEntry, E> {
                let deserializer = serde::de::value::StrDeserializer::new(text);
                Mode::deserialize(deserializer).map(ModeEntry::Plain)
            }

            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<ModeEntry, E> {
                self.visit_str(if value { "true" } else { "false" })
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                map: A,
            ) -> Result<ModeEntry, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Settings {
                    mode: Mode,
                }
                let deserializer = serde::de::value::MapAccessDeserializer::new(map);
                Settings::deserialize(deserializer)
                    .map(|Settings { mode }| ModeEntry::Settings { mode })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
