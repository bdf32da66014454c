//! The view of the cluster, in good days and bad.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use forestall::evidence::{
    Evidence, ObjectOf, ObjectQuestion, ObjectsOf, Platform, ReferrersOf, Unknown,
};
pub use forestall::lookup::cluster::Patience;
use forestall::lookup::cluster::{ClusterView, NamespaceState};
use forestall::objects::{
    ArgoCdController, ArgoCdParameters, ConfigMapKeys, Definition, ExternalSecret, NodeState,
    PodReferences, Reads, Reference, Referent, ServiceAccount,
};
use forestall::report::metrics::Metrics;
use forestall::rules::argocd;
use kube::config::AuthInfo;
use kube::{Client, Config};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::control_plane::ControlPlane;

const LABEL: &str = "forestall.dev/mode";
const GROUP: &str = "view.forestall.test";
const THINGS: Reads = Reads::named::<Definition>("things.view.forestall.test");
const ARGOCD: &[Reads] = &[
    Reads::all::<ArgoCdController>(),
    Reads::all::<ArgoCdParameters>(),
];

pub const QUICK: Patience = Patience {
    first_list: Duration::from_mins(1),
    retry: Duration::from_millis(200),
    stale: Duration::from_mins(1),
    pulse: Duration::from_millis(200),
};

/// A view that has been listed, and its metrics.
pub async fn listed(
    client: Client,
    reads: &[Reads],
    patience: Patience,
) -> (ClusterView, Arc<Metrics>) {
    listed_and_later(client, reads, &[], patience).await
}

/// The same, with what is watched from the first question on.
pub async fn listed_and_later(
    client: Client,
    now: &[Reads],
    later: &[Reads],
    patience: Patience,
) -> (ClusterView, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::default());
    let (view, first_lists) =
        ClusterView::watch(client, Arc::clone(&metrics), now, later, patience);
    first_lists.await;
    (view, metrics)
}

/// What is known of objects.
pub fn evidence<Q: Clone + Into<ObjectQuestion>>(view: &ClusterView, question: &Q) -> Evidence {
    let question = question.clone().into();
    let mut evidence = Evidence::default();
    let answer = view.objects(&question);
    evidence.objects.insert(question, answer);
    evidence
}

/// The spec of a definition of the test's group.
fn spec(view: &ClusterView, plural: &str) -> Result<Option<Value>, Unknown> {
    let question = ObjectOf::<Definition>::named(None, &format!("{plural}.{GROUP}"));
    let evidence = evidence(view, &question);
    let found = evidence.get(&question)?;
    Ok(found.map(|definition| definition.0.clone()))
}

fn argocd_version(view: &ClusterView) -> Result<String, Unknown> {
    let evidence = evidence(view, &ObjectsOf::<ArgoCdController>::all());
    argocd::version(&evidence).map(ToOwned::to_owned)
}

fn server_side_diff(view: &ClusterView) -> Result<bool, Unknown> {
    argocd::server_side_diff(&evidence(view, &ObjectsOf::<ArgoCdParameters>::all()))
}

fn node_platforms(view: &ClusterView) -> Result<BTreeSet<Platform>, Unknown> {
    let question = ObjectsOf::<NodeState>::all();
    evidence(view, &question).get(&question)?.platforms()
}

/// Waits until it is so; what never comes fails the test.
pub async fn eventually(what: &str, is: impl Fn() -> bool) {
    let ends = Instant::now() + Duration::from_mins(1);
    while !is() {
        assert!(Instant::now() < ends, "{what} never came");
        sleep(Duration::from_millis(20)).await;
    }
}

pub fn available(metrics: &Metrics, resource: &str, value: u8) -> bool {
    let line = format!("forestall_kind_available{{resource=\"{resource}\"}} {value}\n");
    metrics.encode().contains(&line)
}

fn known(label: &str) -> NamespaceState {
    NamespaceState::Known(Some(label.to_owned()))
}

