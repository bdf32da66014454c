//! What is kept in the Secret, and what is to be done next. Pure: time and cluster come from
//! outside, so every step can be tried from every state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::Times;
use crate::tls::pair::{
    AUTHORITIES, CERTIFICATE, Content, KEY, MOST_PEM, Places, bytes, malformed, validity,
};

/// The key in the Secret of the first authority's private key.
const SIGNING_KEY: &str = "ca.key";

/// Authorities that are trusted at a time. Two in a rotation; more only where the Secret is lost
/// again before every replica has followed.
const MOST_AUTHORITIES: usize = 8;

/// Why what is still good is made anew.
const RENEWAL: &str = "two thirds of the life of the last one are over";

/// The data of the Secret. A key that is not there is one without a byte.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct SecretState {
    leaf: Option<Content>,
    authorities: Vec<u8>,
    signing_key: Vec<u8>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Make an authority, for this reason, to be trusted beside those before it.
    Authority(String),
    /// Tell the API server whom to trust.
    Configure,
    /// Make a leaf by the first authority, for this reason.
    Leaf(String),
    /// Wait so long until everybody has heard of the last step.
    Settle(Duration),
    /// Ask every replica what it serves; where all serve a leaf of the first authority, forget the
    /// others.
    Ask,
    /// Nothing, until something changes or the clock goes on.
    Rest,
}

/// The leaf that is kept.
struct Leaf {
    /// Which authority signed it.
    signed_by: usize,
    is_due: bool,
}

// === impl SecretState ===

impl SecretState {
    /// What a Secret holds.
    pub(super) fn of_secret(data: &BTreeMap<String, ByteString>) -> Self {
        let bytes = |key| bytes(data, key);
        Self {
            leaf: Content::of_secret(data),
            authorities: bytes(AUTHORITIES),
            signing_key: bytes(SIGNING_KEY),
        }
    }

    /// What a Secret is to hold. All four keys, always: type `kubernetes.io/tls` wants its two.
    pub(super) fn data(&self) -> [(&'static str, ByteString); 4] {
        let leaf = self.leaf.clone().unwrap_or_default();
        [
            (CERTIFICATE, ByteString(leaf.certificate)),
            (KEY, ByteString(leaf.key)),
            (AUTHORITIES, ByteString(self.authorities.clone())),
            (SIGNING_KEY, ByteString(self.signing_key.clone())),
        ]
    }

    /// What `caBundle` is to hold, in PEM.
    pub(super) fn bundle(&self) -> String {
        pem(&authorities(&self.authorities).0)
    }

    /// The authority that signs.
    pub(super) fn signs(&self) -> Option<CertificateDer<'static>> {
        authorities(&self.authorities).0.into_iter().next()
    }

    /// What is to be done next. `configured`: both webhook configurations that exist trust what is
    /// kept; `steady`: for how long that has been so, and the Secret the same.
    pub(super) fn next(
        &self,
        configured: bool,
        steady: Duration,
        names: &[String],
        times: &Times,
        now: Timestamp,
    ) -> Step {
        let (trusted, _) = authorities(&self.authorities);
        let leaf = self.leaf(&trusted, names, now);
        match self.signer(now) {
            Err(why) => return Step::Authority(why),
            Ok(true) if leaf.as_ref().is_ok_and(|leaf| leaf.signed_by == 0) => {
                return Step::Authority(RENEWAL.to_owned());
            }
            Ok(_) => {}
        }
        if let Ok(leaf) = &leaf
            && leaf.signed_by == 0
            && leaf.is_due
        {
            // It changes nothing about trust, so it must not wait for what nobody may be able to write.
            return Step::Leaf(RENEWAL.to_owned());
        }
        if !configured {
            return Step::Configure;
        }
        let left = times.settle.saturating_sub(steady);
        let is_alone = trusted.len() == 1;
        let after_settling = |step| match left {
            // Beside no other, it harms nobody that some API server has not heard of it.
            left if left > Duration::ZERO && !is_alone => Step::Settle(left),
            _ => step,
        };
        match leaf {
            Err(why) => after_settling(Step::Leaf(why)),
            Ok(Leaf { signed_by: 0, .. }) if is_alone => Step::Rest,
            Ok(Leaf { signed_by: 0, .. }) => after_settling(Step::Ask),
            Ok(_) => after_settling(Step::Leaf("there is a new authority".to_owned())),
        }
    }

