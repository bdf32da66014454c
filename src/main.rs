//! Starts the program: one TLS provider, one command, one exit code.

use std::process::ExitCode;

use clap::Parser;
use forestall::cli::Cli;

// musl's and glibc's allocators are slower under many small JSON values.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // kube and reqwest would each bring a provider of their own; rustls wants one choice.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Cli::parse().run()
}
