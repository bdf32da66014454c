//! Properties of every patch that the server sends, for objects of every shape: it applies, it
//! settles, and it touches nothing but the fields that guardrails may repair (cases 66 and 71).

use forestall::config::Config;
use forestall::evidence::{Evidence, Listing, ObjectOf, ObjectsOf};
use forestall::guard::Guard;
use forestall::objects::{ArgoCdController, ArgoCdParameters, Definition};
use forestall::review::{Review, patch};
use forestall::rules::Guardrail;
use forestall::rules::Judgement;
use forestall::rules::Meta;
use json_patch::PatchOperation;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use crate::webhook::support::{Door, Table, create, findings, guardrail, meta, repair};

/// The only fields that any patch may touch.
const ALLOWED: [&str; 3] = [
    "/spec/refreshInterval",
    "/spec/target",
    "/spec/ignoreDifferences",
];

const CONFIG: &str = "
rules:
  implicit-external-secret-defaults:
    defaults: {refreshInterval: 15m, creationPolicy: Owner, deletionPolicy: Delete}
";

static REPAIRS: Meta = meta("test-repairs", true);

/// Names a target that has none, wherever there is a spec to write it to.
fn test_guardrail() -> Guardrail {
    guardrail(&REPAIRS, |review: &Review| {
        let path = ["spec", "target", "name"];
        let named = review.root().at("/spec/target/name").is_some();
        if named || review.root().get("spec").is_none() {
            return Judgement::default();
        }
        let fix = patch::set(review.root(), &path, json!("named"));
        findings(fix.map(|fix| repair("the target", json!(fix))))
    })
}

/// The whole catalogue, with all facts at hand that its repairs ask for.
fn door() -> Door {
    let definition = include_str!("../../examples/crds/externalsecrets.yaml");
    let mut definition: Value = serde_saphyr::from_str(definition).unwrap();
    let name = "externalsecrets.external-secrets.io";
    let definition = Definition(definition["spec"].take());
    let controller = ArgoCdController {
        version: Ok("v2.10.0".to_owned()),
    };
    let parameters = ArgoCdParameters {
        server_side_diff: false,
    };
    let mut facts = Evidence::default();
    facts.objects.extend([
        (
            ObjectOf::<Definition>::named(None, name).into(),
            Ok(Listing::of([(name, definition)])),
        ),
        (
            ObjectsOf::<ArgoCdController>::all().into(),
            Ok(Listing::of([("controller", controller)])),
        ),
        (
            ObjectsOf::<ArgoCdParameters>::all().into(),
            Ok(Listing::of([("parameters", parameters)])),
        ),
    ]);
    let config = Config::parse("forestall.yaml", CONFIG).unwrap();
    let mut guardrails = config.guardrails().unwrap();
    guardrails.push(test_guardrail());
    let table = Table {
        facts,
        ..Table::default()
    };
    Door::new(Guard::with(config, guardrails, table))
}

