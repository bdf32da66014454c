//! Tests without a cluster: real programs, real sockets on loopback, no public network.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking, and nobody reads its documentation"
)]

#[path = "../support/go.rs"]
mod go;

mod image_reference;