    /// With a new authority before those that are trusted until now. Where the Secret was lost, only
    /// `caBundle` still says whom replicas may be serving a leaf of.
    pub(super) fn with_new_authority(
        &self,
        bundles: &[Vec<u8>],
        times: &Times,
        now: Timestamp,
    ) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut parameters = parameters(&format!("forestall authority {now:.0}"), Vec::new())?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let parameters = between(parameters, now, times.backdate, times.authority);
        let mut trusted = vec![parameters.self_signed(&key)?.der().clone()];
        for pem in std::iter::once(&self.authorities).chain(bundles) {
            for authority in authorities(pem).0 {
                if !trusted.contains(&authority) {
                    trusted.push(authority);
                }
            }
        }
        trusted.truncate(MOST_AUTHORITIES);
        Ok(Self {
            leaf: self.leaf.clone(),
            authorities: pem(&trusted).into_bytes(),
            signing_key: key.serialize_pem().into_bytes(),
        })
    }

    /// With a new leaf, by the first authority.
    pub(super) fn with_new_leaf(
        &self,
        names: &[String],
        times: &Times,
        now: Timestamp,
    ) -> Result<Self, rcgen::Error> {
        let authority = self.signs().ok_or(rcgen::Error::CouldNotParseCertificate)?;
        let issuer = Issuer::from_ca_cert_der(&authority, self.key()?)?;
        let key = KeyPair::generate()?;
        let mut parameters = parameters("forestall", names.to_vec())?;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let parameters = between(parameters, now, times.backdate, times.leaf);
        Ok(Self {
            leaf: Some(Content {
                certificate: parameters.signed_by(&key, &issuer)?.pem().into_bytes(),
                key: key.serialize_pem().into_bytes(),
            }),
            ..self.clone()
        })
    }

    /// With the first authority alone.
    pub(super) fn without_old(&self) -> Self {
        Self {
            authorities: pem(self.signs().as_slice()).into_bytes(),
            ..self.clone()
        }
    }

    /// Whether the first authority can sign; true where it is due to be renewed.
    fn signer(&self, now: Timestamp) -> Result<bool, String> {
        let (trusted, complaint) = authorities(&self.authorities);
        if let Some(complaint) = complaint {
            return Err(format!("{AUTHORITIES}: {complaint}"));
        }
        let Some(authority) = trusted.first() else {
            return Err("there is none yet".to_owned());
        };
        if self.signing_key.is_empty() {
            return Err(format!("{SIGNING_KEY} is gone"));
        }
        let key = self
            .key()
            .map_err(|_| format!("{SIGNING_KEY} holds no private key in PEM"))?;
        let public = x509_parser::parse_x509_certificate(authority)
            .map(|(_, certificate)| certificate.public_key().raw.to_vec())
            .unwrap_or_default();
        if public != key.subject_public_key_info() {
            return Err(format!(
                "{SIGNING_KEY} is not the key of the first certificate in {AUTHORITIES}"
            ));
        }
        let (begins, ends) =
            validity(authority).ok_or_else(|| format!("{AUTHORITIES}: it cannot be decoded"))?;
        if now > ends {
            return Err(format!("the last one expired at {ends}"));
        }
        if now < begins {
            return Err(format!("the last one holds only from {begins} on"));
        }
        Ok(is_due(begins, ends, now))
    }

    fn key(&self) -> Result<KeyPair, rcgen::Error> {
        let pem = std::str::from_utf8(&self.signing_key)
            .ok()
            .filter(|pem| pem.len() <= MOST_PEM)
            .ok_or(rcgen::Error::CouldNotParseKeyPair)?;
        KeyPair::from_pem(pem)
    }

    /// Whether replicas will serve the leaf, and the API server will take it.
    fn leaf(
        &self,
        trusted: &[CertificateDer<'static>],
        names: &[String],
        now: Timestamp,
    ) -> Result<Leaf, String> {
        let places = Places {
            certificate: CERTIFICATE.to_owned(),
            key: KEY.to_owned(),
        };
        let pair = self
            .leaf
            .as_ref()
            .ok_or("there is none yet")?
            .check(&places, now)
            .map_err(|error| error.to_string())?;
        let chain = &pair.certified.cert;
        let signed_by = |name: &str| {
            let signed = |authority| is_signed_by(chain, authority, name, now);
            trusted.iter().position(signed)
        };
        let mut first = None;
        for name in names {
            first = Some(signed_by(name).ok_or_else(|| {
                format!("{CERTIFICATE} holds for {name} by no authority in {AUTHORITIES}")
            })?);
        }
        Ok(Leaf {
            signed_by: first.ok_or("there is no name to serve")?,
            is_due: is_due(pair.begins, pair.ends, now),
        })
    }
}

