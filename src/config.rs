//! The configuration file: what the operator decided.
//!
//! One YAML file, all keys optional. A mistake is an error that names line, column, key and cure;
//! nothing is guessed and nothing is ignored.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::evidence::{MemoryRecord, Scalar};
use crate::lookup::registry::credentials::{CredentialProviders, RegistryCredentials};
use crate::lookup::registry::{HostSettings, ImageRewrite, check_rewrites};
use crate::manifest::{self, Position};
use crate::review::custom_resource::{CustomResourceSettings, CustomResources};
use crate::review::patch::escape;
use crate::rules::Rule;
use crate::rules::catalogue::{self, CATALOGUE, Entry};

/// How far a guardrail may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is not asked.
    Off,
    /// What it finds is recorded, and nobody is told.
    Audit,
    /// The client gets a warning too.
    Warn,
    /// It also refuses and patches.
    Enforce,
}

/// The configuration file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// The mode where nothing else is said. Built in: enforce.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Settings of guardrails, by name.
    pub rules: BTreeMap<String, RuleSettings>,
    /// Settings of namespaces, by name.
    pub namespaces: BTreeMap<String, NamespaceSettings>,
    /// Findings that a named person accepts for a time.
    pub exemptions: Vec<Exemption>,
    /// How registries are reached, by the host in the image reference, such as docker.io.
    pub registries: BTreeMap<String, HostSettings>,
    /// A folder laid out as the nodes' /etc/containerd/certs.d, which says how they reach registries
    /// that have no server and no mirrors under registries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts_directory: Option<PathBuf>,
    /// What other webhooks make of images before the nodes see them; the first that matches is
    /// applied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_rewrites: Vec<ImageRewrite>,
    /// Registry credentials of Forestall's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_credentials: Option<RegistryCredentials>,
    /// Plug-ins of kubelet that give credentials, such as ecr-credential-provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_providers: Option<CredentialProviders>,
    /// What is known about Argo CD.
    pub argocd: ArgoCdSettings,
}

/// Settings of one guardrail.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RuleSettings {
    /// The mode of this guardrail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Whether findings that are likely, but not proven, refuse too under enforce.
    pub refuse_likely: bool,
    /// Whether objects may carry annotations that allow what this guardrail finds. Built in: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_annotations: Option<bool>,
    /// missing-image: whether the pull secrets of workloads are read, and registries asked with them.
    /// Built in: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_secrets: Option<bool>,
    /// missing-image: custom resources that name images, beside those that are built in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub custom_resources: Vec<CustomResourceSettings>,
    /// oom-killed-memory-limit: kills and survivals that are known already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<Vec<MemoryRecord>>,
    /// missing-image: whether an image must be built for a platform that a node has. It takes one GET
    /// of each image's manifest, which Docker Hub counts as a pull.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub platforms: bool,
    /// implicit-external-secret-defaults: the organisation's own defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defaults: Option<ExternalSecretDefaults>,
}

/// What an ExternalSecret gets at admission where its author left the field out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExternalSecretDefaults {
    /// spec.refreshInterval, such as 1h0m0s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<String>,
    /// spec.target.creationPolicy: Owner, Orphan, Merge or None.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_policy: Option<String>,
    /// spec.target.deletionPolicy: Retain, Delete or Merge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<String>,
}

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

/// A named person's decision that a finding is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exemption {
    /// The guardrail.
    pub rule: String,
    /// Only in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only this name; a `*` at the end matches any rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    pub reason: String,
    /// The last day on which it holds (UTC), such as 2027-01-31.
    #[schemars(with = "String")]
    pub until: Date,
}

/// What cannot be seen of Argo CD from inside the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ArgoCdSettings {
    /// Its version, such as v2.10.0; holds over what is seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Scalar>,
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

/// A guardrail that is built and ready to judge.
pub struct Guardrail {
    /// What it is.
    pub entry: &'static Entry,
    /// The guardrail.
    pub rule: Box<dyn Rule>,
}

