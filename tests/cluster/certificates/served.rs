//! Replicas in this process, so that lives are short and the keeper can be left out.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use forestall::certificates::{Settings, keep};
use forestall::config::Config;
use forestall::guard::Guard;
use forestall::lookup::live::Live;
use forestall::object_name::ObjectName;
use forestall::report::metrics::{CertificateLabel, Metrics, ResultLabel};
use forestall::tls::Certificates;
use forestall::webhook::server::{ConnectionLimits, Server};
use forestall::webhook::{self, Webhook};
use kube::Client;
use kube::config::AuthInfo;
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use super::quick;
use super::release::{Load, NO_REGISTRY, Release, SECRET, SERVICE, certificates_in};
use crate::control_plane::eventually;
use crate::pki::{Pair, Pki, between, client};

/// Serves the real webhook with what the Secret holds.
struct Replica {
    certificates: Arc<Certificates>,
    metrics: Arc<Metrics>,
    port: u16,
}

impl Replica {
    async fn start(release: &Release, client: Client, listen: &str) -> Self {
        let metrics = Arc::new(Metrics::default());
        let certificates = Certificates::from_secret(secret(release), Arc::clone(&metrics));
        let certificates = Arc::new(certificates);
        let listener = TcpListener::bind(listen).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Server {
            listener,
            router: router(&metrics),
            tls: Some(certificates.server_config().unwrap()),
            limits: ConnectionLimits::default(),
            metrics: Some(Arc::clone(&metrics)),
        };
        tokio::spawn(server.run(std::future::pending()));
        let follower = Arc::clone(&certificates);
        tokio::spawn(async move { follower.follow(client).await });
        Self {
            certificates,
            metrics,
            port,
        }
    }

    fn reloads(&self, result: &'static str) -> u64 {
        let label = ResultLabel { result };
        self.metrics.certificate_reloads.get_or_create(&label).get()
    }

    fn expiry(&self, certificate: &'static str) -> i64 {
        let label = CertificateLabel { certificate };
        self.metrics.certificate_expiry.get_or_create(&label).get()
    }

    /// A handshake by somebody who trusts this PEM.
    async fn shakes_hands(&self, trusted: &str, name: &str) -> std::io::Result<()> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = TlsConnector::from(client(trusted.as_bytes(), &[]));
        connector.connect(name, stream).await.map(|_| ())
    }
}

fn router(metrics: &Arc<Metrics>) -> Router {
    let config = Config::parse("test", NO_REGISTRY).unwrap();
    let lookup = Live {
        registry: None,
        cluster: None,
        argocd_version: None,
    };
    let guard = Guard::new(config, lookup).unwrap();
    let webhook = Webhook::new(guard, Arc::clone(metrics), webhook::ReviewLimits::default());
    webhook::router(Arc::new(webhook))
}

fn secret(release: &Release) -> ObjectName {
    ObjectName {
        namespace: release.namespace.clone(),
        name: SECRET.to_owned(),
    }
}

fn settings(release: &Release, port: u16) -> Settings {
    Settings {
        secret: secret(release),
        service: SERVICE.to_owned(),
        webhook_configuration: release.namespace.clone(),
        port,
        times: quick(),
    }
}

/// A client with the rights that the chart gives, and no others.
async fn with_rights(release: &Release) -> Client {
    let kubectl = |arguments: &[&str]| release.kubectl(arguments);
    let name = release.namespace.as_str();
    kubectl(&["create", "serviceaccount", "forestall"]);
    let account = format!("--serviceaccount={name}:forestall");
    let own = format!("--resource-name={SECRET}");
    let named = format!("--resource-name={name}");
    kubectl(&[
        "create",
        "role",
        "create",
        "--verb=create",
        "--resource=secrets",
    ]);
    kubectl(&[
        "create",
        "role",
        "keep",
        "--verb=get,list,watch,update",
        "--resource=secrets",
        &own,
    ]);
    let slices = "--resource=endpointslices.discovery.k8s.io";
    kubectl(&["create", "role", "find", "--verb=get,list,watch", slices]);
    for role in ["create", "keep", "find"] {
        kubectl(&[
            "create",
            "rolebinding",
            role,
            &format!("--role={role}"),
            &account,
        ]);
    }
    let both = "--resource=validatingwebhookconfigurations,mutatingwebhookconfigurations";
    let verbs = "--verb=get,list,watch,patch";
    kubectl(&["create", "clusterrole", name, verbs, both, &named]);
    let role = format!("--clusterrole={name}");
    kubectl(&["create", "clusterrolebinding", name, &role, &account]);
    let token = kubectl(&["create", "token", "forestall"]);
    let mut config = release.cluster.config().await;
    config.auth_info = AuthInfo {
        token: Some(token.trim_end().to_owned().into()),
        ..AuthInfo::default()
    };
    Client::try_from(config).unwrap()
}

