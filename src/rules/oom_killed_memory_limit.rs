//! `oom-killed-memory-limit`: a memory limit under which this container was killed before.
//!
//! Nothing is guessed here: only kills that were seen, in the configuration or in the evidence,
//! count. A limit that is raised is never held up, however low it still is.

use std::borrow::Cow;

use super::catalogue::Entry;
use super::{Certainty, Finding, Judgement, Meta, Rule};
use crate::evidence::{
    Evidence, MemoryOf, MemoryOutcome, MemoryRecord, Questions, Scalar, Unknown,
};
use crate::image::ImageReference;
use crate::quantity::{Quantity, display_bytes};
use crate::review::workload::{Container, MOST_MEMORY_BYTES, MemoryLimit, WORKLOADS};
use crate::review::{Review, Subject};

/// The entry in the catalogue.
pub(super) const RULE: Entry = Entry {
    meta: Meta {
        name: "oom-killed-memory-limit",
        summary: "a memory limit under which this container was OOM-killed before",
        incident: "S6",
        watches: WORKLOADS,
        repairs: false,
        reads: &[],
        settings: &["known"],
        page: include_str!("../../docs/rules/oom-killed-memory-limit.md"),
    },
    build: |settings| {
        let known = settings.known.iter().flatten().cloned().enumerate();
        let known = known.map(|(index, record)| {
            Row::of(Cow::Owned(record)).map_err(|problem| format!("known[{index}].{problem}"))
        });
        let known = known.collect::<Result<_, _>>()?;
        Ok(Box::new(OomKilledMemoryLimit { known }))
    },
};

/// This many kills make a row strong; fewer are a warning.
const STRONG_TIMES: u64 = 3;

struct OomKilledMemoryLimit {
    known: Vec<Row<'static>>,
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
        let learnt = evidence.get(&history(review)).into_iter();
        let learnt = learnt
            .flat_map(|records| records.iter())
            .filter_map(|record| Row::of(Cow::Borrowed(record)).ok());
        let learnt: Vec<Row<'_>> = learnt.collect();
        let rows: Vec<&Row<'_>> = self.known.iter().chain(&learnt).collect();
        containers
            .map(|container| {
                let item = container.item();
                let old = before.iter().find(|(name, _)| *name == item);
                let limit = limit_of(review, &container);
                let raised =
                    old.is_some_and(|(_, old)| limit.as_ref().is_some_and(|(new, _)| new > old));
                let finding = match limit {
                    Some((limit, written)) if !raised => {
                        inspect(review, &container, limit, &written, &rows)
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
        namespace: subject.namespace.clone().unwrap_or_default(),
        owner: format!("{}/{}", subject.kind, subject.name),
    }
}

/// A record whose limit and counts have been read.
struct Row<'a> {
    record: Cow<'a, MemoryRecord>,
    limit: i128,
    image: Option<ImageReference>,
    strong: bool,
}

impl<'a> Row<'a> {
    fn of(record: Cow<'a, MemoryRecord>) -> Result<Self, String> {
        let limit = record
            .limit
            .as_ref()
            .ok_or("limit is missing; write the limit seen, such as 512Mi")?;
        let bytes = Quantity::parse(&limit.0)
            .map_err(|error| format!("limit {:?}: {error}", limit.0))?
            .bytes();
        if !(1..MOST_MEMORY_BYTES).contains(&bytes) {
            let problem = "no container ran under it; write the limit seen, such as 512Mi";
            return Err(format!("limit {:?}: {problem}", limit.0));
        }
        record
            .outcome
            .ok_or("outcome is missing; write oomKilled or survived")?;
        let image = record
            .image
            .as_deref()
            .map(ImageReference::parse)
            .transpose();
        let image = image.map_err(|error| format!("image: {error}"))?;
        let count = |name: &str, scalar: &Option<Scalar>| {
            scalar
                .as_ref()
                .map(|text| {
                    text.0
                        .parse::<u64>()
                        .map_err(|_| format!("{name} {:?} is no count", text.0))
                })
                .transpose()
        };
        let times = count("times", &record.times)?;
        if times == Some(0) {
            return Err("times is 0; write how often it was seen, or leave the row out".to_owned());
        }
        let quick = count("quick", &record.quick)?;
        let strong = times.is_none_or(|times| times >= STRONG_TIMES && quick != Some(0));
        Ok(Self {
            record,
            limit: bytes,
            image,
            strong,
        })
    }

    /// When it was seen last.
    fn at(&self) -> Option<&str> {
        let MemoryRecord { first, last, .. } = &*self.record;
        last.as_ref().or(first.as_ref()).map(|time| time.0.as_str())
    }

    /// A field left out matches anything.
    fn matches(&self, review: &Review, container: &str, image: Option<&ImageReference>) -> bool {
        let Subject {
            kind,
            namespace,
            name,
            ..
        } = &review.subject;
        let same = |wanted: &Option<String>, seen: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == seen)
        };
        let owner = self
            .record
            .owner
            .as_deref()
            .map(|owner| owner.split_once('/'));
        same(&self.record.container, container)
            && same(
                &self.record.namespace,
                namespace.as_deref().unwrap_or("default"),
            )
            && owner.is_none_or(|owner| owner == Some((kind, name)))
            && self
                .image
                .as_ref()
                .is_none_or(|wanted| image.is_some_and(|image| is_of(image, wanted)))
    }

    /// Whether this was seen after the other; where a time is missing, it is taken as later, so
    /// that a doubt speaks for the object.
    fn is_later_than(&self, other: &Self) -> bool {
        match (self.at(), other.at()) {
            (Some(this), Some(that)) => moment(this) > moment(that),
            _ => true,
        }
    }
}

