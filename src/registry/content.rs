//! What is in an image: the platforms that it is built for, and what it says of its process.
//!
//! ```text
//! digest ─► manifest ─┬────────────────────────────► configuration
//!                     └─ an index: ─► manifest ────► configuration
//! ```
//!
//! A digest means the same for ever, so each of them is fetched once, and believed only if it has
//! that digest. Docker Hub counts each fetch of a manifest as a pull, and a HEAD as nothing.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use aws_lc_rs::digest;
use moka::Expiry;
use moka::future::Cache;
use reqwest::{Method, Response};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

use super::manifest::{check_present, kind, length};
use super::probe_error::ProbeError;
use super::session::Session;
use super::transport::{MOST_REDIRECTS, body, rest};
use crate::image::{ImageConfig, ImagePlatforms, Platform};
use crate::image::{Repository, is_digest};

/// The types of manifests that list other manifests.
const INDEXES: &[&str] = &[
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
/// The platform whose image stands for all: what an image says of its process hardly ever differs.
const USUAL_PLATFORM: (&str, &str) = ("linux", "amd64");
/// Bytes of a manifest (containerd, `MaxManifestSize`), and of a configuration. Real ones have
/// some ten thousand.
const LONGEST_MANIFEST: usize = 4 * 1024 * 1024;
const LONGEST_CONFIG: usize = 1024 * 1024;
/// Bytes above which a document is large, and how many large ones are read at one time, so that 32
/// hosts at once take no more memory than one process has.
const LARGE: usize = 256 * 1024;
const MOST_LARGE: usize = 2;
/// Bytes of all manifests that are kept, and of all configurations.
const MOST_BYTES: u64 = 8 * 1024 * 1024;

/// A version of an image, which never changes. The same digest in another repository is another
/// one: who may read this need not be allowed to read that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pinned {
    pub(super) repository: Repository,
    pub(super) digest: String,
}

/// What may be asked of the content of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// For which platforms it is built.
    Platforms,
    /// What it says of its process.
    Config,
}

/// What was asked of an image.
#[derive(Clone, Debug)]
pub enum ImageContent {
    /// For which platforms it is built.
    Platforms(ImagePlatforms),
    /// What it says of its process.
    Config(Arc<ImageConfig>),
}

/// What is known of the content of images.
#[derive(Debug)]
pub(super) struct Contents {
    manifests: Cache<Pinned, Arc<Manifest>>,
    configs: Cache<Pinned, Fetched>,
    large: Semaphore,
}

/// What came of fetching.
type Fetched = Result<ImageContent, ProbeError>;

#[derive(Debug, PartialEq, Eq)]
struct Manifest {
    platforms: ImagePlatforms,
    leads_to: Option<Next>,
}

/// The digest of what comes after a manifest on the way to the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    Manifest(String),
    Config(String),
}

struct ContentLifetimes;

// === impl Contents ===

impl Contents {
    pub(super) fn new() -> Self {
        Self {
            manifests: Cache::builder()
                .max_capacity(MOST_BYTES)
                .weigher(|_, manifest: &Arc<Manifest>| manifest.weight())
                .build(),
            configs: Cache::builder()
                .max_capacity(MOST_BYTES)
                .weigher(weight)
                .expire_after(ContentLifetimes)
                .build(),
            large: Semaphore::new(MOST_LARGE),
        }
    }

    /// What is known without asking anybody.
    pub(super) async fn known(&self, pinned: &Pinned, part: Part) -> Option<Fetched> {
        match part {
            Part::Platforms => {
                let manifest = self.manifests.get(pinned).await?;
                Some(Ok(manifest.fact()))
            }
            Part::Config => self.configs.get(pinned).await,
        }
    }

    /// What comes of fetching. A configuration is fetched by one for all who want it, and for a
    /// while not again where that failed; a manifest is kept where it is read.
    pub(super) async fn once(
        &self,
        pinned: &Pinned,
        part: Part,
        fetched: impl Future<Output = Fetched>,
    ) -> Fetched {
        match part {
            Part::Platforms => fetched.await,
            Part::Config => self.configs.get_with_by_ref(pinned, fetched).await,
        }
    }

