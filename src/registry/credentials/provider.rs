//! Credential providers: kubelet's plug-ins, run as kubelet runs them (Kubernetes 1.37,
//! pkg/credentialprovider/plugin `plugin.go`; the protocol credentialprovider.kubelet.k8s.io).
//!
//! A plug-in is a program that reads a request from its input and writes credentials to its output.
//! Other than kubelet, this gives it no more of its own environment than it needs, cuts what it
//! writes, and ends it with all that it has started when its time is up.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use moka::Expiry;
use moka::future::Cache;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::json;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::docker_config::DockerConfig;
use super::keyring::RegistryPath;
use super::provider_config::{self, ProviderConfig, lifetime};
use super::{Credential, CredentialProviders, CredentialsError, Found, Keyring, Origin};
use crate::registry::probe_error::ProbeError;

/// The most time for one run. kubelet gives a minute, but it has nobody waiting.
const PATIENCE: Duration = Duration::from_secs(10);
/// Runs at one time, and runs that wait. Anybody can name an image that a provider is for.
const MOST_RUNS: usize = 4;
const MOST_WAITING: usize = 64;
/// Bytes that are read of what a plug-in writes: credentials of one registry have some thousand.
const LONGEST_ANSWER: u64 = 64 * 1024;
const LONGEST_COMPLAINT: u64 = 1024;
/// How long a plug-in is left alone about an image for which it failed, and the least that its
/// credentials are kept, for kubelet may run it for every pull but a review cannot.
const LEAST_REST: Duration = Duration::from_secs(10);
/// Credentials that are kept.
const MOST_KEPT: u64 = 4096;
/// What a plug-in gets of this process's environment, beside what its setup says: how it finds
/// programs, certificates and proxies, and the identity that the cloud gave this pod.
const PASSED_ON: &[&str] = &["PATH", "HOME", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"];
const PASSED_ON_IN_ANY_CASE: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];
const PASSED_ON_BY_PREFIX: &[&str] = &["AWS_", "AZURE_", "GOOGLE_"];

/// The credential providers, and what they gave.
#[derive(Debug)]
pub(super) struct Providers {
    all: Vec<Provider>,
    kept: Cache<(usize, Scope), CachedCredentials>,
    /// The last run for an image, so that many who ask at once are one run, and a failure is not
    /// repeated at once.
    runs: Cache<(usize, String), Result<Arc<DockerConfig>, Failure>>,
    turns: Semaphore,
    waiting: Semaphore,
}

#[derive(Debug)]
struct Provider {
    config: ProviderConfig,
    program: PathBuf,
}

/// For which images credentials hold, as the plug-in says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scope {
    Image(String),
    Registry(String),
    Global,
}

#[derive(Clone, Debug)]
struct CachedCredentials {
    config: Arc<DockerConfig>,
    lifetime: Duration,
}

/// Why a plug-in gave nothing; reads after its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
enum Failure {
    #[error("is asked for too much at one time")]
    Busy,
    #[error("cannot be started")]
    NotStarted,
    #[error("did not answer within {} s", PATIENCE.as_secs())]
    TimedOut,
    #[error("failed")]
    Failed,
    #[error("wrote more than {LONGEST_ANSWER} bytes")]
    TooLong,
    #[error("wrote no CredentialProviderResponse of the version that it was asked for")]
    NoResponse,
}

/// What a plug-in writes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    api_version: String,
    kind: String,
    cache_key_type: CacheKeyType,
    cache_duration: Option<String>,
    auth: Option<BTreeMap<String, Pair>>,
}

#[derive(Clone, Copy, Deserialize)]
enum CacheKeyType {
    Image,
    Registry,
    Global,
}

#[derive(Deserialize)]
struct Pair {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

/// A process that is ended, with all that it has started, unless it has ended.
struct Running {
    child: Child,
    has_ended: bool,
}

struct CredentialLifetimes;

// === impl Providers ===

impl Default for Providers {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl Providers {
    /// Reads the setup and looks for the programs.
    pub(super) fn read(settings: &CredentialProviders) -> Result<Self, CredentialsError> {
        let path = &settings.config;
        let text = fs::read_to_string(path).map_err(|error| CredentialsError::Providers {
            path: path.clone(),
            error,
        })?;
        let provider = |config: ProviderConfig| {
            let program = Path::new(&settings.bin_dir).join(&config.name);
            if !is_program(&program) {
                let path = program.display().to_string();
                return Err(CredentialsError::NoProgram { path });
            }
            Ok(Provider { config, program })
        };
        let configs = provider_config::parse(path, &text)?;
        Ok(Self::of(
            configs
                .into_iter()
                .map(provider)
                .collect::<Result<_, _>>()?,
        ))
    }

