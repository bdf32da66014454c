//! Where a certificate and its key come from, and whether they can be served.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::object_name::ObjectName;

/// The most bytes of one PEM text. A chain has some kilobytes; a Secret may hold a megabyte, of
/// anybody's making (CVE-2024-12401: cert-manager took minutes over one).
pub(crate) const MOST_PEM: usize = 64 * 1024;

/// Keys of the Secret, as in every one of type `kubernetes.io/tls`.
pub(crate) const CERTIFICATE: &str = "tls.crt";
pub(crate) const KEY: &str = "tls.key";
/// The authorities that are trusted; the first one signs.
pub(crate) const AUTHORITIES: &str = "ca.crt";

/// Where the certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairFiles {
    /// PEM: the server's own certificate, then its issuers.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
}

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{flag} {}: {error}; name a file that this process may read", .path.display())]
    Unreadable {
        /// The flag that names the file.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is no Secret, or nothing in it yet.
    #[error("there is no certificate in Secret {0}; the replica that leads makes it, in seconds")]
    Absent(ObjectName),
    /// There is no certificate, or half of one.
    #[error(
        "{place}: {reason}; write PEM blocks \"BEGIN CERTIFICATE\", \
         the server's own certificate first, then its issuers"
    )]
    Certificate {
        /// The file, or the key of the Secret.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no key, or half of one.
    #[error("{place}: {reason}; write one PEM block \"BEGIN PRIVATE KEY\", without a passphrase")]
    Key {
        /// The file, or the key of the Secret.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// The key is another certificate's.
    #[error(
        "{key} is not the key of the first certificate in {certificate}; \
         give both of one pair, and put the server's own certificate before its issuers"
    )]
    Mismatch {
        /// Where the certificate is.
        certificate: String,
        /// Where the key is.
        key: String,
    },
    /// The certificate is out of date.
    #[error("{place}: it expired at {ended}; renew it")]
    Expired {
        /// The file, or the key of the Secret.
        place: String,
        /// Its last second.
        ended: Timestamp,
    },
    /// The certificate is for later.
    #[error(
        "{place}: it holds only from {begins} on; compare the clocks of this machine and of \
         the issuer"
    )]
    NotYetValid {
        /// The file, or the key of the Secret.
        place: String,
        /// Its first second.
        begins: Timestamp,
    },
    /// No certificate could be made.
    #[error("no certificate could be made: {0}; give one by --tls-cert and --tls-key")]
    Own(#[from] rcgen::Error),
    /// The cryptography does not offer what is needed.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// A certificate and its key, in PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

/// What a complaint calls the certificate and the key.
pub(crate) struct Places {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A certificate with its key, fit to be served.
pub(crate) struct Pair {
    pub(crate) certified: CertifiedKey,
    pub(crate) begins: Timestamp,
    pub(crate) ends: Timestamp,
}

// === impl PairFiles ===

impl PairFiles {
    /// Both files as they are at one time.
    pub(super) fn read(&self) -> Result<Content, TlsError> {
        let mut certificate = read("--tls-cert", &self.certificate)?;
        loop {
            let key = read("--tls-key", &self.key)?;
            // They may have been exchanged in between; then this key belongs to neither, or the other.
            let again = read("--tls-cert", &self.certificate)?;
            if again == certificate {
                return Ok(Content { certificate, key });
            }
            certificate = again;
        }
    }

    pub(super) fn places(&self) -> Places {
        Places {
            certificate: format!("--tls-cert {}", self.certificate.display()),
            key: format!("--tls-key {}", self.key.display()),
        }
    }
}

/// At most a byte more than is taken.
fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| {
            file.take(MOST_PEM as u64 + 1)
                .read_to_end(&mut content)
                .map(|_| content)
        })
        .map_err(|error| TlsError::Unreadable {
            flag,
            path: path.to_owned(),
            error,
        })
}

// === impl Places ===

impl Places {
    pub(super) fn of_secret(name: &ObjectName) -> Self {
        Self {
            certificate: format!("{CERTIFICATE} of Secret {name}"),
            key: format!("{KEY} of Secret {name}"),
        }
    }
}

// === impl Content ===

impl Content {
    /// What a Secret holds; `None` where there is neither yet.
    pub(crate) fn of_secret(data: &BTreeMap<String, ByteString>) -> Option<Self> {
        let (certificate, key) = (bytes(data, CERTIFICATE), bytes(data, KEY));
        let is_empty = certificate.is_empty() && key.is_empty();
        (!is_empty).then_some(Self { certificate, key })
    }

    /// Whether this can be served now.
    pub(crate) fn check(&self, places: &Places, now: Timestamp) -> Result<Pair, TlsError> {
        let bad_certificate = |reason: String| TlsError::Certificate {
            place: places.certificate.clone(),
            reason,
        };
        let bad_key = |reason: String| TlsError::Key {
            place: places.key.clone(),
            reason,
        };
        let chain = certificates(&self.certificate).map_err(bad_certificate)?;
        let Some(leaf) = chain.first() else {
            return Err(bad_certificate(malformed(&pem::Error::NoItemsFound)));
        };
        let (begins, ends) =
            validity(leaf).ok_or_else(|| bad_certificate("it cannot be decoded".to_owned()))?;
        too_long(&self.key).map_err(bad_key)?;
        let key =
            PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| bad_key(malformed(&error)))?;
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => TlsError::Mismatch {
                    certificate: places.certificate.clone(),
                    key: places.key.clone(),
                },
                rustls::Error::InvalidCertificate(_) => bad_certificate(error.to_string()),
                error => bad_key(error.to_string()),
            })?;
        let place = places.certificate.clone();
        if now < begins {
            return Err(TlsError::NotYetValid { place, begins });
        }
        if now > ends {
            return Err(TlsError::Expired { place, ended: ends });
        }
        Ok(Pair {
            certified,
            begins,
            ends,
        })
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key must not get into a log.
        f.debug_struct("Content").finish_non_exhaustive()
    }
}

/// A key of a Secret that is not there is one without a byte.
pub(crate) fn bytes(data: &BTreeMap<String, ByteString>, key: &str) -> Vec<u8> {
    data.get(key)
        .map(|bytes| bytes.0.clone())
        .unwrap_or_default()
}

/// The certificates of a PEM text, or what is wrong with it.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    too_long(pem)?;
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, pem::Error>>()
        .map_err(|error| malformed(&error))
}

fn too_long(pem: &[u8]) -> Result<(), String> {
    if pem.len() > MOST_PEM {
        return Err(format!(
            "it has more than the {MOST_PEM} bytes that are read"
        ));
    }
    Ok(())
}

/// What is wrong with a PEM text; rustls lists the bytes.
pub(crate) fn malformed(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "it holds none",
        pem::Error::MissingSectionEnd { .. } => "it ends in the middle of a block",
        pem::Error::IllegalSectionStart { .. } => "it has a malformed BEGIN line",
        pem::Error::Base64Decode(_) => "it holds a block that is not base64",
        error => return error.to_string(),
    }
    .to_owned()
}

/// The first and the last second of a certificate.
pub(crate) fn validity(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let validity = certificate.validity();
    let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    Some((time(validity.not_before)?, time(validity.not_after)?))
}
