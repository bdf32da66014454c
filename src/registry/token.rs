//! Tokens. Docker Hub, GHCR and Quay give one to everybody, and answer nobody without.

use std::time::{Duration, Instant as Clock};

use moka::Expiry;
use moka::future::Cache;
use reqwest::header::HeaderValue;
use reqwest::{Method, Url};
use serde::Deserialize;
use tokio::time::Instant;

use super::challenge::Bearer;
use super::credentials::Fingerprint;
use super::probe_error::ProbeError;
use super::session::Session;
use super::transport::{Ask, body, rest};

/// The most time for a token.
const TOKEN: Duration = Duration::from_millis(1500);
/// Bytes of a token server's answer.
const LONGEST_ANSWER: usize = 64 * 1024;
/// How long a token holds whose answer does not say (distribution, "Token Authentication
/// Specification", `expires_in`).
const DEFAULT_LIFETIME: Duration = Duration::from_mins(1);
/// The longest that one is kept, and how long before its end it is given up.
const LONGEST_LIFETIME: Duration = Duration::from_hours(1);
const MARGIN: Duration = Duration::from_secs(10);
/// Bytes of all tokens that are kept.
const MOST_BYTES: u64 = 8 * 1024 * 1024;

/// How long it is remembered that a registry wants user name and password.
const BASIC: Duration = Duration::from_hours(1);

/// Who asks whom about what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TokenScope {
    /// The registry, as host and port.
    pub(super) host: String,
    /// A repository of it.
    pub(super) repository: String,
    /// With these credentials; `None` without. A token never serves anybody else.
    pub(super) fingerprint: Option<Fingerprint>,
}

/// What a registry wants to see, as it was found out.
#[derive(Clone, Debug)]
pub(super) enum Pass {
    /// This token.
    Token(HeaderValue),
    /// User name and password.
    Basic,
}

/// Fetches tokens and keeps them while they hold.
#[derive(Debug)]
pub(super) struct Tokens(Cache<TokenScope, CachedToken>);

#[derive(Clone, Debug)]
struct CachedToken {
    pass: Pass,
    lifetime: Duration,
}

#[derive(Debug)]
struct Token {
    header: HeaderValue,
    lifetime: Duration,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
}

struct TokenLifetimes;

// === impl Tokens ===

impl Tokens {
    pub(super) fn new() -> Self {
        let weight = |place: &TokenScope, kept: &CachedToken| {
            let token = match &kept.pass {
                Pass::Token(token) => token.len(),
                Pass::Basic => 0,
            };
            let bytes = place.host.len() + place.repository.len() + token;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder()
            .max_capacity(MOST_BYTES)
            .weigher(weight)
            .expire_after(TokenLifetimes)
            .build();
        Self(cache)
    }

    /// What the registry wanted to see the last time.
    pub(super) async fn kept(&self, place: &TokenScope) -> Option<Pass> {
        self.0.get(place).await.map(|kept| kept.pass)
    }

    /// Remembers that the registry wants user name and password.
    pub(super) async fn wants_basic(&self, place: TokenScope) {
        let kept = CachedToken {
            pass: Pass::Basic,
            lifetime: BASIC,
        };
        self.0.insert(place, kept).await;
    }

    /// A new token, from the server that the registry's challenge names.
    pub(super) async fn fetch(
        &self,
        session: &Session<'_>,
        challenge: &Bearer,
    ) -> Result<HeaderValue, ProbeError> {
        let fetched = fetch(session, challenge).await;
        let Token { header, lifetime } =
            fetched.map_err(|error| ProbeError::TokenServer(Box::new(error)))?;
        let pass = Pass::Token(header.clone());
        self.0
            .insert(session.place(), CachedToken { pass, lifetime })
            .await;
        Ok(header)
    }
}

async fn fetch(session: &Session<'_>, challenge: &Bearer) -> Result<Token, ProbeError> {
    let mut url = Url::parse(&challenge.realm)
        .map_err(|_| ProbeError::Malformed("has no address that can be read"))?;
    let credential = match session.credential {
        Some(_) if !session.endpoint.trusts(&url) => return Err(ProbeError::Stranger),
        Some(credential) => Some(credential.basic().ok_or(ProbeError::Unsendable)?),
        None => None,
    };
    let scope = match &challenge.scope {
        Some(scope) => scope.clone(),
        None => format!("repository:{}:pull", session.repository),
    };
    url.query_pairs_mut()
        .extend_pairs(challenge.service.iter().map(|service| ("service", service)))
        .append_pair("scope", &scope);
    let by = session.by.min(Instant::now() + TOKEN);
    // It is asked only where the policy for hosts lets any request go.
    let response = session
        .transport
        .send(Ask {
            method: Method::GET,
            url,
            accept: "application/json",
            authorization: credential.as_ref(),
            headers: None,
            redirects: 0,
            by,
        })
        .await?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(ProbeError::of_status(status, rest(response.headers())));
    }
    let body = body(response, LONGEST_ANSWER, by).await?;
    Token::read(&body).ok_or(ProbeError::Malformed("gives no token"))
}

