//! `impossible-memory-limit`: a memory limit under which no container can start.
//!
//! Nearly always a unit mistake: `512m` is half a byte, `512` is 512 bytes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Certainty, Finding, Judgement, Meta, Mistake, OwnSettings, Response, Rule};
use crate::evidence::{Evidence, Unknown};
use crate::quantity::Quantity;
use crate::review::workload::{Container, MOST_MEMORY_BYTES, WORKLOADS};
use crate::review::{Door, Review};
use crate::tree::Node;

/// What it is.
pub(crate) static META: Meta = Meta {
    name: "impossible-memory-limit",
    summary: "a memory limit under which no container can start, such as 512m",
    incident: "S6",
    watches: WORKLOADS,
    repairs: false,
    reads: &[],
    page: include_str!("../../docs/rules/impossible-memory-limit.md"),
};

/// Its settings: none of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {}

impl OwnSettings for Settings {
    fn build(&self) -> Result<Box<dyn Rule>, Mistake> {
        Ok(Box::new(ImpossibleMemoryLimit))
    }
}

/// A container whose limit is below this cannot be started: runc's own init process, a Go program
/// that runs under the limit, needs more (opencontainers/runc; cri-o refuses below 12 MiB).
const LEAST_BYTES: i128 = 4 * 1024 * 1024;

struct ImpossibleMemoryLimit;

impl Rule for ImpossibleMemoryLimit {
    fn judge(&self, review: &Review, _: &Evidence) -> Judgement {
        match review.containers() {
            Ok(containers) => containers
                .map(|container| (container.name, inspect(&container, review.door)))
                .collect(),
            Err(reason) => Judgement::abstain("containers", reason),
        }
    }
}

fn inspect(container: &Container<'_>, door: Door) -> Result<Option<Finding>, Unknown> {
    let Some(written) = container.memory_limit() else {
        return Ok(None);
    };
    let seen = written.plain();
    let finding = |certainty, magnitude, problem: String, help: String| {
        Ok(Some(Finding {
            certainty,
            path: container.memory_limit_pointer(),
            item: container.name.to_owned(),
            value: seen.clone().into_owned(),
            magnitude,
            message: format!(
                "container {} has the memory limit {seen:?}, {problem}",
                container.name
            ),
            help,
            response: Response::Refuse,
        }))
    };
    let limit = match Quantity::from_json(written) {
        Ok(limit) => limit,
        // The API server refuses it before any webhook is asked; other kinds keep it as written.
        Err(error) if door == Door::Files => {
            return finding(
                Certainty::Proven,
                None,
                "which is no quantity".to_owned(),
                error.to_string(),
            );
        }
        Err(_) => {
            return Err(Unknown::unreadable(
                &container.memory_limit_pointer(),
                "is no quantity",
            ));
        }
    };
    let bytes = limit.bytes();
    if bytes < 0 {
        return finding(
            Certainty::Proven,
            Some(bytes),
            "which is negative".to_owned(),
            "write a limit such as 512Mi, or leave it out".to_owned(),
        );
    }
    if bytes == 0 {
        return Ok(None);
    }
    if bytes < LEAST_BYTES {
        let problem = format!(
            "which is {}; no container starts below 4Mi",
            in_words(bytes, &seen)
        );
        return finding(
            Certainty::Proven,
            Some(bytes),
            problem,
            format!("write {}", meant(&seen)),
        );
    }
    if bytes >= MOST_MEMORY_BYTES {
        let problem = format!(
            "which is {} TB: more than any node has",
            bytes / 1_000_000_000_000
        );
        let help = "it limits nothing; write the limit that is meant, such as 1Gi".to_owned();
        return finding(Certainty::Likely, None, problem, help);
    }
    if door == Door::Files
        && let Some(request) = container.value.at("/resources/requests/memory")
    {
        return Ok(request_above_limit(container, request, &limit, &seen));
    }
    Ok(None)
}

/// The API server refuses a request above its limit, so only files can show one.
fn request_above_limit(
    container: &Container<'_>,
    request: Node<'_>,
    limit: &Quantity,
    seen: &str,
) -> Option<Finding> {
    let parsed = Quantity::from_json(request).ok()?;
    if parsed.bytes() <= limit.bytes() {
        return None;
    }
    let requested = request.plain();
    Some(Finding {
        certainty: Certainty::Proven,
        path: container.memory_limit_pointer(),
        item: container.name.to_owned(),
        value: seen.to_owned(),
        magnitude: Some(limit.bytes()),
        message: format!(
            "container {} has the memory limit {seen:?}, below its own request of {requested:?}; the API server refuses that",
            container.name
        ),
        help: format!(
            "write a limit of at least {requested}, or a smaller request; 512M is less than 512Mi"
        ),
        response: Response::Refuse,
    })
}

fn in_words(bytes: i128, seen: &str) -> String {
    let milli = if seen.ends_with('m') {
        " (m means thousandths)"
    } else {
        ""
    };
    match bytes {
        1 => format!("1 byte{milli}"),
        _ => format!("{bytes} bytes{milli}"),
    }
}

/// What was most probably meant: the same number of mebibytes.
fn meant(seen: &str) -> String {
    let digits: String = seen.chars().take_while(char::is_ascii_digit).collect();
    let rest = &seen[digits.len()..];
    match digits.parse::<u64>() {
        Ok(number @ 1..) if rest.is_empty() || matches!(rest, "m" | "k" | "K" | "Ki") => {
            format!("{number}Mi if mebibytes are meant")
        }
        _ => "the unit, such as 512Mi".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judge(limit: &Value, door: Door) -> Vec<Finding> {
        let mut review = Review::of_manifest(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
            "spec": {"containers": [{"name": "app", "resources": {"limits": {"memory": limit}}}]},
        }))
        .unwrap();
        review.door = door;
        ImpossibleMemoryLimit
            .judge(&review, &Evidence::default())
            .findings
    }

    #[test]
    fn s06_unit_mistakes_are_proven() {
        for limit in [
            json!("512m"),
            json!("1000m"),
            json!(512),
            json!("512"),
            json!(0.5),
            json!("500m"),
            json!("512k"),
            json!("3Mi"),
        ] {
            let found = judge(&limit, Door::Admission);
            assert_eq!(found.len(), 1, "{limit}");
            assert_eq!(found[0].certainty, Certainty::Proven, "{limit}");
        }
    }

    #[test]
    fn values_of_bytes_are_judged_and_not_suffixes() {
        for limit in [
            "128974848000m",
            "512M",
            "1.5G",
            "0.5Gi",
            "1e9",
            "+1Gi",
            "536870912",
            "4Mi",
            "0",
        ] {
            assert_eq!(judge(&json!(limit), Door::Admission), [], "{limit}");
            assert_eq!(judge(&json!(limit), Door::Files), [], "{limit}");
        }
    }

    #[test]
    fn more_than_any_node_has_is_likely() {
        assert_eq!(
            judge(&json!("1E"), Door::Admission)[0].certainty,
            Certainty::Likely
        );
    }

    #[test]
    fn text_that_is_no_quantity_is_found_in_files() {
        for limit in ["512MB", "512mi", "1 Gi", "1g"] {
            assert_eq!(judge(&json!(limit), Door::Files).len(), 1, "{limit}");
        }
    }

    #[test]
    fn the_help_names_the_number_that_was_meant() {
        assert_eq!(
            judge(&json!("512m"), Door::Admission)[0].help,
            "write 512Mi if mebibytes are meant"
        );
        assert_eq!(
            judge(&json!("0.5"), Door::Admission)[0].help,
            "write the unit, such as 512Mi"
        );
    }
}
