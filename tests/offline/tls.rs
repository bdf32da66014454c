//! The certificate: bad files are refused, new ones taken up as kubelet brings them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use axum::Router;
use axum::routing::get;
use forestall::report::metrics::{CertificateLabel, Metrics, ResultLabel};
use forestall::tls::{Certificates, PairFiles};
use forestall::webhook::server::{ConnectionLimits, Server};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::pki::{Pair, Pki, between, client};

/// A volume as kubelet writes it: `tls.crt -> ..data/tls.crt`, `..data -> ..GENERATION`.
struct Volume(TempDir);

impl Volume {
    fn new(pair: &Pair) -> Self {
        let volume = Self(tempfile::tempdir().unwrap());
        volume.exchange("..1", pair);
        symlink("..data/tls.crt", volume.path().join("tls.crt")).unwrap();
        symlink("..data/tls.key", volume.path().join("tls.key")).unwrap();
        volume
    }

    /// Writes a new generation, renames `..data` to it, and removes the old one (kubelet's
    /// `atomic_writer.go`).
    fn exchange(&self, generation: &str, pair: &Pair) {
        let old = fs::read_link(self.path().join("..data")).ok();
        fs::create_dir(self.path().join(generation)).unwrap();
        fs::write(
            self.path().join(generation).join("tls.crt"),
            &pair.certificate,
        )
        .unwrap();
        fs::write(self.path().join(generation).join("tls.key"), &pair.key).unwrap();
        symlink(generation, self.path().join("..data_tmp")).unwrap();
        fs::rename(self.path().join("..data_tmp"), self.path().join("..data")).unwrap();
        if let Some(old) = old {
            fs::remove_dir_all(self.path().join(old)).unwrap();
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn files(&self) -> PairFiles {
        files(self.path())
    }
}

fn files(directory: &Path) -> PairFiles {
    PairFiles {
        certificate: directory.join("tls.crt"),
        key: directory.join("tls.key"),
    }
}

/// A server with these certificates, and its port.
async fn serve(certificates: &Arc<Certificates>, metrics: &Arc<Metrics>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Server {
        listener,
        router: Router::new().route("/", get(async || "here")),
        tls: Some(certificates.server_config().unwrap()),
        limits: ConnectionLimits::default(),
        metrics: Some(Arc::clone(metrics)),
    };
    tokio::spawn(server.run(std::future::pending()));
    port
}

async fn connect(port: u16, trust: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::clone(trust))
        .connect(name, stream)
        .await
}

async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    while !answer.ends_with("here") {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).await.unwrap();
        assert!(count > 0, "closed after {answer:?}");
        answer.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    answer
}

fn reloads(metrics: &Metrics, result: &'static str) -> u64 {
    metrics
        .certificate_reloads
        .get_or_create(&ResultLabel { result })
        .get()
}

/// The error for these files.
fn refused(certificate: &str, key: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("tls.crt"), certificate).unwrap();
    fs::write(directory.path().join("tls.key"), key).unwrap();
    refused_in(directory.path())
}

fn refused_in(directory: &Path) -> String {
    let error = Certificates::from_files(files(directory), Arc::default()).unwrap_err();
    error
        .to_string()
        .replace(directory.to_str().unwrap(), "DIR")
}

