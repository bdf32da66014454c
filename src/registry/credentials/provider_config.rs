//! The setup of credential providers, as kubelet reads it (`CredentialProviderConfig` of
//! kubelet.config.k8s.io, Kubernetes 1.37, pkg/credentialprovider/plugin `config.go`).

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::keyring::RegistryPath;
use crate::duration;
use crate::yaml_file::{self, YamlFileError};

/// The versions of the setup; the fields used here are the same in all.
const CONFIG_VERSIONS: &[&str] = &[
    "kubelet.config.k8s.io/v1",
    "kubelet.config.k8s.io/v1beta1",
    "kubelet.config.k8s.io/v1alpha1",
];
/// The versions of the protocol; so here.
const PROTOCOL_VERSIONS: &[&str] = &[
    "credentialprovider.kubelet.k8s.io/v1",
    "credentialprovider.kubelet.k8s.io/v1beta1",
    "credentialprovider.kubelet.k8s.io/v1alpha1",
];

/// One credential provider.
#[derive(Debug)]
pub(super) struct ProviderConfig {
    pub(super) name: String,
    /// The images that it is asked for.
    pub(super) images: Vec<RegistryPath>,
    /// How long its credentials are kept where it does not say.
    pub(super) lifetime: Duration,
    /// The version of the protocol.
    pub(super) api_version: String,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct File {
    api_version: String,
    kind: String,
    providers: Vec<Written>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Written {
    name: String,
    match_images: Vec<String>,
    default_cache_duration: Option<String>,
    api_version: String,
    args: Vec<String>,
    env: Vec<Variable>,
    token_attributes: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Variable {
    name: String,
    value: String,
}

/// A mistake: a JSON pointer to it, and what to write instead.
type Mistake = (String, String);

/// Reads the setup.
///
/// # Errors
/// The first mistake, with its place and the cure.
pub(super) fn parse(file: &str, text: &str) -> Result<Vec<ProviderConfig>, YamlFileError> {
    let written: File = yaml_file::parse(file, text)?;
    written
        .check()
        .map_err(|(pointer, message)| YamlFileError::at(file, text, &pointer, message))
}

// === impl File ===

impl File {
    fn check(self) -> Result<Vec<ProviderConfig>, Mistake> {
        if self.kind != "CredentialProviderConfig" {
            let message = format!("kind: {:?}: write CredentialProviderConfig", self.kind);
            return Err(("/kind".to_owned(), message));
        }
        check_version(
            "/apiVersion",
            "apiVersion",
            &self.api_version,
            CONFIG_VERSIONS,
        )?;
        if self.providers.is_empty() {
            let message = "providers: there are none; write at least one".to_owned();
            return Err(("/providers".to_owned(), message));
        }
        let mut providers: Vec<ProviderConfig> = Vec::new();
        for (index, provider) in self.providers.into_iter().enumerate() {
            let pointer = format!("/providers/{index}");
            let provider = provider.check(&pointer, &format!("providers[{index}]"))?;
            if providers.iter().any(|other| other.name == provider.name) {
                let message = format!(
                    "providers[{index}].name: {:?} is there twice",
                    provider.name
                );
                return Err((format!("{pointer}/name"), message));
            }
            providers.push(provider);
        }
        Ok(providers)
    }
}

// === impl Written ===

impl Written {
    fn check(self, pointer: &str, place: &str) -> Result<ProviderConfig, Mistake> {
        let mistake = |key: &str, message: String| {
            Err((
                format!("{pointer}/{key}"),
                format!("{place}.{key}: {message}"),
            ))
        };
        if matches!(self.name.as_str(), "" | "." | "..") || self.name.contains(['/', ' ']) {
            let message = format!("{:?} is no name of a program in the folder", self.name);
            return mistake("name", message);
        }
        let version = format!("{place}.apiVersion");
        check_version(
            &format!("{pointer}/apiVersion"),
            &version,
            &self.api_version,
            PROTOCOL_VERSIONS,
        )?;
        if self.token_attributes.is_some() {
            return mistake(
                "tokenAttributes",
                "Forestall has no token of the pod that pulls; take it out, and the plug-in uses the \
                 identity of Forestall"
                    .to_owned(),
            );
        }
        if self.match_images.is_empty() {
            return mistake(
                "matchImages",
                "there are none; write at least one host".to_owned(),
            );
        }
        let mut images = Vec::new();
        for image in &self.match_images {
            let Some(image) = RegistryPath::parse(image) else {
                return mistake(
                    "matchImages",
                    format!("{image:?} is no host with or without a path"),
                );
            };
            images.push(image);
        }
        let written = self.default_cache_duration.as_deref().unwrap_or_default();
        let Some(lifetime) = lifetime(written) else {
            let message = format!("{written:?} is no duration; write one such as 12h or 0s");
            return mistake("defaultCacheDuration", message);
        };
        Ok(ProviderConfig {
            name: self.name,
            images,
            lifetime,
            api_version: self.api_version,
            args: self.args,
            env: self
                .env
                .into_iter()
                .map(|Variable { name, value }| (name, value))
                .collect(),
        })
    }
}

fn check_version(pointer: &str, place: &str, version: &str, known: &[&str]) -> Result<(), Mistake> {
    if known.contains(&version) {
        return Ok(());
    }
    let message = format!("{place}: {version:?} is not known; write {}", known[0]);
    Err((pointer.to_owned(), message))
}

/// A duration that is not negative.
pub(super) fn lifetime(written: &str) -> Option<Duration> {
    let nanoseconds = duration::parse(written)?;
    u64::try_from(nanoseconds).ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECR: &str = "\
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
  - name: ecr-credential-provider
    matchImages: [\"*.dkr.ecr.*.amazonaws.com\", \"public.ecr.aws\"]
    defaultCacheDuration: 12h
    apiVersion: credentialprovider.kubelet.k8s.io/v1
    args: [get-credentials]
    env: [{name: AWS_REGION, value: eu-central-1}]
";

    #[test]
    fn the_setup_of_kubelet_is_read() {
        let providers = parse("providers.yaml", ECR).unwrap();
        let ecr = &providers[0];
        assert_eq!(ecr.name, "ecr-credential-provider");
        assert_eq!(ecr.lifetime, Duration::from_hours(12));
        assert_eq!(
            (&*ecr.args, ecr.images.len()),
            (&["get-credentials".to_owned()][..], 2)
        );
        assert_eq!(
            ecr.env,
            [("AWS_REGION".to_owned(), "eu-central-1".to_owned())]
        );
    }

    #[test]
    fn a_mistake_names_line_key_and_cure() {
        for (from, to, expected) in [
            (
                "kind: CredentialProviderConfig",
                "kind: Config",
                "2:7: kind: \"Config\": write Cred",
            ),
            (
                "kubelet.config.k8s.io/v1",
                "v1",
                "1:13: apiVersion: \"v1\" is not known; write kubelet.c",
            ),
            (
                "name: ecr-credential-provider",
                "name: ../sh",
                "4:11: providers[0].name: \"../sh\"",
            ),
            ("providers:\n", "providers: []\nx:\n", "4:1: "),
            (
                "credentialprovider.kubelet.k8s.io/v1",
                "v2",
                "7:17: providers[0].apiVersion: \"v2\"",
            ),
            (
                "defaultCacheDuration: 12h",
                "defaultCacheDuration: -1s",
                "write one such as 12h",
            ),
            (
                "    defaultCacheDuration: 12h\n",
                "",
                "providers[0].defaultCacheDuration: \"\"",
            ),
            (
                "[\"*.dkr.ecr.*.amazonaws.com\", \"public.ecr.aws\"]",
                "[]",
                "write at least one host",
            ),
            ("\"public.ecr.aws\"", "\"a b\"", "\"a b\" is no host"),
            (
                "args: [",
                "tokenAttributes: {}\n    args: [",
                "8:22: providers[0].tokenAttributes: ",
            ),
            ("args: [", "arg: [", "unknown field"),
        ] {
            assert!(ECR.contains(from), "{from}");
            let error = parse("providers.yaml", &ECR.replace(from, to)).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}\n{expected}");
        }
        let twice = ECR.split_once("providers:\n").unwrap().1;
        let error = parse("providers.yaml", &format!("{ECR}{twice}")).unwrap_err();
        assert!(error.to_string().contains("is there twice"), "{error}");
    }
}
