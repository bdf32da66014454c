//! What `check` found, as people read it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use clap::builder::styling::{AnsiColor, Style};
use json_patch::PatchOperation;

use super::inputs::Source;
use super::placeholder::{Placeholder, Renderer};
use super::report::{Found, Level, NotJudged, Report};
use crate::cli::printable::{line, lines};
use crate::verdict::wording::field_path;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const FRAME: Style = AnsiColor::Blue.on_default();
const HELP: Style = AnsiColor::Green.on_default();
const STRONG: Style = Style::new().bold();

/// Characters of a source line that are shown; the column pointed at is always among them.
const WIDEST: usize = 120;

/// Files left out that are named without being asked for, where nothing was judged.
const NAMED_FILES: usize = 20;

/// The report, with colours; standard output drops them where nobody sees them.
pub(super) fn render(report: &Report, sources: &[Source], verbose: bool) -> String {
    let found = report.findings.iter();
    let found: BTreeSet<_> = found.map(|found| found.source.file.as_str()).collect();
    let texts: BTreeMap<&str, Vec<&str>> = sources
        .iter()
        .filter(|source| found.contains(source.name.as_str()))
        .map(|source| (source.name.as_str(), source.text.lines().collect()))
        .collect();
    let mut text = String::new();
    for found in &report.findings {
        let lines = texts.get(found.source.file.as_str());
        // Writing to a String cannot fail.
        let _ = finding(&mut text, found, lines.map_or(&[][..], Vec::as_slice));
    }
    let _ = not_judged(&mut text, report);
    let _ = not_rendered(&mut text, report);
    if verbose {
        for found in &report.unchanged {
            let (place, message) = (found.source.to_string(), line(&found.message));
            let rule = found.rule;
            let _ = writeln!(
                text,
                "{STRONG}there already{STRONG:#}: {}: [{rule}] {message}",
                line(&place)
            );
        }
    }
    // Where nothing was judged, this is why.
    if verbose || report.objects == 0 {
        let shown = if verbose {
            report.left_out.len()
        } else {
            NAMED_FILES
        };
        for left_out in report.left_out.iter().take(shown) {
            let _ = writeln!(
                text,
                "{STRONG}left out{STRONG:#}: {}",
                line(&left_out.to_string())
            );
        }
        if let Some(more) = report.left_out.len().checked_sub(shown + 1) {
            let _ = writeln!(
                text,
                "{STRONG}left out{STRONG:#}: {} more (-v names them)",
                more + 1
            );
        }
    }
    let _ = summary(&mut text, report);
    text
}

fn finding(text: &mut String, found: &Found, source: &[&str]) -> std::fmt::Result {
    let (style, level) = match found.level {
        Level::Error => (ERROR, "error"),
        Level::Warning => (WARNING, "warning"),
    };
    writeln!(
        text,
        "{STRONG}{}{STRONG:#}: {style}{level}[{}]{style:#}: {}",
        line(&found.source.to_string()),
        found.rule,
        line(&found.message),
    )?;
    excerpt(text, found, source, style)?;
    writeln!(text, "  {HELP}help:{HELP:#} {}", indented(&found.help))?;
    for operation in found.fix.iter().flat_map(|fix| &fix.0) {
        writeln!(text, "  {HELP}fix:{HELP:#} {}", line(&described(operation)))?;
    }
    writeln!(text)
}