impl std::fmt::Debug for SecretState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The keys must not get into a log.
        f.debug_struct("SecretState").finish_non_exhaustive()
    }
}

/// Whether an authority vouches for a certificate under this name, now.
pub(super) fn is_signed_by(
    chain: &[CertificateDer<'_>],
    authority: &CertificateDer<'_>,
    name: &str,
    now: Timestamp,
) -> bool {
    let mut roots = RootCertStore::empty();
    let (Some((leaf, issuers)), Ok(name), Ok(())) = (
        chain.split_first(),
        ServerName::try_from(name),
        roots.add(authority.clone().into_owned()),
    ) else {
        return false;
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .is_ok_and(|verifier| {
            verifier
                .verify_server_cert(leaf, issuers, &name, &[], now)
                .is_ok()
        })
}

/// The authorities in a PEM text up to the first that cannot be read, and what is wrong with that.
fn authorities(pem: &[u8]) -> (Vec<CertificateDer<'static>>, Option<String>) {
    if pem.len() > MOST_PEM {
        let complaint = format!("it has more than the {MOST_PEM} bytes that are read");
        return (Vec::new(), Some(complaint));
    }
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        match certificate {
            Ok(certificate) if is_authority(&certificate) => found.push(certificate),
            Ok(_) => return (found, Some("it holds one that is no authority".to_owned())),
            Err(error) => return (found, Some(malformed(&error))),
        }
        if found.len() == MOST_AUTHORITIES {
            break;
        }
    }
    (found, None)
}

fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    x509_parser::parse_x509_certificate(certificate)
        .is_ok_and(|(_, certificate)| certificate.is_ca())
}

/// Two thirds of its life are over.
fn is_due(begins: Timestamp, ends: Timestamp, now: Timestamp) -> bool {
    let life = begins.duration_until(ends);
    now >= ends.checked_sub(life / 3).unwrap_or(begins)
}

fn parameters(name: &str, alternatives: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::new(alternatives)?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.use_authority_key_identifier_extension = true;
    Ok(parameters)
}

fn between(
    mut parameters: CertificateParams,
    now: Timestamp,
    backdate: Duration,
    life: Duration,
) -> CertificateParams {
    let at = |time: Timestamp| {
        rcgen::date_time_ymd(1970, 1, 1)
            + Duration::from_secs(u64::try_from(time.as_second()).unwrap_or_default())
    };
    let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    parameters.not_before = at(now.checked_sub(signed(backdate)).unwrap_or(now));
    parameters.not_after = at(now.checked_add(signed(life)).unwrap_or(Timestamp::MAX));
    parameters
}

/// In lines of 64 letters, as RFC 7468 has it.
fn pem(certificates: &[CertificateDer<'_>]) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in certificate.chunks(48) {
            BASE64.encode_string(line, &mut text);
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

#[cfg(test)]
mod tests;