/// A mistake in a configuration or evidence file.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{file}{}: {message}", place.map(|place| format!(":{}:{}", place.line, place.column)).unwrap_or_default())]
pub struct ConfigError {
    /// The file.
    pub file: String,
    /// Where in it, where that is known.
    pub place: Option<Position>,
    /// What is wrong and what to write instead.
    pub message: String,
}

// === impl Mode ===

impl Mode {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Audit => "audit",
            Self::Warn => "warn",
            Self::Enforce => "enforce",
        }
    }

    /// The mode of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            // A YAML 1.1 tool on the way makes `false` of an unquoted `off`.
            "off" | "false" => Some(Self::Off),
            "audit" => Some(Self::Audit),
            "warn" => Some(Self::Warn),
            "enforce" => Some(Self::Enforce),
            _ => None,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "{text:?} is no mode; write off, audit, warn or enforce"
            ))
        })
    }
}

// === impl ModeEntry ===

impl ModeEntry {
    fn mode(self) -> Mode {
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

// === impl Config ===

impl Config {
    /// Reads a configuration and checks it against the catalogue.
    ///
    /// # Errors
    /// The first mistake, with its place and the cure.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let config: Self = parse_yaml(file, text)?;
        config
            .check()
            .map_err(|(pointer, message)| ConfigError::at(file, text, &pointer, message))?;
        Ok(config)
    }

    /// Builds every guardrail that is on somewhere.
    ///
    /// # Errors
    /// The pointer of the setting that cannot be used, and why.
    pub fn guardrails(&self) -> Result<Vec<Guardrail>, (String, String)> {
        CATALOGUE.iter().map(|entry| self.build(entry)).collect()
    }

    fn build(&self, entry: &'static Entry) -> Result<Guardrail, (String, String)> {
        let none = RuleSettings::default();
        let name = entry.meta.name;
        let rule = (entry.build)(self.rules.get(name).unwrap_or(&none))
            .map_err(|message| (format!("/rules/{name}"), format!("rules.{name}.{message}")))?;
        Ok(Guardrail { entry, rule })
    }

    fn check(&self) -> Result<(), (String, String)> {
        for (name, settings) in &self.rules {
            let pointer = format!("/rules/{name}");
            let entry = known_rule(name, "rules").map_err(|message| (pointer.clone(), message))?;
            for key in settings.own_keys() {
                if !entry.meta.settings.contains(&key) {
                    let message = format!(
                        "rules.{name}.{key}: this guardrail has no such setting; remove it"
                    );
                    return Err((format!("{pointer}/{key}"), message));
                }
            }
            CustomResources::parse(&settings.custom_resources).map_err(|error| {
                let place = format!("{pointer}{}", error.pointer());
                (place, format!("rules.{name}.{error}"))
            })?;
        }
        for (namespace, settings) in &self.namespaces {
            for name in settings.rules.keys() {
                let place = format!("namespaces.{namespace}.rules");
                known_rule(name, &place).map_err(|message| {
                    (format!("/namespaces/{namespace}/rules/{name}"), message)
                })?;
            }
        }
        for (index, exemption) in self.exemptions.iter().enumerate() {
            let place = format!("exemptions[{index}]");
            let pointer = format!("/exemptions/{index}");
            known_rule(&exemption.rule, &place)
                .map_err(|message| (format!("{pointer}/rule"), message))?;
            if exemption.reason.trim().is_empty() {
                let message = format!("{place}.reason is empty; write why the finding is accepted");
                return Err((format!("{pointer}/reason"), message));
            }
        }
        for (host, settings) in &self.registries {
            settings
                .check(host)
                .map_err(|error| (error.pointer(), error.to_string()))?;
            if settings.trust_denied && !self.reads_pull_secrets() {
                let message = format!(
                    "registries.{host}.trustDenied: a workload's pull secret may open what is denied \
                     without; set rules.missing-image.pullSecrets: true as well"
                );
                return Err((format!("/registries/{}/trustDenied", escape(host)), message));
            }
        }
        check_rewrites(&self.image_rewrites)
            .map_err(|error| (error.pointer(), error.to_string()))?;
        self.guardrails().map(drop)
    }

    /// Whether registries are reached as by the other configuration, and as the same.
    #[must_use]
    pub fn has_same_registries(&self, other: &Self) -> bool {
        self.registries == other.registries
            && self.hosts_directory == other.hosts_directory
            && self.image_rewrites == other.image_rewrites
            && self.registry_credentials == other.registry_credentials
            && self.credential_providers == other.credential_providers
    }

    /// Whether the pull secrets of workloads are read.
    fn reads_pull_secrets(&self) -> bool {
        let settings = self.rule("missing-image");
        settings.and_then(|settings| settings.pull_secrets) == Some(true)
    }

    /// The settings of a guardrail.
    #[must_use]
    pub fn rule(&self, name: &str) -> Option<&RuleSettings> {
        self.rules.get(name)
    }

    /// Whether findings that are likely refuse too.
    #[must_use]
    pub fn refuses_likely(&self, rule: &str) -> bool {
        self.rule(rule)
            .is_some_and(|settings| settings.refuse_likely)
    }

    /// Whether annotations on an object may allow what this guardrail finds.
    #[must_use]
    pub fn allows_annotations(&self, rule: &str) -> bool {
        self.rule(rule)
            .and_then(|settings| settings.allow_annotations)
            .unwrap_or(true)
    }

    /// Whether a guardrail is on in some namespace, whatever the labels of namespaces say.
    #[must_use]
    pub fn may_be_on(&self, rule: &str) -> bool {
        let of_rule = self.rule(rule).and_then(|settings| settings.mode);
        let in_namespaces = self.namespaces.values();
        of_rule != Some(Mode::Off)
            || in_namespaces
                .filter_map(|settings| settings.rules.get(rule))
                .any(|entry| entry.mode() != Mode::Off)
    }

    /// The mode that holds for a guardrail in a namespace; `None` for cluster-scoped objects.
    #[must_use]
    pub fn mode(&self, rule: &str, namespace: Option<&str>, label: NamespaceLabel) -> Mode {
        let of_rule = self.rule(rule).and_then(|settings| settings.mode);
        let default = self.mode.unwrap_or(Mode::Enforce);
        let Some(namespace) = namespace else {
            return of_rule.unwrap_or(default);
        };
        let settings = self.namespaces.get(namespace);
        let configured = settings.and_then(|settings| settings.rules.get(rule));
        let (label, most) = match label {
            NamespaceLabel::Known(mode) => (mode, Mode::Enforce),
            NamespaceLabel::Absent => (None, Mode::Enforce),
            NamespaceLabel::NotSynced => (None, Mode::Warn),
        };
        let of_namespace = settings.and_then(|settings| settings.mode).or(label);
        let mode = match (configured, of_rule, of_namespace) {
            (Some(entry), _, _) => entry.mode(),
            (None, Some(rule), Some(namespace)) => rule.min(namespace),
            (None, Some(mode), None) | (None, None, Some(mode)) => mode,
            (None, None, None) => default,
        };
        mode.min(most)
    }

    /// The exemption that accepts findings of this guardrail on this object today.
    #[must_use]
    pub fn exemption(
        &self,
        rule: &str,
        subject: &crate::review::Subject,
        today: Date,
    ) -> Option<&Exemption> {
        self.exemptions.iter().find(|exemption| {
            exemption.rule == rule
                && exemption.until >= today
                && exemption
                    .namespace
                    .as_ref()
                    .is_none_or(|wanted| Some(wanted) == subject.namespace.as_ref())
                && exemption
                    .kind
                    .as_ref()
                    .is_none_or(|wanted| *wanted == subject.kind)
                && exemption
                    .name
                    .as_ref()
                    .is_none_or(|wanted| matches(wanted, &subject.name))
        })
    }
}

impl RuleSettings {
    /// The keys given that belong to single guardrails.
    fn own_keys(&self) -> impl Iterator<Item = &'static str> {
        [
            ("customResources", !self.custom_resources.is_empty()),
            ("pullSecrets", self.pull_secrets.is_some()),
            ("known", self.known.is_some()),
            ("platforms", self.platforms),
            ("defaults", self.defaults.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
    }
}

// === impl ConfigError ===

impl ConfigError {
    /// A mistake in a configuration that was not read from a file.
    #[must_use]
    pub fn nowhere(message: String) -> Self {
        Self {
            file: "configuration".to_owned(),
            place: None,
            message,
        }
    }

