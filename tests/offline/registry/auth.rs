//! Tokens: what a registry wants of its anonymous clients.

use serde_json::{Value, json};

use super::*;

const DENIED: &str = "answered 401: it does not say whether the image is there";

/// A registry that wants a token, and gives it out itself.
struct Guarded {
    registry: Scripted,
}

impl Guarded {
    /// `token` answers for tokens; `granted` answers who has one.
    async fn start(
        token: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
        granted: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let registry = Scripted::start(move |asked| {
            if asked.path() == "/token" {
                return token(asked);
            }
            match asked.header("authorization") {
                Some("bearer good") => granted(asked),
                _ => challenge(asked),
            }
        })
        .await;
        Self { registry }
    }

    async fn told(&self) -> String {
        told(probe(&client_of(&self.registry.url()), IMAGE).await)
    }
}

/// The challenge names this same server: what was asked holds its address.
fn challenge(asked: &Asked) -> Reply {
    let host = asked.header("host").unwrap();
    let bearer = format!(
        "Bearer realm=\"http://{host}/token\",service=\"registry test\",scope=\"repository:team/app:pull\""
    );
    Reply::error(401, "UNAUTHORIZED")
        .header("WWW-Authenticate", "Negotiate")
        .header("WWW-Authenticate", &bearer)
}

fn token(body: Value) -> impl Fn(&Asked) -> Reply {
    move |_| Reply::status(200).json(&body)
}

#[tokio::test]
async fn registry_case_32_an_anonymous_token_is_fetched_and_used_again() {
    let guarded = Guarded::start(token(json!({"token": "good"})), absent).await;
    let client = client_of(&guarded.registry.url());
    assert_eq!(told(probe(&client, IMAGE).await), "missing Tag [v2 v3]");
    let other = "registry.test/team/app:v9";
    assert_eq!(told(probe(&client, other).await), "missing Tag [v2 v3]");
    let asked = guarded.registry.asked();
    let tokens: Vec<_> = asked
        .iter()
        .filter(|asked| asked.path() == "/token")
        .collect();
    assert_eq!(tokens.len(), 1, "one token for both images");
    assert_eq!(
        tokens[0].target,
        "/token?service=registry+test&scope=repository%3Ateam%2Fapp%3Apull"
    );
    assert_eq!(tokens[0].header("authorization"), None);
}

#[tokio::test]
async fn registry_case_33_a_token_that_does_not_help_is_denied() {
    let guarded = Guarded::start(token(json!({"token": "poor"})), absent).await;
    assert_eq!(guarded.told().await, DENIED);
    assert_eq!(guarded.registry.count("HEAD", MANIFEST), 2);
}

#[tokio::test]
async fn registry_case_35_to_37_token_servers_that_give_none() {
    for (reply, expected) in [
        (Reply::error(401, "evil"), DENIED),
        (
            Reply::error(403, "DENIED"),
            "answered 403: it does not say whether the image is there",
        ),
        (Reply::status(429), "answered 429: too many requests"),
        (Reply::status(500), "answered 500"),
        (Reply::status(200), "gives no token"),
        (Reply::status(200).body("evil"), "gives no token"),
        (
            Reply::status(200).json(&json!({"token": ""})),
            "gives no token",
        ),
        (
            Reply::status(307).header("Location", "/token"),
            "redirects once too often",
        ),
        (Reply::status(0), "broke off before the end of its answer"),
        (Reply::status(200).after(PATIENCE), "did not answer in time"),
    ] {
        let guarded = Guarded::start(move |_| reply.clone(), absent).await;
        assert_eq!(
            guarded.told().await,
            format!("sends its clients for a token to a server that {expected}")
        );
    }
}

#[tokio::test]
async fn registry_case_38_basic_without_credentials_is_denied() {
    let basic = |_: &Asked| Reply::status(401).header("WWW-Authenticate", "Basic realm=\"evil\"");
    assert_eq!(answer(basic).await, DENIED);
    assert_eq!(answer(|_| Reply::status(401)).await, DENIED);
}

#[tokio::test]
async fn registry_case_44_a_kept_token_that_is_refused_is_replaced_once() {
    let registry = Scripted::start(
        |asked| match (asked.path(), asked.header("authorization")) {
            ("/token", _) => Reply::status(200).json(&json!({"token": "good"})),
            // The token is good for one image only.
            (MANIFEST, Some("bearer good")) => Reply::status(200),
            _ => challenge(asked),
        },
    )
    .await;
    let client = client_of(&registry.url());
    assert_eq!(told(probe(&client, IMAGE).await), "exists");
    assert_eq!(
        told(probe(&client, "registry.test/team/app:v2").await),
        DENIED
    );
    assert_eq!(registry.count("GET", "/token"), 2);
}

#[tokio::test]
async fn registry_case_86_a_token_answer_without_end_is_cut() {
    let long = "x".repeat(70 * 1024);
    let guarded = Guarded::start(token(json!({"token": long})), absent).await;
    assert_eq!(
        guarded.told().await,
        "sends its clients for a token to a server that gave a longer answer than a registry gives"
    );
}
