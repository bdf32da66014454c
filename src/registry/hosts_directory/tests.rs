use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

fn certificate() -> String {
    let made = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
    made.cert.pem()
}

/// A client's certificate with its key.
fn client() -> String {
    let made = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
    made.cert.pem() + &made.signing_key.serialize_pem()
}

fn hosts(toml: &str) -> Vec<HostEntry> {
    let folder = folder(&[
        ("ca.crt", &certificate()),
        ("sub/b.crt", &certificate()),
        ("client.pem", &client()),
    ]);
    parse(folder.path(), toml).unwrap()
}

/// How many certificates are believed.
fn authorities(host: &HostEntry) -> usize {
    let text = std::str::from_utf8(&host.trust.authorities).unwrap();
    text.matches("BEGIN CERTIFICATE").count()
}

fn addresses(hosts: &[HostEntry]) -> Vec<String> {
    let address = |host: &HostEntry| match &host.address {
        Some(Address { base, path }) => {
            format!("{}{path}", base.as_str().trim_end_matches('/'))
        }
        None => "itself".to_owned(),
    };
    hosts.iter().map(address).collect()
}

#[test]
fn hosts_are_asked_in_the_order_of_their_tables_and_the_server_last() {
    let found = hosts(
        r#"
        server = "https://registry-1.docker.io"
        [host."https://z.example"]
        [host."http://a.example:5000"]
        capabilities = ["pull"]
        [host."m.example/v2/hub"]
        override_path = true
        [host."m.example/hub/"]
        "#,
    );
    let expected = [
        "https://z.example/v2",
        "http://a.example:5000/v2",
        "https://m.example/v2/hub",
        "https://m.example/hub/v2",
        "https://registry-1.docker.io/v2",
    ];
    assert_eq!(addresses(&found), expected);
    assert!(found[1].may_pull && !found[1].may_resolve);
    assert!(found[0].may_pull && found[0].may_resolve);
    assert_eq!(addresses(&hosts("[host.\"https://a\"]"))[1], "itself");
}

#[test]
fn certificates_headers_and_trust_belong_to_their_host() {
    let found = hosts(
        r#"
        skip_verify = true
        capabilities = ["push"]
        [host."https://a.example"]
        ca = ["ca.crt", "sub/b.crt"]
        client = "client.pem"
        dial_timeout = "3s"
        [host."https://a.example".header]
        Authorization = "Basic YTpi"
        X-Custom = ["1", "2"]
        [host."https://b.example"]
        ca = "ca.crt"
        "#,
    );
    assert_eq!(authorities(&found[0]), 2);
    assert_eq!(found[0].headers.len(), 3);
    assert!(found[0].headers["authorization"].is_sensitive());
    assert_eq!(authorities(&found[1]), 1);
    assert!(found[1].headers.is_empty() && !found[1].trust.anybody);
    assert!(found[0].trust.identity.is_some() && found[1].trust.identity.is_none());
    // Of a registry that is not named, containerd ignores the capabilities.
    assert!(found[2].trust.anybody && found[2].may_resolve);
}

#[test]
fn a_client_certificate_is_written_in_containerds_three_ways() {
    for client in [
        "'client.pem'",
        "['client.pem', 'absent.pem']",
        "[['client.pem', ''], ['absent.cert', 'absent.key']]",
        "[['client.pem', 'client.pem']]",
    ] {
        let found = hosts(&format!("client = {client}"));
        assert!(found[0].trust.identity.is_some(), "{client}");
    }
    assert_eq!(hosts("client = []")[0].trust.identity, None);
}

#[test]
fn a_file_that_cannot_be_used_says_why() {
    for (toml, problem) in [
        ("server = \n", "line 1: "),
        ("a = 1\nserver = 5", "server is no string"),
        ("server = \"https://u:p@a.example\"", "is no address"),
        ("host = 5", "host is no table"),
        (
            "[host.\"https://a\"]\ncapabilities = [\"fly\"]",
            "unknown capability \"fly\"",
        ),
        ("[host.\"https://a\"]\nca = \"absent.crt\"", "absent.crt: "),
        ("[host.\"https://a\"]\nca = 5", "ca is neither"),
        (
            "[host.\"https://a\"]\nca = \"hosts.toml\"",
            "no certificate",
        ),
        ("client = 'absent.pem'", "client "),
        ("client = 'absent.pem'", "absent.pem: No such file"),
        (
            "client = [['hosts.toml', 'b']]",
            "hosts.toml: has no certificate",
        ),
        (
            "client = [['a']]",
            "client has a pair that is not of two files",
        ),
        ("client = 5", "client is neither"),
        ("skip_verify = \"yes\"", "skip_verify is neither"),
        ("[header]\n\"a b\" = \"1\"", "header \"a b\" cannot be sent"),
        ("[header]\na = \"1\\n2\"", "cannot be sent"),
    ] {
        let folder = folder(&[("quay.io/hosts.toml", toml)]);
        let error = HostsDirectory::read(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("hostsDirectory: "), "{error}");
        assert!(error.contains("quay.io/hosts.toml: "), "{error}");
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn registry_case_61_a_registry_without_a_folder_takes_the_default() {
    let server = |host: &str| format!("server = \"https://{host}.example\"");
    let folder = folder(&[
        ("_default/hosts.toml", &server("default")),
        ("quay.io/hosts.toml", &server("quay")),
        ("a.example_5000_/hosts.toml", &server("first")),
        ("a.example:5000/hosts.toml", &server("second")),
        ("b.example:5000/hosts.toml", &server("colon")),
        ("docker/ca.crt", &certificate()),
        ("docker/client.cert", &client()),
        ("..data/hosts.toml", "no toml"),
    ]);
    let directory = HostsDirectory::read(folder.path()).unwrap();
    for (domain, expected, is_own) in [
        ("quay.io", "https://quay.example/v2", true),
        ("ghcr.io", "https://default.example/v2", false),
        ("quay.io:443", "https://default.example/v2", false),
        ("a.example:5000", "https://first.example/v2", true),
        ("b.example:5000", "https://colon.example/v2", true),
        ("docker", "itself", true),
    ] {
        let (hosts, own) = directory.hosts(domain).unwrap();
        assert_eq!(addresses(hosts), [expected], "{domain}");
        assert_eq!(own, is_own, "{domain}");
    }
    let (docker, _) = directory.hosts("docker").unwrap();
    assert_eq!(authorities(&docker[0]), 1);
    assert!(docker[0].trust.identity.is_some());
    assert!(
        directory
            .registries()
            .any(|(name, _)| name == "a.example:5000")
    );
    assert_eq!(HostsDirectory::default().hosts("quay.io"), None);
}
