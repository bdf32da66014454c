//! Requests: who may be asked, how long, how often redirected, and how much is read.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Method, Response, Url};
use tokio::time::{Instant, timeout_at};

use super::address::{ResolveError, Resolver};
use super::credentials::CredentialsError;
use super::hosts::Hosts;
use super::probe_error::ProbeError;
use super::settings::SettingsError;
use super::trust::Trust;

/// The most for name, connection and TLS handshake.
const CONNECT: Duration = Duration::from_secs(1);
/// Redirects that are followed: registry.k8s.io sends to its mirrors with one.
pub(super) const MOST_REDIRECTS: usize = 3;
/// Idle connections that are kept for each host, and for how long.
const IDLE_CONNECTIONS: usize = 2;
const IDLE: Duration = Duration::from_secs(30);
/// How long a registry is left alone that says 429 without a time, and the longest that it gets.
const REST: Duration = Duration::from_mins(1);
const LONGEST_REST: Duration = Duration::from_mins(15);

/// Sends requests to hosts that may be asked.
#[derive(Debug)]
pub(super) struct Transport {
    /// Asks all hosts for which nothing else is configured.
    client: Client,
    /// By whom they believe.
    clients: BTreeMap<Trust, Client>,
    hosts: Hosts,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) accept: &'static str,
    /// Goes to the host of `url`, never to one that this redirects to.
    pub(super) authorization: Option<&'a HeaderValue>,
    /// The same, beside it.
    pub(super) headers: Option<&'a HeaderMap>,
    pub(super) redirects: usize,
    pub(super) by: Instant,
}

/// Why there can be no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A setting cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Credentials of Forestall's own cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The machine gives no random bytes.
    #[error("the operating system gives no random bytes, which caches of credentials need")]
    NoRandom,
    /// The TLS library does not start, mostly for want of certificates.
    #[error(
        "registries cannot be asked by HTTPS; install CA certificates (the package ca-certificates), \
         or name a file of them in SSL_CERT_FILE"
    )]
    Tls(#[source] reqwest::Error),
}

// === impl Transport ===

impl Transport {
    pub(super) fn new(hosts: Hosts) -> Result<Self, ClientError> {
        let resolver = Arc::new(Resolver::new(hosts.configured_names()));
        let make = |trust: Trust| {
            let client = client(&trust, Arc::clone(&resolver)).map_err(ClientError::Tls)?;
            Ok((trust, client))
        };
        let (_, client) = make(Trust::default())?;
        let clients = hosts.trusts().into_iter().map(make);
        Ok(Self {
            client,
            clients: clients.collect::<Result<_, ClientError>>()?,
            hosts,
        })
    }

    pub(super) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Sends a request, and again wherever the answer redirects to.
    pub(super) async fn send(&self, ask: Ask<'_>) -> Result<Response, ProbeError> {
        let mut url = ask.url.clone();
        let mut redirects = 0;
        loop {
            let sent = match self.send_once(&ask, &url).await {
                // A kept connection may have been closed a moment ago.
                Err(ProbeError::Broken) => self.send_once(&ask, &url).await,
                sent => sent,
            };
            let response = match redirects {
                0 => sent?,
                _ => sent.map_err(|error| ProbeError::Redirect(Box::new(error)))?,
            };
            if !is_redirect(response.status().as_u16()) {
                return Ok(response);
            }
            if redirects == ask.redirects {
                return Err(ProbeError::Malformed("redirects once too often"));
            }
            redirects += 1;
            url = location(&response, &url)
                .ok_or(ProbeError::Malformed("redirects to no address"))?;
        }
    }

