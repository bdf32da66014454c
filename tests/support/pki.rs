//! Certificates for tests: a throw-away authority by certs/dev-ca.sh, and odd ones by rcgen.
#![allow(
    dead_code,
    reason = "several test binaries share this, and each uses a part"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;

/// An authority with one server certificate: ca.crt, tls.crt, tls.key.
pub struct Pki {
    directory: PathBuf,
    /// Removes it at the end, where it was made here.
    _made: Option<TempDir>,
}

/// A certificate with its key, in PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Pki {
    /// A new authority, and a certificate for these names.
    pub fn new(names: &[&str]) -> Self {
        let made = tempfile::tempdir().unwrap();
        dev_ca(made.path(), names);
        Self {
            directory: made.path().to_owned(),
            _made: Some(made),
        }
    }

    /// What somebody else made.
    pub fn at(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            _made: None,
        }
    }

    /// For the addresses of tests.
    pub fn local() -> Self {
        Self::new(&["localhost", "127.0.0.1", "::1"])
    }

    /// Another certificate by the same authority, in place of the first.
    pub fn renew(&self, names: &[&str]) {
        dev_ca(&self.directory, names);
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// tls.crt and tls.key.
    pub fn pair(&self) -> Pair {
        Pair {
            certificate: fs::read_to_string(self.path("tls.crt")).unwrap(),
            key: fs::read_to_string(self.path("tls.key")).unwrap(),
        }
    }

    /// A server with the certificate.
    pub fn server(&self) -> Arc<ServerConfig> {
        let Pair { certificate, key } = self.pair();
        server(&certificate, &key)
    }

    /// A client that trusts this authority and speaks these protocols.
    pub fn client(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        client(&fs::read(self.path("ca.crt")).unwrap(), alpn)
    }
}

/// A client that trusts the certificates in this PEM.
pub fn client(trusted: &[u8], alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(trusted) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    // A session that is resumed shows no certificate.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// A server with this certificate and key, in PEM.
pub fn server(certificate: &str, key: &str) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            chain.collect(),
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        );
    Arc::new(config.unwrap())
}

/// The same, for clients that show this certificate only.
pub fn server_for(client: &str, certificate: &str, key: &str) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(client.as_bytes()).unwrap())
        .unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap);
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(
            chain.collect(),
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        );
    Arc::new(config.unwrap())
}

/// A self-signed certificate that holds between two years.
pub fn between(first: i32, last: i32) -> Pair {
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(first, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(last, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    Pair {
        certificate: parameters.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

fn dev_ca(directory: &Path, names: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("certs/dev-ca.sh");
    let made = Command::new(script)
        .arg(directory)
        .args(names)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "certs/dev-ca.sh: {complaint}");
}
