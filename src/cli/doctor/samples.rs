//! What a Pod's /metrics says, as far as `doctor` asks: samples by name and labels.

use std::collections::BTreeMap;

/// The samples of one Pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Samples(Vec<Sample>);

/// One line of the `OpenMetrics` text format.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

// === impl Samples ===

impl Samples {
    /// Reads a text. Lines that are no samples are left out, as every comment is.
    pub(super) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(Sample::parse).collect())
    }

    /// All samples of a name.
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.0.iter().filter(move |sample| sample.name == name)
    }

    /// The sum of a counter over the samples that have these labels.
    pub(super) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let of = |sample: &&Sample| labels.iter().all(|(label, value)| sample.is(label, value));
        let values = self.named(name).filter(of).map(|sample| sample.value);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a counter is a whole number; a cast of another one saturates"
        )]
        values.map(|value| value as u64).sum()
    }
}

// === impl Sample ===

impl Sample {
    /// Whether a label has this value.
    pub(super) fn is(&self, label: &str, value: &str) -> bool {
        self.label(label) == Some(value)
    }

    /// The value of a label.
    pub(super) fn label(&self, label: &str) -> Option<&str> {
        self.labels.get(label).map(String::as_str)
    }

    /// `name{label="value",…} value [timestamp]`
    fn parse(line: &str) -> Option<Self> {
        let end = line.find(['{', ' '])?;
        let (name, mut rest) = line.split_at(end);
        if name.is_empty() || name.starts_with('#') {
            return None;
        }
        let mut labels = BTreeMap::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            while !rest.starts_with('}') {
                let (label, after) = rest.split_once("=\"")?;
                let (value, after) = unquote(after)?;
                labels.insert(label.to_owned(), value);
                rest = after.strip_prefix(',').unwrap_or(after);
            }
            rest = &rest[1..];
        }
        let value = rest.split_whitespace().next()?.parse().ok()?;
        Some(Self {
            name: name.to_owned(),
            labels,
            value,
        })
    }
}

/// The text up to the closing quote, and what comes after it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((index, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[index + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            char => value.push(char),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::metrics::{Boolean, Metrics, ReviewLabels};

    #[test]
    fn what_the_program_writes_is_read() {
        let metrics = Metrics::default();
        let labels = |decision| ReviewLabels {
            webhook: "validating",
            resource_kind: "Deployment",
            operation: "CREATE",
            decision,
            dry_run: Boolean(true),
        };
        metrics.reviews.get_or_create(&labels("allow")).inc_by(2);
        metrics.reviews.get_or_create(&labels("warn")).inc();
        metrics.config_valid.set(1);
        let samples = Samples::parse(&metrics.encode());
        let count = |labels| samples.count("forestall_admission_requests_total", labels);
        assert_eq!(
            count(&[("dry_run", "true"), ("resource_kind", "Deployment")]),
            3
        );
        assert_eq!(count(&[("dry_run", "false")]), 0);
        let valid: Vec<_> = samples.named("forestall_config_valid").collect();
        assert!(
            matches!(valid[..], [Sample { value: 1.0, .. }]),
            "{valid:?}"
        );
    }

    #[test]
    fn labels_may_hold_quotes_and_braces() {
        let samples = Samples::parse("a{b=\"x\\\"},\\n\\\\\",c=\"\"} 1e3 123\n");
        let sample = samples.named("a").next().unwrap();
        assert_eq!(sample.label("b"), Some("x\"},\n\\"));
        assert_eq!(sample.label("c"), Some(""));
        assert!((sample.value - 1000.0).abs() < f64::EPSILON);
    }

    #[test]
    fn what_is_no_sample_is_left_out() {
        for odd in [
            "",
            "# TYPE a counter",
            "a{b=\"c",
            "a{b}",
            "a{b=\"c\"}",
            "a x",
            "a{",
            "{} 1",
            "<html>",
            "a{b=\"\\",
        ] {
            assert_eq!(Samples::parse(odd), Samples::default(), "{odd:?}");
        }
    }
}
