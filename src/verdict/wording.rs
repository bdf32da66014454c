//! The sentences that people read: refusals, warnings, and the audit log.

use std::collections::{BTreeMap, BTreeSet};

use super::allowance::ALLOW;
use super::{Abstained, Action, Record, Weighed};
use crate::config::Mode;
use crate::review::Review;

/// Bytes of a refusal: the API server passes any length on, but nobody reads more.
pub const LONGEST_REFUSAL: usize = 1024;

/// The refusal: the reasons, each with its place and its cure. Those that would make it too long are
/// counted; the first is told in any case.
#[must_use]
pub fn refusal(review: &Review, refused: &[&Record]) -> String {
    let subject = &review.subject;
    let namespace = subject
        .namespace
        .as_deref()
        .map(|name| format!("{name}/"))
        .unwrap_or_default();
    let count = match refused.len() {
        1 => String::new(),
        many => format!(" for {many} reasons"),
    };
    let mut text = format!(
        "forestall refuses {} {namespace}{}{count}",
        subject.kind, subject.name
    );
    let rules: BTreeSet<_> = refused.iter().map(|record| record.meta.name).collect();
    let rules: Vec<_> = rules.into_iter().collect();
    let end = format!(
        "\nto accept it for a time, annotate {ALLOW}: {:?}, {ALLOW}-until: a date, {ALLOW}-reason: why",
        rules.join(", ")
    );
    let more = |count: usize| format!("\n... and {count} more");
    let room = LONGEST_REFUSAL.saturating_sub(end.len() + more(refused.len()).len());
    for (index, record) in refused.iter().enumerate() {
        let reason = reason(record);
        let left = room.saturating_sub(text.len());
        if reason.len() <= left {
            text.push_str(&reason);
        } else if index == 0 {
            text.push_str(&reason[..reason.floor_char_boundary(left)]);
        } else {
            text.push_str(&more(refused.len() - index));
            break;
        }
    }
    text + &end
}

fn reason(record: &Record) -> String {
    let finding = &record.finding;
    format!(
        "\n{}: {}\n  at {}\n  {}",
        record.meta.name,
        finding.message,
        field_path(&finding.path),
        finding.help
    )
}

/// The warning for a finding, where the client is to be told.
#[must_use]
pub fn warning(record: &Record) -> Option<String> {
    let Record {
        meta,
        finding,
        action,
        ..
    } = record;
    let help = finding.help.lines().next().unwrap_or_default();
    match action {
        Action::Warn => Some(format!("{}: {}; {help}", meta.name, finding.message)),
        Action::DropPatch(reason) => Some(format!(
            "{}: not repaired, {reason}: {}; {help}",
            meta.name, finding.message
        )),
        Action::Exempt(_) | Action::Record { .. } | Action::Refuse | Action::Patch => None,
    }
}

/// One line for everything that could not be judged and may be known next time.
#[must_use]
pub fn unknown(abstained: &[Abstained]) -> Option<String> {
    let told = |entry: &&Abstained| {
        entry.mode >= Mode::Warn && !entry.unchanged && !entry.abstention.reason.is_lasting()
    };
    let mut told = abstained.iter().filter(told);
    let first = told.next()?;
    let more = match told.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let item = &first.abstention.item;
    Some(format!(
        "forestall could not check {} of {item}: {}{more}",
        first.meta.name, first.abstention.reason
    ))
}

/// What goes into the API server's audit log.
#[must_use]
pub fn audit(
    weighed: &Weighed,
    refused: bool,
    patched: bool,
    warned: bool,
) -> BTreeMap<String, String> {
    let mut audit = BTreeMap::new();
    let decision = match (refused, patched, warned) {
        (true, ..) => "refuse",
        (_, true, _) => "patch",
        (.., true) => "warn",
        _ => "admit",
    };
    let rules = |wanted: &dyn Fn(&Record) -> bool| {
        let found = weighed.records.iter().filter(|record| wanted(record));
        let names: BTreeSet<_> = found.map(|record| record.meta.name).collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    };
    let mut put = |key: &str, value: String| {
        if !value.is_empty() {
            audit.insert(key.to_owned(), value);
        }
    };
    let found = rules(&|_| true);
    let unknown: Vec<_> = weighed
        .abstained
        .iter()
        .map(
            |Abstained {
                 meta, abstention, ..
             }| {
                format!(
                    "{} of {}: {}",
                    meta.name, abstention.item, abstention.reason
                )
            },
        )
        .collect();
    let exemptions: Vec<_> = weighed
        .records
        .iter()
        .filter_map(|record| match &record.action {
            Action::Exempt(reason) => Some(format!("{}: {reason}", record.meta.name)),
            _ => None,
        })
        .collect();
    if !found.is_empty() || !unknown.is_empty() {
        put("decision", decision.to_owned());
    }
    put("rules", found);
    put(
        "would-deny",
        rules(&|record| record.action == Action::Record { would_refuse: true }),
    );
    put("exemption", exemptions.join("; "));
    put("unknown", unknown.join("; "));
    audit
}

/// A JSON pointer as kubectl writes paths: `spec.containers[0].image`.
#[must_use]
pub fn field_path(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        let key = part.replace("~1", "/").replace("~0", "~");
        if !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit()) {
            path.extend(["[", &key, "]"]);
        } else if key.contains(['.', '/']) {
            path.extend(["[\"", &key, "\"]"]);
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&key);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_look_as_kubectl_writes_them() {
        assert_eq!(
            field_path("/spec/template/spec/containers/0/image"),
            "spec.template.spec.containers[0].image"
        );
        assert_eq!(
            field_path("/metadata/annotations/a.b~1c"),
            "metadata.annotations[\"a.b/c\"]"
        );
        assert_eq!(field_path(""), "");
    }
}
