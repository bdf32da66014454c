//! Image references, read exactly as a node reads them.
//!
//! kubelet and containerd use the Go library `distribution/reference`; the differential test in
//! `tests/offline/image_reference.rs` holds this parser to it. A reference that the library refuses
//! is the node's `InvalidImageName`, so a difference here would be a wrong refusal.

mod mistake;
mod state;

use std::fmt;

use thiserror::Error;

pub use self::mistake::Mistake;
pub use self::state::{
    Holder, ImageConfig, ImagePlatforms, ImageState, Missing, MissingPart, Platform,
};

/// The registry that a name without a host stands for.
const DEFAULT_DOMAIN: &str = "docker.io";
/// An older name of it.
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
/// The prefix of Docker Hub's own images, which nobody writes.
const OFFICIAL_PREFIX: &str = "library/";
/// The tag that a reference without tag and digest stands for.
pub(crate) const DEFAULT_TAG: &str = "latest";
/// Bytes of a repository path (distribution/reference `RepositoryNameTotalLengthMax`).
const LONGEST_PATH: usize = 255;
/// Bytes of a tag (OCI distribution specification, "Pulling manifests").
const LONGEST_TAG: usize = 128;
/// Hexadecimal digits of the digests that kubelet knows: it links Go's sha256 and sha512 packages,
/// and the latter brings sha384.
const DIGEST_DIGITS: &[(&str, usize)] = &[("sha256", 64), ("sha384", 96), ("sha512", 128)];
/// Characters of a bad part that a message shows.
const LONGEST_SHOWN: usize = 80;

/// Where an image lies: a registry and a path in it, normalised.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    /// The registry as written, with its port, such as `docker.io` or `[2001:db8::1]:5000`. Empty
    /// only where the Go library leaves it empty: `a_b.io/c`, whose first part is no host name.
    pub domain: String,
    /// The path in the registry, such as `library/nginx`.
    pub path: String,
}

/// A reference to an image, normalised.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference {
    /// Where it lies.
    pub repository: Repository,
    /// The tag, where one is written.
    pub tag: Option<String>,
    /// The digest, where one is written, such as `sha256:…`.
    pub digest: Option<String>,
}

/// Why a text is no image reference, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidReference {
    /// There is nothing.
    #[error("the image is empty; write a name such as nginx:1.27")]
    Empty,
    /// 64 hexadecimal digits could be an image ID.
    #[error("64 hexadecimal digits alone are an image ID; write a name, or name@sha256:DIGITS")]
    ImageId,
    /// It is a number or a boolean.
    #[error("{seen} is a {kind} in YAML; write it in quotes")]
    NotText {
        /// As it is written.
        seen: String,
        /// `number` or `boolean`.
        kind: &'static str,
    },
    /// One of the commonest mistakes.
    #[error("{0}")]
    Common(Mistake),
    /// The path has capital letters.
    #[error("the name {0} has capital letters; write it in lower case")]
    UpperCase(Shown),
    /// The name breaks the grammar.
    #[error(
        "the name {0} is not HOST/PATH; write lower case letters and digits, with . _ __ or - \
         between them, such as registry.example.com/team/app"
    )]
    Name(Shown),
    /// The path is too long.
    #[error("the path has {0} bytes; write at most {LONGEST_PATH}")]
    TooLong(usize),
    /// The tag breaks the grammar.
    #[error(
        "the tag {0} is no tag; write at most {LONGEST_TAG} letters, digits, _ . or -, not \
         beginning with . or -"
    )]
    Tag(Shown),
    /// The digest breaks the grammar, or kubelet does not know its algorithm.
    #[error(
        "the digest {0} is no digest; write sha256: and 64 lower case hexadecimal digits (96 for \
         sha384, 128 for sha512)"
    )]
    Digest(Shown),
}

/// A piece of what a user wrote, escaped and cut so that a message may hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown(String);

// === impl ImageReference ===

