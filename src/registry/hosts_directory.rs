//! containerd's own files: the folder in which nodes are told how registries are reached
//! (`/etc/containerd/certs.d`; containerd, docs/hosts.md).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use toml::{Table, Value};

use super::settings::SettingsError;
use super::trust::{Identity, Trust, read_authorities, read_file};

/// Folders that are read.
const MOST_FOLDERS: usize = 1024;
/// The folder of registries without one of their own.
const DEFAULT: &str = "_default";
/// The key of the configuration that names the folder.
const KEY: &str = "hostsDirectory";

/// What a folder says, by registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostsDirectory(BTreeMap<String, Vec<HostEntry>>);

/// A host that nodes ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostEntry {
    /// `None` is the registry itself.
    pub(super) address: Option<Address>,
    /// Whether it is asked for digests.
    pub(super) may_pull: bool,
    /// Whether it is asked what a tag means.
    pub(super) may_resolve: bool,
    pub(super) trust: Trust,
    /// What is sent to it with every request.
    pub(super) headers: HeaderMap,
}

/// Where a host is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// Scheme, host and port.
    pub(super) base: Url,
    /// What stands before the repository, such as `/v2`.
    pub(super) path: String,
}

// === impl HostsDirectory ===

impl HostsDirectory {
    /// Reads all folders.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub(super) fn read(directory: &Path) -> Result<Self, SettingsError> {
        let mut folders = BTreeMap::new();
        let entries = fs::read_dir(directory).map_err(|error| {
            let cure = "name a folder laid out as /etc/containerd/certs.d";
            refused(directory, format!("{error}; {cure}"))
        })?;
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            // A mounted ConfigMap has folders of its own there, which begin so.
            let name = name.to_str().filter(|name| !name.starts_with(".."));
            let Some(name) = name.filter(|_| path.is_dir()) else {
                continue;
            };
            if folders.len() == MOST_FOLDERS {
                let problem = format!("has more than {MOST_FOLDERS} folders; remove those unused");
                return Err(refused(directory, problem));
            }
            folders.insert(name.to_owned(), read_folder(&path)?);
        }
        Ok(Self(folders))
    }

    /// The hosts that nodes ask for a registry, in their order, and whether the folder is its own.
    pub(super) fn hosts(&self, domain: &str) -> Option<(&[HostEntry], bool)> {
        let with_port = domain
            .rfind(':')
            .filter(|&colon| colon > 0)
            .map(|colon| format!("{}_{}_", &domain[..colon], &domain[colon + 1..]));
        let own = with_port
            .and_then(|folder| self.0.get(&folder))
            .or_else(|| self.0.get(domain));
        match own {
            Some(hosts) => Some((hosts, true)),
            None => self.0.get(DEFAULT).map(|hosts| (hosts.as_slice(), false)),
        }
    }

    /// The registries that have a folder of their own, and what it says.
    pub(super) fn registries(&self) -> impl Iterator<Item = (String, &[HostEntry])> {
        self.0
            .iter()
            .map(|(folder, hosts)| (registry_of(folder), hosts.as_slice()))
    }
}

/// `registry.example.com:5000` for `registry.example.com_5000_`.
fn registry_of(folder: &str) -> String {
    let parts = folder
        .strip_suffix('_')
        .and_then(|folder| folder.rsplit_once('_'));
    match parts {
        Some((host, port)) if !host.is_empty() => format!("{host}:{port}"),
        _ => folder.to_owned(),
    }
}

fn refused(path: &Path, problem: String) -> SettingsError {
    SettingsError::File {
        place: KEY.to_owned(),
        path: path.display().to_string(),
        problem,
    }
}

fn read_folder(folder: &Path) -> Result<Vec<HostEntry>, SettingsError> {
    let path = folder.join("hosts.toml");
    let text = match read_file(&path) {
        Ok(text) => text,
        Err(_) if !path.exists() => Vec::new(),
        Err(problem) => return Err(refused(&path, problem)),
    };
    if text.is_empty() {
        // Docker's layout: the certificates of the registry itself, and nothing else.
        let mut hosts = vec![HostEntry::of_registry()];
        let trust = Trust::of_folder(folder);
        hosts[0].trust = trust.map_err(|(path, problem)| refused(&path, problem))?;
        return Ok(hosts);
    }
    let text = String::from_utf8(text).map_err(|_| refused(&path, "is no text".to_owned()))?;
    parse(folder, &text).map_err(|problem| refused(&path, problem))
}

/// Reads a `hosts.toml` as containerd does (core/remotes/docker/config/hosts.go `parseHostsFile`):
/// the hosts in the order of their tables, then the server. Keys that it does not know are ignored.
fn parse(folder: &Path, text: &str) -> Result<Vec<HostEntry>, String> {
    let root: Table = text.parse().map_err(|error: toml::de::Error| {
        let before = &text[..error.span().map_or(0, |span| span.start)];
        let line = before.matches('\n').count() + 1;
        format!("line {line}: {}", error.message())
    })?;
    let mut hosts = Vec::new();
    match root.get("host") {
        None => {}
        Some(Value::Table(tables)) => {
            for (server, table) in tables {
                let Value::Table(table) = table else {
                    return Err(format!("host.{server:?} is no table"));
                };
                hosts.push(HostEntry::parse(folder, server, table)?);
            }
        }
        Some(_) => return Err("host is no table; write [host.\"https://…\"]".to_owned()),
    }
    let server = match root.get("server") {
        None => "",
        Some(server) => server.as_str().ok_or("server is no string")?,
    };
    hosts.push(HostEntry::parse(folder, server, &root)?);
    Ok(hosts)
}

