//! The annotations by which the author of an object accepts a finding for a time.

use std::collections::BTreeSet;

use jiff::civil::Date;

use crate::review::Review;
use crate::rules::catalogue;

/// The guardrails whose findings are accepted, separated by commas.
pub const ALLOW: &str = "forestall.dev/allow";
/// The last day (UTC) on which they are.
pub const ALLOW_UNTIL: &str = "forestall.dev/allow-until";
/// Why they are.
pub const ALLOW_REASON: &str = "forestall.dev/allow-reason";

/// Bytes of one of them. The reason goes with each finding, so a longer one would be copied as often.
const LONGEST: usize = 512;

/// What the annotations of an object allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The guardrails.
    pub rules: BTreeSet<&'static str>,
    /// The last day.
    pub until: Date,
    /// Why.
    pub reason: String,
}

impl Allowance {
    /// Reads the three annotations; what is wrong with them is told, and then they allow nothing.
    #[must_use]
    pub fn read(review: &Review, today: Date) -> (Option<Self>, Vec<String>) {
        let [allow, until, reason] =
            [ALLOW, ALLOW_UNTIL, ALLOW_REASON].map(|name| review.annotation(name).map(str::trim));
        if allow.is_none() && until.is_none() && reason.is_none() {
            return (None, Vec::new());
        }
        let annotations = [(ALLOW, allow), (ALLOW_UNTIL, until), (ALLOW_REASON, reason)];
        let missing: Vec<_> = annotations
            .into_iter()
            .filter(|(_, value)| value.is_none_or(str::is_empty))
            .map(|(name, _)| name)
            .collect();
        if !missing.is_empty() {
            let notice = format!(
                "nothing is allowed by annotation: {} is missing",
                missing.join(" and ")
            );
            return (None, vec![notice]);
        }
        let mut long = annotations
            .iter()
            .filter(|(_, value)| value.is_some_and(|value| value.len() > LONGEST));
        if let Some((name, _)) = long.next() {
            let notice = format!(
                "nothing is allowed by annotation: {name} is longer than {LONGEST} bytes; shorten it"
            );
            return (None, vec![notice]);
        }
        let written = until.unwrap_or_default();
        let Ok(until) = written.parse::<Date>() else {
            let notice = format!(
                "nothing is allowed by annotation: {ALLOW_UNTIL} {written:?} is no date; write it as {today}"
            );
            return (None, vec![notice]);
        };
        let mut notices = Vec::new();
        let mut rules = BTreeSet::new();
        for name in allow
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            if let Some(meta) = catalogue::find(name) {
                rules.insert(meta.name);
            } else {
                let nearest = catalogue::nearest_name(name)
                    .map(|nearest| format!("; did you mean {nearest}?"))
                    .unwrap_or_default();
                notices.push(format!("{ALLOW}: there is no guardrail {name:?}{nearest}"));
            }
        }
        let reason = reason.unwrap_or_default().to_owned();
        (
            Some(Self {
                rules,
                until,
                reason,
            }),
            notices,
        )
    }
}
