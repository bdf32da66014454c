//! `forestall serve`: the webhook, from its files to its last request.

mod configuration;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use futures::future::OptionFuture;
use kube::Client;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use self::configuration::{Configuration, LiveJudging, guard};
use super::FAILED;
use crate::admin::{self, Readiness};
use crate::background::{Background, Pace};
use crate::certificates::{self, Settings, Times};
use crate::leader::{self, Candidate};
use crate::lookup::cluster::ClusterView;
use crate::object_name::ObjectName;
use crate::quantity::Quantity;
use crate::report::log::{self, LogFormat};
use crate::report::metrics::Metrics;
use crate::tls::{Certificates, OWN_NAMES, PairFiles};
use crate::webhook::server::{ConnectionLimits, Server};
use crate::webhook::{self, Webhook};

/// How often the files are read again. kubelet itself takes up to a minute to bring a change.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);
/// Workers beside one for each processor: reviews are never judged on all workers at once, so that one
/// is left to serve.
const SPARE_WORKERS: usize = 1;
/// The least that `--memory-limit` may be, in bytes: idle, the program takes half of it.
const LEAST_MEMORY: i128 = 32 << 20;
/// Connections to the port for operators: some probes and scrapers.
const ADMIN_CONNECTIONS: usize = 100;
/// What /readyz waits for: that there is a certificate to serve.
const CERTIFICATE: &str = "certificate";
/// What /readyz waits for: that the cluster was seen, or not in time.
const CLUSTER: &str = "cluster";
/// What /readyz waits for: that the server is not leaving.
const STAYING: &str = "staying";

/// Serves the webhook
///
/// POST /mutate and /validate by HTTPS on --listen; GET /livez, /readyz and /metrics by HTTP on
/// --admin-listen. The configuration and the certificate are read again every 10 s and on SIGHUP;
/// what cannot be used leaves the old one in force. SIGTERM and SIGINT end it without losing a
/// request, in 15 to 40 s; a second one ends it at once, with exit status 1.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// The configuration file; without it, every guardrail is enforced
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where API servers ask
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:9443")]
    listen: SocketAddr,
    /// Where probes and Prometheus ask
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:8080")]
    admin_listen: SocketAddr,
    /// The certificate, in PEM, with its issuers after it; without it and --tls-secret, one is made
    /// for localhost
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The Secret that holds the certificate; the leader makes and renews it
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with_all = ["tls_cert", "no_cluster"])]
    #[arg(requires_all = ["tls_service", "webhook_configuration", "lease"])]
    tls_secret: Option<ObjectName>,
    /// The Service that the API server calls, in the namespace of the Secret
    #[arg(long, value_name = "NAME", requires = "tls_secret")]
    tls_service: Option<String>,
    /// The name of the mutating and of the validating webhook configuration that get the caBundle
    #[arg(long, value_name = "NAME", requires = "tls_secret")]
    webhook_configuration: Option<String>,
    /// Run without a cluster: no namespace labels, and what is only known there is unknown
    #[arg(long)]
    no_cluster: bool,
    /// The Lease by which one of several replicas leads: it judges what is in the cluster already,
    /// and writes Events and the gauges of it; without it, nobody does
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with = "no_cluster")]
    lease: Option<ObjectName>,
    /// How much memory it may have, such as 256Mi or a number of bytes: in a container, its memory
    /// limit. Reviews get half of it, connections a quarter, and what is more is turned away. Without
    /// it, reviews get 128 MiB
    #[arg(long, value_name = "BYTES", value_parser = memory_limit)]
    memory_limit: Option<usize>,
    /// How the log is written to standard error
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
}

/// SIGTERM and SIGINT.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

// === impl Serve ===

impl Serve {
    /// Serves until it is told to stop.
    #[must_use]
    pub fn run(self) -> ExitCode {
        log::init(self.log_format);
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let runtime = match tokio::runtime::Builder::new_multi_thread()
            .worker_threads(SPARE_WORKERS + processors)
            .enable_all()
            .build()
        {
            Ok(runtime) => runtime,
            Err(error) => return refuse(&error.into()),
        };
        let served = runtime.block_on(Box::pin(self.serve()));
        // What still runs is cut off: nobody waits for it, and a second signal is to be obeyed.
        runtime.shutdown_background();
        served.unwrap_or_else(|error| refuse(&error))
    }

