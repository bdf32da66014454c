//! The example for cert-manager fits together, and fits what is served.

use std::fs;
use std::path::Path;
use std::time::Duration;

use forestall::certificates::{Settings, Times};
use forestall::object_name::ObjectName;
use serde_json::{Value, json};

/// The documents of certs/cert-manager.yaml.
fn example() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("certs/cert-manager.yaml");
    let text = fs::read_to_string(path).unwrap();
    text.split("\n---\n")
        .map(|document| serde_saphyr::from_str(document).unwrap())
        .collect()
}

fn find<'a>(all: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    all.iter().find(is_it).unwrap()
}

#[test]
fn the_certificate_is_for_the_names_that_forestall_would_choose() {
    let all = example();
    let served = find(&all, "Certificate", "forestall");
    let settings = Settings {
        secret: ObjectName {
            namespace: "forestall".to_owned(),
            name: "forestall-tls".to_owned(),
        },
        service: "forestall".to_owned(),
        webhook_configuration: "forestall".to_owned(),
        port: 9443,
        times: Times::default(),
    };
    assert_eq!(served["spec"]["dnsNames"], json!(settings.names()));
    assert_eq!(served["spec"]["secretName"], "forestall-tls");
    let hours = |of: &Value| {
        let text = of["spec"]["duration"].as_str().unwrap();
        Duration::from_hours(text.strip_suffix('h').unwrap().parse().unwrap())
    };
    assert_eq!(hours(served), settings.times.leaf);
    assert_eq!(
        hours(find(&all, "Certificate", "forestall-ca")),
        settings.times.authority
    );
}

#[test]
fn each_certificate_names_an_issuer_that_is_there_and_the_authority_signs() {
    let all = example();
    for object in &all {
        assert_eq!(object["apiVersion"], "cert-manager.io/v1");
        assert_eq!(object["metadata"]["namespace"], "forestall");
    }
    let served = find(&all, "Certificate", "forestall");
    let issuer = |of: &Value| {
        let name = of["spec"]["issuerRef"]["name"].as_str().unwrap();
        find(
            &all,
            of["spec"]["issuerRef"]["kind"].as_str().unwrap(),
            name,
        )
        .clone()
    };
    let signs = issuer(served);
    let authority = find(&all, "Certificate", "forestall-ca");
    assert_eq!(
        signs["spec"]["ca"]["secretName"],
        authority["spec"]["secretName"]
    );
    assert_eq!(authority["spec"]["isCA"], true);
    assert_eq!(issuer(authority)["spec"], json!({"selfSigned": {}}));
    assert_eq!(
        served["spec"]["usages"],
        json!(["digital signature", "server auth"])
    );
    // An authority with another key would be trusted before the files in the Pods have followed.
    assert_eq!(authority["spec"]["privateKey"]["rotationPolicy"], "Never");
}