    /// Fetches what is asked, and what leads there, where it is not known.
    pub(super) async fn fetch(
        &self,
        session: &Session<'_>,
        pinned: &Pinned,
        part: Part,
    ) -> Fetched {
        let mut manifest = self.manifest(session, pinned).await?;
        if part == Part::Platforms {
            return Ok(manifest.fact());
        }
        if let Some(Next::Manifest(digest)) = &manifest.leads_to {
            let pinned = Pinned {
                digest: digest.clone(),
                ..pinned.clone()
            };
            manifest = self.manifest(session, &pinned).await?;
        }
        let Some(Next::Config(digest)) = &manifest.leads_to else {
            return Err(ProbeError::Malformed(
                "has an image without a configuration",
            ));
        };
        let url = session.url(&format!("blobs/{digest}"));
        let blob = session.ask(Method::GET, &url, MOST_REDIRECTS).await?;
        match blob.status().as_u16() {
            200 => {}
            404 => return Err(ProbeError::Malformed("has no configuration of its image")),
            status => return Err(ProbeError::of_status(status, rest(blob.headers()))),
        }
        let config = self.read(session, blob, digest, LONGEST_CONFIG, read_config);
        Ok(ImageContent::Config(Arc::new(config.await?)))
    }

    async fn manifest(
        &self,
        session: &Session<'_>,
        pinned: &Pinned,
    ) -> Result<Arc<Manifest>, ProbeError> {
        let Pinned { digest, .. } = pinned;
        let fetched = async {
            let url = session.url(&format!("manifests/{digest}"));
            let get = session.ask(Method::GET, &url, MOST_REDIRECTS).await?;
            check_present(&get)?;
            let read_it = match kind(get.headers()) {
                Some(kind) if INDEXES.contains(&kind) => read_index,
                _ => read_image,
            };
            let manifest = self.read(session, get, digest, LONGEST_MANIFEST, read_it);
            manifest.await.map(Arc::new)
        };
        let manifest = self.manifests.try_get_with_by_ref(pinned, fetched).await;
        manifest.map_err(|error: Arc<ProbeError>| (*error).clone())
    }

    /// Reads a document that has this digest.
    async fn read<T>(
        &self,
        session: &Session<'_>,
        response: Response,
        digest: &str,
        most: usize,
        read: fn(&[u8]) -> Result<T, ProbeError>,
    ) -> Result<T, ProbeError> {
        let is_usual = length(&response).is_some_and(|length| length <= LARGE as u64);
        let (most, _place) = if is_usual {
            (LARGE, None)
        } else {
            let place = timeout_at(session.by, self.large.acquire()).await;
            (most, Some(place.map_err(|_| ProbeError::TimedOut)?))
        };
        let body = body(response, most, session.by).await?;
        if !has_digest(&body, digest) {
            return Err(ProbeError::Malformed(
                "gives another content than the digest's",
            ));
        }
        read(&body)
    }
}

// === impl Manifest ===

impl Manifest {
    fn fact(&self) -> ImageContent {
        ImageContent::Platforms(self.platforms.clone())
    }

