//! What `doctor` asks the API server: bounded in time and bytes, and nothing that changes it.

use std::time::Duration;

use axum::http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

/// One request takes at most this long.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// All of them together.
const WHOLE_TIME: Duration = Duration::from_secs(30);
/// Bytes of one answer. A list of 10,000 namespaces has about 5 MB.
const MOST_BYTES: usize = 64 << 20;

/// The API server of one cluster, as one user sees it.
#[derive(Debug)]
pub(super) struct Api {
    client: ClientDebug,
    ends: Instant,
}

/// A list, without what it says of itself.
#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

/// kube's client says nothing of itself.
struct ClientDebug(Client);

/// Why something is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unread {
    /// In the API server's words, which name the user and the right.
    #[error("{0}")]
    Forbidden(String),
    /// There is none, in the API server's words.
    #[error("{0}")]
    Absent(String),
    /// Another answer, in the API server's words.
    #[error("{0}")]
    Refused(String),
    /// No answer, or one that cannot be read.
    #[error("{0}")]
    Failed(String),
}

// === impl Api ===

impl Api {
    /// Everything must be asked within 30 s from now.
    pub(super) fn new(client: Client) -> Self {
        Self {
            client: ClientDebug(client),
            ends: Instant::now() + WHOLE_TIME,
        }
    }

    /// The namespace of the context.
    pub(super) fn default_namespace(&self) -> &str {
        self.client.0.default_namespace()
    }

    /// One object.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Unread> {
        let bytes = self.ask(Method::GET, path, Vec::new()).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Unread::Failed(format!("the answer to {path} is odd: {error}")))
    }

    /// All objects of a kind.
    pub(super) async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Unread> {
        self.get(path).await.map(|list: List<T>| list.items)
    }

    /// Any text.
    pub(super) async fn text(&self, path: &str) -> Result<String, Unread> {
        let bytes = self.ask(Method::GET, path, Vec::new()).await?;
        String::from_utf8(bytes).map_err(|_| Unread::Failed(format!("{path} gives no text")))
    }

    /// Creates an object without storing it.
    pub(super) async fn dry_run(&self, path: &str, object: &Value) -> Result<(), Unread> {
        let path = format!("{path}?dryRun=All");
        let body = object.to_string().into_bytes();
        self.ask(Method::POST, &path, body).await.map(drop)
    }

    async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Vec<u8>, Unread> {
        if !is_plain(path) {
            return Err(Unread::Failed(format!("{path} is no path of the API")));
        }
        let mut request = Request::builder().method(method).uri(path);
        if !body.is_empty() {
            request = request.header("Content-Type", "application/json");
        }
        let request = request
            .body(Body::from(body))
            .map_err(|error| Unread::Failed(format!("{path}: {error}")))?;
        let by = self.ends.min(Instant::now() + REQUEST_TIME);
        let answer = async {
            let answer = self.client.0.send(request).await;
            let answer = answer.map_err(|error| Unread::Failed(error.to_string()))?;
            let status = answer.status();
            let bytes = Limited::new(answer.into_body(), MOST_BYTES).collect().await;
            let bytes = bytes.map_err(|error| Unread::Failed(format!("{path}: {error}")))?;
            Ok((status, Vec::from(bytes.to_bytes())))
        };
        match timeout_at(by, answer).await {
            Ok(answer) => answer.and_then(|(status, bytes)| judge(status, bytes)),
            Err(_) => Err(Unread::Failed(format!(
                "the API server did not answer {path} in time"
            ))),
        }
    }
}

impl std::fmt::Debug for ClientDebug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// Names from a Pod's arguments may hold anything; a path that they make must not lead elsewhere.
fn is_plain(path: &str) -> bool {
    let plain = |char: char| char.is_ascii_alphanumeric() || "/.:-_?&=,%".contains(char);
    path.chars().all(plain) && !path.split('/').any(|part| matches!(part, "." | ".."))
}

/// The body of a success; else the message of the Status in it.
fn judge(status: StatusCode, bytes: Vec<u8>) -> Result<Vec<u8>, Unread> {
    if status.is_success() {
        return Ok(bytes);
    }
    let told: Option<Value> = serde_json::from_slice(&bytes).ok();
    let Some(message) = told.as_ref().and_then(|status| status["message"].as_str()) else {
        // Not from the API server itself, but from what it passed the request on to.
        return Err(Unread::Refused(format!("the answer is {status}")));
    };
    let message = message.to_owned();
    Err(match status {
        StatusCode::FORBIDDEN => Unread::Forbidden(message),
        StatusCode::NOT_FOUND => Unread::Absent(message),
        _ => Unread::Refused(message),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_made_of_odd_names_is_not_asked() {
        assert!(is_plain("/api/v1/namespaces/a/pods/b:8080/proxy/metrics"));
        for odd in [
            "/api/v1/namespaces/../../secrets",
            "/a b",
            "/a\u{1b}",
            "/a#b",
        ] {
            assert!(!is_plain(odd), "{odd:?}");
        }
    }

    #[test]
    fn a_failure_is_told_in_the_words_of_the_api_server() {
        let body = br#"{"kind":"Status","message":"pods is forbidden"}"#.to_vec();
        let forbidden = Unread::Forbidden("pods is forbidden".to_owned());
        assert_eq!(judge(StatusCode::FORBIDDEN, body), Err(forbidden));
        let told = judge(StatusCode::FORBIDDEN, b"<html>".to_vec());
        let other = Unread::Refused("the answer is 403 Forbidden".to_owned());
        assert_eq!(
            told,
            Err(other),
            "a Pod or a proxy says so, and no right will help"
        );
    }
}
