use super::super::endpoint::ANONYMOUS;
use super::*;

fn hosts(entries: &[(&str, Option<&str>, bool)]) -> Hosts {
    Hosts::new(&settings(entries), SettingsFiles::default()).unwrap()
}

/// The one host that a registry is asked at.
fn endpoint(hosts: &Hosts, domain: &str) -> Result<Endpoint, Refusal> {
    let mut links = hosts.chain(domain, Capability::Resolve)?;
    assert_eq!(links.len(), 1);
    links.pop().unwrap().endpoint
}

fn settings(entries: &[(&str, Option<&str>, bool)]) -> BTreeMap<String, HostSettings> {
    let entry = |&(host, server, plain_http): &(&str, Option<&str>, bool)| {
        let settings = HostSettings {
            server: server.map(Into::into),
            plain_http,
            ..HostSettings::default()
        };
        (host.to_owned(), settings)
    };
    entries.iter().map(entry).collect()
}

fn permit(hosts: &Hosts, url: &str) -> Result<(), Refusal> {
    hosts.permit(&Url::parse(url).unwrap())
}

#[test]
fn docker_hub_is_asked_at_its_server() {
    let found = endpoint(&hosts(&[]), "docker.io").unwrap();
    assert_eq!(found.base.as_str(), "https://registry-1.docker.io/");
    let asked = found.asked("docker.io", ANONYMOUS);
    assert_eq!(asked, "registry-1.docker.io (anonymous)");
    let hosts = hosts(&[("docker.io", Some("http://127.0.0.1:5000"), false)]);
    let found = endpoint(&hosts, "docker.io").unwrap();
    assert_eq!(found.base.as_str(), "http://127.0.0.1:5000/");
    let asked = found.asked("docker.io", "as pull secret a/b");
    assert_eq!(asked, "127.0.0.1:5000 (for docker.io, as pull secret a/b)");
}

#[test]
fn registry_case_87_hosts_that_mean_something_inside_are_refused() {
    let hosts = hosts(&[]);
    for (domain, refusal) in [
        ("localhost", Refusal::Loopback),
        ("LOCALHOST:5000", Refusal::Loopback),
        ("a.localhost:5000", Refusal::Loopback),
        ("127.0.0.1:30500", Refusal::Loopback),
        ("0x7f.1:80", Refusal::Loopback),
        ("2130706433:80", Refusal::Loopback),
        ("[::1]:5000", Refusal::Loopback),
        ("kubernetes.default.svc", Refusal::Internal),
        (
            "kubernetes.default.svc.cluster.local:443",
            Refusal::Internal,
        ),
        ("10.96.0.1:443", Refusal::Internal),
        ("192.168.1.5", Refusal::Internal),
        ("[fd00::1]:5000", Refusal::Internal),
        ("Foo", Refusal::Internal),
        ("registry:5000", Refusal::Internal),
        ("169.254.169.254", Refusal::Never),
        ("0251.0376.0251.0376:80", Refusal::Never),
        ("[::ffff:a9fe:a9fe]", Refusal::Never),
        ("metadata.google.internal", Refusal::Never),
        ("100.100.100.200", Refusal::Never),
        ("", Refusal::NoHost),
        ("example.com:99999999", Refusal::NoHost),
    ] {
        assert_eq!(endpoint(&hosts, domain).unwrap_err(), refusal, "{domain:?}");
    }
    for domain in ["quay.io", "registry.example.com:5000", "1.1.1.1", "ghcr.io"] {
        let found = endpoint(&hosts, domain).unwrap();
        assert_eq!(found.base.as_str(), format!("https://{domain}/"));
    }
}

#[test]
fn an_entry_lets_that_host_and_port_lie_inside_and_nothing_else() {
    let hosts = hosts(&[
        ("10.0.0.5:5000", None, true),
        ("registry.corp", None, false),
        ("docker.io", Some("http://127.0.0.1:5000"), false),
    ]);
    for url in [
        "http://10.0.0.5:5000/v2/",
        "https://registry.corp/v2/",
        "http://127.0.0.1:5000/token",
    ] {
        assert_eq!(permit(&hosts, url), Ok(()), "{url}");
    }
    for (url, refusal) in [
        ("https://10.0.0.5:5000/", Refusal::Internal),
        ("http://10.0.0.5:5001/", Refusal::Plain),
        ("https://10.0.0.5/", Refusal::Internal),
        ("https://registry.corp:8443/", Refusal::Internal),
        ("http://registry.corp/", Refusal::Plain),
        ("http://127.0.0.1:5001/", Refusal::Plain),
        ("https://127.0.0.1:5001/", Refusal::Loopback),
        ("http://example.com/", Refusal::Plain),
        ("ftp://example.com/", Refusal::Plain),
        ("https://user@example.com/", Refusal::NoHost),
        ("https://:secret@example.com/", Refusal::NoHost),
        ("https://kubernetes.default.svc./", Refusal::Internal),
        ("https://localhost./", Refusal::Loopback),
        ("file:///etc/passwd", Refusal::NoHost),
    ] {
        assert_eq!(permit(&hosts, url), Err(refusal), "{url}");
    }
    assert_eq!(permit(&hosts, "https://auth.docker.io/token"), Ok(()));
}

