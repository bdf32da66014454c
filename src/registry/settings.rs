//! How an operator says in which way registries are reached.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use regex::Regex;
use reqwest::Url;
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::address::check_configured;
use super::credentials::{CredentialProviders, RegistryCredentials};
use super::endpoint::{DOCKER_HUB_ALIASES, literal, origin, own_address};
use crate::image::{ImageReference, is_domain};
use crate::review::patch::escape;

/// How registries are reached.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegistrySettings {
    /// Each by the host in the image reference, such as docker.io.
    pub hosts: BTreeMap<String, HostSettings>,
    /// A folder laid out as the nodes' /etc/containerd/certs.d, for all others.
    pub hosts_directory: Option<PathBuf>,
    /// What other webhooks make of images before the nodes see them.
    pub image_rewrites: Vec<ImageRewrite>,
    /// A file with credentials of Forestall's own.
    pub credentials: Option<RegistryCredentials>,
    /// Plug-ins of kubelet that give credentials.
    pub credential_providers: Option<CredentialProviders>,
}

/// How a registry is reached.
///
/// An entry also says that this host may lie inside a private network; else only public addresses
/// are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HostSettings {
    /// The server that is asked instead of the registry, such as `https://mirror.example.com` or
    /// `http://127.0.0.1:5000`. What a replica does not have is missing; what a proxy does not have
    /// is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerSettings>,
    /// Servers that are asked before it, in this order, as the nodes do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<ServerSettings>,
    /// Whether the registry's own address is asked by plain HTTP. Built in: false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
    /// A file with the certificates, in PEM, that vouch for the registry's own address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
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

/// A server that has images of a registry, written as its address or as a map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerSettings {
    /// Scheme, host and port; without a scheme, https.
    pub url: String,
    /// Whether it has all images. Built in: replica.
    #[serde(skip_serializing_if = "Role::is_replica")]
    pub role: Role,
    /// What it is asked for. Built in: everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<Capability>>,
    /// A file with the certificates, in PEM, that vouch for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// Whether a server has all images of the registry that it stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// It has every image that the nodes pull, so what it does not have is missing.
    #[default]
    Replica,
    /// It fetches images when they are asked for (a pull-through cache). It also answers "not found"
    /// when it cannot fetch, so it proves what is there, and never what is not.
    Proxy,
}

/// What a server may be asked for (containerd, docs/hosts.md, "capabilities").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Capability {
    /// Images by digest.
    Pull,
    /// What a tag means.
    Resolve,
}

/// What another webhook makes of image references before the nodes see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageRewrite {
    /// A regular expression, tried on the whole reference such as docker.io/prom/prometheus:v3.0.0.
    pub from: String,
    /// What the matched part becomes; $1 is the first group.
    pub to: String,
}

