//! `oom-killed-memory-limit`: a memory limit under which this container was killed before.
//!
//! Nothing is guessed here: only kills that were seen, in the configuration or in the evidence,
//! count. A limit that is raised is never held up, however low it still is.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Certainty, Finding, Judgement, Meta, Mistake, OwnSettings, Response, Rule};
use crate::evidence::{
    Evidence, MemoryHistory, MemoryOf, MemoryOutcome, MemoryRecord, Owner, Questions, Unknown,
};
use crate::image::ImageReference;
use crate::objects::DEFAULT_NAMESPACE;
use crate::quantity::{Quantity, display_bytes};
use crate::review::Review;
use crate::review::workload::{Container, MemoryLimit, WORKLOADS};

/// What it is.
pub(crate) static META: Meta = Meta {
    name: "oom-killed-memory-limit",
    summary: "a memory limit under which this container was OOM-killed before",
    incident: "S6",
    watches: WORKLOADS,
    repairs: false,
    reads: &[],
    page: include_str!("../../docs/rules/oom-killed-memory-limit.md"),
};

/// Its settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Kills and survivals that are known already.
    #[serde(skip_serializing_if = "MemoryHistory::is_empty")]
    pub known: MemoryHistory,
}

impl OwnSettings for Settings {
    fn build(&self) -> Result<Box<dyn Rule>, Mistake> {
        let known = self.known.clone();
        Ok(Box::new(OomKilledMemoryLimit { known }))
    }
}

/// This many kills make a row strong; fewer are a warning.
const STRONG_TIMES: u64 = 3;

struct OomKilledMemoryLimit {
    known: MemoryHistory,
}

impl Rule for OomKilledMemoryLimit {
    fn questions(&self, review: &Review) -> Questions {
        let mut questions = Questions::default();
        if !limits(review).is_empty() {
            questions.ask(&history(review));
        }
        questions
    }

    fn judge(&self, review: &Review, evidence: &Evidence) -> Judgement {
        let containers = match review.containers() {
            Ok(containers) => containers,
            Err(reason) => return Judgement::abstain("containers", reason),
        };
        let before = review.replaced().map(limits).unwrap_or_default();
        // Kills named in the configuration count whatever else is known.
        let asked = history(review);
        let mut records = self.known.of(&asked.namespace, &asked.owner);
        records.extend(evidence.get(&asked).into_iter().flatten().cloned());
        containers
            .map(|container| {
                let item = container.item();
                let old = before.iter().find(|(name, _)| *name == item);
                let limit = limit_of(review, &container);
                let raised =
                    old.is_some_and(|(_, old)| limit.as_ref().is_some_and(|(new, _)| new > old));
                let finding = match limit {
                    Some((limit, written)) if !raised => {
                        inspect(review, &container, limit, &written, &records)
                    }
                    _ => None,
                };
                (item, Ok::<_, Unknown>(finding))
            })
            .collect()
    }
}

/// The question for what happened to the containers of this workload.
fn history(review: &Review) -> MemoryOf {
    let subject = &review.subject;
    MemoryOf {
        namespace: subject
            .namespace
            .clone()
            .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        owner: Owner {
            kind: subject.kind.clone(),
            name: subject.name.clone(),
        },
    }
}

/// Whether enough kills were seen to refuse for them.
fn is_strong(kill: &MemoryRecord) -> bool {
    kill.times
        .is_none_or(|times| times >= STRONG_TIMES && kill.quick != Some(0))
}

/// Whether this was seen after the other; where a time is missing, it is taken as later, so that a
/// doubt speaks for the object.
fn is_later(this: &MemoryRecord, other: &MemoryRecord) -> bool {
    match (this.at(), other.at()) {
        (Some(this), Some(other)) => this > other,
        _ => true,
    }
}

/// Whether a record of this workload is about this container.
fn is_about(record: &MemoryRecord, container: &str, image: Option<&ImageReference>) -> bool {
    let wanted = record.container.as_deref();
    wanted.is_none_or(|wanted| wanted == container)
        && record
            .image
            .as_ref()
            .is_none_or(|wanted| image.is_some_and(|image| is_of(image, wanted)))
}