    /// In bytes, roughly.
    fn weight(&self) -> u32 {
        let platforms = match &self.platforms {
            ImagePlatforms::Any => 0,
            ImagePlatforms::Only(platforms) => platforms.len(),
        };
        let bytes = 512 + platforms.saturating_mul(size_of::<Platform>() + 32);
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

// === impl ContentLifetimes ===

impl Expiry<Pinned, Fetched> for ContentLifetimes {
    fn expire_after_create(&self, _: &Pinned, config: &Fetched, _: Clock) -> Option<Duration> {
        config.as_ref().err().map(ProbeError::lifetime)
    }
}

/// In bytes, roughly.
fn weight(_: &Pinned, config: &Fetched) -> u32 {
    let of_text = |text: &String| size_of::<String>() + text.capacity();
    let bytes: usize = match config {
        Ok(ImageContent::Config(config)) => {
            let lists = [&config.env, &config.entrypoint, &config.cmd];
            let lists = lists.into_iter().flatten().map(of_text);
            let labels = config.labels.iter();
            let labels = labels.map(|(key, value)| of_text(key) + of_text(value));
            lists.chain(labels).sum()
        }
        _ => 0,
    };
    u32::try_from(512 + bytes).unwrap_or(u32::MAX)
}

fn has_digest(body: &[u8], wanted: &str) -> bool {
    let (algorithm, digits) = wanted.split_once(':').unwrap_or_default();
    let algorithm = match algorithm {
        "sha256" => &digest::SHA256,
        "sha384" => &digest::SHA384,
        "sha512" => &digest::SHA512,
        _ => return false,
    };
    let found = digest::digest(algorithm, body);
    let found = found.as_ref().iter().map(|byte| format!("{byte:02x}"));
    found.collect::<String>() == digits
}

/// An index as far as nodes choose by it (containerd, core/images/image.go `Manifest`).
#[derive(Deserialize)]
struct Index<'a> {
    #[serde(borrow)]
    manifests: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    digest: &'a str,
    #[serde(borrow, default)]
    platform: Option<EntryPlatform<'a>>,
}

#[derive(Clone, Copy, Deserialize)]
struct EntryPlatform<'a> {
    os: &'a str,
    architecture: &'a str,
}

fn read_index(body: &[u8]) -> Result<Manifest, ProbeError> {
    const UNREADABLE: ProbeError = ProbeError::Malformed("gives an index that cannot be read");
    let index: Index<'_> = serde_json::from_slice(body).map_err(|_| UNREADABLE)?;
    let is_word = |text: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        !text.is_empty() && text.len() <= 32 && text.bytes().all(is_plain)
    };
    let mut platforms = Vec::new();
    let mut fits_all = false;
    let (mut first, mut usual) = (None, None);
    for Entry { digest, platform } in index.manifests {
        if !is_digest(digest) {
            return Err(UNREADABLE);
        }
        match platform {
            None => fits_all = true,
            Some(EntryPlatform { os, architecture }) => {
                if !is_word(os) || !is_word(architecture) {
                    return Err(UNREADABLE);
                }
                // Attestations are of an unknown platform.
                if os == "unknown" {
                    continue;
                }
                if (os, architecture) == USUAL_PLATFORM {
                    usual = usual.or(Some(digest));
                }
                platforms.push(Platform {
                    os: os.to_owned(),
                    architecture: architecture.to_owned(),
                });
            }
        }
        first = first.or(Some(digest));
    }
    platforms.sort();
    platforms.dedup();
    let platforms = if fits_all {
        ImagePlatforms::Any
    } else {
        ImagePlatforms::Only(platforms)
    };
    let leads_to = usual.or(first).map(ToOwned::to_owned);
    Ok(Manifest {
        platforms,
        leads_to: leads_to.map(Next::Manifest),
    })
}

#[derive(Deserialize)]
struct Image<'a> {
    #[serde(borrow)]
    config: Descriptor<'a>,
}

#[derive(Deserialize)]
struct Descriptor<'a> {
    digest: &'a str,
}

/// A node takes any image that is no index, so one that cannot be read leads nowhere, and that is all.
#[allow(
    clippy::unnecessary_wraps,
    reason = "it stands where read_index does, which may fail"
)]
fn read_image(body: &[u8]) -> Result<Manifest, ProbeError> {
    let image = serde_json::from_slice::<Image<'_>>(body).ok();
    let digest = image.map(|image| image.config.digest);
    let digest = digest.filter(|digest| is_digest(digest));
    Ok(Manifest {
        platforms: ImagePlatforms::Any,
        leads_to: digest.map(|digest| Next::Config(digest.to_owned())),
    })
}

/// The configuration in the form of its specification. Go writes null for what is empty.
#[derive(Deserialize)]
struct Blob {
    config: Option<BlobConfig>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct BlobConfig {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
}

fn read_config(body: &[u8]) -> Result<ImageConfig, ProbeError> {
    let blob: Blob = serde_json::from_slice(body)
        .map_err(|_| ProbeError::Malformed("gives a configuration that cannot be read"))?;
    let config = blob.config.unwrap_or_default();
    Ok(ImageConfig {
        env: config.env.unwrap_or_default(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        cmd: config.cmd.unwrap_or_default(),
        labels: config.labels.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests;