    /// A mistake at a JSON pointer into the text of a file.
    #[must_use]
    pub fn at(file: &str, text: &str, pointer: &str, message: String) -> Self {
        let (documents, _) = manifest::read(file, text.as_bytes());
        Self {
            file: file.to_owned(),
            place: documents.first().map(|document| document.locate(pointer)),
            message,
        }
    }
}

/// Reads one YAML document into a type; the error has line and column.
///
/// # Errors
/// What does not fit, where.
pub fn parse_yaml<T: serde::de::DeserializeOwned + Default>(
    file: &str,
    text: &str,
) -> Result<T, ConfigError> {
    // An empty file, or one of comments only, leaves everything at its default.
    if text
        .lines()
        .all(|line| matches!(line.trim(), "" | "---") || line.trim_start().starts_with('#'))
    {
        return Ok(T::default());
    }
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map(|location| {
            let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
            Position {
                line: number(location.line()),
                column: number(location.column()),
            }
        });
        ConfigError {
            file: file.to_owned(),
            place,
            message: without_place(&error.to_string()),
        }
    })
}

/// The library appends the place to its message; ours stands in front.
fn without_place(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    let text = first.rfind(" at line ").map_or(first, |end| &first[..end]);
    text.strip_prefix("error: ").unwrap_or(text).to_owned()
}