#[test]
fn case_93_unusable_files_are_refused_with_the_file_and_the_cure() {
    let (one, other) = (between(2020, 2090), between(2020, 2090));
    assert_eq!(
        refused(&one.certificate, &other.key),
        "--tls-key DIR/tls.key is not the key of the first certificate in --tls-cert DIR/tls.crt; \
         give both of one pair, and put the server's own certificate before its issuers"
    );
    let expired = between(2000, 2020);
    assert_eq!(
        refused(&expired.certificate, &expired.key),
        "--tls-cert DIR/tls.crt: it expired at 2020-01-01T00:00:00Z; renew it"
    );
    let early = between(2080, 2090);
    assert_eq!(
        refused(&early.certificate, &early.key),
        "--tls-cert DIR/tls.crt: it holds only from 2080-01-01T00:00:00Z on; \
         compare the clocks of this machine and of the issuer"
    );
    let half = &one.certificate[..one.certificate.len() / 2];
    for (certificate, reason) in [
        ("", "it holds none"),
        ("nonsense", "it holds none"),
        (half, "it ends in the middle of a block"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "it cannot be decoded",
        ),
    ] {
        let error = refused(certificate, &one.key);
        assert!(error.starts_with("--tls-cert DIR/tls.crt: "), "{error}");
        assert!(error.contains(reason), "{error}");
        assert!(
            error.contains("write PEM blocks \"BEGIN CERTIFICATE\""),
            "{error}"
        );
    }
    let locked = one.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    for key in ["", &one.certificate, &one.key[..60], &locked] {
        let error = refused(&one.certificate, key);
        assert!(error.starts_with("--tls-key DIR/tls.key: "), "{error}");
        assert!(
            error.contains("\"BEGIN PRIVATE KEY\", without a passphrase"),
            "{error}"
        );
    }
    let missing = tempfile::tempdir().unwrap();
    let error = refused_in(missing.path());
    assert!(
        error.starts_with("--tls-cert DIR/tls.crt: No such file"),
        "{error}"
    );
}

#[tokio::test]
async fn case_93_a_secret_exchanged_by_kubelet_is_taken_up() {
    let (old, new) = (Pki::local(), Pki::local());
    let volume = Volume::new(&old.pair());
    let metrics = Arc::new(Metrics::default());
    let certificates =
        Arc::new(Certificates::from_files(volume.files(), Arc::clone(&metrics)).unwrap());
    let port = serve(&certificates, &metrics).await;
    let (trusts_old, trusts_new) = (old.client(&[]), new.client(&[]));
    let mut before = connect(port, &trusts_old).await.unwrap();
    ask(&mut before).await;

    volume.exchange("..2", &new.pair());
    connect(port, &trusts_old).await.unwrap();
    certificates.reload();
    let mut after = connect(port, &trusts_new).await.unwrap();
    ask(&mut after).await;
    connect(port, &trusts_old).await.unwrap_err();
    ask(&mut before).await;
    assert_eq!(
        (reloads(&metrics, "success"), reloads(&metrics, "failure")),
        (1, 0)
    );
}

#[tokio::test]
async fn case_93_a_pair_that_cannot_be_used_never_replaces_one_that_can() {
    let pki = Pki::local();
    let good = pki.pair();
    let volume = Volume::new(&good);
    let metrics = Arc::new(Metrics::default());
    let certificates =
        Arc::new(Certificates::from_files(volume.files(), Arc::clone(&metrics)).unwrap());
    let port = serve(&certificates, &metrics).await;
    let trust = pki.client(&[]);

    let other = between(2020, 2090);
    let (expired, early) = (between(2000, 2020), between(2080, 2090));
    let bad = [
        (good.certificate[..100].to_owned(), good.key.clone()),
        (good.certificate.clone(), String::new()),
        (other.certificate.clone(), good.key.clone()),
        (expired.certificate, expired.key),
        (early.certificate, early.key),
    ];
    for (number, (certificate, key)) in bad.into_iter().enumerate() {
        volume.exchange(&format!("..bad{number}"), &Pair { certificate, key });
        certificates.reload();
        certificates.reload();
        connect(port, &trust).await.unwrap();
    }
    // Each is counted once, however often it is seen.
    assert_eq!(
        (reloads(&metrics, "success"), reloads(&metrics, "failure")),
        (0, 5)
    );

    fs::remove_file(volume.path().join("tls.crt")).unwrap();
    certificates.reload();
    connect(port, &trust).await.unwrap();
    assert_eq!(reloads(&metrics, "failure"), 6);

    symlink("..data/tls.crt", volume.path().join("tls.crt")).unwrap();
    volume.exchange("..good", &other);
    certificates.reload();
    let trusts_other = client(other.certificate.as_bytes(), &[]);
    ask(&mut connect(port, &trusts_other).await.unwrap()).await;
    assert_eq!(
        (reloads(&metrics, "success"), reloads(&metrics, "failure")),
        (1, 6)
    );
}

