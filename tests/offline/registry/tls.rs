//! HTTPS, with certificates that nobody knows.

use std::sync::Mutex;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::scripted::serve;
use super::*;

/// A registry that has every image, by HTTPS, under a throw-away CA. Gives its address and what it
/// was asked.
async fn private_registry() -> (String, Arc<Mutex<Vec<Asked>>>) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::default());
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, log) = (acceptor.clone(), Arc::clone(&log));
            tokio::spawn(async move {
                // The client refuses the handshake.
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, Arc::new(|_: &Asked| Reply::status(200)), log).await;
                }
            });
        }
    });
    (address, asked)
}

#[tokio::test]
async fn registry_case_67_a_certificate_of_an_unknown_authority_is_not_trusted() {
    let (address, asked) = private_registry().await;
    for server in [address.clone(), format!("https://{address}")] {
        let answer = probe(&client_of(&server), IMAGE).await;
        assert_eq!(told(answer), "has a certificate that is not trusted");
    }
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn registry_case_70_https_never_becomes_http() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let first_bytes = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut first = [0; 4];
        stream.read_exact(&mut first).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        first
    });
    let answer = probe(&client_of(&format!("https://{address}")), IMAGE).await;
    assert_eq!(told(answer), "does not speak TLS: the handshake failed");
    // A handshake record of TLS, and no line of HTTP.
    assert_eq!(first_bytes.await.unwrap()[..2], [22, 3]);
}