fn known_rule(name: &str, place: &str) -> Result<&'static Entry, String> {
    catalogue::find(name).ok_or_else(|| match catalogue::nearest_name(name) {
        Some(nearest) => {
            format!("{place}: there is no guardrail {name:?}; did you mean {nearest}?")
        }
        None => format!("{place}: there is no guardrail {name:?}; `forestall rules` lists them"),
    })
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        Config::parse("config.yaml", text).unwrap()
    }

    fn error(text: &str) -> String {
        Config::parse("config.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn a_guardrail_is_off_everywhere_only_where_no_namespace_can_turn_it_on() {
        let may_be_on = |text: &str| parse(text).may_be_on("missing-image");
        assert!(may_be_on(""));
        // The label of a namespace raises the default, and not what is said of the guardrail.
        assert!(may_be_on("mode: off"));
        assert!(!may_be_on("rules: {missing-image: {mode: off}}"));
        let in_one = |mode: &str| {
            format!(
                "rules: {{missing-image: {{mode: off}}}}\nnamespaces: {{a: {{mode: enforce, rules: {{missing-image: {mode}}}}}}}"
            )
        };
        assert!(may_be_on(&in_one("audit")));
        assert!(!may_be_on(&in_one("off")));
    }

    #[test]
    fn an_empty_file_enforces() {
        for text in ["", "# nothing\n", "---\n", "{}"] {
            let config = parse(text);
            let label = NamespaceLabel::Known(None);
            assert_eq!(
                config.mode("missing-image", Some("a"), label),
                Mode::Enforce,
                "{text:?}"
            );
        }
    }

    #[test]
    fn the_more_specific_entry_holds_and_else_the_lower_mode() {
        let config = parse(
            "mode: audit\n\
             rules: {missing-image: {mode: warn}}\n\
             namespaces:\n  \
               shop: {mode: enforce, rules: {missing-image: enforce, impossible-memory-limit: {mode: off}}}\n  \
               dev: {mode: off}\n",
        );
        let none = NamespaceLabel::Known(None);
        let label = |mode| NamespaceLabel::Known(Some(mode));
        let mode = |rule, namespace, label| config.mode(rule, namespace, label);
        assert_eq!(
            mode("missing-image", Some("shop"), label(Mode::Off)),
            Mode::Enforce
        );
        assert_eq!(
            mode("impossible-memory-limit", Some("shop"), none),
            Mode::Off
        );
        assert_eq!(
            mode("oom-killed-memory-limit", Some("shop"), none),
            Mode::Enforce
        );
        assert_eq!(mode("missing-image", Some("dev"), none), Mode::Off);
        assert_eq!(mode("missing-image", Some("other"), none), Mode::Warn);
        assert_eq!(
            mode("missing-image", Some("other"), label(Mode::Enforce)),
            Mode::Warn
        );
        assert_eq!(
            mode("missing-image", Some("other"), label(Mode::Audit)),
            Mode::Audit
        );
        assert_eq!(
            mode(
                "oom-killed-memory-limit",
                Some("other"),
                label(Mode::Enforce)
            ),
            Mode::Enforce
        );
        assert_eq!(
            mode("oom-killed-memory-limit", Some("other"), none),
            Mode::Audit
        );
        assert_eq!(mode("missing-image", None, none), Mode::Warn);
        assert_eq!(
            mode("missing-image", Some("shop"), NamespaceLabel::NotSynced),
            Mode::Warn
        );
    }

    #[test]
    fn case_77_mistakes_name_line_column_key_and_cure() {
        assert_eq!(
            error("mode: enforce\nrules:\n  missing-images: {}\n"),
            "config.yaml:3:19: rules: there is no guardrail \"missing-images\"; did you mean missing-image?"
        );
        assert!(error("mode: enforced\n").starts_with(
            "config.yaml:1:7: \"enforced\" is no mode; write off, audit, warn or enforce"
        ));
        let unknown = error("mode: audit\nrule: {}\n");
        assert!(
            unknown
                .starts_with("config.yaml:2:1: unknown field `rule`, expected one of mode, rules"),
            "{unknown}"
        );
        let known = error("rules:\n  missing-image:\n    known: []\n");
        assert!(
            known.starts_with("config.yaml:3:12: rules.missing-image.known: "),
            "{known}"
        );
        let row = error(
            "rules:\n  oom-killed-memory-limit:\n    known: [{limit: 512MB, outcome: oomKilled}]\n",
        );
        assert!(
            row.contains("rules.oom-killed-memory-limit.known[0].limit \"512MB\""),
            "{row}"
        );
        let date = error("exemptions:\n- {rule: missing-image, reason: r, until: soon}\n");
        assert!(date.starts_with("config.yaml:2:"), "{date}");
        assert!(
            error("a: [\n").starts_with("config.yaml:"),
            "{}",
            error("a: [\n")
        );
    }

    #[test]
    fn versions_and_dates_are_read_as_written() {
        let config = parse(
            "argocd: {version: 2.10}\n\
             exemptions: [{rule: missing-image, name: web-*, reason: moves, until: 2027-01-31}]\n",
        );
        assert_eq!(config.argocd.version.as_ref().unwrap().0, "2.10");
        let subject = |name: &str| crate::review::Subject {
            name: name.to_owned(),
            ..Default::default()
        };
        let day = |text: &str| text.parse::<Date>().unwrap();
        assert!(
            config
                .exemption("missing-image", &subject("web-1"), day("2027-01-31"))
                .is_some()
        );
        assert!(
            config
                .exemption("missing-image", &subject("web-1"), day("2027-02-01"))
                .is_none()
        );
        assert!(
            config
                .exemption("missing-image", &subject("db"), day("2027-01-31"))
                .is_none()
        );
        assert!(
            config
                .exemption(
                    "impossible-memory-limit",
                    &subject("web-1"),
                    day("2027-01-31")
                )
                .is_none()
        );
    }
}
