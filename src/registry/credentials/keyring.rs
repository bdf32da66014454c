//! Which credentials are for which image, exactly as kubelet decides it (Kubernetes 1.37,
//! pkg/credentialprovider `keyring.go`).
//!
//! A key is a host, with or without a port and a path. Its host matches label by label, `*` within
//! a label; its port must be the image's; its path must be what the image's begins with, so that
//! `quay.io/core` is for `quay.io/coreos/etcd` too. All that match are tried, in the reverse order
//! of the keys. A differential test holds this to kubelet's own code.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

use super::Credential;
use super::docker_config::DockerConfig;

/// The key of Docker Hub's credentials, for images that no other key is for.
const DOCKER_HUB: &str = "index.docker.io";
/// Characters of a host beside letters and digits (Go 1.26, net/url `encodeHost`).
const IN_HOST: &[u8] = b"!\"$&'()*+,-.:;<=>[]_~";
/// Characters of a user name in an address (Go 1.26, net/url `validUserinfo`).
const IN_USER: &[u8] = b"-._:~!$&'()*+,;=%@";

/// Credentials by the images that they are for.
#[derive(Clone, Debug, Default)]
pub struct Keyring(BTreeMap<String, Held>);

#[derive(Clone, Debug)]
struct Held {
    /// `None`: kubelet reads the key in such a way that it is for no image.
    place: Option<RegistryPath>,
    credentials: Vec<Arc<Credential>>,
}

/// What follows `https://` in an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RegistryPath {
    host: String,
    port: String,
    path: String,
}

// === impl Keyring ===

impl Keyring {
    /// Adds what a file holds; of the same key, what was added first is tried first.
    pub fn add(&mut self, DockerConfig(config): &DockerConfig) {
        for (written, credential) in config {
            let Some(key) = key(written) else {
                continue;
            };
            let place = RegistryPath::parse(&key);
            let held = self.0.entry(key).or_insert_with(|| Held {
                place,
                credentials: Vec::new(),
            });
            held.credentials.push(Arc::clone(credential));
        }
    }

    /// Whether it is for no image at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The credentials for a repository, written as [`crate::image::Repository`] shows it,
    /// in the order in which they are tried.
    #[must_use]
    pub fn lookup(&self, repository: &str) -> Vec<Arc<Credential>> {
        let Some(asked) = RegistryPath::parse(repository) else {
            return Vec::new();
        };
        let matching = self.0.values().rev().filter(|held| {
            let place = held.place.as_ref();
            place.is_some_and(|place| place.is_for(&asked))
        });
        let found: Vec<_> = matching.flat_map(|held| held.credentials.clone()).collect();
        if found.is_empty() && is_docker_hub(repository) {
            let held = self.0.get(DOCKER_HUB);
            return held
                .map(|held| held.credentials.clone())
                .unwrap_or_default();
        }
        found
    }
}

/// The key as kubelet keeps it: without scheme, and without the version of Docker's first API.
fn key(written: &str) -> Option<String> {
    let schemeless = written
        .strip_prefix("https://")
        .or_else(|| written.strip_prefix("http://"))
        .unwrap_or(written);
    let (authority, path) = split(schemeless)?;
    let path = match path.get(..4) {
        Some("/v1/" | "/v2/") => &path[3..],
        _ => &path,
    };
    Some(match path {
        "/" => authority,
        path => authority + path,
    })
}

/// Whether an image that no key is for gets the credentials of Docker Hub.
fn is_docker_hub(repository: &str) -> bool {
    match repository.split_once('/') {
        Some(("docker.io" | DOCKER_HUB, _)) => true,
        Some((first, _)) => !first.is_empty() && !first.contains(['.', ':']),
        None => !repository.is_empty(),
    }
}

// === impl RegistryPath ===

impl RegistryPath {
    pub(super) fn parse(schemeless: &str) -> Option<Self> {
        let (authority, path) = split(schemeless)?;
        // The brackets of an IPv6 address go only where there is a port (Go, `net.SplitHostPort`).
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let address = host.strip_prefix('[');
                let address = address.and_then(|host| host.strip_suffix(']'));
                (address.unwrap_or(host), port)
            }
            _ => (authority.as_str(), ""),
        };
        Some(Self {
            host: host.to_owned(),
            port: port.to_owned(),
            path,
        })
    }

    pub(super) fn is_for(&self, image: &Self) -> bool {
        // kubelet reads the brackets that are left as a set of characters.
        if self.host.starts_with('[') {
            return false;
        }
        let (globs, labels) = (self.host.split('.'), image.host.split('.'));
        self.port == image.port
            && image.path.starts_with(&self.path)
            && globs.clone().count() == labels.clone().count()
            && globs.zip(labels).all(|(glob, label)| matches(glob, label))
    }
}

