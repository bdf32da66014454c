//! Which hosts may be asked, and under which addresses a registry is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use reqwest::Url;
use reqwest::header::HeaderMap;

use super::address::check_public;
use super::credentials::realm;
use super::hosts_directory::{Address, HostEntry, HostsDirectory};
use super::obstacle::Refusal;
use super::settings::{Capability, HostSettings, Role, ServerSettings, SettingsError};
use super::trust::{Trust, read_authorities};
use crate::config::Config;

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

/// One of the hosts that a node asks for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Host and port, as a message says it.
    pub(super) name: String,
    /// Where it is asked, or why it must not be.
    pub(super) endpoint: Result<Endpoint, Refusal>,
}

/// The files that the configuration names, as they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    directory: HostsDirectory,
    /// Certificates, by path.
    authorities: BTreeMap<PathBuf, Vec<u8>>,
}

/// The hosts that are configured, and the policy for all others.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    /// By the registry as images name it, in lower case.
    settings: BTreeMap<String, HostSettings>,
    directory: HostsDirectory,
    /// Every host that the operator vouches for, by name and port.
    configured: BTreeMap<(String, u16), Place>,
}

/// How a host that the operator vouches for is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    scheme: Scheme,
    trust: Trust,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
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

    fn own(base: Url, settings: Option<&HostSettings>) -> Self {
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

    fn of_settings(domain: &str, settings: &HostSettings, server: &ServerSettings) -> Option<Self> {
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
    fn of_entry(domain: &str, address: &Address, headers: &HeaderMap) -> Self {
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

// === impl Files ===

impl Files {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub(super) fn read(config: &Config) -> Result<Self, SettingsError> {
        let directory = match &config.hosts_directory {
            Some(directory) => HostsDirectory::read(directory)?,
            None => HostsDirectory::default(),
        };
        let mut authorities = BTreeMap::new();
        for (host, settings) in &config.registries {
            let own = settings.ca.iter().map(|path| (String::new(), path));
            let servers = settings.servers().filter_map(|(key, server)| {
                let path = server.ca.as_ref()?;
                Some((format!(".{key}"), path))
            });
            for (key, path) in own.chain(servers) {
                let refused = |problem| SettingsError::File {
                    place: format!("registries.{host}{key}.ca"),
                    path: path.display().to_string(),
                    problem,
                };
                authorities.insert(path.clone(), read_authorities(path).map_err(refused)?);
            }
        }
        Ok(Self {
            directory,
            authorities,
        })
    }

    fn trust(&self, ca: Option<&Path>) -> Trust {
        let authorities = ca.and_then(|path| self.authorities.get(path));
        Trust {
            authorities: authorities.cloned().unwrap_or_default(),
            ..Trust::default()
        }
    }
}

// === impl Hosts ===

impl Hosts {
    pub(super) fn new(
        settings: &BTreeMap<String, HostSettings>,
        files: Files,
    ) -> Result<Self, SettingsError> {
        let mut hosts = Self::default();
        for (host, entries) in files.directory.registries() {
            for entry in entries {
                let own = || own_address(server_of(&host), false);
                let base = match &entry.address {
                    Some(address) => Some(address.base.clone()),
                    None => own(),
                };
                // What means the node is not asked, and what is nowhere asked needs no place.
                if let Some(base) = base.filter(|base| check_vouched(base).is_ok()) {
                    hosts.vouch(&base, entry.trust.clone());
                }
            }
        }
        for (host, settings) in settings {
            settings.check(host)?;
            for (_, server) in settings.servers() {
                if let Some(base) = server.address() {
                    hosts.vouch(&base, files.trust(server.ca.as_deref()));
                }
            }
            if settings.server.is_none()
                && let Some(base) = own_address(server_of(host), settings.plain_http)
            {
                hosts.vouch(&base, files.trust(settings.ca.as_deref()));
            }
            let (plain_http, ca) = settings.own_transport();
            for named in &settings.token_hosts {
                if let Some(base) = own_address(named, plain_http) {
                    hosts.vouch(&base, files.trust(ca));
                }
            }
            let host = host.to_ascii_lowercase();
            hosts.settings.insert(host, settings.clone());
        }
        hosts.directory = files.directory;
        Ok(hosts)
    }

    fn vouch(&mut self, base: &Url, trust: Trust) {
        if let Some(name) = name_and_port(base) {
            let scheme = scheme(base);
            self.configured.insert(name, Place { scheme, trust });
        }
    }

    /// Whether the operator says that what this registry denies, no node can read.
    pub(super) fn trusts_denied(&self, domain: &str) -> bool {
        let settings = self.settings.get(&domain.to_ascii_lowercase());
        settings.is_some_and(|settings| settings.trust_denied)
    }

    /// The names that the operator vouches for.
    pub(super) fn configured_names(&self) -> BTreeSet<String> {
        let names = self.configured.keys();
        names.map(|(host, _)| host.clone()).collect()
    }

    /// All who are to be believed somewhere, beside those of the system.
    pub(super) fn trusts(&self) -> BTreeSet<Trust> {
        let configured = self.configured.values();
        let trusts = configured.map(|place| place.trust.clone());
        trusts.filter(|trust| *trust != Trust::default()).collect()
    }

    /// Whom to believe that this is the host, where that is configured.
    pub(super) fn trust(&self, url: &Url) -> Option<&Trust> {
        let place = self.configured.get(&name_and_port(url)?)?;
        Some(&place.trust)
    }

    /// The hosts that a node asks for an image of the registry, in its order.
    ///
    /// # Errors
    /// Why none of them may be asked.
    pub(super) fn chain(&self, domain: &str, asked: Capability) -> Result<Vec<Link>, Refusal> {
        let settings = self.settings.get(&domain.to_ascii_lowercase());
        let has_servers = |settings: &&HostSettings| settings.servers().next().is_some();
        let links = match (settings.filter(has_servers), self.directory.hosts(domain)) {
            (Some(settings), _) => self.configured_chain(domain, settings, asked),
            (None, Some((entries, _))) => self.nodes_chain(domain, entries, asked),
            (None, None) => vec![self.own(domain)],
        };
        match links.as_slice() {
            [
                Link {
                    endpoint: Err(refusal),
                    ..
                },
            ] => Err(*refusal),
            _ => Ok(links),
        }
    }

    fn configured_chain(
        &self,
        domain: &str,
        settings: &HostSettings,
        asked: Capability,
    ) -> Vec<Link> {
        let mut links: Vec<_> = settings
            .servers()
            .filter(|(_, server)| server.may(asked))
            .filter_map(|(_, server)| Endpoint::of_settings(domain, settings, server))
            .map(Link::to)
            .collect();
        if settings.server.is_none() {
            links.push(self.own(domain));
        }
        links
    }

    /// The hosts of containerd's files. There, loopback is the node's, and is not asked from here.
    fn nodes_chain(&self, domain: &str, entries: &[HostEntry], asked: Capability) -> Vec<Link> {
        let may = |entry: &&HostEntry| match asked {
            Capability::Pull => entry.may_pull,
            Capability::Resolve => entry.may_pull && entry.may_resolve,
        };
        let link = |entry: &HostEntry| {
            if let Some(address) = &entry.address {
                let endpoint = Endpoint::of_entry(domain, address, &entry.headers);
                return Link {
                    name: authority(&address.base),
                    endpoint: check_vouched(&address.base).map(|()| endpoint),
                };
            }
            let mut own = self.own(domain);
            if let Ok(endpoint) = &mut own.endpoint {
                endpoint.headers.clone_from(&entry.headers);
            }
            own
        };
        entries.iter().filter(may).map(link).collect()
    }

    /// The registry itself.
    fn own(&self, domain: &str) -> Link {
        let settings = self.settings.get(&domain.to_ascii_lowercase());
        let plain_http = settings.is_some_and(|settings| settings.plain_http);
        let endpoint = || {
            let base = own_address(server_of(domain), plain_http).ok_or(Refusal::NoHost)?;
            let has_folder = matches!(self.directory.hosts(domain), Some((_, true)));
            match (settings, has_folder) {
                (Some(_), _) => {}
                (None, true) => check_vouched(&base)?,
                // Even where another registry's server is on loopback: in an image it means the
                // node's.
                (None, false) => check_host(&base)?,
            }
            self.permit(&base)?;
            Ok(Endpoint::own(base, settings))
        };
        Link {
            name: domain.to_owned(),
            endpoint: endpoint(),
        }
    }

    /// Whether a request may go to this address. Names are looked at again when they are resolved.
    pub(super) fn permit(&self, url: &Url) -> Result<(), Refusal> {
        let place = name_and_port(url).ok_or(Refusal::NoHost)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::NoHost);
        }
        match self.configured.get(&place) {
            Some(configured) if configured.scheme == scheme(url) => return Ok(()),
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

// === impl Link ===

impl Link {
    fn to(endpoint: Endpoint) -> Self {
        Self {
            name: authority(&endpoint.base),
            endpoint: Ok(endpoint),
        }
    }
}

// === addresses ===

/// The server of a registry as images name it.
fn server_of(domain: &str) -> &str {
    match domain {
        DOCKER_HUB => DOCKER_HUB_SERVER,
        _ => domain,
    }
}

/// Whether this is the registry's own server (containerd, core/remotes/docker/registry.go
/// `isProxy`).
fn is_own_server(base: &Url, domain: &str) -> bool {
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

fn name_and_port(url: &Url) -> Option<(String, u16)> {
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

pub(super) fn literal(url: &Url) -> Option<IpAddr> {
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
        _ if is_loopback_name(name) => Err(Refusal::Loopback),
        ["metadata", ..] => Err(Refusal::Never),
        [_] | [.., "svc"] | [.., "cluster", "local"] => Err(Refusal::Internal),
        _ => Ok(()),
    }
}

/// Whether a host may be asked that containerd's files name: not what means the node.
fn check_vouched(url: &Url) -> Result<(), Refusal> {
    match literal(url) {
        Some(address) => match check_public(address) {
            Err(refusal @ (Refusal::Loopback | Refusal::Never)) => Err(refusal),
            _ => Ok(()),
        },
        None if is_loopback_name(url.host_str().unwrap_or_default()) => Err(Refusal::Loopback),
        None => Ok(()),
    }
}

fn is_loopback_name(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(entries: &[(&str, Option<&str>, bool)]) -> Hosts {
        Hosts::new(&settings(entries), Files::default()).unwrap()
    }

    /// The one host that a registry is asked at.
    fn endpoint(hosts: &Hosts, domain: &str) -> Result<Endpoint, Refusal> {
        let mut links = hosts.chain(domain, Capability::Resolve)?;
        assert_eq!(links.len(), 1);
        links.pop().unwrap().endpoint
    }

    fn settings(entries: &[(&str, Option<&str>, bool)]) -> BTreeMap<String, HostSettings> {
        let entry = |&(host, server, plain_http): &(&str, Option<&str>, bool)| {
            let settings = HostSettings {
                server: server.map(Into::into),
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
        let found = endpoint(&hosts(&[]), "docker.io").unwrap();
        assert_eq!(found.base.as_str(), "https://registry-1.docker.io/");
        let asked = found.asked("docker.io", ANONYMOUS);
        assert_eq!(asked, "registry-1.docker.io (anonymous)");
        let hosts = hosts(&[("docker.io", Some("http://127.0.0.1:5000"), false)]);
        let found = endpoint(&hosts, "docker.io").unwrap();
        assert_eq!(found.base.as_str(), "http://127.0.0.1:5000/");
        let asked = found.asked("docker.io", "as pull secret a/b");
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
            assert_eq!(endpoint(&hosts, domain).unwrap_err(), refusal, "{domain:?}");
        }
        for domain in ["quay.io", "registry.example.com:5000", "1.1.1.1", "ghcr.io"] {
            let found = endpoint(&hosts, domain).unwrap();
            assert_eq!(found.base.as_str(), format!("https://{domain}/"));
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
            assert_eq!(endpoint(&hosts, domain).unwrap_err(), Refusal::Loopback);
        }
        assert!(endpoint(&hosts, "localhost:5002").is_ok());
    }

    fn directory(files: &[(&str, &str)]) -> Files {
        let root = tempfile::tempdir().unwrap();
        for (folder, text) in files {
            std::fs::create_dir(root.path().join(folder)).unwrap();
            std::fs::write(root.path().join(folder).join("hosts.toml"), text).unwrap();
        }
        Files {
            directory: HostsDirectory::read(root.path()).unwrap(),
            authorities: BTreeMap::new(),
        }
    }

    /// The chain in words: whom, as what, and what is sent as `ns`.
    fn chain(hosts: &Hosts, domain: &str, asked: Capability) -> Vec<String> {
        let words = |link: Link| match link.endpoint {
            Ok(endpoint) => format!(
                "{}{} {:?} {}",
                endpoint.base.as_str().trim_end_matches('/'),
                endpoint.path,
                endpoint.standing,
                endpoint.namespace.as_deref().unwrap_or("-")
            ),
            Err(refusal) => format!("{} {refusal:?}", link.name),
        };
        let links = hosts.chain(domain, asked).unwrap();
        links.into_iter().map(words).collect()
    }

    #[test]
    fn mirrors_are_asked_before_the_registry_and_a_server_instead_of_it() {
        let yaml = "
            docker.io: {mirrors: [{url: 'http://127.0.0.1:1', role: proxy}, {url: b.example, capabilities: [pull]}]}
            quay.io: {server: {url: https://c.example, role: proxy}, mirrors: [https://d.example]}
            corp: {mirrors: [https://d.example], plainHttp: true}";
        let settings = serde_saphyr::from_str(yaml).unwrap();
        let hosts = Hosts::new(&settings, Files::default()).unwrap();
        let of = |domain, asked| chain(&hosts, domain, asked);
        let hub = "https://registry-1.docker.io/v2 Source -";
        let first = "http://127.0.0.1:1/v2 Proxy docker.io";
        assert_eq!(of("docker.io", Capability::Resolve), [first, hub]);
        let second = "https://b.example/v2 Replica docker.io";
        assert_eq!(of("docker.io", Capability::Pull), [first, second, hub]);
        assert_eq!(
            of("quay.io", Capability::Resolve),
            [
                "https://d.example/v2 Replica quay.io",
                "https://c.example/v2 Proxy quay.io"
            ]
        );
        assert_eq!(
            of("corp", Capability::Resolve),
            [
                "https://d.example/v2 Replica corp",
                "http://corp/v2 Source -"
            ]
        );
    }

    #[test]
    fn containerds_files_say_whom_nodes_ask() {
        let files = directory(&[
            (
                "docker.io",
                "[host.\"https://10.0.0.1/hub\"]\ncapabilities = [\"pull\"]\n\
                 [host.\"http://localhost:30020\"]\n[host.\"http://169.254.169.254\"]",
            ),
            ("quay.io", "server = \"https://registry.corp\""),
            ("10.0.0.2_5000_", "server = \"http://10.0.0.2:5000\""),
            ("_default", "[host.\"https://mirror.corp:5000\"]"),
        ]);
        let hosts = Hosts::new(&BTreeMap::new(), files).unwrap();
        let of = |domain, asked| chain(&hosts, domain, asked);
        let node = [
            "localhost:30020 Loopback",
            "169.254.169.254 Never",
            "https://registry-1.docker.io/v2 Source -",
        ];
        assert_eq!(of("docker.io", Capability::Resolve), node);
        let by_digest = of("docker.io", Capability::Pull);
        assert_eq!(by_digest[0], "https://10.0.0.1/hub/v2 Proxy docker.io");
        assert_eq!(by_digest[1..], node);
        // Nobody says that it has everything.
        let quay = ["https://registry.corp/v2 Proxy quay.io"];
        assert_eq!(of("quay.io", Capability::Resolve), quay);
        let own = ["http://10.0.0.2:5000/v2 Source -"];
        assert_eq!(of("10.0.0.2:5000", Capability::Resolve), own);
        // The default vouches for its mirror, and not for every registry.
        assert_eq!(
            of("10.0.0.9", Capability::Resolve),
            [
                "https://mirror.corp:5000/v2 Proxy 10.0.0.9",
                "10.0.0.9 Internal"
            ]
        );
        assert_eq!(permit(&hosts, "https://mirror.corp:5000/"), Ok(()));
        for never in ["http://169.254.169.254/", "http://localhost:30020/"] {
            assert_eq!(permit(&hosts, never), Err(Refusal::Plain), "{never}");
        }
    }
}
