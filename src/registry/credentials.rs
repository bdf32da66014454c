//! Credentials: whose they are, where they come from, and for which images they are.
//!
//! Three sources, in kubelet's order: the pull secrets of the pod, a file of Forestall's own, and
//! the plug-ins that kubelet calls credential providers. All that match are tried until one lets us
//! read; where one matches, nothing is asked without (Kubernetes 1.37, pkg/kubelet/kuberuntime
//! `kuberuntime_image.go`).

mod docker_config;
mod keyring;
mod provider;
mod provider_config;
pub(super) mod realm;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

pub use self::docker_config::{DockerConfig, Malformed};
pub use self::keyring::Keyring;
use self::provider::Providers;
use super::probe_error::ProbeError;
use super::settings::RegistrySettings;
use crate::yaml_file::YamlFileError;

/// A file with registry credentials of Forestall's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryCredentials {
    /// The file, as `docker login` writes it and as a Secret of the type
    /// kubernetes.io/dockerconfigjson holds it. It is read again when it changes.
    pub file: String,
}

/// Plug-ins that give credentials for registries: those of kubelet, set up as kubelet does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialProviders {
    /// A file with a `CredentialProviderConfig`, as kubelet's --image-credential-provider-config
    /// takes it.
    pub config: String,
    /// The folder of the plug-ins, as kubelet's --image-credential-provider-bin-dir takes it.
    pub bin_dir: String,
}

/// Where a credential comes from. Shown, it says as whom a registry was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A pull secret of the workload.
    PullSecret {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The file of Forestall's own.
    Own,
    /// The credential provider of that name.
    Provider(String),
}

/// A user name and a password for a registry. Both are wiped from memory with it, and never shown.
#[derive(PartialEq, Eq)]
pub struct Credential {
    username: Zeroizing<String>,
    password: Zeroizing<String>,
    origin: Origin,
}

/// Stands for a user name and a password where answers are remembered. It tells nothing of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 32]);

/// Makes fingerprints, by a key that no other process has.
pub(super) struct Fingerprints(hmac::Key);

/// The credentials that the pull secrets of one pod give.
#[derive(Clone, Debug, Default)]
pub struct PodCredentials {
    /// The credentials.
    pub keyring: Keyring,
    /// Whether all its pull secrets were read, so that a node has no others from there.
    pub is_complete: bool,
}

/// The credentials that Forestall itself was given.
#[derive(Debug, Default)]
pub struct OwnCredentials {
    file: Option<CredentialsFile>,
    providers: Arc<Providers>,
}

/// Why credentials of Forestall's own cannot be used.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// The file cannot be read.
    #[error(
        "registryCredentials.file {path}: {error}; name a file that this process may read, such as \
         a mounted Secret's .dockerconfigjson"
    )]
    File {
        /// The file.
        path: String,
        /// Why not.
        error: io::Error,
    },
    /// The file is not what kubelet reads.
    #[error("registryCredentials.file {path}: {problem}; write it with docker login")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong.
        problem: Malformed,
    },
    /// The setup of the credential providers cannot be read.
    #[error("credentialProviders.config {path}: {error}; name a file that this process may read")]
    Providers {
        /// The file.
        path: String,
        /// Why not.
        error: io::Error,
    },
    /// The setup of the credential providers has a mistake.
    #[error(transparent)]
    ProviderConfig(#[from] YamlFileError),
    /// The program of a credential provider is not there.
    #[error(
        "credentialProviders.binDir: there is no program {path}; put the credential provider there, \
         or take it out of credentialProviders.config"
    )]
    NoProgram {
        /// Where it should be.
        path: String,
    },
}

/// What the credentials of Forestall's own come to for one repository.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) credentials: Vec<Arc<Credential>>,
    /// Why these may not be all.
    pub(super) error: Option<ProbeError>,
}

#[derive(Debug)]
struct CredentialsFile {
    path: PathBuf,
    read: RwLock<Read>,
}

#[derive(Debug)]
struct Read {
    content: Zeroizing<Vec<u8>>,
    keyring: Keyring,
    /// What was said of the file last, so that it is said once.
    complaint: Option<String>,
}

// === impl Credential ===

impl Credential {
    fn new(username: Zeroizing<String>, password: Zeroizing<String>, origin: Origin) -> Self {
        Self {
            username,
            password,
            origin,
        }
    }

    /// The user name.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Whether containerd takes it as none: kubelet hands on entries without a user name, and so
    /// the image is pulled without (containerd, internal/cri/server/images `ParseAuth`).
    pub(super) fn is_anonymous(&self) -> bool {
        self.username.is_empty()
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The header of the scheme `Basic` (RFC 7617); `None` for what no header can hold.
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let Self {
            username, password, ..
        } = self;
        let pair = Zeroizing::new([username.as_str(), ":", password].concat());
        let encoded = Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
        let mut header = HeaderValue::try_from(["Basic ", &encoded].concat()).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.origin)
    }
}

// === impl Origin ===

impl Origin {
    /// Whether it is the workload's own, so that its author may be told which tags it opens.
    pub(super) fn is_workload(&self) -> bool {
        matches!(self, Self::PullSecret { .. })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PullSecret { namespace, name } => write!(f, "as pull secret {namespace}/{name}"),
            Self::Own => f.write_str("with registry credentials of Forestall"),
            Self::Provider(name) => write!(f, "with registry credentials of Forestall from {name}"),
        }
    }
}

