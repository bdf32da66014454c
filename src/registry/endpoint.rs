//! Where a registry is asked, and what its address is.

use std::net::IpAddr;

use reqwest::Url;
use reqwest::header::HeaderMap;

use super::address::check_public;
use super::credentials::realm;
use super::hosts_directory::Address;
use super::probe_error::Refusal;
use super::settings::{HostSettings, Role, ServerSettings};

/// The registry of images without a host.
const DOCKER_HUB: &str = "docker.io";
/// Where it answers (containerd, core/remotes/docker/registry.go `DefaultHost`).
const DOCKER_HUB_SERVER: &str = "registry-1.docker.io";
/// Names of Docker Hub that no normalised image has, so that an entry for them would do nothing.
pub(super) const DOCKER_HUB_ALIASES: &[&str] = &["index.docker.io", DOCKER_HUB_SERVER];
/// As whom a registry is asked without credentials.
pub(super) const ANONYMOUS: &str = "anonymous";
/// What stands before the repository in the address of a registry.
const API: &str = "/v2";

/// Where a registry is asked: by the name that images have, or in place of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Scheme, host and port; the path is empty.
    pub(super) base: Url,
    /// What stands before the repository, such as `/v2`.
    pub(super) path: String,
    /// The registry that it stands for, which it is told; `None` where it is that registry.
    pub(super) namespace: Option<String>,
    /// What is sent to it with every request.
    pub(super) headers: HeaderMap,
    /// What it means that it does not have an image.
    pub(super) standing: Standing,
    /// Whether it may have the credentials for the registry: it is the registry, or the operator
    /// puts it in its place. A mirror gets none.
    pub(super) takes_credentials: bool,
    /// Token servers of other domains that may have them too.
    pub(super) token_hosts: Vec<String>,
}

/// What it means that a host does not have an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is the registry: what it lets us read and does not have is missing.
    Source,
    /// The operator says that it has all that there is.
    Replica,
    /// It may have failed to fetch it.
    Proxy,
}

// === impl Endpoint ===

impl Endpoint {
    /// Who is asked and as whom, as a message says it.
    pub(super) fn asked(&self, domain: &str, as_whom: &str) -> String {
        let as_whom = if self.takes_credentials {
            as_whom
        } else {
            ANONYMOUS
        };
        let authority = authority(&self.base);
        match self.standing {
            Standing::Source => format!("{authority} ({as_whom})"),
            Standing::Replica | Standing::Proxy => format!("{authority} (for {domain}, {as_whom})"),
        }
    }

    /// Whether this token server may have the registry's credentials.
    pub(super) fn trusts(&self, realm: &Url) -> bool {
        realm::may_have(&self.base, &self.token_hosts, realm)
    }

    /// Whether this is Docker Hub, which counts what is asked of it.
    pub(super) fn is_docker_hub(&self) -> bool {
        self.base.host_str() == Some(DOCKER_HUB_SERVER)
    }

    pub(super) fn own(base: Url, settings: Option<&HostSettings>) -> Self {
        let token_hosts = settings.map(|settings| settings.token_hosts.clone());
        Self {
            base,
            path: API.to_owned(),
            namespace: None,
            headers: HeaderMap::new(),
            standing: Standing::Source,
            takes_credentials: true,
            token_hosts: token_hosts.unwrap_or_default(),
        }
    }

    pub(super) fn of_settings(
        domain: &str,
        settings: &HostSettings,
        server: &ServerSettings,
    ) -> Option<Self> {
        let base = server.address()?;
        let standing = match server.role {
            Role::Replica => Standing::Replica,
            Role::Proxy => Standing::Proxy,
        };
        Some(Self {
            namespace: (!is_own_server(&base, domain)).then(|| domain.to_owned()),
            base,
            path: API.to_owned(),
            headers: HeaderMap::new(),
            standing,
            takes_credentials: settings.server.as_ref() == Some(server),
            token_hosts: settings.token_hosts.clone(),
        })
    }

    /// Nobody says what a host of containerd's files is, unless it is the registry itself.
    pub(super) fn of_entry(domain: &str, address: &Address, headers: &HeaderMap) -> Self {
        let Address { base, path } = address;
        let is_own = is_own_server(base, domain);
        let standing = if is_own {
            Standing::Source
        } else {
            Standing::Proxy
        };
        Self {
            base: base.clone(),
            path: path.clone(),
            namespace: (!is_own).then(|| domain.to_owned()),
            headers: headers.clone(),
            standing,
            takes_credentials: is_own,
            token_hosts: Vec::new(),
        }
    }
}

// === addresses ===

/// The server of a registry as images name it.
pub(super) fn server_of(domain: &str) -> &str {
    match domain {
        DOCKER_HUB => DOCKER_HUB_SERVER,
        _ => domain,
    }
}

/// Whether this is the registry's own server (containerd, core/remotes/docker/registry.go
/// `isProxy`).
pub(super) fn is_own_server(base: &Url, domain: &str) -> bool {
    authority(base) == server_of(domain)
}

/// The address of a registry as images name it. Parsing turns every way to write an IPv4 address,
/// such as `0x7f.1`, into the usual one.
pub(super) fn own_address(domain: &str, plain_http: bool) -> Option<Url> {
    let scheme = if plain_http { "http" } else { "https" };
    origin(Url::parse(&format!("{scheme}://{domain}")).ok()?)
}

/// The address, if it is scheme, host and port and nothing else.
pub(super) fn origin(url: Url) -> Option<Url> {
    let is_bare = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    (is_bare && url.has_host()).then_some(url)
}

pub(super) fn name_and_port(url: &Url) -> Option<(String, u16)> {
    let host = url.host_str()?.trim_end_matches('.');
    let port = url.port_or_known_default()?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

pub(super) fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

pub(super) fn authority(base: &Url) -> String {
    let host = base.host_str().unwrap_or_default();
    match base.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Whether a host may be asked that nobody configured.
pub(super) fn check_host(url: &Url) -> Result<(), Refusal> {
    if let Some(address) = literal(url) {
        return check_public(address);
    }
    // Names that mean something inside: of this machine, of the cluster, of the cloud.
    let name = url.host_str().unwrap_or_default().trim_end_matches('.');
    let labels: Vec<&str> = name.split('.').collect();
    match labels.as_slice() {
        _ if is_loopback_name(name) => Err(Refusal::Loopback),
        ["metadata", ..] => Err(Refusal::Never),
        [_] | [.., "svc"] | [.., "cluster", "local"] => Err(Refusal::Internal),
        _ => Ok(()),
    }
}

/// Whether a host may be asked that containerd's files name: not what means the node.
pub(super) fn check_vouched(url: &Url) -> Result<(), Refusal> {
    match literal(url) {
        Some(address) => match check_public(address) {
            Err(refusal @ (Refusal::Loopback | Refusal::Never)) => Err(refusal),
            _ => Ok(()),
        },
        None if is_loopback_name(url.host_str().unwrap_or_default()) => Err(Refusal::Loopback),
        None => Ok(()),
    }
}

pub(super) fn is_loopback_name(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}
