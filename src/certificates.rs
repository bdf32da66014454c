//! Certificates of its own: the leader makes and renews them, every replica serves them.
//!
//! One Secret holds all of it, by the keys that users expect: `tls.crt` and `tls.key`, the leaf
//! that every replica serves; `ca.crt`, the authorities that the API server is to trust, of which
//! the first one signs; `ca.key`, the key of that one. The same authorities go into `caBundle` of
//! both webhook configurations. Nothing else is remembered, so the next leader goes on where the
//! last one was stopped, wherever that was.
//!
//! A new authority is trusted beside the old ones before anything is signed by it, and the old ones
//! are forgotten when every replica serves a leaf of the new one (`certificates/kept.rs` decides).
//! So at each moment `caBundle` trusts whatever a replica may serve.

mod cluster;
mod replicas;
mod secret_state;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::Client;
use tokio::time::{Instant, sleep, timeout};

use self::cluster::{Cluster, FoundSecret};
use self::secret_state::Step;
use crate::object_name::ObjectName;
use crate::report::metrics::Metrics;

/// The longest that one look at the cluster and what follows from it may take.
const LOOK: Duration = Duration::from_secs(30);
/// Between two steps: whoever undoes each of them is not answered with a storm.
const BETWEEN_STEPS: Duration = Duration::from_millis(250);
/// Between two questions to the replicas. kubelet or the scheduler may take minutes over one.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// After a failure, doubled each time up to the longest.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// What is kept, and for whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Secret.
    pub secret: ObjectName,
    /// The Service by whose names the API server calls; in the Secret's namespace.
    pub service: String,
    /// The name that both webhook configurations have.
    pub webhook_configuration: String,
    /// Where every replica serves the leaf.
    pub port: u16,
    /// When certificates begin, end and change.
    pub times: Times,
}

/// When certificates begin, end and change.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The life of an authority. 5 years; it is renewed at two thirds.
    pub authority: Duration,
    /// The life of a leaf. 90 days; it is renewed at two thirds.
    pub leaf: Duration,
    /// How long before its making a certificate begins: for clocks that are behind. One hour.
    pub backdate: Duration,
    /// How long every API server is given to hear of a change of its webhook configurations, and
    /// every replica of one of the Secret. 10 s; both follow by watches, in well under a second.
    pub settle: Duration,
    /// The longest time between two looks at the wall clock. One hour: it may have jumped.
    pub look: Duration,
}

/// Why a step was not made.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("{what}: {error}; grant {rights}")]
    Api {
        what: String,
        rights: &'static str,
        #[source]
        error: kube::Error,
    },
    #[error(
        "Secret {name} belongs to {owner}, so it is left alone; name another one by --tls-secret, \
         or serve this one by --tls-cert and --tls-key"
    )]
    Foreign { name: ObjectName, owner: String },
    #[error("no certificate could be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("the API server has not answered within {} s", LOOK.as_secs())]
    TimedOut,
}

/// The work of the leader.
struct Keeper {
    cluster: Cluster,
    settings: Settings,
    /// What was seen at the last look, and since when.
    steady: Option<(Option<String>, Instant)>,
    /// What was said last of replicas, so that it is said once.
    waited_for: String,
}

/// Takes the gauges away when this replica no longer leads.
struct Gauges(Arc<Metrics>);

/// Makes, renews and repairs for ever. Only one replica should do this at a time; two harm nothing,
/// as every write names the version that it was made for.
///
/// May be dropped at any time: every step is one write, and what follows from it is read anew.
pub async fn keep(client: Client, settings: Settings, metrics: Arc<Metrics>) {
    let cluster = Cluster::new(client, &settings);
    let mut changes = cluster.changes();
    let mut keeper = Keeper {
        cluster,
        settings,
        steady: None,
        waited_for: String::new(),
    };
    let gauges = Gauges(metrics);
    let mut failures = 0_u32;
    let mut complaint = String::new();
    loop {
        let looked = timeout(LOOK, keeper.look(&gauges.0)).await;
        let pause = match looked.unwrap_or(Err(KeepError::TimedOut)) {
            Ok(pause) => {
                failures = 0;
                complaint.clear();
                pause
            }
            Err(error) => {
                failures += 1;
                let said = error.to_string();
                // The first one may be a conflict with somebody else's write.
                if failures > 1 && complaint != said {
                    tracing::error!("certificates are not kept: {said}");
                    complaint = said;
                }
                RETRY
                    .saturating_mul(1 << failures.min(8))
                    .min(LONGEST_RETRY)
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            _ = changes.next(), if failures == 0 => {}
        }
    }
}

// === impl Times ===

impl Default for Times {
    fn default() -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self {
            authority: DAY * (5 * 365),
            leaf: DAY * 90,
            backdate: Duration::from_hours(1),
            settle: Duration::from_secs(10),
            look: Duration::from_hours(1),
        }
    }
}

// === impl Settings ===

impl Settings {
    /// What a leaf is for: `SVC`, `SVC.NS`, `SVC.NS.svc`, `SVC.NS.svc.cluster.local`. The API server
    /// calls by the third.
    #[must_use]
    pub fn names(&self) -> [String; 4] {
        let (service, namespace) = (&self.service, &self.secret.namespace);
        [
            service.clone(),
            format!("{service}.{namespace}"),
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
        ]
    }
}

// === impl Keeper ===

impl Keeper {
    /// Looks at the cluster, makes at most one step, and says when to look again.
    async fn look(&mut self, metrics: &Metrics) -> Result<Duration, KeepError> {
        let seen = self.cluster.read().await?;
        let kept = seen.kept();
        let bundle = kept.bundle();
        let configured = seen.report(&bundle, metrics);
        let steady = self.steady(&seen, configured);
        let now = Timestamp::now();
        let names = self.settings.names();
        let times = self.settings.times;
        match kept.next(configured, steady, &names, &times, now) {
            Step::Authority(why) => {
                let kept = kept.with_new_authority(&seen.bundles(), &times, now)?;
                self.cluster.write(&seen, &kept).await?;
                tracing::info!("made a new certificate authority: {why}");
            }
            Step::Configure => self.cluster.configure(&seen, &bundle).await?,
            Step::Leaf(why) => {
                let kept = kept.with_new_leaf(&names, &times, now)?;
                self.cluster.write(&seen, &kept).await?;
                tracing::info!("made a new certificate: {why}");
            }
            Step::Settle(left) => return Ok(left),
            Step::Ask => {
                let lagging = self.cluster.lagging(&kept, &self.settings).await?;
                if !lagging.is_empty() {
                    self.wait_for(&lagging);
                    return Ok(ASK_AGAIN);
                }
                self.cluster.write(&seen, &kept.without_old()).await?;
                tracing::info!("every replica serves the new certificate: the old authorities go");
            }
            Step::Rest => return Ok(times.look),
        }
        Ok(BETWEEN_STEPS)
    }

    /// How long this Secret has been there while both configurations trust what it holds.
    fn steady(&mut self, seen: &FoundSecret, configured: bool) -> Duration {
        let version = configured.then(|| seen.version()).flatten();
        match &self.steady {
            Some((before, since)) if *before == version && configured => since.elapsed(),
            _ => {
                self.steady = Some((version, Instant::now()));
                Duration::ZERO
            }
        }
    }

    fn wait_for(&mut self, replicas: &[String]) {
        let replicas = replicas.join("; ");
        if self.waited_for != replicas {
            tracing::info!("the old authorities stay trusted: {replicas}");
            self.waited_for = replicas;
        }
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        self.0.webhook_configured.clear();
    }
}