/// Waits until it is so; what never comes fails the test.
async fn soon(what: &str, is: impl Fn() -> bool) {
    let ends = Instant::now() + Duration::from_mins(1);
    while !is() {
        assert!(Instant::now() < ends, "{what} never came");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leaf_and_authority_are_renewed_without_a_lost_request() {
    let release = Release::new();
    let kube = with_rights(&release).await;
    let one = Replica::start(&release, kube.clone(), "127.0.0.1:0").await;
    let address = format!("127.0.0.2:{}", one.port);
    let other = Replica::start(&release, kube.clone(), &address).await;
    release.publish(&["127.0.0.1", "127.0.0.2"]);
    release.register(one.port);
    let metrics = Arc::new(Metrics::default());
    let begin = || {
        tokio::spawn(keep(
            kube.clone(),
            settings(&release, one.port),
            Arc::clone(&metrics),
        ))
    };
    let dies = begin();
    for replica in [&one, &other] {
        let served = timeout(Duration::from_mins(1), replica.certificates.served());
        served.await.unwrap();
    }
    // Nothing is served before the API server was told whom to trust.
    let first = release.trusted("validating");
    assert_eq!(first, release.in_secret("ca.crt"));
    tokio::task::block_in_place(|| {
        eventually("an answer", || release.dry_run("128Mi").success);
    });
    let load = Load::start(&release, &["127.0.0.1", "127.0.0.2"], one.port).await;

    soon("another leaf", || {
        one.reloads("success") == 2 && other.reloads("success") == 2
    })
    .await;
    assert_eq!(
        release.trusted("validating"),
        first,
        "by the same authority"
    );
    let ends = one.expiry("ca");
    soon("two authorities", || {
        certificates_in(&release.trusted("validating")) == 2
    })
    .await;
    // In the middle of it the leader dies; the next one knows only what it reads.
    dies.abort();
    let keeper = begin();
    soon("one authority", || {
        certificates_in(&release.trusted("validating")) == 1
    })
    .await;
    let second = release.trusted("validating");
    assert!(second != first && second == release.trusted("mutating"));
    assert!(one.expiry("ca") > ends);
    let done = load.stop().await;
    println!("{done:?}");
    assert_eq!(done.failures, Vec::<String>::new());
    assert!(done.reviews > 50 && done.handshakes > 50, "{done:?}");
    for replica in [&one, &other] {
        assert_eq!(replica.reloads("failure"), 0);
        assert_eq!(replica.metrics.handshake_failures.get(), 0);
    }
    // Whoever no longer leads says nothing of what only the leader knows.
    assert!(metrics.encode().contains("forestall_webhook_configured{"));
    keeper.abort();
    soon("the end of the gauges", || {
        !metrics.encode().contains("forestall_webhook_configured{")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_secret_that_cannot_be_served_is_refused_once_and_the_old_one_served_on() {
    let release = Release::new();
    let pki = Pki::new(&["localhost"]);
    let good = pki.pair();
    let trusted = std::fs::read_to_string(pki.path("ca.crt")).unwrap();
    let kube = release.cluster.client().await;
    let replica = Replica::start(&release, kube, "127.0.0.1:0").await;
    // Until there is one, a handshake fails, and does not hang.
    let early = replica
        .shakes_hands(&trusted, "localhost")
        .await
        .unwrap_err();
    assert!(early.to_string().contains("alert"), "{early}");

    let write = |pair: &Pair| {
        release.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET},
            "stringData": {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": trusted},
        }));
    };
    write(&good);
    soon("the first one", || replica.reloads("success") == 1).await;
    let ends = replica.expiry("serving");
    let pair = |certificate: &str, key: &str| Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
    };
    let (other, expired, early) = (
        between(2020, 2090),
        between(2000, 2020),
        between(2080, 2090),
    );
    let long = "#".repeat(70_000) + &good.certificate;
    let bad = [
        pair(&good.certificate[..100], &good.key),
        pair(&good.certificate, ""),
        pair(&good.certificate, &other.key),
        pair(&expired.certificate, &expired.key),
        pair(&early.certificate, &early.key),
        pair(&long, &good.key),
    ];
    for (number, pair) in bad.iter().enumerate() {
        write(pair);
        let refusals = number as u64 + 1;
        soon("a refusal", || replica.reloads("failure") == refusals).await;
        // Looking again says it no second time.
        replica.certificates.reload();
        assert_eq!(replica.reloads("failure"), refusals);
        replica.shakes_hands(&trusted, "localhost").await.unwrap();
    }
    release.kubectl(&["delete", "secret", SECRET]);
    soon("a refusal", || replica.reloads("failure") == 7).await;
    replica.shakes_hands(&trusted, "localhost").await.unwrap();
    assert_eq!(
        (replica.reloads("success"), replica.expiry("serving")),
        (1, ends)
    );

    pki.renew(&["localhost", "other"]);
    write(&pki.pair());
    soon("the next one", || replica.reloads("success") == 2).await;
    replica.shakes_hands(&trusted, "other").await.unwrap();
}