    fn of(all: Vec<Provider>) -> Self {
        Self {
            all,
            kept: Cache::builder()
                .max_capacity(MOST_KEPT)
                .expire_after(CredentialLifetimes)
                .build(),
            runs: Cache::builder()
                .max_capacity(MOST_KEPT)
                .time_to_live(LEAST_REST)
                .build(),
            turns: Semaphore::new(MOST_RUNS),
            waiting: Semaphore::new(MOST_WAITING),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether any of them is for this repository.
    pub(super) fn has_any_for(&self, repository: &str) -> bool {
        self.all_for(repository).next().is_some()
    }

    /// The credentials of all of them for a repository. One that fails leaves the others.
    pub(super) async fn lookup(&self, repository: &str) -> Found {
        let mut keyring = Keyring::default();
        let mut error = None;
        for (index, provider) in self.all_for(repository) {
            match self.provide(index, provider, repository).await {
                Ok(config) => keyring.add(&config),
                Err(failure) => {
                    let why = format!("the credential provider {} {failure}", provider.config.name);
                    error.get_or_insert(ProbeError::NoCredentials(why));
                }
            }
        }
        Found {
            credentials: keyring.lookup(repository),
            error,
        }
    }

    fn all_for(&self, repository: &str) -> impl Iterator<Item = (usize, &Provider)> {
        let place = (!self.all.is_empty())
            .then(|| RegistryPath::parse(repository))
            .flatten();
        self.all.iter().enumerate().filter(move |(_, provider)| {
            let is_for =
                |image: &RegistryPath| place.as_ref().is_some_and(|place| image.is_for(place));
            provider.config.images.iter().any(is_for)
        })
    }

    async fn provide(
        &self,
        index: usize,
        provider: &Provider,
        repository: &str,
    ) -> Result<Arc<DockerConfig>, Failure> {
        for scope in [
            Scope::Image(repository.to_owned()),
            Scope::of_registry(repository),
            Scope::Global,
        ] {
            if let Some(kept) = self.kept.get(&(index, scope)).await {
                return Ok(kept.config);
            }
        }
        let run = async {
            let (kept, scope) = self.run(provider, repository).await?;
            let config = Arc::clone(&kept.config);
            if kept.lifetime > LEAST_REST {
                self.kept.insert((index, scope), kept).await;
            }
            Ok(config)
        };
        self.runs
            .get_with((index, repository.to_owned()), run)
            .await
    }

    async fn run(
        &self,
        provider: &Provider,
        repository: &str,
    ) -> Result<(CachedCredentials, Scope), Failure> {
        let _waiting = self.waiting.try_acquire().map_err(|_| Failure::Busy)?;
        let _turn = self.turns.acquire().await.map_err(|_| Failure::Busy)?;
        let response = provider.ask(repository).await;
        if let Err(failure) = &response {
            let name = &provider.config.name;
            tracing::warn!(provider = %name, image = %repository, "the credential provider {name} {failure}");
        }
        provider.read(&response?, repository)
    }
}

// === impl Scope ===

impl Scope {
    fn of_registry(repository: &str) -> Self {
        let registry = repository.split('/').next().unwrap_or_default();
        Self::Registry(registry.to_owned())
    }
}

// === impl Provider ===

impl Provider {
    /// Runs the plug-in once.
    async fn ask(&self, repository: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let request = json!({
            "kind": "CredentialProviderRequest",
            "apiVersion": self.config.api_version,
            "image": repository,
        });
        let child = Command::new(&self.program)
            .args(&self.config.args)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_passed_on)))
            .envs(self.config.env.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut running = Running {
            child: child.map_err(|_| Failure::NotStarted)?,
            has_ended: false,
        };
        let answered = timeout(PATIENCE, running.converse(&request.to_string())).await;
        let (answer, complaint) = answered.map_err(|_| Failure::TimedOut)??;
        let ended = timeout(PATIENCE, running.child.wait()).await;
        let status = ended
            .map_err(|_| Failure::TimedOut)?
            .map_err(|_| Failure::Failed)?;
        running.has_ended = true;
        if status.success() {
            return Ok(answer);
        }
        let complaint = String::from_utf8_lossy(&complaint);
        let complaint: String = complaint
            .chars()
            .filter(|char| !char.is_control())
            .collect();
        tracing::warn!(provider = %self.config.name, %status, complaint, "a credential provider failed");
        Err(Failure::Failed)
    }

