//! Tests without a cluster: real programs, real sockets on loopback, no public network.
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
#[path = "../support/go.rs"]
mod go;
#[path = "../support/network.rs"]
mod network;
#[path = "../support/pages.rs"]
mod page_cases;
#[path = "../support/pki.rs"]
mod pki;
#[path = "../support/registry.rs"]
mod registry_server;
#[path = "../support/scripted.rs"]
mod scripted;
#[path = "../support/siege.rs"]
mod siege;

mod catalogue;
mod certs;
mod check;
mod doctor;
mod documents;
mod image_reference;
mod pages;
mod patches;
mod quantity;
mod registry;
mod serve;
mod tls;
mod transport;
mod webhook;
mod yaml;