#[test]
fn an_image_on_loopback_means_the_node_whatever_server_listens_here() {
    let hosts = hosts(&[
        ("docker.io", Some("https://127.0.0.1:5000"), false),
        ("quay.io", Some("https://localhost:5001"), false),
        ("localhost:5002", None, true),
    ]);
    for domain in ["127.0.0.1:5000", "localhost:5001"] {
        assert_eq!(endpoint(&hosts, domain).unwrap_err(), Refusal::Loopback);
    }
    assert!(endpoint(&hosts, "localhost:5002").is_ok());
}

fn directory(files: &[(&str, &str)]) -> SettingsFiles {
    let root = tempfile::tempdir().unwrap();
    for (folder, text) in files {
        std::fs::create_dir(root.path().join(folder)).unwrap();
        std::fs::write(root.path().join(folder).join("hosts.toml"), text).unwrap();
    }
    SettingsFiles {
        directory: HostsDirectory::read(root.path()).unwrap(),
        authorities: BTreeMap::new(),
    }
}

/// The chain in words: whom, as what, and what is sent as `ns`.
fn chain(hosts: &Hosts, domain: &str, asked: Capability) -> Vec<String> {
    let words = |link: Link| match link.endpoint {
        Ok(endpoint) => format!(
            "{}{} {:?} {}",
            endpoint.base.as_str().trim_end_matches('/'),
            endpoint.path,
            endpoint.standing,
            endpoint.namespace.as_deref().unwrap_or("-")
        ),
        Err(refusal) => format!("{} {refusal:?}", link.name),
    };
    let links = hosts.chain(domain, asked).unwrap();
    links.into_iter().map(words).collect()
}

#[test]
fn mirrors_are_asked_before_the_registry_and_a_server_instead_of_it() {
    let yaml = "
        docker.io: {mirrors: [{url: 'http://127.0.0.1:1', role: proxy}, {url: b.example, capabilities: [pull]}]}
        quay.io: {server: {url: https://c.example, role: proxy}, mirrors: [https://d.example]}
        corp: {mirrors: [https://d.example], plainHttp: true}";
    let settings = serde_saphyr::from_str(yaml).unwrap();
    let hosts = Hosts::new(&settings, SettingsFiles::default()).unwrap();
    let of = |domain, asked| chain(&hosts, domain, asked);
    let hub = "https://registry-1.docker.io/v2 Source -";
    let first = "http://127.0.0.1:1/v2 Proxy docker.io";
    assert_eq!(of("docker.io", Capability::Resolve), [first, hub]);
    let second = "https://b.example/v2 Replica docker.io";
    assert_eq!(of("docker.io", Capability::Pull), [first, second, hub]);
    assert_eq!(
        of("quay.io", Capability::Resolve),
        [
            "https://d.example/v2 Replica quay.io",
            "https://c.example/v2 Proxy quay.io"
        ]
    );
    assert_eq!(
        of("corp", Capability::Resolve),
        [
            "https://d.example/v2 Replica corp",
            "http://corp/v2 Source -"
        ]
    );
}

#[test]
fn containerds_files_say_whom_nodes_ask() {
    let files = directory(&[
        (
            "docker.io",
            "[host.\"https://10.0.0.1/hub\"]\ncapabilities = [\"pull\"]\n\
             [host.\"http://localhost:30020\"]\n[host.\"http://169.254.169.254\"]",
        ),
        ("quay.io", "server = \"https://registry.corp\""),
        ("10.0.0.2_5000_", "server = \"http://10.0.0.2:5000\""),
        ("_default", "[host.\"https://mirror.corp:5000\"]"),
    ]);
    let hosts = Hosts::new(&BTreeMap::new(), files).unwrap();
    let of = |domain, asked| chain(&hosts, domain, asked);
    let node = [
        "localhost:30020 Loopback",
        "169.254.169.254 Never",
        "https://registry-1.docker.io/v2 Source -",
    ];
    assert_eq!(of("docker.io", Capability::Resolve), node);
    let by_digest = of("docker.io", Capability::Pull);
    assert_eq!(by_digest[0], "https://10.0.0.1/hub/v2 Proxy docker.io");
    assert_eq!(by_digest[1..], node);
    // Nobody says that it has everything.
    let quay = ["https://registry.corp/v2 Proxy quay.io"];
    assert_eq!(of("quay.io", Capability::Resolve), quay);
    let own = ["http://10.0.0.2:5000/v2 Source -"];
    assert_eq!(of("10.0.0.2:5000", Capability::Resolve), own);
    // The default vouches for its mirror, and not for every registry.
    assert_eq!(
        of("10.0.0.9", Capability::Resolve),
        [
            "https://mirror.corp:5000/v2 Proxy 10.0.0.9",
            "10.0.0.9 Internal"
        ]
    );
    assert_eq!(permit(&hosts, "https://mirror.corp:5000/"), Ok(()));
    for never in ["http://169.254.169.254/", "http://localhost:30020/"] {
        assert_eq!(permit(&hosts, never), Err(Refusal::Plain), "{never}");
    }
}
