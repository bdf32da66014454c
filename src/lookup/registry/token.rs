//! Anonymous tokens. Docker Hub, GHCR and Quay give one to everybody, and answer nobody without.

use std::time::{Duration, Instant as Clock};

use moka::Expiry;
use moka::future::Cache;
use reqwest::header::HeaderValue;
use reqwest::{Method, Url};
use serde::Deserialize;
use tokio::time::Instant;

use super::challenge::Bearer;
use super::obstacle::Obstacle;
use super::transport::{Ask, Transport, body, rest};

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

/// A registry, as host and port, and a repository of it.
pub(super) type Place = (String, String);

/// Fetches tokens and keeps them while they hold.
#[derive(Debug)]
pub(super) struct Tokens(Cache<Place, Token>);

#[derive(Clone, Debug)]
struct Token {
    header: HeaderValue,
    lifetime: Duration,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
}

struct Lifetimes;

// === impl Tokens ===

impl Tokens {
    pub(super) fn new() -> Self {
        let weight = |(host, path): &Place, token: &Token| {
            let bytes = host.len() + path.len() + token.header.len();
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder()
            .max_capacity(MOST_BYTES)
            .weigher(weight)
            .expire_after(Lifetimes)
            .build();
        Self(cache)
    }

    /// The token that is kept for a repository.
    pub(super) async fn kept(&self, place: &Place) -> Option<HeaderValue> {
        self.0.get(place).await.map(|token| token.header)
    }

    /// A new token, from the server that the registry's challenge names.
    pub(super) async fn fetch(
        &self,
        transport: &Transport,
        place: Place,
        challenge: &Bearer,
        by: Instant,
    ) -> Result<HeaderValue, Obstacle> {
        let (_, repository) = &place;
        let fetched = fetch(transport, repository, challenge, by).await;
        let token = fetched.map_err(|obstacle| Obstacle::TokenServer(Box::new(obstacle)))?;
        let header = token.header.clone();
        self.0.insert(place, token).await;
        Ok(header)
    }
}

async fn fetch(
    transport: &Transport,
    repository: &str,
    challenge: &Bearer,
    by: Instant,
) -> Result<Token, Obstacle> {
    let mut url = Url::parse(&challenge.realm)
        .map_err(|_| Obstacle::Malformed("has no address that can be read"))?;
    let scope = match &challenge.scope {
        Some(scope) => scope.clone(),
        None => format!("repository:{repository}:pull"),
    };
    url.query_pairs_mut()
        .extend_pairs(challenge.service.iter().map(|service| ("service", service)))
        .append_pair("scope", &scope);
    let by = by.min(Instant::now() + TOKEN);
    // The client asks without credentials, so a hostile realm gets none; and it is asked only where
    // the policy for hosts lets any request go.
    let response = transport
        .send(Ask {
            method: Method::GET,
            url,
            accept: "application/json",
            token: None,
            headers: None,
            redirects: 0,
            by,
        })
        .await?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(Obstacle::of_status(status, rest(response.headers())));
    }
    let body = body(response, LONGEST_ANSWER, by).await?;
    Token::read(&body).ok_or(Obstacle::Malformed("gives no token"))
}

// === impl Token ===

impl Token {
    fn read(body: &[u8]) -> Option<Self> {
        let answer: Answer = serde_json::from_slice(body).ok()?;
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

// === impl Lifetimes ===

impl Expiry<Place, Token> for Lifetimes {
    fn expire_after_create(&self, _: &Place, token: &Token, _: Clock) -> Option<Duration> {
        Some(token.lifetime)
    }

    fn expire_after_update(
        &self,
        _: &Place,
        token: &Token,
        _: Clock,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(token.lifetime)
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