/// Whether this is the image that is wanted. Without a tag, any of its repository is; a digest is the
/// same image under every name; and a tag beside a digest, as Renovate writes it, is that tag.
fn is_of(image: &ImageReference, wanted: &ImageReference) -> bool {
    match (&wanted.digest, &image.digest) {
        (Some(wanted), Some(digest)) => wanted == digest,
        (Some(_), None) => false,
        (None, _) => {
            image.repository == wanted.repository
                && (wanted.tag.is_none() || image.written_tag() == wanted.written_tag())
        }
    }
}

/// The limit under which a container runs, in bytes and as written: its own, or that of its pod where
/// this is less. All containers share the latter, so each has at most that.
fn limit_of<'a>(review: &'a Review, container: &Container<'a>) -> Option<(u64, MemoryLimit<'a>)> {
    let of_pod = review.pod_memory_limit().ok().flatten();
    let limits = container.memory_limit().into_iter().chain(of_pod);
    let limits = limits.filter_map(|limit| {
        let bytes = Quantity::from_json(limit.value).ok()?.bytes();
        let bytes = u64::try_from(bytes).ok().filter(|bytes| *bytes > 0)?;
        Some((bytes, limit))
    });
    limits.min_by_key(|(bytes, _)| *bytes)
}

fn limits(review: &Review) -> Vec<(Cow<'_, str>, u64)> {
    let containers = review.containers().into_iter().flatten();
    containers
        .filter_map(|container| Some((container.item(), limit_of(review, &container)?.0)))
        .collect()
}

fn inspect(
    review: &Review,
    container: &Container<'_>,
    limit: u64,
    written: &MemoryLimit<'_>,
    records: &[Arc<MemoryRecord>],
) -> Option<Finding> {
    let images = review.images().unwrap_or_default();
    let image = images.iter().find(|image| image.is_of(container));
    let image = image.and_then(|image| image.reference.as_ref().ok());
    let matching: Vec<&MemoryRecord> = records
        .iter()
        .map(AsRef::as_ref)
        .filter(|record| is_about(record, container.name, image))
        .collect();
    let outcome = |wanted| {
        let matching = matching.iter().copied();
        matching.filter(move |record| record.outcome == wanted)
    };
    let (certainty, kill) = worst(limit, &matching)?;
    let outlived = |row: &&MemoryRecord| {
        let mut kills = outcome(MemoryOutcome::OomKilled);
        row.limit > kill.limit && kills.all(|kill| kill.limit < row.limit || is_later(row, kill))
    };
    let safe = outcome(MemoryOutcome::Survived)
        .filter(outlived)
        .map(|row| row.limit)
        .min();
    let advised = safe.unwrap_or_else(|| {
        let mut more = next_try(kill.limit);
        // A kill that was seen less often, at a higher limit, speaks against that one, too.
        while let Some((_, kill)) = worst(more, &matching) {
            more = next_try(kill.limit);
        }
        more
    });
    let advised = display_bytes(advised);
    let seen = written.value.plain();
    let shown = match written.value.spelling() {
        Some(_) => written.shown(),
        None => seen.clone().into_owned(),
    };
    let is_own = written.item == container.item();
    let who = if is_own {
        "it".to_owned()
    } else {
        format!("its container {}", container.item())
    };
    Some(Finding {
        certainty,
        path: written.pointer.clone(),
        item: container.item().into_owned(),
        value: seen.into_owned(),
        magnitude: Some(limit.into()),
        message: format!(
            "{} has the memory limit {shown}; {who} was OOM-killed{} at {}{}",
            written.holder,
            kill.times
                .map(|times| format!(" {times} times"))
                .unwrap_or_default(),
            display_bytes(kill.limit),
            kill.at()
                .map(|at| format!(", last on {at}"))
                .unwrap_or_default(),
        ),
        help: match safe {
            Some(_) => format!("write {advised} or more, the smallest limit that it survived"),
            None => format!("write more than that, such as {advised}"),
        },
        offers: vec![advised],
        response: Response::Refuse,
    })
}

