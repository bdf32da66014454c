//! Which hosts may be asked, and which of them a node asks for an image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use reqwest::Url;

use super::endpoint::{
    Endpoint, authority, check_host, check_vouched, literal, name_and_port, own_address, server_of,
};
use super::hosts_directory::{HostEntry, HostsDirectory};
use super::probe_error::Refusal;
use super::settings::{Capability, HostSettings, RegistrySettings, SettingsError};
use super::trust::{Trust, read_authorities};

/// One of the hosts that a node asks for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Host and port, as a message says it.
    pub(super) name: String,
    /// Where it is asked, or why it must not be.
    pub(super) endpoint: Result<Endpoint, Refusal>,
}

/// The files that the settings name, as they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SettingsFiles {
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
    configured: BTreeMap<(String, u16), ConfiguredHost>,
}

/// How a host that the operator vouches for is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ConfiguredHost {
    scheme: Scheme,
    trust: Trust,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

// === impl SettingsFiles ===

impl SettingsFiles {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub(super) fn read(settings: &RegistrySettings) -> Result<Self, SettingsError> {
        let directory = match &settings.hosts_directory {
            Some(directory) => HostsDirectory::read(directory)?,
            None => HostsDirectory::default(),
        };
        let mut authorities = BTreeMap::new();
        for (host, settings) in &settings.hosts {
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
        files: SettingsFiles,
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
            self.configured
                .insert(name, ConfiguredHost { scheme, trust });
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

fn scheme(url: &Url) -> Scheme {
    match url.scheme() {
        "http" => Scheme::Http,
        _ => Scheme::Https,
    }
}

#[cfg(test)]
mod tests;