/// Image rewrites, ready to be used.
#[derive(Clone, Debug, Default)]
pub(super) struct Rewrites(Vec<(Regex, String)>);

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
        "registries.{host}.{key}: {server:?} is no address of a registry; write one without path, \
         such as https://mirror.example.com or http://127.0.0.1:5000"
    )]
    Server {
        /// The registry.
        host: String,
        /// Where it is written: `server`, or `mirrors[0]`.
        key: String,
        /// What is written there.
        server: String,
    },
    /// The address belongs to no registry.
    #[error(
        "registries.{0}: a link-local, metadata or multicast address is never asked; write the \
         address of a registry"
    )]
    Never(String),
    /// A token server is no host.
    #[error(
        "registries.{host}.tokenHosts: {named:?} is no host; write HOST or HOST:PORT, such as \
         auth.example.com"
    )]
    TokenHost {
        /// The registry.
        host: String,
        /// What is written there.
        named: String,
    },
    /// A key about the registry's own address, which is not asked.
    #[error(
        "registries.{host}.{key} is about the registry's own address, which is not asked where \
         there is a server; {cure}"
    )]
    OwnAddress {
        /// The registry.
        host: String,
        /// The key.
        key: &'static str,
        /// What to write instead.
        cure: &'static str,
    },
    /// A server that is asked for nothing.
    #[error(
        "registries.{host}.{key}.capabilities is empty, so it would be asked for nothing; write \
         pull, resolve or both, or leave it out"
    )]
    Nothing {
        /// The registry.
        host: String,
        /// Where it is written.
        key: String,
    },
    /// The regular expression is none.
    #[error(
        "imageRewrites[{index}].from {from:?} is no regular expression: {problem}; write one such as \
         ^docker\\.io/(.*)$"
    )]
    Rewrite {
        /// Which of them.
        index: usize,
        /// What is written there.
        from: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file or directory cannot be used.
    #[error("{place}: {path}: {problem}")]
    File {
        /// The key that names it.
        place: String,
        /// The file.
        path: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

// === impl RegistrySettings ===

impl RegistrySettings {
    /// Checks what can be checked without reading files.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn check(&self) -> Result<(), SettingsError> {
        for (host, settings) in &self.hosts {
            settings.check(host)?;
        }
        Rewrites::new(&self.image_rewrites).map(drop)
    }
}

// === impl HostSettings ===

impl HostSettings {
    /// Whether these settings can be used for the registry of that name. No file is read.
    ///
    /// # Errors
    /// The key that cannot be used, and what to write instead.
    pub fn check(&self, host: &str) -> Result<(), SettingsError> {
        if !is_domain(host) {
            return Err(SettingsError::Host(host.to_owned()));
        }
        if DOCKER_HUB_ALIASES.contains(&host) {
            return Err(SettingsError::DockerHub(host.to_owned()));
        }
        let own = own_address(host, self.plain_http)
            .ok_or_else(|| SettingsError::Host(host.to_owned()))?;
        if self.server.is_none() {
            check_address(host, &own)?;
        }
        let misplaced = |key, cure| SettingsError::OwnAddress {
            host: host.to_owned(),
            key,
            cure,
        };
        if self.server.is_some() && self.plain_http {
            return Err(misplaced("plainHttp", "write http:// in server instead"));
        }
        if self.server.is_some() && self.ca.is_some() {
            return Err(misplaced("ca", "write server: {url: …, ca: …} instead"));
        }
        for (key, server) in self.servers() {
            let refused = |key: &str| SettingsError::Server {
                host: host.to_owned(),
                key: key.to_owned(),
                server: server.url.clone(),
            };
            let address = server.address().ok_or_else(|| refused(&key))?;
            check_address(host, &address)?;
            if server.capabilities.as_ref().is_some_and(Vec::is_empty) {
                let host = host.to_owned();
                return Err(SettingsError::Nothing { host, key });
            }
        }
        let (plain_http, _) = self.own_transport();
        for named in &self.token_hosts {
            let address = own_address(named, plain_http).filter(|_| is_domain(named));
            let address = address.ok_or_else(|| SettingsError::TokenHost {
                host: host.to_owned(),
                named: named.clone(),
            })?;
            check_address(named, &address)?;
        }
        Ok(())
    }

    /// Whether the registry, or the server in its place, is asked by plain HTTP, and the file with
    /// the certificates that vouch for it.
    pub(super) fn own_transport(&self) -> (bool, Option<&Path>) {
        match &self.server {
            Some(server) => {
                let address = server.address();
                let is_plain = address.is_some_and(|address| address.scheme() == "http");
                (is_plain, server.ca.as_deref())
            }
            None => (self.plain_http, self.ca.as_deref()),
        }
    }

    /// Where each server is written, and the server: mirrors first.
    pub(super) fn servers(&self) -> impl Iterator<Item = (String, &ServerSettings)> {
        let mirrors = self.mirrors.iter().enumerate();
        let mirrors = mirrors.map(|(index, mirror)| (format!("mirrors[{index}]"), mirror));
        let server = self.server.iter();
        mirrors.chain(server.map(|server| ("server".to_owned(), server)))
    }
}

fn check_address(host: &str, address: &Url) -> Result<(), SettingsError> {
    if literal(address).is_some_and(|address| check_configured(address).is_err()) {
        return Err(SettingsError::Never(host.to_owned()));
    }
    Ok(())
}

// === impl ServerSettings ===

impl ServerSettings {
    pub(super) fn address(&self) -> Option<Url> {
        let address = if self.url.contains("://") {
            self.url.clone()
        } else {
            format!("https://{}", self.url)
        };
        origin(Url::parse(&address).ok()?)
    }

    pub(super) fn may(&self, capability: Capability) -> bool {
        self.capabilities
            .as_ref()
            .is_none_or(|capabilities| capabilities.contains(&capability))
    }
}

impl From<&str> for ServerSettings {
    fn from(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            role: Role::default(),
            capabilities: None,
            ca: None,
        }
    }
}