/// RFC 3339 times may have different offsets, so they are compared as times where they parse.
fn moment(text: &str) -> (Option<jiff::Timestamp>, &str) {
    (text.parse().ok(), text)
}

/// Whether this is the image that is wanted; without a tag, any of its repository is.
fn is_of(image: &ImageReference, wanted: &ImageReference) -> bool {
    let any_tag = wanted.tag.is_none() && wanted.digest.is_none();
    image.repository == wanted.repository && (any_tag || image.pulled() == wanted.pulled())
}

/// The limit under which a container runs, in bytes and as written: its own, or that of its pod where
/// this is less. All containers share the latter, so each has at most that.
fn limit_of<'a>(review: &'a Review, container: &Container<'a>) -> Option<(i128, MemoryLimit<'a>)> {
    let of_pod = review.pod_memory_limit().ok().flatten();
    let limits = container.memory_limit().into_iter().chain(of_pod);
    let limits = limits.filter_map(|limit| {
        let bytes = Quantity::from_json(limit.value).ok()?.bytes();
        (bytes > 0).then_some((bytes, limit))
    });
    limits.min_by_key(|(bytes, _)| *bytes)
}

fn limits(review: &Review) -> Vec<(Cow<'_, str>, i128)> {
    let containers = review.containers().into_iter().flatten();
    containers
        .filter_map(|container| Some((container.item(), limit_of(review, &container)?.0)))
        .collect()
}

fn inspect(
    review: &Review,
    container: &Container<'_>,
    limit: i128,
    written: &MemoryLimit<'_>,
    rows: &[&Row<'_>],
) -> Option<Finding> {
    let images = review.images().unwrap_or_default();
    let image = images.iter().find(|image| image.is_of(container));
    let image = image.and_then(|image| image.reference.as_ref().ok());
    let matching: Vec<_> = rows
        .iter()
        .copied()
        .filter(|row| row.matches(review, container.name, image))
        .collect();
    let outcome = |wanted| {
        matching
            .iter()
            .filter(move |row| row.record.outcome == Some(wanted))
    };
    let (certainty, kill) = worst(limit, &matching)?;
    let outlived = |row: &&&Row<'_>| {
        let mut kills = outcome(MemoryOutcome::OomKilled);
        row.limit > kill.limit
            && kills.all(|kill| kill.limit < row.limit || row.is_later_than(kill))
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
    let advised = display_bytes(u64::try_from(advised).unwrap_or_default());
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
        magnitude: Some(limit),
        message: format!(
            "{} has the memory limit {shown}; {who} was OOM-killed{} at {}{}",
            written.holder,
            kill.record
                .times
                .as_ref()
                .map(|times| format!(" {} times", times.0))
                .unwrap_or_default(),
            display_bytes(u64::try_from(kill.limit).unwrap_or_default()),
            kill.at()
                .map(|at| format!(", last on {at}"))
                .unwrap_or_default(),
        ),
        help: match safe {
            Some(_) => format!("write {advised} or more, the smallest limit that it survived"),
            None => format!("write more than that, such as {advised}"),
        },
        offers: vec![advised],
        fix: None,
    })
}

/// The kill that speaks most against this limit, and how sure that is.
fn worst<'r, 'a>(limit: i128, rows: &[&'r Row<'a>]) -> Option<(Certainty, &'r Row<'a>)> {
    let outcome = |wanted| {
        let rows = rows.iter().copied();
        rows.filter(move |row| row.record.outcome == Some(wanted))
    };
    let mut worst: Option<(Certainty, &Row<'_>)> = None;
    for kill in outcome(MemoryOutcome::OomKilled).filter(|kill| limit <= kill.limit) {
        let survived = outcome(MemoryOutcome::Survived)
            .filter(|row| row.limit <= kill.limit && row.is_later_than(kill))
            .map(|row| row.limit)
            .min();
        let certainty = match survived {
            Some(survived) if survived <= limit => continue,
            None if kill.strong => Certainty::Observed,
            Some(_) | None => Certainty::Likely,
        };
        let stronger =
            worst.is_none_or(|(other, row)| (certainty, -kill.limit) < (other, -row.limit));
        if stronger {
            worst = Some((certainty, kill));
        }
    }
    worst
}

/// A quarter more, at least 100 MiB more, in steps of 64 MiB.
fn next_try(killed: i128) -> i128 {
    const MEBIBYTE: i128 = 1024 * 1024;
    let more = (killed + killed / 4).max(killed + 100 * MEBIBYTE);
    let step = 64 * MEBIBYTE;
    (more + step - 1) / step * step
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
        evidence
            .memory
            .insert(history(review), Ok(std::sync::Arc::new(rows)));
        let rule = OomKilledMemoryLimit { known: Vec::new() };
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
        let of = |value| Row::of(Cow::Owned(row(value))).unwrap();
        let known = rows.iter().map(of).collect();
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
    fn a_row_that_cannot_be_true_is_refused_when_it_is_read() {
        for (row, complaint) in [
            (
                json!({"limit": "1e38", "outcome": "oomKilled"}),
                "limit \"1e38\"",
            ),
            (json!({"limit": "0", "outcome": "oomKilled"}), "limit \"0\""),
            (
                json!({"limit": "-1Gi", "outcome": "survived"}),
                "limit \"-1Gi\"",
            ),
            (
                json!({"limit": "1Gi", "outcome": "oomKilled", "times": 0}),
                "times is 0",
            ),
            (json!({"limit": "1Gi"}), "outcome is missing"),
            (json!({"outcome": "survived"}), "limit is missing"),
        ] {
            let record = self::row(&row);
            let problem = Row::of(Cow::Borrowed(&record)).err().unwrap();
            assert!(problem.starts_with(complaint), "{problem}");
        }
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
