//! The command line.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

pub mod check;
pub mod doctor;
pub mod printable;
pub mod rules;
pub mod serve;

/// Something was found.
const FOUND: u8 = 1;
/// The command line, a file or the network is at fault.
const FAILED: u8 = 2;

/// An admission webhook that stops production incidents before they happen.
#[derive(Debug, Parser)]
#[command(version, about, bin_name = called_as(std::env::args_os().next().as_deref().map(Path::new)))]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Serve(serve::Serve),
    Check(check::Check),
    Doctor(doctor::Doctor),
    Rules(rules::Rules),
    Explain(rules::Explain),
    Schema(rules::Schema),
    Completions(rules::Completions),
}

// === impl Cli ===

impl Cli {
    /// Runs the command.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Serve(serve) => serve.run(),
            Command::Check(check) => check.run(),
            Command::Doctor(doctor) => doctor.run(),
            Command::Rules(rules) => rules.run(),
            Command::Explain(explain) => explain.run(),
            Command::Schema(schema) => schema.run(),
            Command::Completions(completions) => completions.run(),
        }
    }
}

/// As the user calls us: kubectl runs `kubectl-forestall` for `kubectl forestall`.
fn called_as(program: Option<&Path>) -> &'static str {
    match program.and_then(Path::file_stem) {
        Some(name) if name == "kubectl-forestall" => "kubectl forestall",
        _ => "forestall",
    }
}

/// Writes the result of a command to standard output, coloured only where that is a terminal.
///
/// A reader that has seen enough (`| head`) is no failure.
fn print(text: &str, then: u8) -> ExitCode {
    let mut output = anstream::stdout().lock();
    let written = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("standard output: {error}"));
            ExitCode::from(FAILED)
        }
        _ => ExitCode::from(then),
    }
}

/// Tells the user what is wrong, on standard error.
fn complain(message: &str) {
    // Nothing is left to do where standard error is closed too.
    let _ = writeln!(io::stderr().lock(), "{}", printable::lines(message));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_names_the_program_as_it_was_called() {
        let called = |path: &str| called_as(Some(Path::new(path)));
        assert_eq!(
            called("/usr/local/bin/kubectl-forestall"),
            "kubectl forestall"
        );
        assert_eq!(called("target/debug/forestall"), "forestall");
        assert_eq!(called_as(None), "forestall");
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