    async fn serve(self) -> anyhow::Result<ExitCode> {
        let Self {
            config,
            listen,
            admin_listen,
            tls_cert,
            tls_key,
            tls_secret,
            tls_service,
            webhook_configuration,
            no_cluster,
            lease,
            memory_limit,
            log_format: _,
        } = self;
        let signals = StopSignals::new()?;
        let hangup = signal(SignalKind::hangup())?;
        let metrics = Arc::new(Metrics::default());
        let (configuration, config) = Configuration::read(config, Arc::clone(&metrics))?;
        let files = tls_cert
            .zip(tls_key)
            .map(|(certificate, key)| PairFiles { certificate, key });
        let (certificates, own) = certificates(files, tls_secret.clone(), &metrics)?;
        let listener = bind("--listen", listen).await?;
        let admin_listener = bind("--admin-listen", admin_listen).await?;
        let (address, admin_address) = (listener.local_addr()?, admin_listener.local_addr()?);

        let readiness = Arc::new(Readiness::waiting_for(&[CERTIFICATE, CLUSTER]));
        readiness.set(STAYING, true);
        readiness.set(CERTIFICATE, tls_secret.is_none());
        let client = if no_cluster {
            readiness.set(CLUSTER, true);
            None
        } else {
            Some(client().await?)
        };
        let kept = tls_secret.zip(tls_service).zip(webhook_configuration);
        let kept = kept.map(|((secret, service), webhook_configuration)| Settings {
            secret,
            service,
            webhook_configuration,
            port: address.port(),
            times: Times::default(),
        });
        if let (Some(client), Some(_)) = (&client, &kept) {
            let (certificates, readiness) = (Arc::clone(&certificates), Arc::clone(&readiness));
            tokio::spawn(follow_secret(client.clone(), certificates, readiness));
        }
        let cluster = client.as_ref().map(|client| {
            let (view, seen) = ClusterView::start(client.clone(), Arc::clone(&metrics), &config);
            let readiness = Arc::clone(&readiness);
            tokio::spawn(async move {
                seen.await;
                readiness.set(CLUSTER, true);
            });
            view
        });
        let guard = guard(config, None, cluster, &metrics)?;
        let limits = memory_limit.map_or_else(Default::default, webhook::ReviewLimits::for_memory);
        let webhook = Webhook::new(guard, Arc::clone(&metrics), limits);
        let webhook = Arc::new(webhook);

        let admin = Server {
            listener: admin_listener,
            router: admin::router(Arc::clone(&readiness), Arc::clone(&metrics)),
            tls: None,
            limits: ConnectionLimits {
                connections: ADMIN_CONNECTIONS,
                ..ConnectionLimits::default()
            },
            metrics: None,
        };
        let server = Server {
            listener,
            router: webhook::router(Arc::clone(&webhook)),
            tls: Some(certificates.server_config()?),
            limits: memory_limit
                .map_or_else(ConnectionLimits::default, ConnectionLimits::for_memory),
            metrics: Some(Arc::clone(&metrics)),
        };
        let (leave, leaving) = watch::channel(false);
        if let Some((client, lease)) = client.zip(lease) {
            let judging = Arc::clone(webhook.judging());
            let told = told(leaving.clone());
            tokio::spawn(lead(client, lease, kept, judging, metrics, told));
        }
        let judging = Arc::clone(webhook.judging());
        if let Some(pem) = own {
            introduce(&pem, address.port());
        }
        tracing::info!(%address, admin = %admin_address, "serving on {address}");
        // To the end of the process: probes must see that it is leaving.
        tokio::spawn(admin.run(std::future::pending()));
        tokio::spawn(reload(certificates, configuration, judging, hangup));
        Ok(until_stopped(server, signals, &readiness, leave, told(leaving)).await)
    }
}

/// Reads `--memory-limit`.
fn memory_limit(text: &str) -> Result<usize, String> {
    let bytes = Quantity::parse(text).map_err(|error| error.to_string())?;
    if bytes.bytes() < LEAST_MEMORY {
        return Err("no review could be judged in it; give the container 64Mi or more".to_owned());
    }
    Ok(usize::try_from(bytes.bytes()).unwrap_or(usize::MAX))
}

/// Logs why the server cannot run.
fn refuse(error: &anyhow::Error) -> ExitCode {
    tracing::error!("{error:#}");
    ExitCode::from(FAILED)
}

/// The certificate to serve, and its PEM where it was made here.
fn certificates(
    files: Option<PairFiles>,
    secret: Option<ObjectName>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Arc<Certificates>, Option<String>)> {
    let metrics = Arc::clone(metrics);
    if let Some(secret) = secret {
        return Ok((Arc::new(Certificates::from_secret(secret, metrics)), None));
    }
    if let Some(files) = files {
        return Ok((Arc::new(Certificates::from_files(files, metrics)?), None));
    }
    let (certificates, pem) = Certificates::own(metrics)?;
    Ok((Arc::new(certificates), Some(pem)))
}

