//! Tests on a real node: the image of the Dockerfile, installed by the chart, asked by the API server
//! through its Service. They need root.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking, and nobody reads its documentation"
)]

#[path = "../support/control_plane.rs"]
mod control_plane;
#[path = "../support/go.rs"]
mod go;
#[path = "../support/node.rs"]
mod node_under_test;
#[path = "../support/pki.rs"]
mod pki;
#[path = "../support/siege.rs"]
mod siege;

mod image;
mod install;
mod kubelet;
mod load;
mod machine;
mod memory;
mod release;
mod rollout;
