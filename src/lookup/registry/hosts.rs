//! Which hosts may be asked, and under which address a registry is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::address::{check_configured, check_public};
use super::credentials::realm;
use super::obstacle::Refusal;
use crate::review::image::is_domain;
use crate::review::patch::escape;

/// The registry of images without a host.
const DOCKER_HUB: &str = "docker.io";
/// Where it answers (containerd, core/remotes/docker/registry.go `DefaultHost`).
const DOCKER_HUB_SERVER: &str = "registry-1.docker.io";
/// Names of Docker Hub that no normalised image has, so that an entry for them would do nothing.
const DOCKER_HUB_ALIASES: &[&str] = &["index.docker.io", DOCKER_HUB_SERVER];

/// How a registry is reached.
///
/// An entry also says that this host may lie inside a private network; else only public addresses
/// are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HostSettings {
    /// The address that is asked instead of the registry, such as `https://mirror.example.com` or
    /// `http://127.0.0.1:5000`. What it does not have counts as missing, so it must hold every
    /// image: a pull-through cache, which answers "not found" when its source is down, does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Whether the registry's own address is asked by plain HTTP. Built in: false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
    /// Token servers that may have the registry's credentials though they belong to another domain,
    /// as HOST or HOST:PORT. Those of the same domain may have them anyway.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub token_hosts: Vec<String>,
    /// Whether "denied" means that no node can pull, so that it refuses. Only true where nodes have
    /// no credentials of their own for this registry, and workloads' pull secrets are read
    /// (rules.missing-image.pullSecrets). Built in: false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub trust_denied: bool,
}

/// Settings of a registry that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// The key is no registry.
    #[error(
        "registries: {0:?} is no registry; write HOST or HOST:PORT as images name it, such as \
         docker.io or registry.example.com:5000"
    )]
    Host(String),
    /// The key is another name of Docker Hub.
    #[error("registries.{0}: images of Docker Hub are those of docker.io; write docker.io")]
    DockerHub(String),
    /// The server is no address.
    #[error(
        "registries.{host}.server: {server:?} is no address of a registry; write one without path, \
         such as https://mirror.example.com or http://127.0.0.1:5000"
    )]
    Server {
        /// The key.
        host: String,
        /// What is written there.
        server: String,
    },
    /// A token server is no host.
    #[error(
        "registries.{host}.tokenHosts: {named:?} is no host; write HOST or HOST:PORT, such as \
         auth.example.com"
    )]
    TokenHost {
        /// The key.
        host: String,
        /// What is written there.
        named: String,
    },
    /// The address belongs to no registry.
    #[error(
        "registries.{0}: a link-local, metadata or multicast address is never asked; write the \
         address of a registry"
    )]
    Never(String),
    /// Two keys that contradict each other.
    #[error(
        "registries.{0}.plainHttp is about the registry's own address, which is not asked where \
         there is a server; write http:// in server instead"
    )]
    PlainHttp(String),
}

/// Where a registry is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Scheme, host and port; the path is empty.
    pub(super) base: Url,
    /// The registry, as images name it, where another address is asked instead.
    pub(super) instead_of: Option<String>,
    /// Whether the operator says that this server has all that there is.
    pub(super) is_authoritative: bool,
    /// Token servers of other domains that may have its credentials.
    pub(super) token_hosts: Vec<String>,
    /// Whether the operator says that its "denied" holds for nodes too.
    pub(super) trusts_denied: bool,
}

/// The hosts that are configured, and the policy for all others.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    /// By the registry as images name it, in lower case.
    endpoints: BTreeMap<String, Endpoint>,
    /// Host and port of every endpoint: the operator vouches for these.
    configured: BTreeMap<(String, u16), Scheme>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

// === impl Endpoint ===

