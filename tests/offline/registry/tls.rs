//! HTTPS, with certificates that the system does not know.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::network::Network;
use super::super::pki::{Pki, between, server, server_for};
use super::*;

const UNTRUSTED: &str = "has a certificate that is not trusted";

/// A registry that has every image, by HTTPS.
async fn https(tls: Arc<rustls::ServerConfig>) -> Scripted {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Scripted::on(listener, Some(tls), |_| Reply::status(200))
}

#[tokio::test]
async fn registry_case_67_a_certificate_of_an_unknown_authority_is_not_trusted() {
    let pki = Pki::local();
    let registry = https(pki.server()).await;
    for server in [
        registry.address.clone(),
        format!("https://{}", registry.address),
    ] {
        let answer = probe(&client_of(&server), IMAGE).await;
        assert_eq!(told(answer), UNTRUSTED);
    }
    assert!(registry.asked().is_empty());
}

#[tokio::test]
async fn registry_case_67_an_authority_that_is_configured_is_trusted_for_its_host_only() {
    let (pki, other) = (Pki::local(), Pki::local());
    let registry = https(pki.server()).await;
    let (address, ca) = (&registry.address, pki.path("ca.crt"));
    let stranger = https(pki.server()).await;
    let client = client_of_config(&format!(
        "
registries:
  '{address}': {{ca: '{ca}'}}
  registry.test: {{server: {{url: '{address}', ca: '{ca}'}}}}
  mirrored.test: {{server: '{}', mirrors: [{{url: '{address}', ca: '{ca}'}}]}}
  '{}': {{}}
",
        stranger.address,
        stranger.address,
        ca = ca.display()
    ));
    for host in [address, "registry.test", "mirrored.test"] {
        let answer = probe(&client, &format!("{host}/team/app:v1")).await;
        assert_eq!(told(answer), "exists", "{host}");
    }
    let answer = probe(&client, &format!("{}/team/app:v1", stranger.address)).await;
    assert_eq!(told(answer), UNTRUSTED);

    let client = client_of_config(&format!(
        "registries: {{'{address}': {{ca: '{}'}}}}",
        other.path("ca.crt").display()
    ));
    let answer = probe(&client, &format!("{address}/team/app:v1")).await;
    assert_eq!(told(answer), UNTRUSTED);
}

#[tokio::test]
async fn registry_case_68_a_certificate_that_is_over_or_another_hosts_is_not_trusted() {
    let elsewhere = Pki::new(&["elsewhere.test"]);
    let over = between(2001, 2002);
    let over_file = elsewhere.path("over.crt");
    std::fs::write(&over_file, &over.certificate).unwrap();
    for (tls, ca) in [
        (elsewhere.server(), elsewhere.path("ca.crt")),
        (server(&over.certificate, &over.key), over_file),
    ] {
        let registry = https(tls).await;
        let ca = ca.display();
        let client = client_of_config(&format!(
            "registries: {{registry.test: {{server: {{url: '{}', ca: '{ca}'}}}}}}",
            registry.address
        ));
        assert_eq!(told(probe(&client, IMAGE).await), UNTRUSTED);
        assert!(registry.asked().is_empty());
    }
}

#[test]
fn a_file_of_certificates_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.crt");
    std::fs::write(&empty, "").unwrap();
    let absent = directory.path().join("absent.crt");
    for (path, problem) in [(&empty, "no certificate in PEM"), (&absent, "No such file")] {
        let path = path.display();
        let yaml = format!("registries: {{a.test: {{mirrors: [{{url: b.test, ca: '{path}'}}]}}}}");
        let config = Config::parse("config.yaml", &yaml).unwrap();
        let error =
            RegistryClient::new(&config.registry(), Arc::new(Metrics::default())).unwrap_err();
        let text = error.to_string();
        let place = format!("registries.a.test.mirrors[0].ca: {path}: ");
        assert!(text.starts_with(&place) && text.contains(problem), "{text}");
    }
}

/// A registry that wants to know its clients.
const MUTUAL: &str = "10.9.0.1:5000";

#[test]
fn a_registry_that_wants_a_client_certificate_is_shown_the_one_of_containerds_files() {
    let network = Network {
        addresses: &["10.9.0.1"],
        names: &[],
        environment: &[],
    };
    let test = "registry::tls::a_registry_that_wants_a_client_certificate_is_shown_the_one_of_containerds_files";
    if let Some(pki) = network.enter(test) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(show_certificates(&pki));
    }
}

async fn show_certificates(pki: &Pki) {
    let (known, stranger) = (between(2001, 2101), between(2001, 2101));
    let own = pki.pair();
    let tls = server_for(&known.certificate, &own.certificate, &own.key);
    let listener = TcpListener::bind(MUTUAL).await.unwrap();
    let registry = Scripted::on(listener, Some(tls), |_| Reply::status(200));
    let refused = "does not speak TLS: the handshake failed";
    for (files, client, expected) in [
        (
            Some(&known),
            "client = [['client.cert', 'client.key']]",
            "exists",
        ),
        (Some(&known), "client = 'both.pem'", "exists"),
        // In Docker's layout there is no hosts.toml.
        (Some(&known), "", "exists"),
        (Some(&stranger), "client = 'both.pem'", refused),
        (None, "", refused),
    ] {
        let folders = tempfile::tempdir().unwrap();
        let folder = folders.path().join("10.9.0.1_5000_");
        std::fs::create_dir(&folder).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        if let Some(pair) = files {
            write("client.cert", &pair.certificate);
            write("client.key", &pair.key);
            write("both.pem", &[&*pair.certificate, &pair.key].concat());
        }
        if !client.is_empty() {
            write(
                "hosts.toml",
                &format!("server = 'https://{MUTUAL}'\n{client}\n"),
            );
        }
        let before = registry.asked().len();
        let client = client_of_config(&format!("hostsDirectory: '{}'", folders.path().display()));
        let answer = told(probe(&client, &format!("{MUTUAL}/team/app:v1")).await);
        assert_eq!(answer, expected);
        let asked = usize::from(expected == "exists");
        assert_eq!(registry.asked().len() - before, asked);
    }
}

#[tokio::test]
async fn registry_case_70_https_never_becomes_http() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let first_bytes = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut first = [0; 4];
        stream.read_exact(&mut first).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        first
    });
    let answer = probe(&client_of(&format!("https://{address}")), IMAGE).await;
    assert_eq!(told(answer), "does not speak TLS: the handshake failed");
    // A handshake record of TLS, and no line of HTTP.
    assert_eq!(first_bytes.await.unwrap()[..2], [22, 3]);
}