// === impl HostEntry ===

impl HostEntry {
    fn of_registry() -> Self {
        Self {
            address: None,
            may_pull: true,
            may_resolve: true,
            trust: Trust::default(),
            headers: HeaderMap::new(),
        }
    }

    fn parse(folder: &Path, server: &str, table: &Table) -> Result<Self, String> {
        let flag = |key: &str| match table.get(key) {
            None => Ok(false),
            Some(flag) => flag
                .as_bool()
                .ok_or(format!("{key} is neither true nor false")),
        };
        let mut entry = Self::of_registry();
        entry.trust.anybody = flag("skip_verify")?;
        for path in strings(table.get("ca"), "ca")? {
            let path = folder.join(path);
            let read = read_authorities(&path);
            let read = read.map_err(|problem| format!("ca {}: {problem}", path.display()))?;
            entry.trust.authorities.extend(read);
        }
        entry.trust.identity = identity(folder, table.get("client"))?;
        entry.headers = headers(table.get("header"))?;
        // containerd ignores the capabilities of a registry that is not named.
        if server.is_empty() {
            return Ok(entry);
        }
        entry.address = Some(Address::parse(server, flag("override_path")?)?);
        let capabilities = strings(table.get("capabilities"), "capabilities")?;
        if !capabilities.is_empty() {
            (entry.may_pull, entry.may_resolve) = (false, false);
        }
        for capability in capabilities {
            match capability.to_ascii_lowercase().as_str() {
                "pull" => entry.may_pull = true,
                "resolve" => entry.may_resolve = true,
                "push" | "referrers" => {}
                _ => return Err(format!("unknown capability {capability:?}")),
            }
        }
        Ok(entry)
    }
}

fn strings<'a>(value: Option<&'a Value>, key: &str) -> Result<Vec<&'a str>, String> {
    let refused = || format!("{key} is neither a string nor a list of strings");
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one]),
        Some(Value::Array(many)) => many
            .iter()
            .map(|value| value.as_str().ok_or_else(refused))
            .collect(),
        Some(_) => Err(refused()),
    }
}

/// The first of the client's certificates; our TLS has one for a host. Each is a file with its key, or
/// a pair of files of which the second may be empty.
fn identity(folder: &Path, value: Option<&Value>) -> Result<Option<Identity>, String> {
    let first = match value {
        Some(Value::Array(several)) => several.first(),
        other => other,
    };
    let (certificate, key) = match first {
        None => return Ok(None),
        Some(Value::String(both)) => (both, both),
        Some(Value::Array(pair)) => match pair.as_slice() {
            [Value::String(certificate), Value::String(key)] if key.is_empty() => {
                (certificate, certificate)
            }
            [Value::String(certificate), Value::String(key)] => (certificate, key),
            _ => return Err("client has a pair that is not of two files".to_owned()),
        },
        Some(_) => return Err("client is neither a file nor a list of files or pairs".to_owned()),
    };
    let read = Identity::read(&folder.join(certificate), &folder.join(key));
    read.map(Some)
        .map_err(|problem| format!("client {problem}"))
}

fn headers(value: Option<&Value>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let table = match value {
        None => return Ok(headers),
        Some(Value::Table(table)) => table,
        Some(_) => return Err("header is no table".to_owned()),
    };
    for (name, value) in table {
        let refused = || format!("header {name:?} cannot be sent");
        let header: HeaderName = name.parse().map_err(|_| refused())?;
        for text in strings(Some(value), &format!("header {name:?}"))? {
            let mut value = HeaderValue::from_str(text).map_err(|_| refused())?;
            value.set_sensitive(true);
            headers.append(header.clone(), value);
        }
    }
    Ok(headers)
}

// === impl Address ===

impl Address {
    fn parse(server: &str, overrides_path: bool) -> Result<Self, String> {
        let with_scheme = if server.starts_with("http") {
            server.to_owned()
        } else {
            format!("https://{server}")
        };
        let refused = || format!("{server:?} is no address; write one such as https://a.example");
        let mut base = Url::parse(&with_scheme).map_err(|_| refused())?;
        let is_plain = matches!(base.scheme(), "http" | "https")
            && base.has_host()
            && base.username().is_empty()
            && base.password().is_none();
        if !is_plain {
            return Err(refused());
        }
        let mut path = base.path().trim_end_matches('/').to_owned();
        if !overrides_path && !path.ends_with("/v2") {
            path += "/v2";
        }
        base.set_path("");
        base.set_query(None);
        base.set_fragment(None);
        Ok(Self { base, path })
    }
}

#[cfg(test)]
mod tests;
