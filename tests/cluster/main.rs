//! Tests against a real control plane: etcd, kube-apiserver, kubectl, Helm, and a real registry.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking, and nobody reads its documentation"
)]

#[path = "../support/besieged.rs"]
mod besieged;
#[path = "../support/cgroup.rs"]
mod cgroup;
#[path = "../support/control_plane.rs"]
mod control_plane;
#[path = "../support/faulty.rs"]
mod faulty;
#[path = "../support/go.rs"]
mod go;
#[path = "../support/pki.rs"]
mod pki;
#[path = "../support/registry.rs"]
mod registry_server;
#[path = "../support/siege.rs"]
mod siege;
#[path = "../support/site.rs"]
mod site;

mod background;
mod certificates;
mod chart;
mod doctor;
mod doors;
mod images;
mod incidents;
mod leader;
mod memory;
mod patched;
mod pull_secrets;
mod requests;
mod view;
