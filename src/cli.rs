//! The command line.

use std::process::ExitCode;

use clap::Parser;

pub mod check;
pub mod rules;
pub mod serve;

/// An admission webhook that stops production incidents before they happen.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {}

impl Cli {
    /// Runs the command.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.command {}
    }
}
