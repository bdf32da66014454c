//! Certificates of its own: made, trusted, renewed and repaired, with the real API server.

mod release;
mod served;

use std::time::Duration;

use serde_json::json;

use self::release::{Load, Release, certificates_in, configured};
use crate::control_plane::eventually;
use crate::site::deployment;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_makes_the_secret_and_tells_the_api_server_whom_to_trust() {
    let release = Release::new();
    let replica = release.start("127.0.0.1:0");
    // Nobody is registered yet, and that is no reason to wait.
    eventually("readiness", || replica.is_ready());
    let secret = release.secret();
    assert_eq!(
        secret["metadata"]["labels"]["app.kubernetes.io/managed-by"],
        "forestall"
    );
    for key in ["tls.crt", "tls.key", "ca.crt", "ca.key"] {
        assert!(secret["data"][key].is_string(), "{secret}");
    }
    let metrics = replica.metrics();
    for certificate in ["ca", "serving"] {
        let gauge = "forestall_certificate_expiry_timestamp_seconds";
        let line = format!("{gauge}{{certificate=\"{certificate}\"}} 1");
        assert!(metrics.contains(&line), "{metrics}");
    }
    assert!(configured(&replica, [0, 0]), "{metrics}");
    assert!(!replica.log().contains("ERROR"), "{}", replica.log());

    release.register(replica.port);
    eventually("both caBundles", || configured(&replica, [1, 1]));
    assert_eq!(release.trusted("mutating"), release.in_secret("ca.crt"));
    assert_eq!(release.trusted("validating"), release.in_secret("ca.crt"));
    eventually("an answer", || release.dry_run("128Mi").success);
    let refused = release.dry_run("128m");
    assert!(
        refused.stderr.contains("validate.forestall.dev"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("write 128Mi"), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_bundle_that_is_lost_or_overwritten_is_written_again() {
    let release = Release::new();
    let replica = release.start("127.0.0.1:0");
    release.register(replica.port);
    eventually("both caBundles", || configured(&replica, [1, 1]));
    let (authority, version) = (release.in_secret("ca.crt"), release.secret_version());
    for webhook in ["mutating", "validating"] {
        let foreign = crate::site::pki().path("ca.crt");
        release.overwrite(webhook, &std::fs::read_to_string(foreign).unwrap());
        eventually("the right caBundle", || {
            release.trusted(webhook) == authority
        });
    }
    // As after helm uninstall and helm install: the Secret stays, and the caBundle is gone.
    release.unregister();
    eventually("no configuration", || configured(&replica, [0, 0]));
    release.register(replica.port);
    eventually("both caBundles", || configured(&replica, [1, 1]));
    assert_eq!(release.trusted("validating"), authority);
    assert_eq!(release.secret_version(), version, "the Secret was good");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_deleted_is_a_rotation_without_a_lost_request() {
    let release = Release::new();
    let one = release.start("127.0.0.1:0");
    // Behind a Service every replica has the same port.
    let other = release.start(&format!("127.0.0.2:{}", one.port));
    release.publish(&["127.0.0.1", "127.0.0.2"]);
    release.register(one.port);
    eventually("both caBundles", || configured(&one, [1, 1]));
    eventually("readiness", || one.is_ready() && other.is_ready());
    eventually("an answer", || release.dry_run("128Mi").success);
    let before = release.in_secret("ca.crt");
    let load = Load::start(&release, &["127.0.0.1", "127.0.0.2"], one.port).await;

    release.kubectl(&["delete", "secret", release::SECRET]);
    eventually("two authorities", || {
        certificates_in(&release.trusted("validating")) == 2
    });
    let both = release.trusted("validating");
    assert!(both.ends_with(&before), "the old one is trusted too");
    eventually("a new authority alone", || {
        let trusted = release.trusted("validating");
        certificates_in(&trusted) == 1
            && trusted != before
            && trusted == release.trusted("mutating")
    });
    let done = load.stop().await;
    println!("{done:?}");
    assert_eq!(done.failures, Vec::<String>::new());
    assert!(done.reviews > 50 && done.handshakes > 50, "{done:?}");
    for replica in [&one, &other] {
        let log = replica.log();
        assert!(
            log.contains("the certificate before it is still served"),
            "{log}"
        );
        assert!(
            replica
                .metrics()
                .contains("forestall_tls_reload_total{result=\"failure\"} 1\n")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_authorities_stay_trusted_while_a_replica_cannot_be_asked() {
    let release = Release::new();
    let replica = release.start("127.0.0.1:0");
    // The other one is on a node that is lost.
    release.publish(&["127.0.0.1", "127.0.0.3"]);
    release.register(replica.port);
    eventually("both caBundles", || configured(&replica, [1, 1]));
    let before = release.in_secret("ca.crt");
    release.kubectl(&["delete", "secret", release::SECRET]);
    eventually("a replica to wait for", || {
        replica
            .log()
            .contains("the old authorities stay trusted: 127.0.0.3: ")
    });
    assert_eq!(certificates_in(&release.trusted("validating")), 2);
    assert!(release.trusted("validating").ends_with(&before));
    release.publish(&["127.0.0.1"]);
    eventually("a new authority alone", || {
        certificates_in(&release.trusted("validating")) == 1
    });
    assert_ne!(release.trusted("validating"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_in_the_secret_is_repaired() {
    let release = Release::new();
    let replica = release.start("127.0.0.1:0");
    release.publish(&["127.0.0.1"]);
    release.register(replica.port);
    eventually("both caBundles", || configured(&replica, [1, 1]));
    eventually("an answer", || release.dry_run("128Mi").success);
    let authority = release.in_secret("ca.crt");
    for (key, value) in [
        ("tls.crt", String::new()),
        ("tls.crt", release.in_secret("tls.crt")[..200].to_owned()),
        ("tls.key", String::new()),
        ("tls.key", release.in_secret("ca.key")),
    ] {
        release.break_secret(key, &value);
        eventually("the repair", || release.in_secret(key) != value);
        // The authority can sign, so there is no reason for another one.
        assert_eq!(release.in_secret("ca.crt"), authority);
        assert!(release.dry_run("128Mi").success, "{key}");
    }
    release.break_secret("ca.key", "");
    eventually("a new authority beside the old one", || {
        let trusted = release.trusted("validating");
        certificates_in(&trusted) == 2 && trusted.ends_with(&authority)
    });
    eventually("a new authority alone", || {
        certificates_in(&release.trusted("validating")) == 1
    });
    eventually("an answer", || release.dry_run("128Mi").success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_cert_manager_is_left_alone() {
    let release = Release::new();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": release::SECRET,
                     "annotations": {"cert-manager.io/certificate-name": "forestall"}},
        "data": {"tls.crt": "", "tls.key": ""},
    });
    release.apply(&secret);
    let version = release.secret_version();
    let replica = release.start("127.0.0.1:0");
    eventually("a complaint", || {
        replica
            .log()
            .contains("belongs to cert-manager, so it is left alone")
    });
    assert_eq!(release.secret_version(), version);
    assert!(!replica.is_ready());
}

/// For the body of requests.
fn guarded(memory: &str) -> serde_json::Value {
    deployment("load", memory)
}

/// Quick times, so that everything is renewed within a minute. The API server and every replica still
/// have two seconds to hear of a change.
fn quick() -> forestall::certificates::Times {
    forestall::certificates::Times {
        authority: Duration::from_secs(90),
        leaf: Duration::from_mins(1),
        backdate: Duration::ZERO,
        settle: Duration::from_secs(2),
        look: Duration::from_millis(500),
    }
}
