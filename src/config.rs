//! The configuration file: what the operator decided.
//!
//! One YAML file, all keys optional. A mistake is an error that names line, column, key and cure;
//! nothing is guessed and nothing is ignored.

mod exemption;
mod mode;
mod namespaces;
mod rules;

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::exemption::Exemption;
pub use self::mode::Mode;
pub use self::namespaces::{ModeEntry, NamespaceLabel, NamespaceSettings};
pub use self::rules::{CommonSettings, RuleSettings, Rules};
use crate::registry::credentials::{CredentialProviders, RegistryCredentials};
use crate::registry::{HostSettings, ImageRewrite, RegistrySettings};
use crate::review::Subject;
use crate::review::patch::escape;
use crate::rules::catalogue;
use crate::rules::{Guardrail, Mistake};
use crate::yaml_file::{self, Scalar, YamlFileError};

/// The configuration file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// The mode where nothing else is said. Built in: enforce.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Settings of guardrails, by name.
    pub rules: Rules,
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

/// What cannot be seen of Argo CD from inside the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ArgoCdSettings {
    /// Its version, such as v2.10.0; holds over what is seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Scalar>,
}

// === impl Config ===

impl Config {
    /// Reads a configuration and checks it against the catalogue.
    ///
    /// # Errors
    /// The first mistake, with its place and the cure.
    pub fn parse(file: &str, text: &str) -> Result<Self, YamlFileError> {
        let config: Self = yaml_file::parse(file, text)?;
        config.check().map_err(|Mistake { pointer, message }| {
            YamlFileError::at(file, text, &pointer, message)
        })?;
        Ok(config)
    }

    /// Builds every guardrail of the catalogue.
    ///
    /// # Errors
    /// A setting that cannot be used.
    pub fn guardrails(&self) -> Result<Vec<Guardrail>, Mistake> {
        self.rules.build()
    }

    fn check(&self) -> Result<(), Mistake> {
        for (namespace, settings) in &self.namespaces {
            for name in settings.rules.keys() {
                let place = format!("namespaces.{namespace}.rules");
                known_rule(name, &place, || {
                    format!("/namespaces/{}/rules/{name}", escape(namespace))
                })?;
            }
        }
        for (index, exemption) in self.exemptions.iter().enumerate() {
            let place = format!("exemptions[{index}]");
            let pointer = format!("/exemptions/{index}");
            known_rule(&exemption.rule, &place, || format!("{pointer}/rule"))?;
            if exemption.reason.trim().is_empty() {
                return Err(Mistake {
                    pointer: format!("{pointer}/reason"),
                    message: format!("{place}.reason is empty; write why the finding is accepted"),
                });
            }
        }
        self.registry().check().map_err(|error| Mistake {
            pointer: error.pointer(),
            message: error.to_string(),
        })?;
        let guardrails = self.guardrails()?;
        self.check_trust(&guardrails)
    }

    /// A registry's "denied" is only believed where all that could open it was tried.
    fn check_trust(&self, guardrails: &[Guardrail]) -> Result<(), Mistake> {
        let without = guardrails
            .iter()
            .find(|guardrail| guardrail.rule.reads_pull_secrets() == Some(false));
        let trusting = self
            .registries
            .iter()
            .find(|(_, settings)| settings.trust_denied);
        match (without, trusting) {
            (Some(guardrail), Some((host, _))) => Err(Mistake {
                pointer: format!("/registries/{}/trustDenied", escape(host)),
                message: format!(
                    "registries.{host}.trustDenied: a workload's pull secret may open what is denied \
                     without; set rules.{}.pullSecrets: true as well",
                    guardrail.meta.name
                ),
            }),
            _ => Ok(()),
        }
    }

    /// How registries are reached.
    #[must_use]
    pub fn registry(&self) -> RegistrySettings {
        RegistrySettings {
            hosts: self.registries.clone(),
            hosts_directory: self.hosts_directory.clone(),
            image_rewrites: self.image_rewrites.clone(),
            credentials: self.registry_credentials.clone(),
            credential_providers: self.credential_providers.clone(),
        }
    }

    /// Whether findings that are likely refuse too.
    #[must_use]
    pub fn refuses_likely(&self, rule: &str) -> bool {
        self.rules
            .get(rule)
            .is_some_and(|settings| settings.refuse_likely)
    }

    /// Whether annotations on an object may allow what this guardrail finds.
    #[must_use]
    pub fn allows_annotations(&self, rule: &str) -> bool {
        self.rules
            .get(rule)
            .and_then(|settings| settings.allow_annotations)
            .unwrap_or(true)
    }

    /// Whether a guardrail is on in some namespace, whatever the labels of namespaces say.
    #[must_use]
    pub fn may_be_on(&self, rule: &str) -> bool {
        let of_rule = self.rules.get(rule).and_then(|settings| settings.mode);
        let in_namespaces = self.namespaces.values();
        of_rule != Some(Mode::Off)
            || in_namespaces
                .filter_map(|settings| settings.rules.get(rule))
                .any(|entry| entry.mode() != Mode::Off)
    }

    /// The mode that holds for a guardrail in a namespace; `None` for cluster-scoped objects.
    #[must_use]
    pub fn mode(&self, rule: &str, namespace: Option<&str>, label: NamespaceLabel) -> Mode {
        let of_rule = self.rules.get(rule).and_then(|settings| settings.mode);
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
    pub fn exemption(&self, rule: &str, subject: &Subject, today: Date) -> Option<&Exemption> {
        self.exemptions
            .iter()
            .find(|exemption| exemption.accepts(rule, subject, today))
    }
}

fn known_rule(name: &str, place: &str, pointer: impl Fn() -> String) -> Result<(), Mistake> {
    match catalogue::find(name) {
        Some(_) => Ok(()),
        None => Err(Mistake {
            pointer: pointer(),
            message: catalogue::no_such(name, place),
        }),
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
            "config.yaml:3:3: rules: there is no guardrail \"missing-images\"; did you mean missing-image?"
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
            known.starts_with("config.yaml:3:5: rules.missing-image.known: "),
            "{known}"
        );
        let row = error(
            "rules:\n  oom-killed-memory-limit:\n    known: [{limit: 512MB, outcome: oomKilled}]\n",
        );
        assert!(
            row.starts_with(
                "config.yaml:3:13: rules.oom-killed-memory-limit.known[0]: limit \"512MB\""
            ),
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
