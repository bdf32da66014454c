//! Which memory limits containers were killed under, and which they survived.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::image::ImageReference;
use crate::quantity::{Quantity, display_bytes};
use crate::review::workload::MOST_MEMORY_BYTES;
use crate::yaml_file::Scalar;

/// A workload of a namespace, as Kind/name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Its kind, such as Deployment.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// How a container ended under its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum MemoryOutcome {
    /// The kernel killed it for its memory.
    OomKilled,
    /// It ran for the time that counts as survival.
    Survived,
}

/// A container under a memory limit, and how it ended. What is `None` matches anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "MemoryRow", into = "MemoryRow")]
pub struct MemoryRecord {
    /// Namespace of the workload.
    pub namespace: Option<String>,
    /// The workload.
    pub owner: Option<Owner>,
    /// Container name.
    pub container: Option<String>,
    /// Image; without tag and digest it stands for all of the repository.
    pub image: Option<ImageReference>,
    /// The memory limit in bytes, above 0.
    pub limit: u64,
    /// How it ended.
    pub outcome: MemoryOutcome,
    /// How many kills by the memory controller were counted, above 0.
    pub times: Option<u64>,
    /// How many of them came soon after start.
    pub quick: Option<u64>,
    /// How many pods were hit.
    pub pods: Option<u64>,
    /// First time seen.
    pub first: Option<Timestamp>,
    /// Last time seen.
    pub last: Option<Timestamp>,
    /// How long the longest of them ran, as a duration of Go's.
    pub uptime: Option<String>,
}

/// What is known about memory, by namespace and workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<MemoryRecord>", into = "Vec<MemoryRecord>")]
pub struct MemoryHistory(BTreeMap<Named, Vec<Arc<MemoryRecord>>>);

/// What a row names; `None` is any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    namespace: Option<String>,
    owner: Option<Owner>,
}

/// One row of what is known about memory: a container under a limit, and how it ended.
///
/// A field that is left out matches anything; limit and outcome are needed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct MemoryRow {
    /// Namespace of the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    /// The workload, as Kind/name.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// Container name.
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    /// Image; without a tag it stands for every tag of the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    /// The memory limit, as a Kubernetes quantity.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Scalar>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<MemoryOutcome>,
    /// How many kills by the memory controller were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<Scalar>,
    /// How many of them came soon after start.
    #[serde(skip_serializing_if = "Option::is_none")]
    quick: Option<Scalar>,
    /// How many pods were hit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pods: Option<Scalar>,
    /// First time seen (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<Scalar>,
    /// Last time seen (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Scalar>,
    /// How long the longest of them ran, such as 3h20m.
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime: Option<Scalar>,
}

// === impl Owner ===

