//! Whom to believe that a host is the one that it says, and what it is shown in turn: certificates in
//! files that an operator named.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use reqwest::Certificate;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// Bytes of one file.
const LONGEST_FILE: u64 = 256 * 1024;

/// Whom to believe that a host is the one that it says, and as whom it is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Trust {
    /// Certificates of authorities, in PEM, beside those of the system.
    pub(super) authorities: Vec<u8>,
    /// Whether anybody is believed.
    pub(super) anybody: bool,
    /// What is shown to a host that wants to know its clients.
    pub(super) identity: Option<Identity>,
}

/// A client's certificate and its key, in PEM.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity(Vec<u8>);

// === impl Identity ===

impl Identity {
    /// Reads a certificate and its key, which may be in the same file.
    ///
    /// # Errors
    /// The file, and what is wrong with it.
    pub(super) fn read(certificate: &Path, key: &Path) -> Result<Self, String> {
        let named = |path: &Path, problem: String| format!("{}: {problem}", path.display());
        let read = |path: &Path| read_file(path).map_err(|problem| named(path, problem));
        let chain = read(certificate)?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain)
            .filter_map(Result::ok)
            .collect();
        if chain.is_empty() {
            let problem = "has no certificate in PEM; name a client's certificate";
            return Err(named(certificate, problem.to_owned()));
        }
        let secret = PrivateKeyDer::from_pem_slice(&read(key)?);
        let secret = secret.map_err(|_| {
            let problem =
                "has no key in PEM; name the key of the certificate, without a passphrase";
            named(key, problem.to_owned())
        })?;
        CertifiedKey::from_der(chain, secret, &default_provider()).map_err(|_| {
            let certificate = certificate.display();
            named(
                key,
                format!("is not the key of {certificate}; name both of one pair"),
            )
        })?;
        Ok(Self([read(certificate)?, read(key)?].join(&b'\n')))
    }

    /// The form that the HTTP client takes.
    ///
    /// # Errors
    /// None, as it was read.
    pub(super) fn for_client(&self) -> reqwest::Result<reqwest::Identity> {
        reqwest::Identity::from_pem(&self.0)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

/// Reads a file that an operator named.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let said = |error: std::io::Error| format!("{error}; name a file that this process may read");
    if fs::metadata(path).map_err(said)?.len() > LONGEST_FILE {
        return Err(format!("has more than {LONGEST_FILE} bytes"));
    }
    fs::read(path).map_err(said)
}

/// Reads a file of certificates in PEM.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_authorities(path: &Path) -> Result<Vec<u8>, String> {
    let mut pem = read_file(path)?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => {
            pem.push(b'\n');
            Ok(pem)
        }
        _ => Err("has no certificate in PEM; name a file of an authority's".to_owned()),
    }
}

// === impl Trust ===

impl Trust {
    /// What a folder in Docker's layout holds: `*.crt` of authorities, and a client's `*.cert` with its
    /// `*.key` (containerd, core/remotes/docker/config/hosts.go `loadCertFiles`).
    ///
    /// # Errors
    /// The first file that cannot be used, and what is wrong with it.
    pub(super) fn of_folder(folder: &Path) -> Result<Self, (PathBuf, String)> {
        let entries = fs::read_dir(folder).map_err(|error| (folder.into(), error.to_string()))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        let mut trust = Self::default();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => {
                    let read = read_authorities(&path);
                    let read = read.map_err(|problem| (path, problem))?;
                    trust.authorities.extend(read);
                }
                Some("cert") if trust.identity.is_none() => {
                    let key = path.with_extension("key");
                    let key = if key.exists() { &key } else { &path };
                    let read = Identity::read(&path, key);
                    let read = read.map_err(|problem| (folder.into(), problem))?;
                    trust.identity = Some(read);
                }
                _ => {}
            }
        }
        Ok(trust)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_and_its_key_are_read_from_one_file_or_two() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let (certificate, key) = pair();
        let (_, other) = pair();
        let both = write("both.pem", &format!("{key}\n{certificate}"));
        let certificate = write("client.cert", &certificate);
        let key = write("client.key", &key);
        let other = write("other.key", &other);
        for (certificate, key) in [(&both, &both), (&certificate, &key)] {
            let identity = Identity::read(certificate, key).unwrap();
            assert!(identity.for_client().is_ok());
            assert_eq!(format!("{identity:?}"), "Identity(…)");
        }
        let absent = folder.path().join("absent");
        for (certificate, key, problem) in [
            (&absent, &key, "absent: No such file"),
            (&certificate, &absent, "absent: No such file"),
            (&key, &key, "client.key: has no certificate in PEM"),
            (&certificate, &certificate, "client.cert: has no key in PEM"),
            (&certificate, &other, "other.key: is not the key of"),
        ] {
            let error = Identity::read(certificate, key).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        // In the layout of Docker, by their names.
        let trust = Trust::of_folder(folder.path()).unwrap();
        assert!(trust.identity.is_some() && trust.authorities.is_empty());
        fs::remove_file(&key).unwrap();
        let (_, problem) = Trust::of_folder(folder.path()).unwrap_err();
        assert!(
            problem.contains("client.cert: has no key in PEM"),
            "{problem}"
        );
    }
}