    async fn send_once(&self, ask: &Ask<'_>, url: &Url) -> Result<Response, ProbeError> {
        self.hosts.permit(url)?;
        let trust = self.hosts.trust(url);
        let client = trust.and_then(|trust| self.clients.get(trust));
        let mut request = client
            .unwrap_or(&self.client)
            .request(ask.method.clone(), url.clone())
            .header(ACCEPT, ask.accept);
        if url.origin() == ask.url.origin() {
            if let Some(headers) = ask.headers {
                request = request.headers(headers.clone());
            }
            if let Some(authorization) = ask.authorization {
                request = request.header(AUTHORIZATION, authorization);
            }
        }
        timeout_at(ask.by, request.send())
            .await
            .map_err(|_| ProbeError::TimedOut)?
            .map_err(|error| obstacle_of(&error))
    }
}

fn client(trust: &Trust, resolver: Arc<Resolver>) -> reqwest::Result<Client> {
    let authorities = Certificate::from_pem_bundle(&trust.authorities)?;
    let mut builder = Client::builder();
    if let Some(identity) = &trust.identity {
        builder = builder.identity(identity.for_client()?);
    }
    builder
        .user_agent(concat!("forestall/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(resolver)
        // A proxy would resolve names where nothing checks the addresses.
        .no_proxy()
        // The client's own redirects know no policy.
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(CONNECT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .pool_idle_timeout(IDLE)
        .tls_certs_merge(authorities)
        .tls_danger_accept_invalid_certs(trust.anybody)
        .build()
}

/// Reads a body of at most so many bytes.
pub(super) async fn body(
    mut response: Response,
    most: usize,
    by: Instant,
) -> Result<Vec<u8>, ProbeError> {
    let read = async {
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| obstacle_of(&error))?
        {
            if chunk.len() > most - body.len() {
                return Err(ProbeError::Malformed(
                    "gave a longer answer than a registry gives",
                ));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    timeout_at(by, read)
        .await
        .map_err(|_| ProbeError::TimedOut)?
}

/// Whether the answer is a page for people: a proxy, a login, a wrong address.
pub(super) fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| {
        let kind = kind.trim_ascii_start().to_ascii_lowercase();
        kind.starts_with(b"text/html") || kind.starts_with(b"application/xhtml")
    })
}

/// How long the answer asks to be left alone, where it is one that may ask so.
pub(super) fn rest(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let rest = seconds.map_or(REST, Duration::from_secs);
    rest.clamp(Duration::from_secs(1), LONGEST_REST)
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

fn location(response: &Response, from: &Url) -> Option<Url> {
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    from.join(location).ok()
}

/// What a failed request means, by the first cause that says it.
fn obstacle_of(error: &reqwest::Error) -> ProbeError {
    match cause::<ResolveError>(error) {
        Some(ResolveError::Refused(refusal)) => return ProbeError::Blocked(*refusal),
        Some(ResolveError::NoAddress) => return ProbeError::NoAddress,
        None => {}
    }
    match cause::<rustls::Error>(error) {
        Some(rustls::Error::InvalidCertificate(_)) => return ProbeError::Untrusted,
        Some(_) => return ProbeError::NoTls,
        None => {}
    }
    if error.is_timeout() {
        ProbeError::TimedOut
    } else if error.is_connect() {
        ProbeError::Unreachable
    } else {
        ProbeError::Broken
    }
}

/// The first cause of that type. An I/O error holds its cause without showing it as a source.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let held = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match held {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest_of(value: &str) -> u64 {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
        rest(&headers).as_secs()
    }

    #[test]
    fn registry_case_63_the_rest_that_a_registry_wants_has_bounds() {
        assert_eq!(rest(&HeaderMap::new()), REST);
        assert_eq!(rest_of("120"), 120);
        assert_eq!(rest_of("0"), 1);
        assert_eq!(rest_of("999999999"), 900);
        for other in [
            "-1",
            "soon",
            "99999999999999999999",
            "Wed, 21 Oct 2026 07:28:00 GMT",
        ] {
            assert_eq!(rest_of(other), 60, "{other}");
        }
    }

    #[test]
    fn pages_for_people_are_known_by_their_type() {
        for (kind, is_html) in [
            ("text/html; charset=utf-8", true),
            ("TEXT/HTML", true),
            ("application/json", false),
            ("text/plain", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(is_page(&headers), is_html, "{kind}");
        }
    }
}