impl Owner {
    fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once('/')?;
        (!kind.is_empty() && !name.is_empty()).then(|| Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

// === impl MemoryRecord ===

impl MemoryRecord {
    /// When it was seen last.
    #[must_use]
    pub fn at(&self) -> Option<Timestamp> {
        self.last.or(self.first)
    }
}

impl TryFrom<MemoryRow> for MemoryRecord {
    type Error = String;

    fn try_from(row: MemoryRow) -> Result<Self, String> {
        let limit = row
            .limit
            .ok_or("limit is missing; write the limit seen, such as 512Mi")?;
        let owner = row.owner.map(|text| {
            Owner::parse(&text).ok_or_else(|| {
                format!("owner {text:?} is none; write Kind/name, such as Deployment/web")
            })
        });
        let image = row.image.map(|text| {
            ImageReference::parse(&text).map_err(|error| format!("image {text:?}: {error}"))
        });
        let times = count("times", row.times)?;
        if times == Some(0) {
            return Err("times is 0; write how often it was seen, or leave the row out".to_owned());
        }
        let uptime = row.uptime.map(|Scalar(text)| {
            let is_duration = crate::duration::parse(&text).is_some();
            let problem = || format!("uptime {text:?} is no duration; write one such as 3h20m");
            if is_duration {
                Ok(text.clone())
            } else {
                Err(problem())
            }
        });
        Ok(Self {
            namespace: row.namespace,
            owner: owner.transpose()?,
            container: row.container,
            image: image.transpose()?,
            limit: bytes(&limit.0)?,
            outcome: row
                .outcome
                .ok_or("outcome is missing; write oomKilled or survived")?,
            times,
            quick: count("quick", row.quick)?,
            pods: count("pods", row.pods)?,
            first: time("first", row.first)?,
            last: time("last", row.last)?,
            uptime: uptime.transpose()?,
        })
    }
}

fn bytes(limit: &str) -> Result<u64, String> {
    let bytes = Quantity::parse(limit)
        .map_err(|error| format!("limit {limit:?}: {error}"))?
        .bytes();
    let possible = u64::try_from(bytes).ok();
    possible
        .filter(|_| (1..MOST_MEMORY_BYTES).contains(&bytes))
        .ok_or_else(|| {
            format!(
                "limit {limit:?}: no container ran under it; write the limit seen, such as 512Mi"
            )
        })
}

fn count(name: &str, scalar: Option<Scalar>) -> Result<Option<u64>, String> {
    let number = scalar.map(|Scalar(text)| {
        text.parse()
            .map_err(|_| format!("{name} {text:?} is no count; write a whole number"))
    });
    number.transpose()
}

fn time(name: &str, scalar: Option<Scalar>) -> Result<Option<Timestamp>, String> {
    let time = scalar.map(|Scalar(text)| {
        text.parse()
            .map_err(|_| format!("{name} {text:?} is no time; write it as 2026-11-25T12:00:00Z"))
    });
    time.transpose()
}

impl From<MemoryRecord> for MemoryRow {
    fn from(record: MemoryRecord) -> Self {
        fn text(value: Option<impl ToString>) -> Option<Scalar> {
            value.map(|value| Scalar(value.to_string()))
        }
        Self {
            namespace: record.namespace,
            owner: record.owner.map(|owner| owner.to_string()),
            container: record.container,
            image: record.image.map(|image| image.to_string()),
            limit: Some(Scalar(display_bytes(record.limit))),
            outcome: Some(record.outcome),
            times: text(record.times),
            quick: text(record.quick),
            pods: text(record.pods),
            first: text(record.first),
            last: text(record.last),
            uptime: text(record.uptime),
        }
    }
}

impl JsonSchema for MemoryRecord {
    fn schema_name() -> Cow<'static, str> {
        "MemoryRecord".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        MemoryRow::json_schema(generator)
    }
}

// === impl MemoryHistory ===

impl MemoryHistory {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What may be about this workload: rows that name it, and those that leave out namespace or
    /// owner.
    #[must_use]
    pub fn of(&self, namespace: &str, owner: &Owner) -> Vec<Arc<MemoryRecord>> {
        if self.is_empty() {
            return Vec::new();
        }
        let namespaces = [None, Some(namespace.to_owned())];
        let owners = [None, Some(owner.clone())];
        let keys = namespaces.iter().flat_map(|namespace| {
            owners.iter().map(move |owner| Named {
                namespace: namespace.clone(),
                owner: owner.clone(),
            })
        });
        keys.filter_map(|key| self.0.get(&key))
            .flatten()
            .cloned()
            .collect()
    }
}

impl FromIterator<MemoryRecord> for MemoryHistory {
    fn from_iter<T: IntoIterator<Item = MemoryRecord>>(records: T) -> Self {
        let mut history = Self::default();
        for record in records {
            let key = Named {
                namespace: record.namespace.clone(),
                owner: record.owner.clone(),
            };
            history.0.entry(key).or_default().push(Arc::new(record));
        }
        history
    }
}

impl From<Vec<MemoryRecord>> for MemoryHistory {
    fn from(records: Vec<MemoryRecord>) -> Self {
        records.into_iter().collect()
    }
}

impl From<MemoryHistory> for Vec<MemoryRecord> {
    fn from(history: MemoryHistory) -> Self {
        let records = history.0.into_values().flatten();
        records.map(Arc::unwrap_or_clone).collect()
    }
}

impl JsonSchema for MemoryHistory {
    fn schema_name() -> Cow<'static, str> {
        "MemoryHistory".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Vec::<MemoryRecord>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(row: &Value) -> Result<MemoryRecord, String> {
        serde_saphyr::from_str(&row.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_row_of_which_nothing_can_be_made_is_an_error() {
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
            (
                json!({"limit": "1Gi", "outcome": "oomKilled", "quick": "all"}),
                "quick \"all\"",
            ),
            (
                json!({"limit": "1Gi", "outcome": "oomKilled", "last": "today"}),
                "last \"today\"",
            ),
            (
                json!({"limit": "1Gi", "outcome": "oomKilled", "uptime": "long"}),
                "uptime \"long\"",
            ),
            (
                json!({"limit": "1Gi", "outcome": "oomKilled", "owner": "web"}),
                "owner \"web\"",
            ),
            (
                json!({"limit": "1Gi", "outcome": "oomKilled", "image": "A"}),
                "image \"A\"",
            ),
            (json!({"limit": "1Gi"}), "outcome is missing"),
            (json!({"outcome": "survived"}), "limit is missing"),
        ] {
            let problem = read(&row).unwrap_err();
            assert!(problem.contains(complaint), "{problem}");
        }
    }

    #[test]
    fn a_row_is_written_as_it_is_read() {
        let row = json!({
            "namespace": "shop", "owner": "Deployment/web", "container": "app", "image": "a.b/c:1",
            "limit": "1.5Gi", "outcome": "oomKilled", "times": 3, "quick": 1, "pods": 2,
            "first": "2026-01-05T01:00:00+01:00", "last": "2026-01-06T00:00:00Z", "uptime": "3h20m",
        });
        let record = read(&row).unwrap();
        let written = serde_saphyr::to_string(&record).unwrap();
        assert!(written.contains("limit: 1536Mi"), "{written}");
        assert!(written.contains("2026-01-05T00:00:00Z"), "{written}");
        assert_eq!(
            serde_saphyr::from_str::<MemoryRecord>(&written).unwrap(),
            record
        );
    }

    #[test]
    fn rows_are_found_by_namespace_and_owner_and_those_without_everywhere() {
        let row = |extra: Value| {
            let mut row = json!({"limit": "1Gi", "outcome": "survived"});
            row.as_object_mut()
                .unwrap()
                .extend(extra.as_object().unwrap().clone());
            read(&row).unwrap()
        };
        let history: MemoryHistory = [
            row(json!({"container": "any"})),
            row(json!({"container": "namespace", "namespace": "shop"})),
            row(json!({"container": "owner", "owner": "Deployment/web"})),
            row(json!({"container": "both", "namespace": "shop", "owner": "Deployment/web"})),
            row(json!({"container": "other", "namespace": "dev", "owner": "Deployment/web"})),
        ]
        .into_iter()
        .collect();
        let found = |namespace, owner| {
            let found = history.of(namespace, &Owner::parse(owner).unwrap());
            found
                .iter()
                .filter_map(|row| row.container.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            found("shop", "Deployment/web"),
            ["any", "owner", "namespace", "both"]
        );
        assert_eq!(found("shop", "Deployment/api"), ["any", "namespace"]);
        assert_eq!(found("ops", "StatefulSet/web"), ["any"]);
    }
}