impl Endpoint {
    /// Who is asked and as whom, as a message says it.
    pub(super) fn asked(&self, as_whom: &str) -> String {
        let authority = authority(&self.base);
        match &self.instead_of {
            Some(host) => format!("{authority} (for {host}, {as_whom})"),
            None => format!("{authority} ({as_whom})"),
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
}

// === impl HostSettings ===

impl HostSettings {
    /// Whether these settings can be used for the registry of that name.
    ///
    /// # Errors
    /// The key that cannot be used, and what to write instead.
    pub fn check(&self, host: &str) -> Result<(), SettingsError> {
        self.endpoint(host).map(drop)
    }

    fn endpoint(&self, host: &str) -> Result<Endpoint, SettingsError> {
        if !is_domain(host) {
            return Err(SettingsError::Host(host.to_owned()));
        }
        if DOCKER_HUB_ALIASES.contains(&host) {
            return Err(SettingsError::DockerHub(host.to_owned()));
        }
        if self.server.is_some() && self.plain_http {
            return Err(SettingsError::PlainHttp(host.to_owned()));
        }
        let base = match &self.server {
            Some(server) => server_address(server).ok_or_else(|| SettingsError::Server {
                host: host.to_owned(),
                server: server.clone(),
            }),
            None => own_address(host, self.plain_http)
                .ok_or_else(|| SettingsError::Host(host.to_owned())),
        }?;
        if literal(&base).is_some_and(|address| check_configured(address).is_err()) {
            return Err(SettingsError::Never(host.to_owned()));
        }
        for named in &self.token_hosts {
            // One that is asked as the registry is.
            let address = own_address(named, base.scheme() == "http");
            let is_usable = is_domain(named)
                && address.is_some_and(|address| {
                    literal(&address).is_none_or(|address| check_configured(address).is_ok())
                });
            if !is_usable {
                return Err(SettingsError::TokenHost {
                    host: host.to_owned(),
                    named: named.clone(),
                });
            }
        }
        Ok(Endpoint {
            base,
            instead_of: self.server.is_some().then(|| host.to_owned()),
            is_authoritative: self.server.is_some(),
            token_hosts: self.token_hosts.clone(),
            trusts_denied: self.trust_denied,
        })
    }
}

// === impl SettingsError ===

impl SettingsError {
    /// Where in the configuration, as a JSON pointer.
    #[must_use]
    pub fn pointer(&self) -> String {
        let (host, key) = match self {
            Self::Host(host) | Self::DockerHub(host) | Self::Never(host) => (host, ""),
            Self::Server { host, .. } => (host, "/server"),
            Self::TokenHost { host, .. } => (host, "/tokenHosts"),
            Self::PlainHttp(host) => (host, "/plainHttp"),
        };
        format!("/registries/{}{key}", escape(host))
    }
}

// === impl Hosts ===

impl Hosts {
    pub(super) fn new(settings: &BTreeMap<String, HostSettings>) -> Result<Self, SettingsError> {
        let mut hosts = Self::default();
        for (host, settings) in settings {
            let endpoint = settings.endpoint(host)?;
            let plain_http = endpoint.base.scheme() == "http";
            let token_hosts = endpoint.token_hosts.iter();
            let addresses = token_hosts.filter_map(|named| own_address(named, plain_http));
            for address in addresses.chain([endpoint.base.clone()]) {
                if let Some(place) = place(&address) {
                    hosts.configured.insert(place, scheme(&address));
                }
            }
            hosts.endpoints.insert(host.to_ascii_lowercase(), endpoint);
        }
        Ok(hosts)
    }

    /// The names that the operator vouches for.
    pub(super) fn configured_names(&self) -> BTreeSet<String> {
        let names = self.configured.keys();
        names.map(|(host, _)| host.clone()).collect()
    }

    /// Where the registry that images name so is asked.
    pub(super) fn endpoint(&self, domain: &str) -> Result<Endpoint, Refusal> {
        if let Some(endpoint) = self.endpoints.get(&domain.to_ascii_lowercase()) {
            return Ok(endpoint.clone());
        }
        let server = match domain {
            DOCKER_HUB => DOCKER_HUB_SERVER,
            _ => domain,
        };
        let base = own_address(server, false).ok_or(Refusal::NoHost)?;
        // Even where another registry's server is on loopback: in an image it means the node's.
        check_host(&base)?;
        self.permit(&base)?;
        Ok(Endpoint {
            base,
            instead_of: None,
            is_authoritative: false,
            token_hosts: Vec::new(),
            trusts_denied: false,
        })
    }

    /// Whether a request may go to this address. Names are looked at again when they are resolved.
    pub(super) fn permit(&self, url: &Url) -> Result<(), Refusal> {
        let place = place(url).ok_or(Refusal::NoHost)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::NoHost);
        }
        match self.configured.get(&place) {
            Some(configured) if *configured == scheme(url) => return Ok(()),
            _ if url.scheme() != "https" => return Err(Refusal::Plain),
            _ => {}
        }
        // The resolver knows names only, and trusts a configured one whatever its port.
        if literal(url).is_none() && self.configured.keys().any(|(host, _)| *host == place.0) {
            return Err(Refusal::Internal);
        }
        check_host(url)
    }
}

// === addresses ===

