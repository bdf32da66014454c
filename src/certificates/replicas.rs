//! What each replica serves, asked of itself.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Settings;
use super::secret_state::{SecretState, is_signed_by};

/// The longest that one replica may take to connect and shake hands.
const PATIENCE: Duration = Duration::from_secs(3);
/// Replicas asked at a time.
const AT_A_TIME: usize = 16;

/// The replicas that do not serve a leaf of the first authority, and why each does not. Those that
/// are not ready, or about to leave, count too: an API server may still call them.
pub(super) async fn lagging(
    slices: Vec<EndpointSlice>,
    kept: &SecretState,
    settings: &Settings,
) -> Vec<String> {
    let addresses: BTreeSet<String> = slices
        .into_iter()
        .flat_map(|slice| slice.endpoints)
        .flat_map(|endpoint| endpoint.addresses)
        .collect();
    let Some(authority) = kept.signs() else {
        return vec!["there is no authority that signs".to_owned()];
    };
    if addresses.is_empty() {
        return vec![format!(
            "no replica is seen behind Service {}",
            settings.service
        )];
    }
    let authority = &authority;
    let mut lagging: Vec<String> = stream::iter(addresses)
        .map(async |address| {
            let complaint = ask(&address, authority, settings).await.err()?;
            Some(format!("{address}: {complaint}"))
        })
        .buffer_unordered(AT_A_TIME)
        .filter_map(std::future::ready)
        .collect()
        .await;
    lagging.sort();
    lagging
}

async fn ask(
    address: &str,
    authority: &CertificateDer<'_>,
    settings: &Settings,
) -> Result<(), String> {
    let [_, _, name, _] = settings.names();
    let chain = timeout(PATIENCE, served(address, settings.port, &name))
        .await
        .map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?
        .map_err(|error| error.to_string())?;
    if is_signed_by(&chain, authority, &name, Timestamp::now()) {
        Ok(())
    } else {
        Err("it does not serve the new certificate yet".to_owned())
    }
}

/// The chain that it shows.
async fn served(address: &str, port: u16, name: &str) -> io::Result<Vec<CertificateDer<'static>>> {
    let stream = TcpStream::connect((address, port)).await?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    let (_, connection) = stream.get_ref();
    Ok(connection.peer_certificates().unwrap_or_default().to_vec())
}

/// Trusts anybody, as nothing is told: only the certificate is looked at, afterwards. To refuse it in
/// the handshake would fill the replica's log with failures.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
