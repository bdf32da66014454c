//! The certificate: read from files or a Secret, checked, and exchanged while the server runs.
//!
//! kubelet exchanges a mounted Secret by renaming a symbolic link, `..data`, so a watch on the
//! file itself never fires. The files are read again every few seconds and compared by content. A
//! Secret that is not mounted is watched (`tls/secret.rs`). A pair that cannot be used never
//! replaces one that can, and open connections go on.

pub(crate) mod pair;
mod secret;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{Timestamp, ToSpan};
use k8s_openapi::ByteString;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use self::pair::{AUTHORITIES, Content, Pair, Places, validity};
pub use self::pair::{PairFiles, TlsError};
use crate::object_name::ObjectName;
use crate::report::metrics::{CertificateLabel, Metrics, ResultLabel};

/// The names in a certificate that is made here.
pub const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The certificate that is served now.
#[derive(Debug)]
pub struct Certificates {
    /// `None`: there is none yet, and every handshake fails.
    current: watch::Sender<Option<Arc<CertifiedKey>>>,
    source: Source,
    seen: Mutex<LoadedPair>,
    metrics: Arc<Metrics>,
}

/// Where the certificate comes from.
#[derive(Debug)]
enum Source {
    /// It was made here, so nothing can change.
    Own,
    PairFiles(PairFiles),
    Secret(ObjectName),
}

#[derive(Debug, Default)]
struct LoadedPair {
    /// What the Secret holds now; `None` without one.
    secret: Option<Content>,
    /// What the current certificate was made of.
    served: Option<Content>,
    /// What was said of the source last, so that it is said once.
    complaint: Option<String>,
}

// === impl Certificates ===

impl Certificates {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// Names the file that cannot be used, and the cure.
    pub fn from_files(files: PairFiles, metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        let content = files.read()?;
        let pair = content.check(&files.places(), Timestamp::now())?;
        let certificates = Self::new(Source::PairFiles(files), metrics);
        certificates.serve(pair);
        certificates.seen().served = Some(content);
        Ok(certificates)
    }

    /// Serves nothing until [`Certificates::follow`] has seen a pair in the Secret.
    #[must_use]
    pub fn from_secret(name: ObjectName, metrics: Arc<Metrics>) -> Self {
        Self::new(Source::Secret(name), metrics)
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
        let (begins, ends) = validity(certificate.der()).unwrap_or_default();
        let certificates = Self::new(Source::Own, metrics);
        certificates.serve(Pair {
            certified,
            begins,
            ends,
        });
        Ok((certificates, certificate.pem()))
    }

    fn new(source: Source, metrics: Arc<Metrics>) -> Self {
        Self {
            current: watch::Sender::new(None),
            source,
            seen: Mutex::default(),
            metrics,
        }
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

    /// Waits until there is a certificate to serve.
    pub async fn served(&self) {
        // The sender is in self, so this cannot fail.
        let _ = self.current.subscribe().wait_for(Option::is_some).await;
    }

    /// Looks at the source again, and serves what it holds now, if it can be used.
    pub fn reload(&self) {
        let mut seen = self.seen();
        let content = match &self.source {
            Source::Own => return,
            Source::PairFiles(files) => files.read(),
            Source::Secret(name) => seen
                .secret
                .clone()
                .ok_or_else(|| TlsError::Absent(name.clone())),
        };
        let looked = content.and_then(|content| {
            if seen.served.as_ref() == Some(&content) {
                return Ok(None);
            }
            let pair = content.check(&self.source.places(), Timestamp::now())?;
            Ok(Some((content, pair)))
        });
        match looked {
            Ok(None) => seen.complaint = None,
            Ok(Some((content, pair))) => {
                let ends = pair.ends;
                self.serve(pair);
                seen.served = Some(content);
                seen.complaint = None;
                self.count("success");
                let place = self.source.places().certificate;
                tracing::info!(%place, %ends, "serving the new certificate");
            }
            Err(error) => {
                let complaint = Some(error.to_string());
                if seen.complaint != complaint {
                    seen.complaint = complaint;
                    match (&seen.served, &error) {
                        // How every installation begins.
                        (None, TlsError::Absent(_)) => {
                            tracing::info!("no certificate is served yet: {error}");
                            return;
                        }
                        (None, _) => tracing::error!("{error}; no certificate is served yet"),
                        (Some(_), _) => {
                            tracing::error!("{error}; the certificate before it is still served");
                        }
                    }
                    self.count("failure");
                }
            }
        }
    }

    /// What the Secret holds now; `None` without one.
    fn take(&self, data: Option<&BTreeMap<String, ByteString>>) {
        let authorities = data.and_then(|data| data.get(AUTHORITIES));
        let signs = authorities.and_then(|pem| pair::certificates(&pem.0).ok()?.into_iter().next());
        if let Some((_, ends)) = signs.and_then(|authority| validity(&authority)) {
            self.expires("ca", ends);
        }
        self.seen().secret = data.and_then(Content::of_secret);
        self.reload();
    }

    fn serve(&self, pair: Pair) {
        self.expires("serving", pair.ends);
        self.current.send_replace(Some(Arc::new(pair.certified)));
    }

    fn expires(&self, certificate: &'static str, ends: Timestamp) {
        let label = CertificateLabel { certificate };
        let expiry = self.metrics.certificate_expiry.get_or_create(&label);
        expiry.set(ends.as_second());
    }

    fn count(&self, result: &'static str) {
        let label = ResultLabel { result };
        self.metrics.certificate_reloads.get_or_create(&label).inc();
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, LoadedPair> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.borrow().clone()
    }
}

// === impl Source ===

impl Source {
    fn places(&self) -> Places {
        match self {
            Self::PairFiles(files) => files.places(),
            Self::Secret(name) => Places::of_secret(name),
            Self::Own => Places {
                certificate: String::new(),
                key: String::new(),
            },
        }
    }
}