/// Serves what the Secret holds, and is ready when it holds something.
async fn follow_secret(
    client: kube::Client,
    certificates: Arc<Certificates>,
    readiness: Arc<Readiness>,
) {
    let ready = async {
        certificates.served().await;
        readiness.set(CERTIFICATE, true);
    };
    tokio::join!(certificates.follow(client), ready);
}

async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| anyhow!("{flag} {address}: {error}; name a free address of this machine"))
}

async fn client() -> anyhow::Result<Client> {
    Client::try_default().await.map_err(|error| {
        anyhow!(
            "{error}; run in a pod with a service account, set KUBECONFIG, or give --no-cluster"
        )
    })
}

/// Does what only one replica does, while this one is it.
async fn lead(
    client: Client,
    lease: ObjectName,
    kept: Option<Settings>,
    judging: Arc<LiveJudging>,
    metrics: Arc<Metrics>,
    leaving: impl Future<Output = ()>,
) {
    let identity = leader::identity();
    let background = Arc::new(Background::new(
        client.clone(),
        judging,
        identity.clone(),
        Arc::clone(&metrics),
        Pace::default(),
    ));
    let work = || {
        let background = Arc::clone(&background);
        let keep = kept
            .clone()
            .map(|settings| certificates::keep(client.clone(), settings, Arc::clone(&metrics)));
        async move {
            tokio::join!(background.run(), OptionFuture::from(keep));
        }
    };
    Candidate::new(client.clone(), lease, identity, Arc::clone(&metrics))
        .run(work, leaving)
        .await;
}

/// Ends when the process is told to leave.
async fn told(mut leaving: watch::Receiver<bool>) {
    // The sender is kept until it has sent.
    let _ = leaving.wait_for(|leaving| *leaving).await;
}

/// Tells a person at a terminal how to ask.
fn introduce(pem: &str, port: u16) {
    let names = OWN_NAMES.join(", ");
    let review = concat!(
        r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","#,
        r#""kind":{"group":"","version":"v1","kind":"Pod"},"operation":"CREATE","#,
        r#""namespace":"default","name":"web","object":{"apiVersion":"v1","kind":"Pod","#,
        r#""metadata":{"name":"web","namespace":"default"},"spec":{"containers":[{"name":"web","#,
        r#""image":"nginx","resources":{"limits":{"memory":"512m"}}}]}}}}"#
    );
    let text = format!(
        "No --tls-cert was given, so this certificate was made for {names}.\n\
         Its key is in memory only, so it ends with this process.\n\n{pem}\n\
         Save it as forestall.pem, and ask:\n\n\
         curl --cacert forestall.pem https://localhost:{port}/validate \\\n  \
         -H 'Content-Type: application/json' \\\n  -d '{review}'\n\n"
    );
    // A closed standard output is no reason not to serve.
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// Looks at the files from time to time, and when it is told to.
async fn reload(
    certificates: Arc<Certificates>,
    configuration: Configuration,
    judging: Arc<LiveJudging>,
    mut hangup: Signal,
) {
    let configuration = Arc::new(Mutex::new(configuration));
    loop {
        tokio::select! {
            () = tokio::time::sleep(RELOAD_INTERVAL) => {}
            _ = hangup.recv() => {}
        }
        let (certificates, judging) = (Arc::clone(&certificates), Arc::clone(&judging));
        let configuration = Arc::clone(&configuration);
        // A panic in there has been logged; the next look comes all the same.
        let _ = spawn_blocking(move || {
            certificates.reload();
            let configuration = configuration.lock();
            configuration
                .unwrap_or_else(PoisonError::into_inner)
                .reload(&judging);
        })
        .await;
    }
}

/// Runs until the first signal and what follows from it, or until the second signal.
async fn until_stopped(
    server: Server,
    mut signals: StopSignals,
    readiness: &Readiness,
    leave: watch::Sender<bool>,
    leaving: impl Future<Output = ()>,
) -> ExitCode {
    let insisted = async {
        signals.next().await;
        readiness.set(STAYING, false);
        tracing::info!("leaving; a second signal ends it at once");
        leave.send_replace(true);
        signals.next().await;
    };
    tokio::select! {
        () = server.run(leaving) => {
            tracing::info!("left");
            ExitCode::SUCCESS
        }
        () = insisted => {
            tracing::warn!("ended at once by a second signal");
            ExitCode::FAILURE
        }
    }
}

// === impl StopSignals ===

impl StopSignals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
