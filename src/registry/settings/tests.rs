use super::*;

fn error(host: &str, yaml: &str) -> SettingsError {
    let settings: HostSettings = serde_saphyr::from_str(yaml).unwrap();
    settings.check(host).unwrap_err()
}

#[test]
fn settings_that_cannot_be_used_name_the_key_and_the_cure() {
    for (host, yaml, pointer, cure) in [
        ("a/b", "{}", "/registries/a~1b", "write HOST or HOST:PORT"),
        (
            "https://a.b",
            "{}",
            "/registries/https:~1~1a.b",
            "write HOST",
        ),
        (
            "index.docker.io",
            "{}",
            "/registries/index.docker.io",
            "write docker.io",
        ),
        (
            "a.b",
            "server: ftp://c.d",
            "/registries/a.b/server",
            "https://mirror",
        ),
        ("a.b", "server: ''", "/registries/a.b/server", "such as"),
        (
            "a.b",
            "server: https://c.d/path",
            "/registries/a.b/server",
            "without path",
        ),
        (
            "a.b",
            "server: http://u:p@c.d",
            "/registries/a.b/server",
            "no address",
        ),
        (
            "a.b",
            "mirrors: [{url: https://c.d}, {url: 'c d'}]",
            "/registries/a.b/mirrors/1",
            "registries.a.b.mirrors[1]: \"c d\"",
        ),
        (
            "a.b",
            "mirrors: [{url: https://c.d, capabilities: []}]",
            "/registries/a.b/mirrors/0/capabilities",
            "write pull",
        ),
        (
            "a.b",
            "{server: http://c.d, plainHttp: true}",
            "/registries/a.b/plainHttp",
            "write http://",
        ),
        (
            "a.b",
            "{server: https://c.d, ca: /a}",
            "/registries/a.b/ca",
            "write server: {",
        ),
        (
            "a.b",
            "server: http://169.254.169.254",
            "/registries/a.b",
            "never asked",
        ),
        ("a.b", "mirrors: ['[fe80::1]']", "/registries/a.b", "never"),
        ("169.254.1.1", "{}", "/registries/169.254.1.1", "never"),
    ] {
        let error = error(host, yaml);
        assert_eq!(error.pointer(), pointer, "{yaml}");
        assert!(error.to_string().contains(cure), "{error}");
    }
}

#[test]
fn a_server_is_written_as_an_address_or_as_a_map() {
    for server in [
        "127.0.0.1:5000",
        "http://a.b:80/",
        "https://[::1]:5000",
        "mirror",
    ] {
        let yaml = format!("server: '{server}'");
        let settings: HostSettings = serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(settings.server, Some(server.into()));
        settings.check("docker.io").unwrap();
    }
    let yaml = "mirrors: [{url: https://a.b, role: proxy, capabilities: [pull], ca: /ca.crt}]";
    let settings: HostSettings = serde_saphyr::from_str(yaml).unwrap();
    let mirror = &settings.mirrors[0];
    assert_eq!(mirror.role, Role::Proxy);
    assert!(mirror.may(Capability::Pull) && !mirror.may(Capability::Resolve));
    for (yaml, problem) in [
        ("server: {role: proxy}", "url"),
        ("server: {url: a.b, role: cache}", "cache"),
        ("mirrors: [{url: a.b, capability: [pull]}]", "capability"),
        ("mirrors: a.b", "sequence"),
    ] {
        let error = serde_saphyr::from_str::<HostSettings>(yaml).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    }
}

#[test]
fn the_first_rewrite_that_matches_is_applied_to_the_whole_reference() {
    let rewrite = |from: &str, to: &str| ImageRewrite {
        from: from.to_owned(),
        to: to.to_owned(),
    };
    let rewrites = Rewrites::new(&[
        rewrite(r"^docker\.io/(.*)$", "mirror.example.com/hub/$1"),
        rewrite(r"^quay\.io/", "!"),
        rewrite("docker", "never"),
    ])
    .unwrap();
    let apply = |text: &str| rewrites.apply(&ImageReference::parse(text).unwrap().pulled());
    let applied = apply("nginx").unwrap().unwrap();
    let expected = "mirror.example.com/hub/library/nginx:latest";
    assert_eq!(applied.to_string(), expected);
    assert_eq!(apply("quay.io/a/b:1"), Some(Err(())));
    assert_eq!(apply("ghcr.io/a/b:1"), None);

    let error = Rewrites::new(&[rewrite("(", "")]).unwrap_err();
    assert_eq!(error.pointer(), "/imageRewrites/0/from");
    let text = error.to_string();
    assert!(text.contains("unclosed group; write one"), "{text}");
}