impl ImageReference {
    /// Reads a reference as kubelet does.
    ///
    /// # Errors
    /// What is wrong with it; the node would report `InvalidImageName`.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        Self::read(text).map_err(|error| mistake::explain(text, error))
    }

    /// The grammar alone.
    fn read(text: &str) -> Result<Self, InvalidReference> {
        if text.is_empty() {
            return Err(InvalidReference::Empty);
        }
        if text.len() == 64 && text.bytes().all(is_lower_hex) {
            return Err(InvalidReference::ImageId);
        }
        let (name_and_tag, digest) = match text.split_once('@') {
            Some((before, digest)) => (before, Some(digest)),
            None => (text, None),
        };
        let (name, tag) = split_tag(name_and_tag);
        let repository = Repository::parse(name)?;
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(InvalidReference::Tag(Shown::of(tag)));
        }
        if let Some(digest) = digest.filter(|digest| !is_digest(digest)) {
            return Err(InvalidReference::Digest(Shown::of(digest)));
        }
        Ok(Self {
            repository,
            tag: tag.map(ToOwned::to_owned),
            digest: digest.map(ToOwned::to_owned),
        })
    }

    /// What a node asks the registry for: the digest where there is one, whatever the tag says;
    /// else the tag; else `latest`.
    #[must_use]
    pub fn pulled(&self) -> Self {
        let tag = match (&self.digest, &self.tag) {
            (Some(_), _) => None,
            (None, Some(tag)) => Some(tag.clone()),
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Self {
            repository: self.repository.clone(),
            tag,
            digest: self.digest.clone(),
        }
    }

    /// The tag, also where a digest beside it says which image is meant; `latest` where neither is
    /// written.
    #[must_use]
    pub fn written_tag(&self) -> Option<&str> {
        let default = self.digest.is_none().then_some(DEFAULT_TAG);
        self.tag.as_deref().or(default)
    }

    /// As people write it: `prom/prometheus:v1` for `docker.io/prom/prometheus:v1`.
    #[must_use]
    pub fn familiar(&self) -> String {
        format!("{}{}", self.repository.familiar(), Suffix(self))
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.repository, Suffix(self))
    }
}

/// The tag and digest of a reference, as they are written after the name.
struct Suffix<'a>(&'a ImageReference);

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tag) = &self.0.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.0.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

// === impl Repository ===

impl Repository {
    fn parse(name: &str) -> Result<Self, InvalidReference> {
        let (domain, path) = split_domain(name);
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(InvalidReference::UpperCase(Shown::of(path)));
        }
        let official = domain == DEFAULT_DOMAIN && !path.contains('/');
        let path = if official {
            format!("{OFFICIAL_PREFIX}{path}")
        } else {
            path.to_owned()
        };
        let repository = if is_domain(domain) {
            Self {
                domain: domain.to_owned(),
                path,
            }
        } else {
            Self {
                domain: String::new(),
                path: format!("{domain}/{path}"),
            }
        };
        if !is_path(&repository.path) {
            return Err(InvalidReference::Name(Shown::of(name)));
        }
        if repository.path.len() > LONGEST_PATH {
            return Err(InvalidReference::TooLong(repository.path.len()));
        }
        Ok(repository)
    }

    /// As people write it: `nginx` for `docker.io/library/nginx`.
    #[must_use]
    pub fn familiar(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.to_string();
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(name) if !name.contains('/') => name.to_owned(),
            _ => self.path.clone(),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.domain.is_empty() {
            return f.write_str(&self.path);
        }
        write!(f, "{}/{}", self.domain, self.path)
    }
}

// === impl InvalidReference ===

impl InvalidReference {
    /// The reference that the message says to write, where what was meant can be made out.
    #[must_use]
    pub fn instead(&self) -> Option<&str> {
        match self {
            Self::Common(mistake) => mistake.instead.as_deref(),
            Self::NotText { seen, .. } => {
                Some(&**seen).filter(|seen| ImageReference::read(seen).is_ok())
            }
            _ => None,
        }
    }

    /// Whether a placeholder in it brings its own value, so that some tool is still to replace it.
    #[must_use]
    pub fn has_default(&self) -> bool {
        matches!(self, Self::Common(mistake) if mistake.has_default)
    }
}

// === impl Shown ===

impl Shown {
    fn of(text: &str) -> Self {
        let cut: String = text.chars().take(LONGEST_SHOWN).collect();
        let more = if cut.len() < text.len() { "…" } else { "" };
        let ascii: String = cut.chars().flat_map(char::escape_default).collect();
        Self(format!("\"{ascii}{more}\""))
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === the grammar ===

/// Whether this is a host, with or without a port, as a reference may hold it.
#[must_use]
pub fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rfind(']').map(|end| text.split_at(end + 1)) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let has_port = port.is_none_or(|port| is_some_of(port, |byte| byte.is_ascii_digit()));
    let host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => is_some_of(address, |byte| byte.is_ascii_hexdigit() || byte == b':'),
        None => host.split('.').all(is_domain_component),
    };
    host && has_port
}

/// Whether this is a tag.
#[must_use]
pub fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= LONGEST_TAG
        && text.bytes().next().is_some_and(word)
        && text
            .bytes()
            .all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

