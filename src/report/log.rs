//! The log: one line a review, never a body.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::time::Duration;

use tracing::{debug, error, info, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::visible::{cut, one_line};
use crate::review::Subject;
use crate::verdict::Verdict;

/// Characters of a text from outside. Names are shorter, and a line stays readable.
const LONGEST: usize = 256;

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// What is told of a review.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// `mutating` or `validating`.
    pub webhook: &'static str,
    /// The uid of the request.
    pub uid: &'a str,
    /// What is done, such as `CREATE`.
    pub operation: &'static str,
    /// To what.
    pub subject: &'a Subject,
    /// Who asks.
    pub user: &'a str,
    /// Whether nothing is to be stored.
    pub dry_run: bool,
    /// What was answered, as in the metrics.
    pub decision: &'static str,
    /// The verdict.
    pub verdict: &'a Verdict,
    /// Why it could not be judged as a whole.
    pub error: Option<&'a str>,
    /// From the request to the answer.
    pub elapsed: Duration,
}

/// Starts the log on stderr. `RUST_LOG` says what is in it; `info` where it says nothing.
///
/// A panic is logged as well, in one line, because what the standard library prints of it is neither
/// one line nor JSON.
pub fn init(format: LogFormat) {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let is_text = match format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Json => false,
        LogFormat::Text => true,
    };
    // A second start, in a test say, leaves the first log as it is.
    let _ = if is_text {
        builder.with_ansi(io::stderr().is_terminal()).try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("without a message");
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        error!(message = %shown(message), place, "panic");
    }));
}

/// Tells one review. A plain admission is told at debug: there are thousands of them.
pub fn review(line: &Line<'_>) {
    let Line {
        operation,
        subject,
        decision,
        verdict,
        ..
    } = line;
    let is_plain = *decision == "allow";
    if is_plain && !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let namespace = shown(subject.namespace.as_deref().unwrap_or_default());
    let name = shown(&subject.name);
    let resource = shown(&format!("{}/{}", subject.api_version(), subject.kind));
    let found = verdict.records.iter().map(|record| record.meta.name);
    let unknown = verdict
        .abstained
        .iter()
        .map(|abstained| abstained.meta.name);
    let rules: BTreeSet<_> = found.chain(unknown).collect();
    let rules = rules.into_iter().collect::<Vec<_>>().join(",");
    macro_rules! tell {
        ($level:ident) => {
            $level!(
                uid = %shown(line.uid),
                webhook = line.webhook,
                operation,
                resource = %resource,
                namespace = %namespace,
                name = %name,
                user = %shown(line.user),
                dry_run = line.dry_run,
                decision = *decision,
                rules,
                error = line.error.map(|error| tracing::field::display(shown(error))),
                ms = line.elapsed.as_secs_f64() * 1000.0,
                "{decision} {operation} {resource} {namespace}/{name}",
            )
        };
    }
    if is_plain { tell!(debug) } else { tell!(info) }
}

/// Tells a request that got an HTTP error. Shedding is told at debug: it comes in thousands, and is
/// counted.
pub fn rejection(webhook: &'static str, reason: &impl Display, shed: bool) {
    let reason = reason.to_string();
    if shed {
        debug!(webhook, reason = %shown(&reason), "turned away");
    } else {
        warn!(webhook, reason = %shown(&reason), "turned away: {}", shown(&reason));
    }
}

fn shown(text: &str) -> String {
    cut(&one_line(text), LONGEST).to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(decision: &'static str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(move || writer.clone())
            .finish();
        let subject = Subject {
            group: "apps".to_owned(),
            version: "v1".to_owned(),
            kind: "Deployment".to_owned(),
            namespace: Some("shop".to_owned()),
            name: "web\nforged \u{202e}line".to_owned(),
        };
        tracing::subscriber::with_default(subscriber, || {
            review(&Line {
                webhook: "validating",
                uid: "u-1",
                operation: "CREATE",
                subject: &subject,
                user: "alice",
                dry_run: false,
                decision,
                verdict: &Verdict::default(),
                error: None,
                elapsed: Duration::from_millis(2),
            });
        });
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_refusal_is_one_line_with_its_fields() {
        let line = logged("deny");
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["uid"], "u-1");
        assert_eq!(line["resource"], "apps/v1/Deployment");
        assert_eq!(line["name"], "web forged \\u{202e}line");
        assert_eq!(line["user"], "alice");
        assert_eq!(line["ms"], 2.0);
        let message = "deny CREATE apps/v1/Deployment shop/web forged \\u{202e}line";
        assert_eq!(line["message"], message);
        assert_eq!(line.get("error"), None);
    }

    #[test]
    fn a_plain_admission_is_not_told_at_info() {
        assert_eq!(logged("allow"), "");
    }
}