/// The kill that speaks most against this limit, and how sure that is.
fn worst<'r>(limit: u64, records: &[&'r MemoryRecord]) -> Option<(Certainty, &'r MemoryRecord)> {
    let outcome = |wanted| {
        let records = records.iter().copied();
        records.filter(move |record| record.outcome == wanted)
    };
    let mut worst: Option<(Certainty, &MemoryRecord)> = None;
    for kill in outcome(MemoryOutcome::OomKilled).filter(|kill| limit <= kill.limit) {
        let survived = outcome(MemoryOutcome::Survived)
            .filter(|row| row.limit <= kill.limit && is_later(row, kill))
            .map(|row| row.limit)
            .min();
        let certainty = match survived {
            Some(survived) if survived <= limit => continue,
            None if is_strong(kill) => Certainty::Observed,
            Some(_) | None => Certainty::Likely,
        };
        let stronger = worst.is_none_or(|(other, row)| {
            (certainty, Reverse(kill.limit)) < (other, Reverse(row.limit))
        });
        if stronger {
            worst = Some((certainty, kill));
        }
    }
    worst
}

/// A quarter more, at least 100 MiB more, in steps of 64 MiB.
fn next_try(killed: u64) -> u64 {
    const MEBIBYTE: u64 = 1024 * 1024;
    let more = killed.saturating_add((killed / 4).max(100 * MEBIBYTE));
    more.checked_next_multiple_of(64 * MEBIBYTE)
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn deployment(limit: &str) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "prometheus", "namespace": "monitoring"},
            "spec": {"template": {"spec": {"containers": [
                {"name": "prometheus", "image": "prom/prometheus:v2.55.1", "resources": {"limits": {"memory": limit}}},
            ]}}},
        })
    }

    fn row(value: &Value) -> MemoryRecord {
        serde_saphyr::from_str(&value.to_string()).unwrap()
    }

    fn kill(extra: &Value) -> MemoryRecord {
        let mut value =
            json!({"container": "prometheus", "limit": "512Mi", "outcome": "oomKilled"});
        value
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        row(&value)
    }

    fn certainty(review: &Review, rows: Vec<MemoryRecord>) -> Option<Certainty> {
        let mut evidence = Evidence::default();
        let asked = history(review);
        let rows = MemoryHistory::from(rows).of(&asked.namespace, &asked.owner);
        evidence.memory.insert(asked, Ok(rows));
        let known = MemoryHistory::default();
        let rule = OomKilledMemoryLimit { known };
        rule.judge(review, &evidence)
            .findings
            .first()
            .map(|finding| finding.certainty)
    }

    fn created(limit: &str, rows: Vec<MemoryRecord>) -> Option<Certainty> {
        certainty(&Review::of_manifest(deployment(limit)).unwrap(), rows)
    }

    #[test]
    fn s06_prometheus_at_512mi_was_killed_before() {
        let rows = || vec![kill(&json!({"image": "prom/prometheus:v2.55.1"}))];
        assert_eq!(created("512Mi", rows()), Some(Certainty::Observed));
        assert_eq!(created("256Mi", rows()), Some(Certainty::Observed));
        assert_eq!(created("1Gi", rows()), None);
    }

    #[test]
    fn three_kills_are_strong_unless_none_of_them_was_quick() {
        assert_eq!(
            created("512Mi", vec![kill(&json!({"times": 2}))]),
            Some(Certainty::Likely)
        );
        assert_eq!(
            created("512Mi", vec![kill(&json!({"times": 3}))]),
            Some(Certainty::Observed)
        );
        assert_eq!(
            created("512Mi", vec![kill(&json!({"times": 3, "quick": 0}))]),
            Some(Certainty::Likely)
        );
    }

    #[test]
    fn a_later_survival_speaks_for_the_limit() {
        let survived = |limit: &str, last: &str| {
            row(&json!({"limit": limit, "outcome": "survived", "last": last}))
        };
        let killed = || kill(&json!({"last": "2026-01-05T00:00:00Z"}));
        assert_eq!(
            created(
                "512Mi",
                vec![killed(), survived("512Mi", "2026-01-07T00:00:00Z")]
            ),
            None
        );
        assert_eq!(
            created(
                "512Mi",
                vec![killed(), survived("256Mi", "2026-01-07T00:00:00Z")]
            ),
            None
        );
        assert_eq!(
            created(
                "128Mi",
                vec![killed(), survived("256Mi", "2026-01-07T00:00:00Z")]
            ),
            Some(Certainty::Likely)
        );
        assert_eq!(
            created(
                "512Mi",
                vec![killed(), survived("512Mi", "2026-01-01T00:00:00Z")]
            ),
            Some(Certainty::Observed)
        );
        assert_eq!(
            created(
                "512Mi",
                vec![killed(), survived("1Gi", "2026-01-07T00:00:00Z")]
            ),
            Some(Certainty::Observed)
        );
    }

    #[test]
    fn a_limit_that_survived_before_it_was_killed_too_is_not_advised() {
        let review = Review::of_manifest(deployment("512Mi")).unwrap();
        let rows = [
            json!({"limit": "512Mi", "outcome": "oomKilled", "last": "2026-01-05T00:00:00Z"}),
            json!({"limit": "1Gi", "outcome": "survived", "last": "2026-01-06T00:00:00Z"}),
            json!({"limit": "1Gi", "outcome": "oomKilled", "times": 1, "last": "2026-01-07T00:00:00Z"}),
            json!({"limit": "2Gi", "outcome": "survived", "last": "2026-01-08T00:00:00Z"}),
        ];
        let known = rows.iter().map(row).collect();
        let findings = OomKilledMemoryLimit { known }
            .judge(&review, &Evidence::default())
            .findings;
        assert!(
            findings[0].help.starts_with("write 2Gi or more"),
            "{}",
            findings[0].help
        );
    }

    #[test]
    fn a_row_is_about_an_image_however_it_is_written() {
        let [one, two] = ["1", "2"].map(|digit| format!("sha256:{}", digit.repeat(64)));
        let is_of = |image: &str, wanted: &str| {
            let [image, wanted] = [image, wanted].map(|text| ImageReference::parse(text).unwrap());
            super::is_of(&image, &wanted)
        };
        // As Renovate writes it.
        assert!(is_of(&format!("a.b/c:1@{one}"), "a.b/c:1"));
        assert!(!is_of(&format!("a.b/c:2@{one}"), "a.b/c:1"));
        assert!(!is_of(&format!("a.b/c@{one}"), "a.b/c:1"));
        assert!(is_of(&format!("a.b/c@{one}"), "a.b/c"));
        // A digest is one image, wherever it comes from.
        assert!(is_of(
            &format!("mirror.b/c:1@{one}"),
            &format!("a.b/c@{one}")
        ));
        assert!(!is_of(&format!("a.b/c@{one}"), &format!("a.b/c@{two}")));
        assert!(!is_of("a.b/c:1", &format!("a.b/c:1@{one}")));
        assert!(is_of("a.b/c", "a.b/c:latest"));
    }

    #[test]
    fn a_raise_is_never_held_up() {
        let review = Review::of_manifest(deployment("512Mi")).unwrap();
        let review = review.replacing(Arc::new(deployment("256Mi").into()));
        assert_eq!(certainty(&review, vec![kill(&json!({}))]), None);
        let review = review.replacing(Arc::new(deployment("1Gi").into()));
        assert_eq!(
            certainty(&review, vec![kill(&json!({}))]),
            Some(Certainty::Observed)
        );
    }

    #[test]
    fn a_row_of_another_workload_or_image_says_nothing() {
        for other in [
            json!({"namespace": "dev"}),
            json!({"owner": "StatefulSet/prometheus"}),
            json!({"container": "sidecar"}),
            json!({"image": "prom/alertmanager"}),
            json!({"image": "prom/prometheus:v3.0.0"}),
        ] {
            assert_eq!(created("512Mi", vec![kill(&other)]), None, "{other}");
        }
        for same in [
            json!({"namespace": "monitoring", "owner": "Deployment/prometheus"}),
            json!({"image": "docker.io/prom/prometheus:v2.55.1"}),
            json!({"image": "prom/prometheus"}),
        ] {
            assert_eq!(
                created("512Mi", vec![kill(&same)]),
                Some(Certainty::Observed),
                "{same}"
            );
        }
    }
}
