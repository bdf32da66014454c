//! As whom a registry is asked, and what one tenant learns of another's.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use forestall::config::Config;
use forestall::evidence::{PullSecretState, PullSecretsOf, Puller, Questions};
use forestall::lookup::Lookup as _;
use forestall::lookup::cluster::{ClusterView, Patience};
use forestall::lookup::live::Live;
use forestall::registry::Urgency;
use forestall::registry::credentials::{
    DockerConfig, Keyring, Origin, OwnCredentials, PodCredentials,
};
use forestall::review::Door;
use serde_json::{Value, json};

use super::super::registry_server::Registry;
use super::*;

const DENIED: &str = "answered 401: it does not say whether the image is there";

/// An entry of a pull secret: key, user name, password.
type Entry<'a> = (&'a str, &'a str, &'a str);

/// A pod of the namespace `shop` with pull secrets, each a name and its entries.
fn pod(secrets: &[(&str, &[Entry<'_>])]) -> PodCredentials {
    let mut keyring = Keyring::default();
    for (name, entries) in secrets {
        let entry = |&(key, username, password): &Entry<'_>| {
            (
                key.to_owned(),
                json!({"username": username, "password": password}),
            )
        };
        let entries: serde_json::Map<String, Value> = entries.iter().map(entry).collect();
        let origin = Origin::PullSecret {
            namespace: "shop".to_owned(),
            name: (*name).to_owned(),
        };
        let text = json!({"auths": entries}).to_string();
        keyring.add(&DockerConfig::parse(text.as_bytes(), &origin).unwrap());
    }
    PodCredentials {
        keyring,
        is_complete: true,
    }
}

/// A pod with one pull secret for the registry.
fn with(username: &str, password: &str) -> PodCredentials {
    pod(&[("regcred", &[("registry.test", username, password)])])
}

fn nobody() -> PodCredentials {
    pod(&[])
}

async fn probe_for(client: &RegistryClient, pod: &PodCredentials) -> Result<ImageState, Unknown> {
    let by = Instant::now() + PATIENCE;
    client
        .probe_for(&reference(IMAGE), pod, Urgency::Immediate, by)
        .await
}

/// What a client shows that has this user name and password. What is asked is written in lower case.
fn basic(username: &str, password: &str) -> String {
    let pair = BASE64_STANDARD.encode(format!("{username}:{password}"));
    format!("basic {pair}").to_ascii_lowercase()
}

/// A registry that lets in who shows user name and password.
async fn private(username: &str, password: &str) -> Scripted {
    let wanted = basic(username, password);
    Scripted::start(move |asked| match asked.header("authorization") {
        Some(shown) if shown == wanted => absent(asked),
        _ => Reply::error(401, "UNAUTHORIZED").header("WWW-Authenticate", "Basic realm=\"x\""),
    })
    .await
}

/// A registry with tokens; each is the user's name. The answers are this for users, by name.
async fn tokens(granted: impl Fn(&str, &Asked) -> Reply + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |asked| {
        if asked.path() == "/token" {
            let shown = asked.header("authorization").unwrap_or("anonymous");
            return Reply::status(200).json(&json!({"token": shown.replace(' ', "-")}));
        }
        if let Some(token) = asked.header("authorization") {
            return granted(token.trim_start_matches("bearer "), asked);
        }
        let host = asked.header("host").unwrap();
        let bearer = format!("Bearer realm=\"http://{host}/token\",service=\"x\"");
        Reply::error(401, "UNAUTHORIZED").header("WWW-Authenticate", &bearer)
    })
    .await
}

#[tokio::test]
async fn registry_case_39_with_the_right_password_missing_is_missing_and_says_as_whom() {
    let registry = private("robot", "Secret").await;
    let client = client_of(&registry.url());
    let answer = probe_for(&client, &with("robot", "Secret")).await;
    let Ok(ImageState::Missing(missing)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(*missing.tags, ["v2", "v3"]);
    let asked = format!(
        "{} (for registry.test, as pull secret shop/regcred)",
        registry.address
    );
    assert_eq!(missing.asked, asked);
    // The password is shown after the first question, not before the registry wants it.
    let shown: Vec<_> = registry
        .asked()
        .iter()
        .map(|asked| asked.header("authorization").is_some())
        .collect();
    assert_eq!(shown, [false, true, true, true]);
}

#[tokio::test]
async fn registry_case_40_a_wrong_password_is_denied() {
    let registry = private("robot", "Secret").await;
    let answer = probe_for(&client_of(&registry.url()), &with("robot", "Wrong")).await;
    assert_eq!(
        told(answer),
        format!("{DENIED}; asked as pull secret shop/regcred")
    );
    assert_eq!(registry.asked().len(), 2);
}

#[tokio::test]
async fn registry_case_41_all_that_match_are_tried_the_more_precise_first() {
    let wanted = basic("second", "b");
    let registry = Scripted::start(move |asked| match asked.header("authorization") {
        Some(shown) if shown == wanted => Reply::status(200),
        _ => Reply::status(401).header("WWW-Authenticate", "Basic realm=\"x\""),
    })
    .await;
    let client = client_of(&registry.url());
    let pod = pod(&[
        ("general", &[("registry.test", "second", "b")]),
        ("precise", &[("registry.test/team", "first", "a")]),
        ("other", &[("other.test", "third", "c")]),
    ]);
    assert_eq!(told(probe_for(&client, &pod).await), "exists");
    let shown: Vec<_> = registry
        .asked()
        .iter()
        .filter_map(|asked| asked.header("authorization").map(ToOwned::to_owned))
        .collect();
    assert_eq!(shown, [basic("first", "a"), basic("second", "b")]);
}

#[tokio::test]
async fn an_image_is_missing_only_where_it_is_so_with_all_credentials() {
    let (one, other) = (basic("one", "a"), basic("other", "b"));
    let registry = Scripted::start(move |asked| match asked.header("authorization") {
        Some(shown) if shown == one => absent(asked),
        Some(shown) if shown == other => Reply::status(403),
        _ => Reply::status(401).header("WWW-Authenticate", "Basic realm=\"x\""),
    })
    .await;
    let client = client_of(&registry.url());
    let both = pod(&[
        ("a", &[("registry.test", "one", "a")]),
        ("b", &[("registry.test", "other", "b")]),
    ]);
    assert_eq!(
        told(probe_for(&client, &both).await),
        "answered 403: it does not say whether the image is there; \
         asked as pull secret shop/a, then as pull secret shop/b"
    );
    let one = pod(&[("a", &[("registry.test", "one", "a")])]);
    assert_eq!(told(probe_for(&client, &one).await), "missing Tag [v2 v3]");
}

#[tokio::test]
async fn registry_case_42_where_there_is_a_credential_nothing_is_asked_without() {
    // Public for strangers, but the password is wrong.
    let registry = tokens(|user, _| match user {
        "anonymous" => Reply::status(200),
        _ => Reply::error(401, "UNAUTHORIZED"),
    })
    .await;
    let client = client_of(&registry.url());
    assert_eq!(told(probe_for(&client, &nobody()).await), "exists");
    let bad = with("robot", "Wrong");
    assert_eq!(
        told(probe_for(&client, &bad).await),
        format!("{DENIED}; asked as pull secret shop/regcred")
    );
    // An entry without a user name is none to a node.
    assert_eq!(told(probe_for(&client, &with("", "x")).await), "exists");
}

#[tokio::test]
async fn registry_case_43_ecr_says_403_to_a_role_that_may_not() {
    let registry = Scripted::start(|asked| match asked.header("authorization") {
        Some(_) => Reply::error(403, "DENIED"),
        None => Reply::status(401).header("WWW-Authenticate", "Basic realm=\"https://ecr\""),
    })
    .await;
    let answer = probe_for(&client_of(&registry.url()), &with("AWS", "token")).await;
    assert_eq!(
        told(answer),
        "answered 403: it does not say whether the image is there; asked as pull secret shop/regcred"
    );
}

#[tokio::test]
async fn a_registry_without_challenges_is_shown_nothing() {
    let registry = Scripted::start(absent).await;
    let answer = probe_for(&client_of(&registry.url()), &with("robot", "Wrong")).await;
    assert_eq!(told(answer), "missing Tag [v2 v3]");
    for asked in registry.asked() {
        assert_eq!(asked.header("authorization"), None);
    }
}

#[tokio::test]
async fn registry_case_45_bearer_is_chosen_before_basic() {
    let registry = tokens(|user, _| match user {
        "anonymous" => Reply::status(500),
        _ => Reply::status(200),
    })
    .await;
    let (host, inner) = (registry.address.clone(), registry.clone());
    let both = Scripted::start(move |asked| match asked.header("authorization") {
        Some(shown) if shown.starts_with("bearer ") => Reply::status(200),
        _ => Reply::status(401)
            .header("WWW-Authenticate", "Basic realm=\"x\"")
            .header("WWW-Authenticate", "Negotiate")
            .header(
                "WWW-Authenticate",
                &format!("Bearer realm=\"http://{host}/token\""),
            ),
    })
    .await;
    let client = client_of_config(&format!(
        "registries: {{registry.test: {{server: \"{}\", tokenHosts: [\"{}\"]}}}}",
        both.url(),
        registry.address
    ));
    assert_eq!(
        told(probe_for(&client, &with("robot", "Secret")).await),
        "exists"
    );
    let token = &inner.asked()[0];
    assert_eq!(
        token.header("authorization"),
        Some(&*basic("robot", "Secret"))
    );
    assert_eq!(token.target, "/token?scope=repository%3Ateam%2Fapp%3Apull");
}

#[tokio::test]
async fn registry_case_77_a_token_server_of_somebody_else_gets_no_password() {
    let evil = Scripted::start(|_| Reply::status(200).json(&json!({"token": "x"}))).await;
    let realm = evil.url().replace("127.0.0.1", "localhost");
    let registry = Scripted::start(move |_| {
        Reply::status(401).header(
            "WWW-Authenticate",
            &format!("Bearer realm=\"{realm}/token\""),
        )
    })
    .await;
    // Both may be asked.
    let named = evil.address.replace("127.0.0.1", "localhost");
    let client = client_of_config(&format!(
        "registries: {{registry.test: {{server: \"{}\"}}, \"{named}\": {{plainHttp: true}}}}",
        registry.url()
    ));
    assert_eq!(
        told(probe_for(&client, &with("robot", "Secret")).await),
        "sends its clients for a token to a server that belongs to somebody else, so it gets no \
         credentials; name it in tokenHosts of the registry if it may have them"
    );
    assert_eq!(evil.connections(), 0);
    // Who has no password has nothing to lose.
    assert_eq!(told(probe_for(&client, &nobody()).await), DENIED);
    assert_eq!(evil.asked()[0].header("authorization"), None);
}

#[tokio::test]
async fn registry_case_82_a_redirect_takes_no_password_along() {
    let mirror = Scripted::start(|_| Reply::status(200)).await;
    let target = format!("{}/elsewhere", mirror.url());
    let registry = Scripted::start(move |asked| match asked.header("authorization") {
        Some(_) => Reply::status(307).header("Location", &target),
        None => Reply::status(401).header("WWW-Authenticate", "Basic realm=\"x\""),
    })
    .await;
    let client = client(&[("registry.test", &registry.url()), (&mirror.address, "")]);
    assert_eq!(
        told(probe_for(&client, &with("robot", "Secret")).await),
        "exists"
    );
    assert_eq!(mirror.asked()[0].header("authorization"), None);
}

#[tokio::test]
async fn registry_case_53_no_tenant_sees_what_anothers_credentials_opened() {
    let registry = tokens(|user, asked| match user {
        "anonymous" => Reply::error(401, "UNAUTHORIZED"),
        user if user == basic("a", "x").replace(' ', "-") => Reply::status(200),
        _ => absent(asked),
    })
    .await;
    let client = client_of(&registry.url());
    let (a, b) = (with("a", "x"), with("b", "y"));
    assert_eq!(told(probe_for(&client, &a).await), "exists");
    assert_eq!(told(probe_for(&client, &b).await), "missing Tag [v2 v3]");
    assert_eq!(told(probe_for(&client, &nobody()).await), DENIED);
    assert_eq!(registry.count("GET", "/token"), 3);
    // Who shows the same is answered the same, without a question.
    let asked = registry.asked().len();
    let same = pod(&[("another", &[("registry.test", "b", "y")])]);
    let answer = probe_for(&client, &same).await;
    let Ok(ImageState::Missing(missing)) = answer else {
        panic!("{answer:?}");
    };
    assert!(
        missing.asked.ends_with("as pull secret shop/another)"),
        "{}",
        missing.asked
    );
    assert_eq!(told(probe_for(&client, &a).await), "exists");
    assert_eq!(registry.asked().len(), asked);
}

#[tokio::test]
async fn registry_case_34_denied_refuses_only_where_the_operator_trusts_it() {
    // As Docker Hub answers for what is missing, and for what is private.
    let registry = tokens(|_, _| Reply::error(401, "UNAUTHORIZED")).await;
    let trusting = |server: &str| {
        client_of_config(&format!(
            "rules: {{missing-image: {{pullSecrets: true}}}}\n\
             registries: {{registry.test: {{server: \"{server}\", trustDenied: true}}}}"
        ))
    };
    let client = trusting(&registry.url());
    for (pod, as_whom) in [
        (nobody(), "anonymous"),
        (with("robot", "Wrong"), "as pull secret shop/regcred"),
    ] {
        let asked = format!("{} (for registry.test, {as_whom})", registry.address);
        assert_eq!(
            probe_for(&client, &pod).await,
            Ok(ImageState::Denied { asked })
        );
    }
    // A pull secret that could not be read may open it.
    let unread = PodCredentials::default();
    assert_eq!(told(probe_for(&client, &unread).await), DENIED);
    assert_eq!(
        told(probe_for(&client_of(&registry.url()), &nobody()).await),
        DENIED
    );
    // No answer is no denial.
    let ill = tokens(|_, _| Reply::status(503)).await;
    assert_eq!(
        told(probe_for(&trusting(&ill.url()), &nobody()).await),
        "answered 503"
    );
}

#[tokio::test]
async fn more_credentials_than_are_tried_leave_it_unknown() {
    let registry = private("robot", "Secret").await;
    let client = client_of(&registry.url());
    let names: Vec<String> = (0..20).map(|index| format!("user{index}")).collect();
    let entries: Vec<_> = names
        .iter()
        .map(|name| [("registry.test", name.as_str(), "x")])
        .collect();
    let secrets: Vec<(&str, &[_])> = names
        .iter()
        .zip(&entries)
        .map(|(name, entry)| (name.as_str(), &entry[..]))
        .collect();
    assert_eq!(
        told(probe_for(&client, &pod(&secrets)).await),
        "was not asked with all credentials: more than 8 match"
    );
    assert!(registry.asked().len() <= 16);
}

#[tokio::test]
async fn credentials_of_forestall_prove_absence_but_tell_no_tags() {
    // Only the robot sees the secret tag; strangers see the public ones.
    let robot = basic("robot", "Secret").replace(' ', "-");
    let registry = tokens(move |user, asked| match (user == robot, asked.path()) {
        (true, TAGS) => Reply::tags(&["v2", "v2-secret"]),
        (false, TAGS) => Reply::tags(&["v2"]),
        _ => Reply::error(404, "MANIFEST_UNKNOWN"),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let write = |password: &str| {
        let entry = json!({"username": "robot", "password": password});
        std::fs::write(
            &file,
            json!({"auths": {"registry.test": entry}}).to_string(),
        )
        .unwrap();
    };
    write("Secret");
    let config = format!(
        "registryCredentials: {{file: \"{}\"}}\nregistries: {{registry.test: {{server: \"{}\"}}}}",
        file.display(),
        registry.url()
    );
    let client = client_of_config(&config);
    let answer = probe_for(&client, &nobody()).await;
    let Ok(ImageState::Missing(missing)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(*missing.tags, ["v2"]);
    assert!(
        missing
            .asked
            .ends_with("(for registry.test, with registry credentials of Forestall)"),
        "{}",
        missing.asked
    );
    // A tenant that has the same password may see what it opens.
    assert_eq!(
        told(probe_for(&client, &with("robot", "Secret")).await),
        "missing Tag [v2 v2-secret]"
    );

    // What cannot be read leaves the old credentials in use; what can is used.
    std::fs::write(&file, "{").unwrap();
    client.reload();
    let asked = registry.asked().len();
    told(probe_for(&client, &nobody()).await);
    assert_eq!(registry.asked().len(), asked);
    write("Other");
    client.reload();
    assert_eq!(
        told(probe_for(&client, &nobody()).await),
        "missing Tag [v2]"
    );
    assert!(registry.asked().len() > asked);
}

#[test]
fn credentials_that_cannot_be_used_name_the_key_and_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    std::fs::write(&file, r#"{"auths":{"a":{"auth":"c2VjcmV0"}}}"#).unwrap();
    let file = file.display().to_string();
    for (config, expected) in [
        (
            "registryCredentials: {file: /nowhere}",
            "registryCredentials.file /nowhere: No such file".to_owned(),
        ),
        (
            &format!("registryCredentials: {{file: \"{file}\"}}"),
            format!(
                "registryCredentials.file {file}: an \"auth\" in it is not the base64 of USERNAME:PASSWORD; write"
            ),
        ),
        (
            "credentialProviders: {config: /nowhere, binDir: /bin}",
            "credentialProviders.config /nowhere: No such".to_owned(),
        ),
    ] {
        let config = Config::parse("forestall.yaml", config).unwrap();
        let error = OwnCredentials::read(&config.registry())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(&expected), "{error}");
        assert!(!error.contains("c2VjcmV0"));
    }
    for (config, expected) in [
        ("registryCredentials: {}", "missing field `file`"),
        ("credentialProviders: {config: a}", "missing field `binDir`"),
        (
            "registries:\n  a.test:\n    trustDenied: true",
            "3:18: registries.a.test.trustDenied: a workload's pull secret may open",
        ),
        (
            "registries:\n  a.test:\n    tokenHosts: [\"https://b.test/t\"]",
            "3:17: registries.a.test.tokenHosts: \"https://b.test/t\" is no host; write HOST",
        ),
        (
            "rules: {oom-killed-memory-limit: {pullSecrets: true}}",
            "this guardrail has no such setting",
        ),
    ] {
        let error = Config::parse("forestall.yaml", config)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn no_secret_is_shown_by_debug() {
    let shown = format!("{:?}", with("robot", "hunter2"));
    assert!(shown.contains("as pull secret shop/regcred"), "{shown}");
    assert!(
        !shown.contains("hunter2") && !shown.contains("robot"),
        "{shown}"
    );
}

#[tokio::test]
async fn what_cannot_be_a_name_is_no_part_of_an_address() {
    let absent = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "no",
                        "reason": "NotFound", "code": 404});
    let server = Scripted::start(move |_| Reply::status(404).json(&absent)).await;
    let client = kube::Client::try_from(kube::Config::new(server.url().parse().unwrap())).unwrap();
    let (view, _) = ClusterView::watch(client, Arc::default(), &[], &[], Patience::default());
    let live = Live {
        registry: None,
        cluster: Some(view),
        argocd_version: None,
    };
    let names = [
        "regcred",
        "../../other/secrets/regcred",
        "a/b",
        "a?b",
        "A",
        "a..b",
    ];
    let puller = Puller {
        namespace: "shop".to_owned(),
        service_account: "default".to_owned(),
        named: names.map(ToOwned::to_owned).to_vec(),
    };
    let question = PullSecretsOf(puller);
    let mut asked = Questions::default();
    asked.ask(&question);
    let by = Instant::now() + PATIENCE;
    let evidence = live.gather(asked, Door::Admission, by).await;
    for secret in evidence.get(&question).unwrap() {
        assert_eq!(secret.state, PullSecretState::Absent, "{}", secret.name);
    }
    let asked = server.asked();
    let secrets = asked.iter().filter(|asked| asked.target.contains("/shop/"));
    let secrets: Vec<&str> = secrets.map(|asked| asked.target.as_str()).collect();
    assert_eq!(secrets, ["/api/v1/namespaces/shop/secrets/regcred"]);
}

// === against distribution v3.1.2 ===

/// A real registry with an image, that knows the user `robot` with the password `Secret`.
fn real(kind: &str, image: &str) -> Registry {
    let user = ["--user", "robot", "--password", "Secret"];
    Registry::with(&[&["--auth", kind][..], &user].concat(), &[image])
}

#[tokio::test]
async fn registry_cases_38_to_40_a_real_registry_with_passwords_opens_with_the_right_one() {
    let registry = real("basic", "team/app:v2");
    let client = client_of(&registry.server());
    assert_eq!(told(probe_for(&client, &nobody()).await), DENIED);
    let wrong = told(probe_for(&client, &with("robot", "Wrong")).await);
    assert_eq!(
        wrong,
        format!("{DENIED}; asked as pull secret shop/regcred")
    );
    assert_eq!(
        told(probe_for(&client, &with("robot", "Secret")).await),
        "missing Tag [v2]"
    );
}

#[tokio::test]
async fn registry_cases_32_to_40_a_real_registry_with_tokens_opens_what_the_user_may_see() {
    // Everybody may pull what is not private.
    for (path, strangers) in [("team/app", "missing Tag [v2]"), ("private/app", DENIED)] {
        let registry = real("token", &format!("{path}:v2"));
        let client = client_of(&registry.server());
        let image = reference(&format!("registry.test/{path}:v1"));
        let ask = async |pod: PodCredentials| {
            let by = Instant::now() + PATIENCE;
            told(client.probe_for(&image, &pod, Urgency::Immediate, by).await)
        };
        assert_eq!(ask(nobody()).await, strangers);
        assert_eq!(ask(with("robot", "Secret")).await, "missing Tag [v2]");
        let wrong = ask(with("robot", "Wrong")).await;
        assert_eq!(
            wrong,
            format!(
                "sends its clients for a token to a server that {DENIED}; asked as pull secret shop/regcred"
            )
        );
    }
}
