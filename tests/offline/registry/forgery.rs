//! Requests that somebody else would like to be made from inside the cluster.

use super::*;

/// A server that must never be connected to.
async fn witness() -> Scripted {
    Scripted::start(|_| Reply::status(200)).await
}

fn bearer(realm: &str) -> Reply {
    Reply::status(401).header("WWW-Authenticate", &format!("Bearer realm=\"{realm}\""))
}

#[tokio::test]
async fn registry_cases_3_14_and_87_hosts_inside_are_not_asked() {
    let witness = witness().await;
    let client = client(&[]);
    let loopback = "means the machine that pulls, so it is not asked from here";
    let inside = "is inside a private network and has no entry in registries, so it is not asked";
    let never = "is a link-local, metadata or multicast address, which is never asked";
    for (host, expected) in [
        (witness.address.as_str(), loopback),
        ("localhost:5000", loopback),
        ("0x7f.1:80", loopback),
        ("[::1]:5000", loopback),
        ("kubernetes.default.svc", inside),
        ("10.96.0.1:443", inside),
        ("Foo", inside),
        ("[::ffff:a9fe:a9fe]", never),
        ("169.254.169.254", never),
        ("metadata.google.internal", never),
    ] {
        let answer = probe(&client, &format!("{host}/a:b")).await;
        assert!(!answered_before(&answer));
        assert_eq!(told(answer), expected, "{host}");
    }
    assert_eq!(witness.connections(), 0);
}

#[tokio::test]
async fn registry_case_75_and_76_a_realm_inside_is_not_asked() {
    let witness = witness().await;
    let why = |refusal: &str| format!("sends its clients for a token to a server that {refusal}");
    let (port, plain) = (
        witness.address.clone(),
        "is not reached by https, so it is not asked",
    );
    for (realm, expected) in [
        ("http://169.254.169.254/latest/meta-data".to_owned(), plain),
        (
            "https://169.254.169.254/latest/meta-data".to_owned(),
            "is a link-local, metadata or multicast address, which is never asked",
        ),
        (format!("http://{port}/token"), plain),
        (
            format!("https://{port}/token"),
            "means the machine that pulls, so it is not asked from here",
        ),
        (
            "https://evil@127.0.0.1/".to_owned(),
            "has no usable address",
        ),
        ("evil".to_owned(), "has no address that can be read"),
        ("file:///etc/passwd".to_owned(), "has no usable address"),
    ] {
        let reply = bearer(&realm);
        assert_eq!(
            answer(move |_| reply.clone()).await,
            why(expected),
            "{realm}"
        );
    }
    assert_eq!(witness.connections(), 0);
}

#[tokio::test]
async fn registry_case_81_a_redirect_inside_is_not_followed() {
    let witness = witness().await;
    for (location, expected) in [
        (
            "http://169.254.169.254/latest".to_owned(),
            "redirects to a host that is not reached by https, so it is not asked",
        ),
        (
            "https://169.254.169.254/latest".to_owned(),
            "redirects to a host that is a link-local, metadata or multicast address, which is never asked",
        ),
        (
            witness.url(),
            "redirects to a host that is not reached by https, so it is not asked",
        ),
        (
            format!("https://{}/", witness.address),
            "redirects to a host that means the machine that pulls, so it is not asked from here",
        ),
        (
            "//169.254.169.254/latest".to_owned(),
            "redirects to a host that is not reached by https, so it is not asked",
        ),
        ("http://".to_owned(), "redirects to no address"),
    ] {
        let reply = Reply::status(307).header("Location", &location);
        assert_eq!(answer(move |_| reply.clone()).await, expected, "{location}");
    }
    assert_eq!(
        answer(|_| Reply::status(302)).await,
        "redirects to no address"
    );
    assert_eq!(witness.connections(), 0);
}

#[tokio::test]
async fn registry_case_82_a_redirect_to_a_host_that_may_be_asked_gets_no_token() {
    let mirror = Scripted::start(|_| Reply::status(200)).await;
    let target = format!("{}/elsewhere", mirror.url());
    let registry = Scripted::start(move |asked| match asked.header("authorization") {
        _ if asked.path() == "/token" => Reply::status(200).body("{\"token\":\"good\"}"),
        Some("bearer good") => Reply::status(307).header("Location", &target),
        _ => bearer(&format!("http://{}/token", asked.header("host").unwrap())),
    })
    .await;
    let client = client(&[("registry.test", &registry.url()), (&mirror.address, "")]);
    assert_eq!(told(probe(&client, IMAGE).await), "exists");
    let asked = mirror.asked();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].is("HEAD", "/elsewhere"));
    assert_eq!(asked[0].header("authorization"), None);
}

#[tokio::test]
async fn registry_case_83_redirects_end() {
    let registry =
        Scripted::start(|asked| Reply::status(302).header("Location", &asked.target)).await;
    let answer = probe(&client_of(&registry.url()), IMAGE).await;
    assert_eq!(told(answer), "redirects once too often");
    assert_eq!(registry.asked().len(), 4);
}

#[tokio::test]
async fn registry_case_84_a_list_of_tags_does_not_go_on_elsewhere() {
    let witness = witness().await;
    for next in [
        format!("{}{TAGS}?last=v2", witness.url()),
        format!("//{}{TAGS}?last=v2", witness.address),
        "/v2/other/tags/list?last=v2".to_owned(),
        "http://169.254.169.254/".to_owned(),
        "../../../../secret".to_owned(),
    ] {
        let link = format!("<{next}>; rel=\"next\"");
        let registry = Scripted::start(move |asked| match asked.path() {
            TAGS => Reply::tags(&["v2"]).header("Link", &link),
            _ => Reply::error(404, "MANIFEST_UNKNOWN"),
        })
        .await;
        // Not even to a host that may be asked.
        let client = client(&[("registry.test", &registry.url()), (&witness.address, "")]);
        let answer = probe(&client, IMAGE).await;
        assert_eq!(told(answer), "missing Tag [v2]", "{next}");
        assert_eq!(registry.asked().len(), 3, "{next}");
    }
    assert_eq!(witness.connections(), 0);
}

#[test]
fn registry_case_88_a_proxy_of_the_environment_is_ignored() {
    let mut tests = std::process::Command::new(std::env::current_exe().unwrap());
    tests.args([
        "--exact",
        "registry::registry_cases_15_and_16_an_image_that_exists_takes_one_head",
    ]);
    for name in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ] {
        // Nothing listens there.
        tests.env(name, "http://127.0.0.1:1");
    }
    let output = tests
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}
