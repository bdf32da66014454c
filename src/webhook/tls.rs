//! The certificate: read from files, checked, and exchanged while the server runs.
//!
//! kubelet exchanges a mounted Secret by renaming a symbolic link, `..data`, so a watch on the
//! file itself never fires. The files are read again every few seconds and compared by content. A
//! pair that cannot be used never replaces one that can, and open connections go on.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use arc_swap::ArcSwap;
use jiff::{Timestamp, ToSpan};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::report::metrics::{Metrics, ResultLabel};

/// The names in a certificate that is made here.
pub const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Where the certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
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
    /// The certificate file holds none, or half of one.
    #[error(
        "--tls-cert {}: {reason}; write PEM blocks \"BEGIN CERTIFICATE\", \
         the server's own certificate first, then its issuers",
        .path.display()
    )]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The key file holds none, or half of one.
    #[error(
        "--tls-key {}: {reason}; write one PEM block \"BEGIN PRIVATE KEY\", without a passphrase",
        .path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The key is another certificate's.
    #[error(
        "--tls-key {} is not the key of the first certificate in --tls-cert {}; \
         give both files of one Secret, and put the server's own certificate before its issuers",
        .0.key.display(), .0.certificate.display()
    )]
    Mismatch(Files),
    /// The certificate is out of date.
    #[error("--tls-cert {}: it expired at {ended}; renew it", .path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// Its last second.
        ended: Timestamp,
    },
    /// The certificate is for later.
    #[error(
        "--tls-cert {}: it holds only from {begins} on; compare the clocks of this machine and of \
         the issuer",
        .path.display()
    )]
    NotYetValid {
        /// The file.
        path: PathBuf,
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

/// The certificate that is served now.
#[derive(Debug)]
pub struct Certificates {
    current: ArcSwap<CertifiedKey>,
    watched: Option<Watched>,
    metrics: Arc<Metrics>,
}

/// The files that it came from.
#[derive(Debug)]
struct Watched {
    files: Files,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// What the current certificate was made of.
    served: Content,
    /// What was said of the files last, so that it is said once.
    complaint: Option<String>,
}

#[derive(PartialEq, Eq)]
struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// A certificate with its key, fit to be served.
struct Pair {
    certified: CertifiedKey,
    ends: Timestamp,
}

// === impl Certificates ===

impl Certificates {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// Names the file that cannot be used, and the cure.
    pub fn from_files(files: Files, metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        let served = files.read()?;
        let pair = files.pair(&served, Timestamp::now())?;
        metrics.certificate_expiry.set(pair.ends.as_second());
        Ok(Self {
            current: ArcSwap::from_pointee(pair.certified),
            watched: Some(Watched {
                files,
                seen: Mutex::new(Seen {
                    served,
                    complaint: None,
                }),
            }),
            metrics,
        })
    }

    /// Makes a self-signed certificate for this machine, and gives its PEM too. The key is nowhere
    /// but in memory.
    ///
    /// # Errors
    /// The cryptography failed.
    pub fn own(metrics: Arc<Metrics>) -> Result<(Self, String), TlsError> {
        let today = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
        // A day back, for a client whose clock is behind.
        let (first, last) = (
            today.saturating_sub(1.day()),
            today.saturating_add(1.year()),
        );
        let midnight = |date: jiff::civil::Date| {
            let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
            rcgen::date_time_ymd(date.year().into(), month, day)
        };
        let mut parameters = rcgen::CertificateParams::new(OWN_NAMES.map(str::to_owned))?;
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, "forestall, self-signed");
        parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        parameters.not_before = midnight(first);
        parameters.not_after = midnight(last);
        let key = rcgen::KeyPair::generate()?;
        let certificate = parameters.self_signed(&key)?;
        let private = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|reason| rustls::Error::General(reason.to_owned()))?;
        let chain = vec![certificate.der().clone()];
        let certified = CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider())?;
        metrics
            .certificate_expiry
            .set(ends(certificate.der()).map_or(0, Timestamp::as_second));
        let certificates = Self {
            current: ArcSwap::from_pointee(certified),
            watched: None,
            metrics,
        };
        Ok((certificates, certificate.pem()))
    }

    /// TLS 1.2 and 1.3 with this certificate, for HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// The cryptography does not offer both versions.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Self>::clone(self));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Looks at the files again, and serves what they hold now, if it can be used.
    pub fn look_again(&self) {
        let Some(Watched { files, seen }) = &self.watched else {
            return;
        };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let looked = files.read().and_then(|content| {
            if content == seen.served {
                return Ok(None);
            }
            let pair = files.pair(&content, Timestamp::now())?;
            Ok(Some((content, pair)))
        });
        match looked {
            Ok(None) => seen.complaint = None,
            Ok(Some((content, pair))) => {
                *seen = Seen {
                    served: content,
                    complaint: None,
                };
                self.current.store(Arc::new(pair.certified));
                self.metrics.certificate_expiry.set(pair.ends.as_second());
                self.count("success");
                let file = files.certificate.display();
                tracing::info!(%file, ends = %pair.ends, "serving the new certificate");
            }
            Err(error) => {
                let complaint = Some(error.to_string());
                if seen.complaint != complaint {
                    seen.complaint = complaint;
                    self.count("failure");
                    tracing::error!("{error}; the certificate before it is still served");
                }
            }
        }
    }

    fn count(&self, result: &'static str) {
        let label = ResultLabel { result };
        self.metrics.certificate_reloads.get_or_create(&label).inc();
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

// === impl Files ===

impl Files {
    /// Both files as they are at one time.
    fn read(&self) -> Result<Content, TlsError> {
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

    fn pair(&self, content: &Content, now: Timestamp) -> Result<Pair, TlsError> {
        let bad_certificate = |reason: String| TlsError::Certificate {
            path: self.certificate.clone(),
            reason,
        };
        let bad_key = |reason: String| TlsError::Key {
            path: self.key.clone(),
            reason,
        };
        let chain = CertificateDer::pem_slice_iter(&content.certificate)
            .collect::<Result<Vec<_>, pem::Error>>()
            .map_err(|error| bad_certificate(malformed(&error)))?;
        let Some(leaf) = chain.first() else {
            return Err(bad_certificate(malformed(&pem::Error::NoItemsFound)));
        };
        let (begins, ends) =
            validity(leaf).ok_or_else(|| bad_certificate("it cannot be decoded".to_owned()))?;
        let key = PrivateKeyDer::from_pem_slice(&content.key)
            .map_err(|error| bad_key(malformed(&error)))?;
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => TlsError::Mismatch(self.clone()),
                rustls::Error::InvalidCertificate(_) => bad_certificate(error.to_string()),
                error => bad_key(error.to_string()),
            })?;
        let path = self.certificate.clone();
        if now < begins {
            return Err(TlsError::NotYetValid { path, begins });
        }
        if now > ends {
            return Err(TlsError::Expired { path, ended: ends });
        }
        Ok(Pair { certified, ends })
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key must not get into a log.
        f.debug_struct("Content").finish_non_exhaustive()
    }
}

/// What is wrong with a PEM file; rustls lists the bytes.
fn malformed(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "it holds none",
        pem::Error::MissingSectionEnd { .. } => "it ends in the middle of a block",
        pem::Error::IllegalSectionStart { .. } => "it has a malformed BEGIN line",
        pem::Error::Base64Decode(_) => "it holds a block that is not base64",
        error => return error.to_string(),
    }
    .to_owned()
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Unreadable {
        flag,
        path: path.to_owned(),
        error,
    })
}

/// The first and the last second of a certificate.
pub(crate) fn validity(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let validity = certificate.validity();
    let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    Some((time(validity.not_before)?, time(validity.not_after)?))
}

fn ends(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    validity(certificate).map(|(_, ends)| ends)
}