/// Whether a label matches, where `*` is any number of characters.
fn matches(glob: &str, label: &str) -> bool {
    let mut parts = glob.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = label.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

// === addresses, as Go's net/url reads them ===

/// Host with port, and path, of what follows `https://`.
fn split(schemeless: &str) -> Option<(String, String)> {
    let (address, fragment) = schemeless.split_once('#').unwrap_or((schemeless, ""));
    // Of what is thrown away, only the `%` must be right.
    unescaped(fragment)?;
    if address.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    let (address, _) = address.split_once('?').unwrap_or((address, ""));
    let (authority, path) = match address.find('/') {
        Some(slash) => address.split_at(slash),
        None => (address, ""),
    };
    let host = match authority.rsplit_once('@') {
        Some((user, host)) => {
            let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || IN_USER.contains(&byte);
            if !user.bytes().all(is_valid) {
                return None;
            }
            unescaped(user)?;
            host
        }
        None => authority,
    };
    Some((read_host(host)?, unescape(path)?))
}

fn read_host(host: &str) -> Option<String> {
    let is_valid = |byte: u8| {
        !byte.is_ascii() || byte == b'%' || byte.is_ascii_alphanumeric() || IN_HOST.contains(&byte)
    };
    if !host.bytes().all(is_valid) {
        return None;
    }
    // An address of IPv6 with a zone is read too, but no image has one.
    let port = if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest.rsplit_once(']')?;
        address.parse::<Ipv6Addr>().ok()?;
        port
    } else if host.contains('[') {
        return None;
    } else {
        host.find(':').map_or("", |colon| &host[colon..])
    };
    let is_port = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    let only_beyond_ascii = host.match_indices('%').all(|(at, _)| {
        let digits = host.get(at + 1..at + 3).unwrap_or_default();
        let first = digits.chars().next().and_then(|digit| digit.to_digit(16));
        digits == "25" || first.is_some_and(|digit| digit >= 8)
    });
    (is_port && only_beyond_ascii).then(|| unescape(host))?
}

/// Puts in the bytes that `%` and two digits stand for. What is no text then is for no image.
fn unescape(text: &str) -> Option<String> {
    String::from_utf8(unescaped(text)?).ok()
}

/// The bytes; none where `%` stands before something else.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).filter(|digits| !digits.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::Origin;
    use super::*;

    /// Which of the keys are for a repository, in order.
    fn found(keys: &[&str], repository: &str) -> Vec<String> {
        let mut keyring = Keyring::default();
        for key in keys {
            let json = serde_json::json!({"auths": {*key: {"username": key}}}).to_string();
            keyring.add(&DockerConfig::parse(json.as_bytes(), &Origin::Own).unwrap());
        }
        let found = keyring.lookup(repository);
        found
            .iter()
            .map(|found| found.username.to_string())
            .collect()
    }

    fn is_found(key: &str, repository: &str) -> bool {
        !found(&[key], repository).is_empty()
    }

    #[test]
    fn registry_case_48_docker_hub_is_known_by_one_old_name() {
        for (key, is_used) in [
            ("https://index.docker.io/v1/", true),
            ("index.docker.io", true),
            ("https://index.docker.io/v2/", true),
            ("docker.io", true),
            ("*.io", true),
            ("registry-1.docker.io", false),
            ("https://index.docker.io/v1", false),
        ] {
            assert_eq!(is_found(key, "docker.io/library/nginx"), is_used, "{key}");
        }
        let keys = ["https://index.docker.io/v1/", "docker.io"];
        assert_eq!(found(&keys, "docker.io/library/nginx"), ["docker.io"]);
        assert!(!is_found("index.docker.io", "quay.io/a"));
    }

    #[test]
    fn registry_case_49_a_path_is_what_the_images_begins_with() {
        assert!(is_found("quay.io/core", "quay.io/coreos/etcd"));
        assert!(is_found("quay.io/coreos/", "quay.io/coreos/etcd"));
        assert!(!is_found("quay.io/coreos/etcd/", "quay.io/coreos/etcd"));
        assert!(!is_found("quay.io/Core", "quay.io/coreos/etcd"));
    }

    #[test]
    fn registry_case_50_a_key_is_for_that_host_and_port_only() {
        for (key, repository, is_used) in [
            ("registry.example.com", "registry.example.com/a", true),
            (
                "registry.example.com",
                "registry.example.com.evil.io/a",
                false,
            ),
            ("registry.example.com", "registry.example.com:8443/a", false),
            (
                "registry.example.com:8443",
                "registry.example.com:8443/a",
                true,
            ),
            ("registry.example.com:8443", "registry.example.com/a", false),
            (
                "https://registry.example.com:/",
                "registry.example.com/a",
                true,
            ),
            ("*.example.com", "registry.example.com/a", true),
            ("*.example.com", "a.registry.example.com/a", false),
            ("*.example.com", "example.com/a", false),
            ("reg*.*.com", "registry.example.com/a", true),
            ("*", "example.com/a", false),
            ("registry.example.com", "REGISTRY.example.com/a", false),
            ("[2001:db8::1]:5000", "[2001:db8::1]:5000/a", true),
            ("[2001:db8::1]", "[2001:db8::1]/a", false),
            ("user@registry.example.com", "registry.example.com/a", true),
        ] {
            assert_eq!(is_found(key, repository), is_used, "{key} {repository}");
        }
    }

    #[test]
    fn registry_case_41_the_more_precise_key_is_tried_first() {
        let keys = [
            "*.io",
            "quay.io",
            "quay.io/coreos",
            "gcr.io",
            "quay.io/coreos",
        ];
        assert_eq!(
            found(&keys, "quay.io/coreos/etcd"),
            ["quay.io/coreos", "quay.io/coreos", "quay.io", "*.io"]
        );
    }

    #[test]
    fn keys_that_are_no_address_are_for_no_image() {
        for key in [
            "",
            "a b",
            "a.b:port",
            "a.b:1:2",
            "a.b%",
            "a.b%zz",
            "a.b/%",
            "a.b\n",
            "a[b].b",
            "[a.b",
            "a.b#%",
            "{}@a.b",
            "HTTPS://a.b",
        ] {
            assert!(!is_found(key, "a.b/c"), "{key:?}");
        }
        for key in ["a.b?x", "a.b#x", "a.b/?", "a.b/%63", "u:p@a.b"] {
            assert!(is_found(key, "a.b/c"), "{key:?}");
        }
    }
}