/// The address of a registry as images name it. Parsing turns every way to write an IPv4 address,
/// such as `0x7f.1`, into the usual one.
fn own_address(domain: &str, plain_http: bool) -> Option<Url> {
    let scheme = if plain_http { "http" } else { "https" };
    origin(Url::parse(&format!("{scheme}://{domain}")).ok()?)
}

fn server_address(server: &str) -> Option<Url> {
    let address = if server.contains("://") {
        server.to_owned()
    } else {
        format!("https://{server}")
    };
    origin(Url::parse(&address).ok()?)
}

/// The address, if it is scheme, host and port and nothing else.
fn origin(url: Url) -> Option<Url> {
    let is_bare = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    (is_bare && url.has_host()).then_some(url)
}

fn place(url: &Url) -> Option<(String, u16)> {
    let host = url.host_str()?.trim_end_matches('.');
    let port = url.port_or_known_default()?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

fn scheme(url: &Url) -> Scheme {
    match url.scheme() {
        "http" => Scheme::Http,
        _ => Scheme::Https,
    }
}

fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

fn authority(base: &Url) -> String {
    let host = base.host_str().unwrap_or_default();
    match base.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Whether a host may be asked that nobody configured.
fn check_host(url: &Url) -> Result<(), Refusal> {
    if let Some(address) = literal(url) {
        return check_public(address);
    }
    // Names that mean something inside: of this machine, of the cluster, of the cloud.
    let name = url.host_str().unwrap_or_default().trim_end_matches('.');
    let labels: Vec<&str> = name.split('.').collect();
    match labels.as_slice() {
        ["localhost"] | [.., "localhost"] => Err(Refusal::Loopback),
        ["metadata", ..] => Err(Refusal::Never),
        [_] | [.., "svc"] | [.., "cluster", "local"] => Err(Refusal::Internal),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(entries: &[(&str, Option<&str>, bool)]) -> Hosts {
        Hosts::new(&settings(entries)).unwrap()
    }

    fn settings(entries: &[(&str, Option<&str>, bool)]) -> BTreeMap<String, HostSettings> {
        let entry = |&(host, server, plain_http): &(&str, Option<&str>, bool)| {
            let server = server.map(ToOwned::to_owned);
            let settings = HostSettings {
                server,
                plain_http,
                ..HostSettings::default()
            };
            (host.to_owned(), settings)
        };
        entries.iter().map(entry).collect()
    }

    fn permit(hosts: &Hosts, url: &str) -> Result<(), Refusal> {
        hosts.permit(&Url::parse(url).unwrap())
    }

    #[test]
    fn docker_hub_is_asked_at_its_server() {
        let endpoint = hosts(&[]).endpoint("docker.io").unwrap();
        assert_eq!(endpoint.base.as_str(), "https://registry-1.docker.io/");
        assert_eq!(
            endpoint.asked("anonymous"),
            "registry-1.docker.io (anonymous)"
        );
        let endpoint = hosts(&[("docker.io", Some("http://127.0.0.1:5000"), false)])
            .endpoint("docker.io")
            .unwrap();
        assert_eq!(endpoint.base.as_str(), "http://127.0.0.1:5000/");
        let asked = endpoint.asked("as pull secret a/b");
        assert_eq!(asked, "127.0.0.1:5000 (for docker.io, as pull secret a/b)");
    }

    #[test]
    fn registry_case_87_hosts_that_mean_something_inside_are_refused() {
        let hosts = hosts(&[]);
        for (domain, refusal) in [
            ("localhost", Refusal::Loopback),
            ("LOCALHOST:5000", Refusal::Loopback),
            ("a.localhost:5000", Refusal::Loopback),
            ("127.0.0.1:30500", Refusal::Loopback),
            ("0x7f.1:80", Refusal::Loopback),
            ("2130706433:80", Refusal::Loopback),
            ("[::1]:5000", Refusal::Loopback),
            ("kubernetes.default.svc", Refusal::Internal),
            (
                "kubernetes.default.svc.cluster.local:443",
                Refusal::Internal,
            ),
            ("10.96.0.1:443", Refusal::Internal),
            ("192.168.1.5", Refusal::Internal),
            ("[fd00::1]:5000", Refusal::Internal),
            ("Foo", Refusal::Internal),
            ("registry:5000", Refusal::Internal),
            ("169.254.169.254", Refusal::Never),
            ("0251.0376.0251.0376:80", Refusal::Never),
            ("[::ffff:a9fe:a9fe]", Refusal::Never),
            ("metadata.google.internal", Refusal::Never),
            ("100.100.100.200", Refusal::Never),
            ("", Refusal::NoHost),
            ("example.com:99999999", Refusal::NoHost),
        ] {
            assert_eq!(hosts.endpoint(domain).unwrap_err(), refusal, "{domain:?}");
        }
        for domain in ["quay.io", "registry.example.com:5000", "1.1.1.1", "ghcr.io"] {
            let endpoint = hosts.endpoint(domain).unwrap();
            assert_eq!(endpoint.base.as_str(), format!("https://{domain}/"));
        }
    }

    #[test]
    fn an_entry_lets_that_host_and_port_lie_inside_and_nothing_else() {
        let hosts = hosts(&[
            ("10.0.0.5:5000", None, true),
            ("registry.corp", None, false),
            ("docker.io", Some("http://127.0.0.1:5000"), false),
        ]);
        for url in [
            "http://10.0.0.5:5000/v2/",
            "https://registry.corp/v2/",
            "http://127.0.0.1:5000/token",
        ] {
            assert_eq!(permit(&hosts, url), Ok(()), "{url}");
        }
        for (url, refusal) in [
            ("https://10.0.0.5:5000/", Refusal::Internal),
            ("http://10.0.0.5:5001/", Refusal::Plain),
            ("https://10.0.0.5/", Refusal::Internal),
            ("https://registry.corp:8443/", Refusal::Internal),
            ("http://registry.corp/", Refusal::Plain),
            ("http://127.0.0.1:5001/", Refusal::Plain),
            ("https://127.0.0.1:5001/", Refusal::Loopback),
            ("http://example.com/", Refusal::Plain),
            ("ftp://example.com/", Refusal::Plain),
            ("https://user@example.com/", Refusal::NoHost),
            ("https://:secret@example.com/", Refusal::NoHost),
            ("https://kubernetes.default.svc./", Refusal::Internal),
            ("https://localhost./", Refusal::Loopback),
            ("file:///etc/passwd", Refusal::NoHost),
        ] {
            assert_eq!(permit(&hosts, url), Err(refusal), "{url}");
        }
        assert_eq!(permit(&hosts, "https://auth.docker.io/token"), Ok(()));
    }

    #[test]
    fn an_image_on_loopback_means_the_node_whatever_server_listens_here() {
        let hosts = hosts(&[
            ("docker.io", Some("https://127.0.0.1:5000"), false),
            ("quay.io", Some("https://localhost:5001"), false),
            ("localhost:5002", None, true),
        ]);
        for domain in ["127.0.0.1:5000", "localhost:5001"] {
            assert_eq!(hosts.endpoint(domain).unwrap_err(), Refusal::Loopback);
        }
        assert!(hosts.endpoint("localhost:5002").is_ok());
    }

    #[test]
    fn settings_that_cannot_be_used_name_the_key_and_the_cure() {
        for (entry, pointer, cure) in [
            (
                ("a/b", None, false),
                "/registries/a~1b",
                "write HOST or HOST:PORT",
            ),
            (
                ("https://a.b", None, false),
                "/registries/https:~1~1a.b",
                "write HOST",
            ),
            (
                ("index.docker.io", None, false),
                "/registries/index.docker.io",
                "write docker.io",
            ),
            (
                ("a.b", Some("ftp://c.d"), false),
                "/registries/a.b/server",
                "https://mirror",
            ),
            (
                ("a.b", Some(""), false),
                "/registries/a.b/server",
                "such as",
            ),
            (
                ("a.b", Some("https://c.d/path"), false),
                "/registries/a.b/server",
                "without path",
            ),
            (
                ("a.b", Some("http://u:p@c.d"), false),
                "/registries/a.b/server",
                "no address",
            ),
            (
                ("a.b", Some("http://c.d"), true),
                "/registries/a.b/plainHttp",
                "write http://",
            ),
            (
                ("a.b", Some("http://169.254.169.254"), false),
                "/registries/a.b",
                "never asked",
            ),
            (
                ("169.254.1.1", None, false),
                "/registries/169.254.1.1",
                "never asked",
            ),
        ] {
            let error = Hosts::new(&settings(&[entry])).unwrap_err();
            assert_eq!(error.pointer(), pointer);
            assert!(error.to_string().contains(cure), "{error}");
        }
        for server in [
            "127.0.0.1:5000",
            "http://a.b:80/",
            "https://[::1]:5000",
            "mirror",
        ] {
            Hosts::new(&settings(&[("docker.io", Some(server), false)])).unwrap();
        }
    }
}
