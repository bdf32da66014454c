//! What `doctor` saw, as people read it.

use std::fmt::Write as _;

use clap::builder::styling::{AnsiColor, Style};

use super::{Check, Outcome};
use crate::cli::printable::line;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const OK: Style = AnsiColor::Green.on_default();
const UNKNOWN: Style = AnsiColor::Blue.on_default();
const HELP: Style = AnsiColor::Green.on_default();

/// One line for each check, details and cure below it. Standard output drops the colours where nobody
/// sees them.
pub(super) fn render(checks: &[Check]) -> String {
    let widest = checks.iter().map(|check| check.name.len()).max();
    let mut text = String::new();
    for check in checks {
        // Writing to a String cannot fail.
        let _ = row(&mut text, check, widest.unwrap_or_default());
    }
    text + &summary(checks)
}

fn row(text: &mut String, check: &Check, widest: usize) -> std::fmt::Result {
    let (style, result) = match check.result {
        Outcome::Ok => (OK, "ok"),
        Outcome::Unknown => (UNKNOWN, "unknown"),
        Outcome::Warning => (WARNING, "warning"),
        Outcome::Error => (ERROR, "error"),
    };
    let mut lines = check.message.lines();
    let first = line(lines.next().unwrap_or_default());
    let name = check.name;
    writeln!(text, "{style}{result:7}{style:#}  {name:widest$}  {first}")?;
    let indent = " ".repeat(7 + 2 + widest + 2);
    for detail in lines {
        writeln!(text, "{indent}{}", line(detail))?;
    }
    if let Some(cure) = &check.cure {
        writeln!(text, "{indent}{HELP}cure:{HELP:#} {}", line(cure))?;
    }
    Ok(())
}

fn summary(checks: &[Check]) -> String {
    let count = |result, one, many| {
        let count = checks.iter().filter(|check| check.result == result).count();
        let what = if count == 1 { one } else { many };
        (count > 0).then(|| format!("{count} {what}"))
    };
    let parts: Vec<_> = [
        count(Outcome::Error, "error", "errors"),
        count(Outcome::Warning, "warning", "warnings"),
        count(Outcome::Unknown, "unknown", "unknown"),
        count(Outcome::Ok, "ok", "ok"),
    ]
    .into_iter()
    .flatten()
    .collect();
    format!("{}\n", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_has_a_line_with_details_and_cure_below_it() {
        let checks = [
            Check::ok("mode", "audit"),
            Check::error("service", "it is\ngone\u{1b}[2J", "make it"),
        ];
        let text = anstream::adapter::strip_str(&render(&checks)).to_string();
        let expected = "\
ok       mode     audit
error    service  it is
                  gone\u{fffd}[2J
                  cure: make it
1 error, 1 ok
";
        // What strips colours takes a replaced escape sequence for text.
        assert_eq!(text, expected);
    }
}