fn split_tag(text: &str) -> (&str, Option<&str>) {
    let last_part = text.rfind('/').map_or(0, |slash| slash + 1);
    match text[last_part..].find(':') {
        Some(colon) => (
            &text[..last_part + colon],
            Some(&text[last_part + colon + 1..]),
        ),
        None => (text, None),
    }
}

/// The first part is a host only if it cannot be a part of a path, or is `localhost`.
fn split_domain(name: &str) -> (&str, &str) {
    let looks_like_host = |part: &str| {
        part == "localhost"
            || part.contains(['.', ':'])
            || part.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    match name.split_once('/') {
        Some((LEGACY_DEFAULT_DOMAIN, path)) => (DEFAULT_DOMAIN, path),
        Some((domain, path)) if looks_like_host(domain) => (domain, path),
        _ => (DEFAULT_DOMAIN, name),
    }
}

fn is_domain_component(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    is_some_of(text, inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_path(text: &str) -> bool {
    text.split('/').all(is_path_component)
}

/// Runs of lower case letters and digits; between two runs one `.`, one or two `_`, or any `-`.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_edge = |byte: Option<u8>| byte.is_some_and(alphanumeric);
    let is_separator =
        |run: &[u8]| matches!(run, b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-');
    is_edge(text.bytes().next())
        && is_edge(text.bytes().last())
        && text
            .as_bytes()
            .split(|byte| alphanumeric(*byte))
            .all(is_separator)
}

/// Whether this is a digest that kubelet knows.
pub(crate) fn is_digest(text: &str) -> bool {
    let Some((algorithm, digits)) = text.split_once(':') else {
        return false;
    };
    DIGEST_DIGITS.contains(&(algorithm, digits.len())) && digits.bytes().all(is_lower_hex)
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'a'..=b'f')
}

fn is_some_of(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ImageReference {
        ImageReference::parse(text).unwrap()
    }

    fn refused(text: &str) -> String {
        ImageReference::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_short_name_is_one_of_docker_hub() {
        for (short, full) in [
            ("nginx", "docker.io/library/nginx"),
            ("prom/prometheus:v1", "docker.io/prom/prometheus:v1"),
            ("index.docker.io/nginx", "docker.io/library/nginx"),
            ("localhost:5000", "docker.io/library/localhost:5000"),
            ("localhost:5000/a", "localhost:5000/a"),
            ("Docker/docker", "Docker/docker"),
            ("[2001:db8::1]:5000/repo:tag", "[2001:db8::1]:5000/repo:tag"),
        ] {
            assert_eq!(parse(short).to_string(), full, "{short}");
        }
    }

    #[test]
    fn the_familiar_form_leaves_out_what_nobody_writes() {
        for text in [
            "nginx",
            "prom/prometheus:v1",
            "quay.io/a/b:c",
            "localhost/a",
        ] {
            assert_eq!(parse(text).familiar(), text);
        }
        assert_eq!(parse("docker.io/library/a/b").familiar(), "library/a/b");
    }

    #[test]
    fn the_node_pulls_the_digest_whatever_the_tag_says() {
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(parse("nginx").pulled(), parse("nginx:latest"));
        assert_eq!(parse("nginx:1").pulled(), parse("nginx:1"));
        assert_eq!(
            parse(&format!("nginx:1@{digest}")).pulled(),
            parse(&format!("nginx@{digest}"))
        );
    }

    #[test]
    fn a_refusal_names_the_part_and_what_to_write() {
        assert!(refused("Nginx:1").contains("the name \"Nginx\" has capital letters"));
        assert!(refused("nginx:-1").contains("the tag \"-1\" is no tag"));
        assert!(refused("nginx:тег").contains("write at most 128 letters"));
        assert!(refused("nginx@sha256:abc").contains("write sha256: and 64"));
        assert!(refused("a..b").contains("is not HOST/PATH"));
        assert!(refused(&"a".repeat(256)).contains("264 bytes"));
        assert!(refused(&"0".repeat(64)).contains("image ID"));
        assert_eq!(
            refused(""),
            "the image is empty; write a name such as nginx:1.27"
        );
    }

    #[test]
    fn a_refusal_shows_nothing_that_a_terminal_would_obey() {
        let message = refused(&format!("nginx:\u{1b}[31m\u{202e}{}", "x".repeat(5000)));
        assert!(message.is_ascii() || message.contains('…'));
        assert!(
            !message.contains(['\u{1b}', '\u{202e}']) && message.len() < 400,
            "{message}"
        );
    }
}