/// The form as a map, for reading and for the schema.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "ServerMap")]
struct ServerMap {
    /// Scheme, host and port; without a scheme, https.
    url: String,
    /// Whether it has all images. Built in: replica.
    #[serde(default)]
    role: Role,
    /// What it is asked for. Built in: everything.
    #[serde(default)]
    capabilities: Option<Vec<Capability>>,
    /// A file with the certificates, in PEM, that vouch for it.
    #[serde(default)]
    ca: Option<PathBuf>,
}

impl<'de> Deserialize<'de> for ServerSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = ServerSettings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the address of a server, or a map with the key url")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ServerSettings, E> {
                let deserializer = StrDeserializer::<E>::new(text);
                String::deserialize(deserializer).map(|url| ServerSettings::from(url.as_str()))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                map: A,
            ) -> Result<ServerSettings, A::Error> {
                let map = ServerMap::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ServerSettings {
                    url: map.url,
                    role: map.role,
                    capabilities: map.capabilities,
                    ca: map.ca,
                })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for ServerSettings {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ServerSettings".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let map = generator.subschema_for::<ServerMap>();
        schemars::json_schema!({"anyOf": [{"type": "string"}, map]})
    }
}

impl Role {
    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes what it may skip by reference"
    )]
    fn is_replica(&self) -> bool {
        *self == Self::Replica
    }
}

// === impl Rewrites ===

impl Rewrites {
    /// # Errors
    /// The first that is no regular expression.
    pub(super) fn new(rewrites: &[ImageRewrite]) -> Result<Self, SettingsError> {
        let compile = |(index, rewrite): (usize, &ImageRewrite)| {
            let regex = Regex::new(&rewrite.from).map_err(|error| SettingsError::Rewrite {
                index,
                from: rewrite.from.clone(),
                // The last line says what is wrong; those before draw it.
                problem: error.to_string().lines().last().unwrap_or_default().into(),
            })?;
            Ok((regex, rewrite.to.clone()))
        };
        let compiled: Result<_, _> = rewrites.iter().enumerate().map(compile).collect();
        compiled.map(Self)
    }

    /// What the first rewrite that matches makes of an image; `None` where none matches. An error
    /// where that is no reference any more.
    pub(super) fn apply(&self, image: &ImageReference) -> Option<Result<ImageReference, ()>> {
        let text = image.to_string();
        let (regex, to) = self.0.iter().find(|(regex, _)| regex.is_match(&text))?;
        let rewritten = regex.replace(&text, to.as_str());
        let parsed = ImageReference::parse(&rewritten).map_err(drop);
        Some(parsed.map(|reference| reference.pulled()))
    }
}

// === impl SettingsError ===

impl SettingsError {
    /// Where in the configuration, as a JSON pointer.
    #[must_use]
    pub fn pointer(&self) -> String {
        let of = |host: &str, key: &str| {
            let key = key.replace('[', "/").replace(']', "");
            let pointer = format!("/registries/{}/{key}", escape(host));
            pointer.trim_end_matches('/').to_owned()
        };
        match self {
            Self::Host(host) | Self::DockerHub(host) | Self::Never(host) => of(host, ""),
            Self::Server { host, key, .. } => of(host, key),
            Self::OwnAddress { host, key, .. } => of(host, key),
            Self::TokenHost { host, .. } => of(host, "tokenHosts"),
            Self::Nothing { host, key } => of(host, &format!("{key}/capabilities")),
            Self::Rewrite { index, .. } => format!("/imageRewrites/{index}/from"),
            Self::File { .. } => String::new(),
        }
    }
}

#[cfg(test)]
mod tests;
