//! `forestall doctor`: whether a cluster really asks Forestall, and what else stands in the way.
//!
//! Facts are gathered first, and then judged by checks that ask nobody.

mod api;
mod custom_resources;
mod dry_run;
mod facts;
mod gather;
mod hooks;
mod installation;
mod neighbours;
mod pods;
mod reach;
mod running;
mod samples;
#[cfg(test)]
mod tests;
mod text;
mod trust;

use std::process::ExitCode;
use std::time::Duration;

use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use serde::Serialize;
use serde_json::Value;

use self::api::{Api, Unread};
use self::facts::Facts;
use super::{FAILED, FOUND, complain, print, printable};

/// The version of the JSON form. A new key is no new version; a changed or removed one is.
const SCHEMA_VERSION: u32 = 1;
/// How long the API server's name and port may take.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Says whether a cluster really asks Forestall, and what to do where it does not
///
/// It looks at the webhook configurations, at what they call, at Forestall's Pods and at what they
/// count, and proves by server-side dry runs that objects are judged. It stores and changes nothing,
/// and takes at most 30 s. What the user may not read is unknown.
///
/// Exit status: 0 where nothing is an error, 1 where something is, and 2 where no cluster answers.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// The context of the kubeconfig; without it, the current one
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The namespace that Forestall is in, where there are several
    #[arg(short, long)]
    namespace: Option<String>,
    /// How the results are written
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// How the results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

/// How one check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    Unknown,
    Warning,
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    /// What was looked at.
    name: &'static str,
    result: Outcome,
    /// What, where, the value seen. Further lines are details.
    message: String,
    /// What to do.
    cure: Option<String>,
}

/// Everything that is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    schema_version: u32,
    checks: Vec<Check>,
}

// === impl Doctor ===

impl Doctor {
    /// Asks the cluster and prints what was seen.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let output = self.output;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let checks = match runtime {
            Ok(runtime) => runtime.block_on(self.examine()),
            Err(error) => Err(error.to_string()),
        };
        match checks {
            Ok(checks) => tell(checks, output),
            Err(message) => {
                complain(&message);
                ExitCode::from(FAILED)
            }
        }
    }

    async fn examine(self) -> Result<Vec<Check>, String> {
        let (place, cure) = match &self.context {
            Some(context) => (
                format!("--context {context}"),
                "`kubectl config get-contexts` lists them, and `kubectl version` must work with it",
            ),
            None => (
                "the current context".to_owned(),
                "`kubectl version` must work; set KUBECONFIG, or give --context",
            ),
        };
        let failed = |error: &dyn std::fmt::Display| format!("{place}: {error}; {cure}");
        let mut config = match self.context {
            Some(context) => {
                let options = KubeConfigOptions {
                    context: Some(context),
                    ..KubeConfigOptions::default()
                };
                let config = Config::from_kubeconfig(&options).await;
                config.map_err(|error| failed(&error))?
            }
            None => Config::infer().await.map_err(|error| failed(&error))?,
        };
        config.connect_timeout = Some(CONNECT_TIME);
        let client = Client::try_from(config).map_err(|error| failed(&error))?;
        let api = Api::new(client);
        // Whoever may read nothing at all still learns that; who is nobody here does not.
        match api.get::<Value>("/version").await {
            Ok(_) | Err(Unread::Forbidden(_)) => {}
            Err(error) => return Err(failed(&error)),
        }
        Ok(judge(&gather::facts(&api, self.namespace).await))
    }
}

/// All checks, in the order in which they explain each other.
fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = installation::registered(facts);
    // Where nobody calls Forestall, nothing more can be said of it.
    if facts.own().next().is_some() {
        checks.extend(installation::settings(facts));
        checks.extend(installation::guardrails(facts));
        checks.extend(custom_resources::check(facts));
        checks.extend(installation::exclusions(facts));
        checks.push(reach::service(facts));
        checks.push(reach::pods(facts));
        checks.extend(trust::check(facts));
        checks.push(dry_run::check(facts));
        checks.extend(running::check(facts));
    }
    checks.extend(neighbours::blocking(facts));
    checks.extend(neighbours::entangled(facts));
    checks.push(neighbours::time(facts));
    checks
}

fn tell(checks: Vec<Check>, output: Output) -> ExitCode {
    let has_error = checks.iter().any(|check| check.result == Outcome::Error);
    let text = match output {
        Output::Text => text::render(&checks),
        Output::Json => {
            let report = Report {
                schema_version: SCHEMA_VERSION,
                checks,
            };
            match serde_json::to_string_pretty(&report) {
                Ok(text) => format!("{}\n", printable::json(&text)),
                Err(error) => {
                    complain(&error.to_string());
                    return ExitCode::from(FAILED);
                }
            }
        }
    };
    print(&text, if has_error { FOUND } else { 0 })
}

// === impl Check ===

impl Check {
    fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Outcome::Ok, message, None)
    }

    /// What could not be found out; the message says why, and what is missing.
    fn unknown(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Outcome::Unknown, message, None)
    }

    /// What could not be read, and why.
    fn unread(name: &'static str, what: &str, reason: &Unread) -> Self {
        let cure = match reason {
            Unread::Forbidden(_) => Some("run this as somebody who has that right".to_owned()),
            _ => None,
        };
        Self::new(name, Outcome::Unknown, format!("{what}: {reason}"), cure)
    }

    fn warning(name: &'static str, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(name, Outcome::Warning, message, Some(cure.into()))
    }

    fn error(name: &'static str, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(name, Outcome::Error, message, Some(cure.into()))
    }

    fn new(
        name: &'static str,
        result: Outcome,
        message: impl Into<String>,
        cure: Option<String>,
    ) -> Self {
        Self {
            name,
            result,
            message: message.into(),
            cure,
        }
    }
}
