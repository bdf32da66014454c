//! A real API server takes every patch: what it accepts without one, it accepts with it.

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::incidents::install_definitions;
use crate::site::Site;

/// So many objects are tried of each kind.
const OBJECTS: usize = 150;

const DEFAULTS: &str = "
argocd: {version: v2.10.0}
rules:
  missing-image: {mode: off}
  implicit-external-secret-defaults:
    defaults: {refreshInterval: 1h0m0s, creationPolicy: Owner, deletionPolicy: Delete}
";

/// One of these; `null` stands for a field that is left out, and sometimes for itself.
fn one_of(values: &Value) -> impl Strategy<Value = Value> + use<> {
    select(values.as_array().unwrap().clone())
}

/// An object with the fields that have got a value.
fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let (names, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    values
        .prop_map(move |values| {
            let fields = names
                .iter()
                .zip(values)
                .filter(|(_, value)| !value.is_null());
            fields
                .map(|(name, value)| ((*name).to_owned(), value))
                .collect()
        })
        .boxed()
}

fn external_secrets() -> impl Strategy<Value = Value> {
    let target = object(vec![
        ("name", one_of(&json!([null, "a", ""])).boxed()),
        (
            "creationPolicy",
            one_of(&json!([null, null, "Owner", "Orphan", "Never"])).boxed(),
        ),
        (
            "deletionPolicy",
            one_of(&json!([null, null, null, "Retain", "Delete", 1])).boxed(),
        ),
        (
            "template",
            one_of(
                &json!([null, {}, {"engineVersion": "v2"}, {"templateFrom": []},
            {"templateFrom": [{"configMap": {"name": "a", "items": [{"key": "b"}]}}]}]),
            )
            .boxed(),
        ),
    ]);
    let key = json!({"secretKey": "a", "remoteRef": {"key": "b"}});
    let spec = object(vec![
        (
            "refreshInterval",
            one_of(&json!([null, null, "15m", "0", 3])).boxed(),
        ),
        (
            "secretStoreRef",
            one_of(&json!([null, {"name": "store"}, {}])).boxed(),
        ),
        (
            "target",
            prop_oneof![3 => target, 1 => Just(Value::Null), 1 => Just(json!({}))].boxed(),
        ),
        (
            "data",
            one_of(&json!([null, [], [key], [{"secretKey": "a", "remoteRef": null}]])).boxed(),
        ),
        (
            "dataFrom",
            one_of(&json!([null, [], [{"extract": {"key": "~0/~1"}}]])).boxed(),
        ),
    ]);
    with_metadata(
        "external-secrets.io/v1",
        "ExternalSecret",
        vec![("spec", spec)],
    )
}

fn applications() -> impl Strategy<Value = Value> {
    let option = select(vec![
        "ServerSideApply=true",
        "Validate=false",
        "CreateNamespace=true",
        "",
    ]);
    let options =
        prop::collection::vec(option, 0..4).prop_map(|options| json!({"syncOptions": options}));
    let spec = object(vec![
        ("project", Just(json!("default")).boxed()),
        ("destination", one_of(&json!([{"namespace": "a"}, {}])).boxed()),
        ("source", one_of(&json!([null, {"repoURL": "https://git.example.com/a", "path": "."}])).boxed()),
        ("sources", one_of(&json!([null, [], [{"repoURL": "a"}, {"repoURL": "b"}]])).boxed()),
        ("syncPolicy", prop_oneof![4 => options, 1 => Just(Value::Null), 1 => Just(json!({}))].boxed()),
        ("ignoreDifferences", one_of(&json!([null, null, null, [], [{"kind": "Secret"}],
            [{"group": "external-secrets.io", "kind": "ExternalSecret", "jsonPointers": ["/spec"]}]])).boxed()),
    ]);
    let secret = json!({"group": "external-secrets.io", "version": "v1", "kind": "ExternalSecret", "name": "a"});
    let service = json!({"group": "apiregistration.k8s.io", "version": "v1", "kind": "APIService", "name": "b"});
    let resources = one_of(&json!([
        null,
        [],
        [secret],
        [service],
        [secret, service],
        [{}]
    ]));
    let status = resources.prop_map(|resources| json!({"resources": resources}));
    let status = prop_oneof![1 => Just(Value::Null), 5 => status].boxed();
    with_metadata(
        "argoproj.io/v1alpha1",
        "Application",
        vec![("spec", spec), ("status", status)],
    )
}

/// Most authors use `kubectl apply`, which says what they left out.
fn with_metadata(
    api_version: &'static str,
    kind: &'static str,
    fields: Vec<(&'static str, BoxedStrategy<Value>)>,
) -> impl Strategy<Value = Value> {
    (
        object(fields),
        select(vec!["applied", "applied", "created", "garbage"]),
    )
        .prop_map(move |(mut object, how)| {
            object["apiVersion"] = json!(api_version);
            object["kind"] = json!(kind);
            object["metadata"] = json!({"name": "a"});
            let applied = match how {
                "applied" => object.to_string(),
                "garbage" => "{".to_owned(),
                _ => return object,
            };
            let name = "kubectl.kubernetes.io/last-applied-configuration";
            object["metadata"]["annotations"] = json!({ name: applied });
            object
        })
}

struct Server {
    client: Client,
}

impl Server {
    /// What the API server would store, or its refusal.
    async fn dry_run(&self, namespace: &str, object: &Value) -> Result<Value, kube::Error> {
        let (group, version) = object["apiVersion"]
            .as_str()
            .unwrap()
            .split_once('/')
            .unwrap();
        let gvk = GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap());
        let resource = ApiResource::from_gvk(&gvk);
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &resource);
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        let stored = api.create(&dry_run, &object).await?;
        Ok(json!({"spec": stored.data["spec"], "status": stored.data["status"]}))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_67_what_the_api_server_accepts_unpatched_it_accepts_patched() {
    install_definitions();
    let site = Site::new(DEFAULTS);
    let elsewhere = site.cluster.namespace();
    let server = Server {
        client: site.cluster.client().await,
    };
    let mut runner = TestRunner::deterministic();
    for (kind, objects) in [
        ("ExternalSecret", external_secrets().boxed()),
        ("Application", applications().boxed()),
    ] {
        let (mut patched, mut refused) = (0, 0);
        for _ in 0..OBJECTS {
            let object = objects.new_tree(&mut runner).unwrap().current();
            let unjudged = server.dry_run(&elsewhere, &object).await;
            let judged = server.dry_run(&site.namespace, &object).await;
            match (unjudged, judged) {
                (Ok(unjudged), Ok(judged)) => patched += usize::from(unjudged != judged),
                (Err(_), Err(_)) => refused += 1,
                (unjudged, judged) => panic!("{object}: {unjudged:?}, and judged {judged:?}"),
            }
        }
        assert!(
            patched > 5,
            "{kind}: {patched} of {OBJECTS} patched, so this shows nothing"
        );
        assert!(
            refused > 5 || kind == "Application",
            "{kind}: {refused} refused"
        );
        assert!(
            patched + refused < OBJECTS,
            "{kind}: {patched} patched, {refused} refused"
        );
    }
}