    /// The credentials in an answer, for which images they hold, and how long.
    fn read(&self, answer: &[u8], repository: &str) -> Result<(CachedCredentials, Scope), Failure> {
        let response: Response = serde_json::from_slice(answer).map_err(|_| Failure::NoResponse)?;
        if response.kind != "CredentialProviderResponse"
            || response.api_version != self.config.api_version
        {
            return Err(Failure::NoResponse);
        }
        let told = response.cache_duration.as_deref();
        let lifetime = match told.map(lifetime) {
            None => self.config.lifetime,
            Some(lifetime) => lifetime.ok_or(Failure::NoResponse)?,
        };
        let scope = match response.cache_key_type {
            CacheKeyType::Image => Scope::Image(repository.to_owned()),
            CacheKeyType::Registry => Scope::of_registry(repository),
            CacheKeyType::Global => Scope::Global,
        };
        let origin = Origin::Provider(self.config.name.clone());
        let credential = |(key, Pair { username, password }): (String, Pair)| {
            let (username, password) = (Zeroizing::new(username), Zeroizing::new(password));
            let credential = Credential::new(username, password, origin.clone());
            (key, Arc::new(credential))
        };
        let credentials = response
            .auth
            .unwrap_or_default()
            .into_iter()
            .map(credential);
        let config = Arc::new(DockerConfig(credentials.collect()));
        Ok((CachedCredentials { config, lifetime }, scope))
    }
}

fn is_passed_on(name: &str) -> bool {
    PASSED_ON.contains(&name)
        || PASSED_ON_IN_ANY_CASE
            .iter()
            .any(|passed| passed.eq_ignore_ascii_case(name))
        || PASSED_ON_BY_PREFIX
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

// === impl Running ===

impl Running {
    /// Writes the request and reads to the end of output and errors, as far as they count.
    async fn converse(&mut self, request: &str) -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), Failure> {
        let (stdin, stdout, stderr) = (
            self.child.stdin.take(),
            self.child.stdout.take(),
            self.child.stderr.take(),
        );
        let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(Failure::NotStarted);
        };
        let ask = async {
            // One that answers without reading closes its input.
            let _ = stdin.write_all(request.as_bytes()).await;
            drop(stdin);
            Ok(())
        };
        let answer = async {
            // One byte more than is allowed, to see that there are more.
            let mut answer = Zeroizing::new(Vec::with_capacity(4096));
            let read = stdout
                .take(LONGEST_ANSWER + 1)
                .read_to_end(&mut answer)
                .await;
            match read {
                Ok(read) if read as u64 > LONGEST_ANSWER => Err(Failure::TooLong),
                Ok(_) => Ok(answer),
                Err(_) => Err(Failure::Failed),
            }
        };
        let complaint = async { Ok(read_and_forget(stderr).await) };
        let ((), answer, complaint) = tokio::try_join!(ask, answer, complaint)?;
        Ok((answer, complaint))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let group = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = group.and_then(Pid::from_raw) {
            // Nobody is left to be told.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads to the end, and keeps the beginning.
async fn read_and_forget(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut begin = Vec::new();
    // What cannot be read any more is not missed.
    let _ = (&mut stream)
        .take(LONGEST_COMPLAINT)
        .read_to_end(&mut begin)
        .await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    begin
}

// === impl CredentialLifetimes ===

impl Expiry<(usize, Scope), CachedCredentials> for CredentialLifetimes {
    fn expire_after_create(
        &self,
        _: &(usize, Scope),
        kept: &CachedCredentials,
        _: Clock,
    ) -> Option<Duration> {
        Some(kept.lifetime)
    }

    fn expire_after_update(
        &self,
        _: &(usize, Scope),
        kept: &CachedCredentials,
        _: Clock,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(kept.lifetime)
    }
}