// === impl Token ===

impl Token {
    fn read(body: &[u8]) -> Option<Self> {
        let answer: TokenAnswer = serde_json::from_slice(body).ok()?;
        let is_some = |token: &String| !token.is_empty();
        let token = answer
            .token
            .filter(is_some)
            .or_else(|| answer.access_token.filter(is_some))?;
        let mut header = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        header.set_sensitive(true);
        let told = answer.expires_in.map(Duration::try_from_secs_f64);
        let lifetime = told.and_then(Result::ok).unwrap_or(DEFAULT_LIFETIME);
        let lifetime = lifetime.min(LONGEST_LIFETIME).saturating_sub(MARGIN);
        Some(Self { header, lifetime })
    }
}

// === impl TokenLifetimes ===

impl Expiry<TokenScope, CachedToken> for TokenLifetimes {
    fn expire_after_create(
        &self,
        _: &TokenScope,
        kept: &CachedToken,
        _: Clock,
    ) -> Option<Duration> {
        Some(kept.lifetime)
    }

    fn expire_after_update(
        &self,
        _: &TokenScope,
        kept: &CachedToken,
        _: Clock,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(kept.lifetime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Option<(String, u64)> {
        let token = Token::read(body.as_bytes())?;
        let text = token.header.to_str().unwrap().to_owned();
        Some((text, token.lifetime.as_secs()))
    }

    #[test]
    fn registry_case_46_either_name_of_the_token_is_taken() {
        let expected = Some(("Bearer a".to_owned(), 290));
        assert_eq!(read(r#"{"token":"a","expires_in":300}"#), expected);
        assert_eq!(read(r#"{"access_token":"a","expires_in":300}"#), expected);
        assert_eq!(
            read(r#"{"token":"","access_token":"a","expires_in":300}"#),
            expected
        );
    }

    #[test]
    fn registry_case_47_a_token_holds_a_minute_where_nothing_is_said_and_an_hour_at_most() {
        for (told, seconds) in [
            ("", 50),
            (",\"expires_in\":null", 50),
            (",\"expires_in\":86400", 3590),
            (",\"expires_in\":1e300", 50),
            (",\"expires_in\":-5", 50),
            (",\"expires_in\":3", 0),
        ] {
            let (_, lifetime) = read(&format!("{{\"token\":\"a\"{told}}}")).unwrap();
            assert_eq!(lifetime, seconds, "{told}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for body in [
            "",
            "[]",
            "{}",
            "{\"token\":\"\"}",
            "{\"token\":5}",
            "{\"token\":\"a\\nb\"}",
            "<html>",
        ] {
            assert_eq!(read(body), None, "{body}");
        }
    }
}
