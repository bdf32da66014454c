//! Whatever the API server takes without our patch, it takes with it.

use forestall::review::Subject;
use kube::Client;
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::incidents::{configuration, install_definitions};
use crate::site::Site;

/// Objects of each of the two kinds. Each is four requests.
const OBJECTS: usize = 60;

/// One of these, now and then something that does not belong there.
fn one_of(values: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop_oneof![
        9 => prop::sample::select(values).prop_map(|text| json!(text)),
        1 => prop::sample::select(vec![json!("Bogus"), json!(5), json!(null), json!({}), json!("")]),
    ]
}

/// A map with some of these keys.
fn some(keys: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    keys.into_iter()
        .map(|(key, value)| prop::option::of(value).prop_map(move |value| (key, value)))
        .collect::<Vec<_>>()
        .prop_map(|pairs| {
            let given = pairs
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?)));
            Value::Object(given.collect())
        })
        .boxed()
}

fn list(item: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop::collection::vec(item, 0..3)
        .prop_map(Value::Array)
        .boxed()
}

fn external_secret() -> BoxedStrategy<Value> {
    let remote = some(vec![
        ("key", one_of(&["prod/database"]).boxed()),
        ("decodingStrategy", one_of(&["None", "Base64"]).boxed()),
    ]);
    let item = some(vec![
        ("secretKey", one_of(&["a", "b"]).boxed()),
        ("remoteRef", remote.clone()),
    ]);
    let target = some(vec![
        ("name", one_of(&["secret"]).boxed()),
        (
            "creationPolicy",
            one_of(&["Owner", "Orphan", "Merge", "None"]).boxed(),
        ),
        (
            "deletionPolicy",
            one_of(&["Retain", "Delete", "Merge"]).boxed(),
        ),
    ]);
    let spec = some(vec![
        ("refreshInterval", one_of(&["1h", "15m", "1h0m0s"]).boxed()),
        (
            "secretStoreRef",
            Just(json!({"kind": "SecretStore", "name": "a"})).boxed(),
        ),
        ("target", target),
        ("data", list(item)),
        ("dataFrom", list(some(vec![("extract", remote)]))),
    ]);
    object(
        "external-secrets.io/v1",
        "ExternalSecret",
        spec,
        Just(json!({})).boxed(),
    )
}

fn application() -> BoxedStrategy<Value> {
    let entry = some(vec![
        (
            "group",
            one_of(&["*", "apps", "external-secrets.io", "apiregistration.k8s.io"]).boxed(),
        ),
        (
            "kind",
            one_of(&["*", "Deployment", "ExternalSecret", "APIService"]).boxed(),
        ),
        (
            "jsonPointers",
            list(one_of(&["/status", "/spec/replicas"]).boxed()),
        ),
    ]);
    let options = list(
        one_of(&[
            "ServerSideApply=true",
            "CreateNamespace=true",
            "Prune=false",
        ])
        .boxed(),
    );
    let spec = some(vec![
        ("project", one_of(&["default"]).boxed()),
        (
            "destination",
            Just(json!({"namespace": "a", "server": "https://kubernetes.default.svc"})).boxed(),
        ),
        ("syncPolicy", some(vec![("syncOptions", options)])),
        ("ignoreDifferences", list(entry)),
    ]);
    let resource = some(vec![
        (
            "group",
            one_of(&["apiregistration.k8s.io", "external-secrets.io", "apps"]).boxed(),
        ),
        (
            "kind",
            one_of(&["APIService", "ExternalSecret", "Deployment"]).boxed(),
        ),
        ("name", one_of(&["a"]).boxed()),
    ]);
    object(
        "argoproj.io/v1alpha1",
        "Application",
        spec,
        some(vec![("resources", list(resource))]),
    )
}

/// An object whose author is known by last-applied-configuration now and then.
fn object(
    api_version: &'static str,
    kind: &'static str,
    spec: BoxedStrategy<Value>,
    status: BoxedStrategy<Value>,
) -> BoxedStrategy<Value> {
    (spec, status, any::<bool>())
        .prop_map(move |(spec, status, applied)| {
            let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "any"}, "spec": spec, "status": status});
            if applied {
                let written = object.to_string();
                object["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": written});
            }
            object
        })
        .boxed()
}

/// What the API server would store for a POST and for a server-side apply; `None` where it refuses.
async fn dry_run(client: &Client, namespace: &str, object: &Value) -> [Option<Value>; 2] {
    let subject = Subject::of(object).unwrap();
    let gvk = GroupVersionKind::gvk(&subject.group, &subject.version, &subject.kind);
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&gvk));
    let typed: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let post = PostParams {
        dry_run: true,
        field_manager: None,
    };
    let apply = PatchParams {
        dry_run: true,
        force: true,
        ..PatchParams::apply("test")
    };
    let spec = |stored: DynamicObject| stored.data["spec"].clone();
    let created = api.create(&post, &typed).await.ok().map(spec);
    let applied = api
        .patch("any", &apply, &Patch::Apply(object))
        .await
        .ok()
        .map(spec);
    [created, applied]
}

#[test]
fn the_api_server_takes_with_our_patch_whatever_it_takes_without() {
    install_definitions();
    let site = Site::new(&configuration("http://127.0.0.1:9"));
    let bare = ControlPlane::shared().namespace();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    let (mut taken, mut refused, mut patched) = (0, 0, 0);
    runtime.block_on(async {
        let client = site.cluster.client().await;
        for strategy in [external_secret(), application()] {
            for _ in 0..OBJECTS {
                let object = strategy.new_tree(&mut runner).unwrap().current();
                let without = dry_run(&client, &bare, &object).await;
                let with = dry_run(&client, &site.namespace, &object).await;
                for (without, with) in without.into_iter().zip(with) {
                    assert_eq!(without.is_some(), with.is_some(), "{object}");
                    taken += usize::from(with.is_some());
                    refused += usize::from(with.is_none());
                    patched += usize::from(without != with);
                }
            }
        }
    });
    println!("{taken} taken, {refused} refused by the API server itself, {patched} patched");
    assert!(
        taken > OBJECTS && patched > OBJECTS / 6,
        "{taken} taken, {patched} patched: this shows little"
    );
}