// === impl CredentialsError ===

impl CredentialsError {
    /// Whether something that the configuration names is not on this machine.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        match self {
            Self::File { error, .. } | Self::Providers { error, .. } => {
                error.kind() == io::ErrorKind::NotFound
            }
            Self::NoProgram { .. } => true,
            Self::Malformed { .. } | Self::ProviderConfig(_) => false,
        }
    }
}

// === impl Fingerprints ===

impl Fingerprints {
    /// A new key; `None` where the machine gives no random bytes.
    pub(super) fn new() -> Option<Self> {
        let random = aws_lc_rs::rand::SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random).ok()?;
        Some(Self(key))
    }

    pub(super) fn of(&self, credential: &Credential) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.0);
        // What Forestall's own credentials open is no workload's to see, even with the same password.
        context.update(&[u8::from(credential.origin.is_workload())]);
        // The length keeps `a` and `bc` apart from `ab` and `c`.
        context.update(&credential.username.len().to_be_bytes());
        context.update(credential.username.as_bytes());
        context.update(credential.password.as_bytes());
        let mut bytes = [0; 32];
        let tag = context.sign();
        for (byte, signed) in bytes.iter_mut().zip(tag.as_ref()) {
            *byte = *signed;
        }
        Fingerprint(bytes)
    }
}

impl fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprints")
    }
}

// === impl OwnCredentials ===

impl OwnCredentials {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// What cannot be read or used, and what to write instead.
    pub fn read(settings: &RegistrySettings) -> Result<Self, CredentialsError> {
        let file = settings.credentials.as_ref();
        let providers = settings.credential_providers.as_ref();
        let providers = providers.map(Providers::read).transpose()?;
        Ok(Self {
            file: file.map(CredentialsFile::open).transpose()?,
            providers: Arc::new(providers.unwrap_or_default()),
        })
    }

    /// Reads the file again, and uses it if it can be used.
    pub fn reload(&self) {
        if let Some(file) = &self.file {
            file.reload();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.file.is_none() && self.providers.is_empty()
    }

    /// The credentials for a repository, in the order in which they are tried.
    pub(super) async fn lookup(&self, repository: &str, by: Instant) -> Found {
        let file = self.file.as_ref();
        let mut credentials = file.map(|file| file.lookup(repository)).unwrap_or_default();
        if !self.providers.has_any_for(repository) {
            return Found {
                credentials,
                error: None,
            };
        }
        // A task of its own: a plug-in that takes longer than this review still helps the next.
        let (providers, repository) = (Arc::clone(&self.providers), repository.to_owned());
        let task = tokio::spawn(async move { providers.lookup(&repository).await });
        let provided = match timeout_at(by, task).await {
            Ok(Ok(provided)) => provided,
            Ok(Err(_)) => Found::failed("the credential provider cannot be run"),
            Err(_) => Found::failed("the credential provider did not answer in time"),
        };
        credentials.extend(provided.credentials);
        Found {
            credentials,
            error: provided.error,
        }
    }
}

// === impl Found ===

impl Found {
    fn failed(why: &str) -> Self {
        Self {
            credentials: Vec::new(),
            error: Some(ProbeError::NoCredentials(why.to_owned())),
        }
    }
}

// === impl CredentialsFile ===

impl CredentialsFile {
    fn open(settings: &RegistryCredentials) -> Result<Self, CredentialsError> {
        let path = PathBuf::from(&settings.file);
        let content = read(&path)?;
        let keyring = keyring(&path, &content)?;
        Ok(Self {
            path,
            read: RwLock::new(Read {
                content,
                keyring,
                complaint: None,
            }),
        })
    }

    fn lookup(&self, repository: &str) -> Vec<Arc<Credential>> {
        let read = self.read.read().unwrap_or_else(PoisonError::into_inner);
        read.keyring.lookup(repository)
    }

    fn reload(&self) {
        let content = read(&self.path);
        let mut read = self.read.write().unwrap_or_else(PoisonError::into_inner);
        let change = content.and_then(|content| {
            if content == read.content {
                return Ok(None);
            }
            let keyring = keyring(&self.path, &content)?;
            Ok(Some((content, keyring)))
        });
        match change {
            Ok(None) => {}
            Ok(Some((content, keyring))) => {
                read.content = content;
                read.keyring = keyring;
                tracing::info!(file = %self.path.display(), "using the new registry credentials");
            }
            Err(error) => {
                let complaint = error.to_string();
                if read.complaint.as_ref() != Some(&complaint) {
                    tracing::error!("{complaint}; the credentials before it are still in use");
                }
                read.complaint = Some(complaint);
                return;
            }
        }
        read.complaint = None;
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CredentialsError> {
    let content = fs::read(path).map_err(|error| CredentialsError::File {
        path: path.display().to_string(),
        error,
    })?;
    Ok(Zeroizing::new(content))
}

fn keyring(path: &Path, content: &[u8]) -> Result<Keyring, CredentialsError> {
    let config = DockerConfig::parse(content, &Origin::Own);
    let config = config.map_err(|problem| CredentialsError::Malformed {
        path: path.display().to_string(),
        problem,
    })?;
    let mut keyring = Keyring::default();
    keyring.add(&config);
    Ok(keyring)
}