/// The line that is meant, the one before it, and a caret under the column.
fn excerpt(text: &mut String, found: &Found, source: &[&str], style: Style) -> std::fmt::Result {
    let (Some(number), Some(column)) = (found.source.line, found.source.column) else {
        return Ok(());
    };
    let Some(meant) = number.checked_sub(1).and_then(|index| source.get(index)) else {
        return Ok(());
    };
    let from = if column > WIDEST {
        column - WIDEST / 2
    } else {
        1
    };
    let shown = |text: &str| -> String { line(text).chars().skip(from - 1).take(WIDEST).collect() };
    let width = number.to_string().len();
    writeln!(text, "{FRAME}{:width$} |{FRAME:#}", "")?;
    if let Some(before) = number.checked_sub(2).and_then(|index| source.get(index)) {
        writeln!(
            text,
            "{FRAME}{:width$} |{FRAME:#} {}",
            number - 1,
            shown(before).trim_end()
        )?;
    }
    writeln!(
        text,
        "{FRAME}{number} |{FRAME:#} {}",
        shown(meant).trim_end()
    )?;
    let indent = " ".repeat(column - from.min(column));
    writeln!(
        text,
        "{FRAME}{:width$} |{FRAME:#} {indent}{style}^{style:#}",
        ""
    )
}

/// A change, as a person would make it.
fn described(operation: &PatchOperation) -> String {
    let path = |pointer: &dyn std::fmt::Display| field_path(&pointer.to_string());
    match operation {
        PatchOperation::Add(add) => format!("add {}: {}", path(&add.path), add.value),
        PatchOperation::Replace(replace) => {
            format!("write {}: {}", path(&replace.path), replace.value)
        }
        PatchOperation::Remove(remove) => format!("remove {}", path(&remove.path)),
        PatchOperation::Move(moved) => {
            format!("move {} to {}", path(&moved.from), path(&moved.path))
        }
        PatchOperation::Copy(copy) => format!("copy {} to {}", path(&copy.from), path(&copy.path)),
        PatchOperation::Test(test) => format!("where {} is {}", path(&test.path), test.value),
    }
}

/// One line for each reason, however many objects it concerns.
fn not_judged(text: &mut String, report: &Report) -> std::fmt::Result {
    let mut reasons: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    let entries = report.abstained.iter();
    for entry in entries.filter(|entry| entry.placeholder.is_none()) {
        let (item, reason) = &entry.parts;
        let items = reasons.entry((entry.rule, reason)).or_default();
        items.push(item);
    }
    for ((rule, reason), items) in reasons {
        let more = match items.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let first = line(items[0]);
        writeln!(
            text,
            "{STRONG}not checked{STRONG:#}: {rule} of {first}{more}: {}",
            line(reason)
        )?;
    }
    Ok(())
}

/// One line for each file, however many placeholders are in it.
fn not_rendered(text: &mut String, report: &Report) -> std::fmt::Result {
    let mut files: BTreeMap<&str, BTreeSet<(Renderer, &str)>> = BTreeMap::new();
    for NotJudged {
        place, placeholder, ..
    } in &report.abstained
    {
        if let Some(Placeholder { by, text }) = placeholder {
            files.entry(&place.file).or_default().insert((*by, text));
        }
    }
    for (file, placeholders) in files {
        let more = match placeholders.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let Some((by, first)) = placeholders.first() else {
            continue;
        };
        writeln!(
            text,
            "{STRONG}not rendered{STRONG:#}: {}: {}{more}; check {}",
            line(file),
            line(first),
            line(&by.advice(file))
        )?;
    }
    Ok(())
}

fn summary(text: &mut String, report: &Report) -> std::fmt::Result {
    let parts = [
        (report.count(Level::Error), "error"),
        (report.count(Level::Warning), "warning"),
    ];
    let mut parts: Vec<_> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| counted(count, what))
        .collect();
    if parts.is_empty() {
        parts.push("nothing found".to_owned());
    }
    let abstained = report.abstained.iter();
    let not_rendered = abstained
        .filter(|entry| entry.placeholder.is_some())
        .count();
    for (count, what) in [
        (report.unchanged.len(), "there already"),
        (report.abstained.len() - not_rendered, "not checked"),
        (not_rendered, "not rendered"),
        (report.controlled, "left to a controller"),
        (report.errors.len(), "unreadable"),
        (report.left_out.len(), "left out"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    writeln!(
        text,
        "{}: {}",
        counted(report.objects, "object"),
        parts.join(", ")
    )
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn indented(text: &str) -> String {
    lines(text).trim_end().replace('\n', "\n        ")
}