fn definition(plural: &str) -> String {
    format!(
        r#"{{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
  "metadata": {{"name": "{plural}.{GROUP}"}},
  "spec": {{"group": "{GROUP}", "scope": "Namespaced",
    "names": {{"plural": "{plural}", "kind": "Kind{plural}"}},
    "versions": [{{"name": "v1", "served": true, "storage": true, "schema": {{"openAPIV3Schema": {{
      "type": "object", "description": "words", "properties": {{"spec": {{
        "type": "object", "properties": {{"policy": {{"type": "string", "default": "Retain"}}}}
      }}}}}}}}}}]}}}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_means_that_everything_was_listed() {
    let cluster = ControlPlane::shared();
    let (plain, labelled) = (cluster.namespace(), cluster.namespace());
    cluster.must(
        &["label", "namespace", &labelled, &format!("{LABEL}=warn")],
        "",
    );
    cluster.must(&["apply", "-f", "-"], &definition("others"));
    let others = Reads::named::<Definition>("others.view.forestall.test");
    let (view, metrics) = listed(cluster.client().await, &[others, others], QUICK).await;
    assert_eq!(view.namespace(&labelled), known("warn"));
    assert_eq!(view.namespace(&plain), NamespaceState::Known(None));
    assert_eq!(view.namespace("nowhere"), NamespaceState::Absent);
    let others = spec(&view, "others").unwrap().unwrap();
    let policy = "/versions/0/schema/openAPIV3Schema/properties/spec/properties/policy/default";
    assert_eq!(others.pointer(policy), Some(&Value::from("Retain")));
    assert!(!others.to_string().contains("words"), "{others}");
    // What no guardrail reads is not watched, so it is not known.
    assert_eq!(spec(&view, "things"), Err(Unknown::NotAsked));
    assert_eq!(argocd_version(&view), Err(Unknown::NotAsked));
    assert!(available(&metrics, "namespaces", 1), "{}", metrics.encode());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_watched_from_the_first_question_on() {
    let cluster = ControlPlane::shared();
    let node = |name: &str, labels: &str| {
        format!(
            r#"{{"apiVersion": "v1", "kind": "Node", "metadata": {{"name": "{name}", "labels": {labels}}}}}"#
        )
    };
    let labels = r#"{"kubernetes.io/os": "linux", "kubernetes.io/arch": "riscv64"}"#;
    cluster.must(&["apply", "-f", "-"], &node("view-riscv", labels));
    cluster.must(&["apply", "-f", "-"], &node("view-unlabelled", "{}"));
    let nodes = [Reads::all::<NodeState>()];
    let (view, metrics) = listed_and_later(cluster.client().await, &[], &nodes, QUICK).await;
    assert!(!metrics.encode().contains("resource=\"nodes\""));

    assert_eq!(node_platforms(&view), Err(Unknown::NotSynced));
    let riscv = Platform {
        os: "linux".to_owned(),
        architecture: "riscv64".to_owned(),
    };
    let has = |wanted: bool| {
        let platforms = node_platforms(&view);
        platforms.is_ok_and(|platforms| platforms.contains(&riscv) == wanted)
    };
    eventually("the node", || has(true)).await;
    assert!(available(&metrics, "nodes", 1), "{}", metrics.encode());
    cluster.must(&["delete", "node", "view-riscv", "view-unlabelled"], "");
    eventually("the end of the node", || has(false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_changes_and_a_namespace_that_goes_are_seen() {
    let cluster = ControlPlane::shared();
    let (view, _) = listed(cluster.client().await, &[], QUICK).await;
    let name = cluster.namespace();
    eventually("the new namespace", || {
        view.namespace(&name) == NamespaceState::Known(None)
    })
    .await;
    for mode in ["audit", "enforce"] {
        let label = format!("{LABEL}={mode}");
        cluster.must(&["label", "--overwrite", "namespace", &name, &label], "");
        eventually(mode, || view.namespace(&name) == known(mode)).await;
    }
    cluster.must(&["label", "namespace", &name, &format!("{LABEL}-")], "");
    eventually("no label", || {
        view.namespace(&name) == NamespaceState::Known(None)
    })
    .await;
    cluster.must(&["delete", "namespace", &name], "");
    eventually("no namespace", || {
        view.namespace(&name) == NamespaceState::Absent
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_is_installed_later_is_seen_and_so_is_its_end() {
    let cluster = ControlPlane::shared();
    let (view, _) = listed(cluster.client().await, &[THINGS], QUICK).await;
    let absent = || spec(&view, "things") == Ok(None);
    assert!(absent());
    cluster.must(&["apply", "-f", "-"], &definition("things"));
    eventually("the definition", || {
        spec(&view, "things").is_ok_and(|spec| spec.is_some())
    })
    .await;
    cluster.must(&["delete", "crd", &format!("things.{GROUP}")], "");
    eventually("no definition", absent).await;
}

// Alone with its cluster: the definition of ExternalSecret is everybody's.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_name_is_seen_in_either_order_of_arrival() {
    const READS: &[Reads] = &[
        Reads::all::<PodReferences>(),
        Reads::all::<ConfigMapKeys>(),
        Reads::all::<ServiceAccount>(),
        Reads::all::<ExternalSecret>(),
    ];
    let cluster = ControlPlane::start();
    let apply = |manifest: &str| {
        cluster.must(&["--namespace", "default", "apply", "-f", "-"], manifest);
    };
    let settings = Reference {
        kind: Referent::ConfigMap,
        name: "settings".into(),
    };
    let deployment = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: web
      containers:
        - {name: app, image: 'a.b/c:1', envFrom: [{configMapRef: {name: settings}}]}
";
    // The workload is there before anybody watches, the ConfigMap comes after.
    apply(deployment);
    let (view, _) = listed(cluster.client().await, READS, QUICK).await;
    let referrers = ReferrersOf::<PodReferences>::new("default", settings.clone());
    let named = || {
        let evidence = evidence(&view, &referrers);
        let found = evidence.get(&referrers).unwrap();
        found
            .iter()
            .map(|(name, _)| name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(named(), ["default/web"]);
    let keys = ObjectOf::<ConfigMapKeys>::named(Some("default"), "settings");
    let key = || {
        let evidence = evidence(&view, &keys);
        let found = evidence.get(&keys).unwrap();
        found.map(|keys| keys.keys().map(ToOwned::to_owned).collect::<Vec<_>>())
    };
    assert_eq!(key(), None);
    cluster.must(
        &[
            "create",
            "configmap",
            "settings",
            "--from-literal=level=info",
        ],
        "",
    );
    eventually("the ConfigMap", || key() == Some(vec!["level".to_owned()])).await;
    apply(&deployment.replace("name: web}", "name: other}"));
    eventually("a second workload", || named().len() == 2).await;

    let account = ObjectOf::<ServiceAccount>::named(Some("default"), "web");
    apply(
        "{apiVersion: v1, kind: ServiceAccount, metadata: {name: web}, imagePullSecrets: [{name: regcred}]}",
    );
    eventually("the ServiceAccount", || {
        let evidence = evidence(&view, &account);
        let found = evidence.get(&account).unwrap();
        found.is_some_and(|account| account.pull_secrets.iter().any(|name| &**name == "regcred"))
    })
    .await;

    apply(include_str!("../../examples/crds/externalsecrets.yaml"));
    let secret = Reference {
        kind: Referent::Secret,
        name: "db-credentials".into(),
    };
    let makers = ReferrersOf::<ExternalSecret>::new("default", secret);
    let external_secret = "
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: {name: db}
spec:
  secretStoreRef: {kind: ClusterSecretStore, name: aws}
  target: {name: db-credentials}
  data: [{secretKey: password, remoteRef: {key: prod/db}}]
";
    eventually("the definition of ExternalSecret", || {
        let arguments = ["--namespace", "default", "apply", "-f", "-"];
        cluster.kubectl(&arguments, external_secret).success
    })
    .await;
    eventually("the ExternalSecret", || {
        let evidence = evidence(&view, &makers);
        evidence.get(&makers).is_ok_and(|found| {
            let mut secrets = found.readable();
            secrets.any(|secret| {
                let keys = secret.keys.iter().flatten();
                keys.map(|key| &**key).eq(["password"])
            })
        })
    })
    .await;
}

// Alone with its cluster: everybody's Argo CD is found wherever it runs.
#[tokio::test(flavor = "multi_thread")]
async fn argo_cd_is_seen_by_its_controller_and_its_settings() {
    let cluster = ControlPlane::start();
    let (view, _) = listed(cluster.client().await, ARGOCD, QUICK).await;
    let unknown = argocd_version(&view).unwrap_err().to_string();
    assert_eq!(
        unknown,
        "no Argo CD is seen in the cluster; write argocd.version in the configuration"
    );
    assert_eq!(server_side_diff(&view), Ok(false));

    let apply = |kind, name, version| {
        let manifest = controller(kind, name, version);
        cluster.must(&["--namespace", "default", "apply", "-f", "-"], &manifest);
    };
    apply("StatefulSet", "argocd-application-controller", "v2.10.4");
    eventually("a version", || {
        argocd_version(&view) == Ok("v2.10.4".to_owned())
    })
    .await;
    apply("StatefulSet", "argocd-application-controller", "v3.1.0");
    eventually("an upgrade", || {
        argocd_version(&view) == Ok("v3.1.0".to_owned())
    })
    .await;
    apply("Deployment", "another", "v2.9.0");
    let two =
        "Argo CD runs here as v2.9.0 and as v3.1.0; write argocd.version in the configuration";
    let says = |text: &str| argocd_version(&view) == Err(Unknown::Unavailable(text.to_owned()));
    eventually("a second Argo CD", || says(two)).await;

    let settings = ["create", "configmap", "argocd-cmd-params-cm"];
    let on = "--from-literal=controller.diff.server.side=true";
    cluster.must(&[settings[0], settings[1], settings[2], on], "");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        server_side_diff(&view),
        Ok(false),
        "it is not labelled as Argo CD's"
    );
    let label = "app.kubernetes.io/part-of=argocd";
    cluster.must(&["label", settings[1], settings[2], label], "");
    eventually("the setting", || server_side_diff(&view) == Ok(true)).await;
}

fn controller(kind: &str, name: &str, version: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: {kind}
metadata:
  name: {name}
  labels: {{app.kubernetes.io/name: argocd-application-controller}}
spec:
  replicas: 0
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
        - name: application-controller
          image: quay.io/argoproj/argocd:{version}
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn case_81_a_forbidden_kind_is_unknown_until_it_is_granted_and_the_others_go_on() {
    let cluster = ControlPlane::shared();
    let namespace = cluster.namespace();
    let account = format!("{namespace}:viewer");
    let grant = |role: &str, resource: &str| {
        let role = format!("{namespace}-{role}");
        let verbs = "--verb=list,watch";
        cluster.must(
            &[
                "create",
                "clusterrole",
                &role,
                verbs,
                "--resource",
                resource,
            ],
            "",
        );
        let [role, account] = [
            format!("--clusterrole={role}"),
            format!("--serviceaccount={account}"),
        ];
        let binding = format!("{namespace}-{resource}");
        cluster.must(
            &["create", "clusterrolebinding", &binding, &role, &account],
            "",
        );
    };
    cluster.must(
        &[
            "--namespace",
            &namespace,
            "create",
            "serviceaccount",
            "viewer",
        ],
        "",
    );
    grant("one", "namespaces");
    let token = cluster.must(
        &["--namespace", &namespace, "create", "token", "viewer"],
        "",
    );
    let mut config = cluster.config().await;
    config.auth_info = AuthInfo {
        token: Some(token.trim_end().to_owned().into()),
        ..AuthInfo::default()
    };
    let client = Client::try_from(config).unwrap();

    let (view, metrics) = listed(client, ARGOCD, QUICK).await;
    let granted = view.namespace(&namespace);
    assert_eq!(granted, NamespaceState::Known(None));
    let reason = server_side_diff(&view).unwrap_err().to_string();
    assert_eq!(
        reason,
        "Forestall may not read configmaps (403); grant it list and watch"
    );
    assert!(available(&metrics, "configmaps", 0), "{}", metrics.encode());
    assert!(available(&metrics, "namespaces", 1), "{}", metrics.encode());

    grant("two", "configmaps");
    eventually("what was granted", || server_side_diff(&view) == Ok(false)).await;
    assert!(available(&metrics, "configmaps", 1), "{}", metrics.encode());
}

#[tokio::test(flavor = "multi_thread")]
async fn case_80_without_an_api_server_the_view_is_ready_in_time_and_knows_nothing() {
    let cluster = ControlPlane::shared();
    let namespace = cluster.namespace();
    let line = Line::to(cluster.config().await, State::Cut).await;
    let patience = Patience {
        first_list: Duration::from_secs(2),
        ..QUICK
    };
    let started = Instant::now();
    let (view, _) = listed(line.client(), &[THINGS], patience).await;
    assert!(started.elapsed() >= patience.first_list);
    assert_eq!(view.namespace(&namespace), NamespaceState::NotSynced);
    assert_eq!(spec(&view, "things"), Err(Unknown::NotSynced));
    line.set(State::Open);
    eventually("the list", || {
        view.namespace(&namespace) == NamespaceState::Known(None)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn case_82_what_is_stale_is_unknown_and_known_again_when_the_line_is_back() {
    let cluster = ControlPlane::shared();
    for broken in [State::Cut, State::Silent] {
        let namespace = cluster.namespace();
        let line = Line::to(cluster.config().await, State::Open).await;
        let patience = Patience {
            stale: Duration::from_secs(4),
            ..QUICK
        };
        let (view, _) = listed(line.client(), &[], patience).await;
        assert_eq!(view.namespace(&namespace), NamespaceState::Known(None));
        line.set(broken);
        sleep(Duration::from_secs(1)).await;
        let soon = view.namespace(&namespace);
        assert_eq!(
            soon,
            NamespaceState::Known(None),
            "{broken:?}: not stale yet"
        );
        eventually("staleness", || {
            view.namespace(&namespace) == NamespaceState::NotSynced
        })
        .await;
        cluster.must(
            &["label", "namespace", &namespace, &format!("{LABEL}=off")],
            "",
        );
        line.set(State::Open);
        eventually("recovery", || view.namespace(&namespace) == known("off")).await;
    }
}

/// A line to the API server that can be broken.
pub struct Line {
    config: Config,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Bytes pass.
    Open,
    /// Bytes are held back: what a lost route looks like.
    Silent,
    /// All connections are closed, and new ones at once.
    Cut,
}

impl Line {
    pub async fn to(mut config: Config, state: State) -> Self {
        let server: SocketAddr = config
            .cluster_url
            .authority()
            .unwrap()
            .as_str()
            .parse()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        config.cluster_url = format!("https://{address}").parse().unwrap();
        let state = watch::Sender::new(state);
        let told = state.subscribe();
        tokio::spawn(async move {
            loop {
                let (here, _) = listener.accept().await.unwrap();
                if *told.borrow() == State::Cut {
                    continue;
                }
                let there = TcpStream::connect(server).await.unwrap();
                let (here_reads, here_writes) = here.into_split();
                let (there_reads, there_writes) = there.into_split();
                tokio::spawn(pump(here_reads, there_writes, told.clone()));
                tokio::spawn(pump(there_reads, here_writes, told.clone()));
            }
        });
        Self { config, state }
    }

    pub fn client(&self) -> Client {
        Client::try_from(self.config.clone()).unwrap()
    }

    pub fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut told: watch::Receiver<State>,
) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut bytes) => read.unwrap_or(0),
            _ = told.wait_for(|state| *state == State::Cut) => 0,
        };
        let state = told.wait_for(|state| *state != State::Silent).await;
        let open = state.is_ok_and(|state| *state == State::Open);
        if read == 0 || !open || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