#[tokio::test]
async fn case_93_a_chain_is_served_whole() {
    let pki = Pki::local();
    // The client trusts only the root, so it needs the issuer in between from the server.
    let authority = |name: &str| {
        let mut parameters = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        (parameters, rcgen::KeyPair::generate().unwrap())
    };
    let (root, root_key) = authority("root");
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let root = rcgen::Issuer::new(root, root_key);
    let (middle, middle_key) = authority("middle");
    let middle_pem = middle.signed_by(&middle_key, &root).unwrap().pem();
    let middle = rcgen::Issuer::new(middle, middle_key);
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf_pem = leaf.signed_by(&leaf_key, &middle).unwrap().pem();
    let key = leaf_key.serialize_pem();

    let error = refused(&format!("{middle_pem}{leaf_pem}"), &key);
    assert!(
        error.contains("put the server's own certificate before its issuers"),
        "{error}"
    );

    fs::write(pki.path("tls.crt"), format!("{leaf_pem}{middle_pem}")).unwrap();
    fs::write(pki.path("tls.key"), key).unwrap();
    let files = files(pki.path("tls.crt").parent().unwrap());
    let metrics = Arc::new(Metrics::default());
    let certificates = Arc::new(Certificates::from_files(files, Arc::clone(&metrics)).unwrap());
    let port = serve(&certificates, &metrics).await;
    let mut stream = connect(port, &client(root_pem.as_bytes(), &[]))
        .await
        .unwrap();
    ask(&mut stream).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_93_no_handshake_fails_while_the_secret_is_exchanged_fifty_times() {
    let pki = Pki::local();
    let volume = Volume::new(&pki.pair());
    let metrics = Arc::new(Metrics::default());
    let certificates =
        Arc::new(Certificates::from_files(volume.files(), Arc::clone(&metrics)).unwrap());
    let port = serve(&certificates, &metrics).await;
    let (done, handshakes) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut clients = Vec::new();
    for _ in 0..4 {
        let (trust, done, handshakes) =
            (pki.client(&[]), Arc::clone(&done), Arc::clone(&handshakes));
        clients.push(tokio::spawn(async move {
            while !done.load(Relaxed) {
                let mut stream = connect(port, &trust).await.unwrap();
                ask(&mut stream).await;
                handshakes.fetch_add(1, Relaxed);
            }
        }));
    }
    // The look is in a race with the exchange, as it is in a cluster.
    let looker = spawn_blocking({
        let (certificates, done) = (Arc::clone(&certificates), Arc::clone(&done));
        move || {
            while !done.load(Relaxed) {
                certificates.reload();
            }
        }
    });
    let pairs = [pki.pair(), {
        pki.renew(&["localhost"]);
        pki.pair()
    }];
    for number in 0..50 {
        volume.exchange(&format!("..swap{number}"), &pairs[number % 2]);
        let taken_up = handshakes.load(Relaxed);
        while handshakes.load(Relaxed) < taken_up + 4
            && !clients.iter().any(JoinHandle::is_finished)
        {
            tokio::task::yield_now().await;
        }
    }
    done.store(true, Relaxed);
    looker.await.unwrap();
    for client in clients {
        client.await.unwrap();
    }
    assert!(reloads(&metrics, "success") > 0);
    assert_eq!(metrics.handshake_failures.get(), 0);
}

#[tokio::test]
async fn without_files_a_certificate_for_this_machine_is_made() {
    let metrics = Arc::new(Metrics::default());
    let (certificates, pem) = Certificates::own(Arc::clone(&metrics)).unwrap();
    let certificates = Arc::new(certificates);
    let port = serve(&certificates, &metrics).await;
    certificates.reload();
    let certificate = "serving";
    let expiry = metrics
        .certificate_expiry
        .get_or_create(&CertificateLabel { certificate });
    assert!(expiry.get() > 1_750_000_000);
    // curl, because a person will use curl.
    let directory = tempfile::tempdir().unwrap();
    let trusted = directory.path().join("forestall.pem");
    fs::write(&trusted, pem).unwrap();
    for (host, version) in [("localhost", "1.2"), ("127.0.0.1", "1.3")] {
        let mut curl = Command::new("curl");
        curl.arg("--silent")
            .arg("--show-error")
            .arg("--cacert")
            .arg(&trusted);
        curl.arg("--tls-max").arg(version);
        curl.arg(format!("https://{host}:{port}/"));
        let output = spawn_blocking(move || curl.output())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "here",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