/// Any JSON, with the keys that guardrails look at more often than others.
fn anything() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        4 => prop::sample::select(vec![
            "spec", "target", "name", "creationPolicy", "deletionPolicy", "refreshInterval",
            "metadata", "annotations", "managedFields", "ignoreDifferences", "syncPolicy",
            "syncOptions", "status", "resources", "data", "", "a/b~c",
        ])
        .prop_map(ToOwned::to_owned),
        1 => any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec!["1h0m0s", "Owner", "Retain", "ServerSideApply=true"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A value that is usually the one given, sometimes absent, and sometimes anything.
fn mostly(value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Option<Value>> {
    prop_oneof![
        6 => value.prop_map(Some),
        3 => Just(None),
        1 => anything().prop_map(Some),
    ]
    .boxed()
}

fn one_of(values: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop::sample::select(values).prop_map(Value::from)
}

fn map(fields: Vec<(&'static str, BoxedStrategy<Option<Value>>)>) -> impl Strategy<Value = Value> {
    let (names, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    values.prop_map(move |values| {
        let pairs = names.iter().zip(values);
        let given = pairs.filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
        Value::Object(given.collect::<Map<_, _>>())
    })
}

fn external_secret() -> impl Strategy<Value = Value> {
    let target = map(vec![
        (
            "creationPolicy",
            mostly(one_of(&["Owner", "Orphan", "Merge", "None"])),
        ),
        (
            "deletionPolicy",
            mostly(one_of(&["Retain", "Delete", "Merge"])),
        ),
        ("name", mostly(one_of(&["a", "b"]))),
    ]);
    let spec = map(vec![
        (
            "refreshInterval",
            mostly(one_of(&["1h0m0s", "1h", "15m", "0"])),
        ),
        ("target", mostly(target)),
        ("data", mostly(anything())),
    ]);
    // What its author wrote is a part of what is there; often the bare minimum.
    let applied = prop_oneof![
        Just(json!({"spec": {}})),
        Just(json!({"spec": {"target": {}}})),
        anything(),
    ];
    (mostly(spec), applied, any::<bool>()).prop_map(|(spec, applied, by_annotation)| {
        let metadata = if by_annotation {
            json!({"annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": applied.to_string(),
            }})
        } else {
            json!({"managedFields": [{
                "manager": "kubectl", "operation": "Apply", "fieldsType": "FieldsV1",
                "apiVersion": "external-secrets.io/v1", "fieldsV1": {"f:spec": {}},
            }]})
        };
        let mut object = json!({
            "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": metadata,
        });
        object["metadata"]["name"] = json!("credentials");
        if let Some(spec) = spec {
            object["spec"] = spec;
        }
        object
    })
}

fn application() -> impl Strategy<Value = Value> {
    let options = prop::sample::subsequence(vec!["ServerSideApply=true", "Validate=false"], 0..=2);
    let policy = options.prop_map(|options| json!({"syncOptions": options}));
    let spec = map(vec![
        ("syncPolicy", mostly(policy)),
        (
            "ignoreDifferences",
            prop_oneof![3 => Just(None), 1 => anything().prop_map(Some)].boxed(),
        ),
        ("destination", mostly(anything())),
    ]);
    let kinds = vec![
        ("apps", "Deployment"),
        ("apiregistration.k8s.io", "APIService"),
    ];
    let resources = prop::sample::subsequence(kinds, 0..=2).prop_map(|resources| {
        let named = |(group, kind)| json!({"group": group, "kind": kind, "name": "a"});
        json!({"resources": resources.into_iter().map(named).collect::<Vec<_>>()})
    });
    let object = map(vec![("spec", mostly(spec)), ("status", mostly(resources))]);
    object.prop_map(|mut object| {
        object["apiVersion"] = json!("argoproj.io/v1alpha1");
        object["kind"] = json!("Application");
        object["metadata"] = json!({"name": "shop"});
        object
    })
}

/// Anything at all, under one of the kinds that are patched.
fn object_of_a_patched_kind() -> impl Strategy<Value = Value> {
    let kinds = vec![
        ("external-secrets.io/v1", "ExternalSecret"),
        ("external-secrets.io/v1beta1", "ExternalSecret"),
        ("argoproj.io/v1alpha1", "Application"),
        ("v1", "Pod"),
    ];
    let spec = anything().prop_filter("a spec is a map", Value::is_object);
    let spec = prop_oneof![3 => spec.prop_map(Some), 1 => Just(None)];
    let parts = (prop::sample::select(kinds), anything(), spec);
    parts.prop_map(|((api_version, kind), object, spec)| {
        let mut object = match object {
            Value::Object(map) => Value::Object(map),
            other => json!({"spec": other}),
        };
        object["apiVersion"] = json!(api_version);
        object["kind"] = json!(kind);
        if let Some(spec) = spec {
            object["spec"] = spec;
        }
        object
    })
}

fn touches_only_what_it_may(operation: &PatchOperation) -> bool {
    let path = operation.path().to_string();
    let below = |allowed: &str| {
        path.strip_prefix(allowed)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    matches!(operation, PatchOperation::Test(_)) || ALLOWED.into_iter().any(below)
}

/// Sends objects to /mutate until all cases are through, and says how many were patched.
fn patched(cases: u32, objects: impl Strategy<Value = Value>) -> usize {
    let runtime = Runtime::new().unwrap();
    let door = door();
    let patched = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Cases {
        failure_persistence: None,
        ..Cases::with_cases(cases)
    });
    let sent_twice = runner.run(&objects, |object| {
        let answer = runtime.block_on(door.mutate(&create(&object)));
        prop_assert!(answer.allowed(), "{}", answer.text);
        let Some(patch) = answer.patch() else {
            return Ok(());
        };
        patched.set(patched.get() + 1);
        prop_assert!(patch.iter().all(touches_only_what_it_may), "{patch:?}");
        let mut repaired = object.clone();
        json_patch::patch(&mut repaired, &patch)
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        let again = runtime.block_on(door.mutate(&create(&repaired)));
        prop_assert_eq!(again.patch(), None);
        Ok(())
    });
    sent_twice.unwrap_or_else(|error| panic!("{error}"));
    patched.get()
}

#[test]
fn case_66_and_71_patches_of_external_secrets_apply_settle_and_stay_in_bounds() {
    assert!(patched(1_000, external_secret()) > 300);
}

#[test]
fn case_66_and_71_patches_of_applications_apply_settle_and_stay_in_bounds() {
    assert!(patched(1_000, application()) > 100);
}

#[test]
fn case_66_and_71_patches_of_anything_apply_settle_and_stay_in_bounds() {
    assert!(patched(1_000, object_of_a_patched_kind()) > 100);
}
