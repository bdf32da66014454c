//! Objects that are in the cluster already, judged where reviews are judged: by the same guard, in the
//! same places, within the same bounds.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Webhook;
use super::court::Size;
use super::envelope::{LARGE, MOST_MEMORY, memory};
use super::handler::today;
use super::object;
use crate::guard::Guard;
use crate::lookup::Lookup;
use crate::review::workload::WORKLOADS;
use crate::review::{Door, Operation, Review, Subject};
use crate::verdict::{Phase, Verdict};

/// For one object, questions to registries included.
const TIME: Duration = Duration::from_secs(5);

/// Which part of it facts may take.
const FOR_FACTS: Duration = Duration::from_millis(4500);

/// An object as the API server shows it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) subject: Subject,
    /// The whole object in JSON.
    pub(crate) json: Box<str>,
}

impl<L: Lookup + 'static> Webhook<L> {
    /// Judges an object that nobody asks about. Nothing is counted or logged.
    ///
    /// # Errors
    /// Why it could not be judged, in words.
    pub(crate) async fn judge_stored(
        &self,
        guard: Arc<Guard<L>>,
        stored: Stored,
    ) -> Result<Verdict, String> {
        let now = Instant::now();
        let size = if stored.json.len() > LARGE {
            Size::Large
        } else {
            Size::Usual
        };
        let job = async move {
            let review = stored.review()?;
            let facts_by = now + FOR_FACTS;
            let verdict = guard.consider(&review, Phase::Validate, today(), facts_by);
            Ok(verdict.await)
        };
        match self.court().hold(job, size, now + TIME).await {
            Ok(judged) => judged,
            Err(cut) => Err(cut.to_string()),
        }
    }
}

impl Stored {
    fn review(self) -> Result<Review, String> {
        let Self { subject, json } = self;
        if json.len() > LARGE && memory(&json) > MOST_MEMORY {
            return Err("the object has too many values".to_owned());
        }
        let mut workloads = WORKLOADS.iter();
        let is_workload = workloads.any(|kind| subject.is(kind.group, kind.kind));
        let mut object = object::read(&json, "object", is_workload)?;
        // The items of a list do not carry what the list says of all of them.
        object["apiVersion"] = subject.api_version().into();
        object["kind"] = subject.kind.clone().into();
        Ok(Review {
            // It exists, so nothing is to be filled in.
            operation: Operation::Update,
            subject,
            sub_resource: None,
            object: Arc::new(object),
            previous: None,
            door: Door::Cluster,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn stored(group: &str, kind: &str, object: &Value) -> Stored {
        Stored {
            subject: Subject {
                group: group.to_owned(),
                version: "v1".to_owned(),
                kind: kind.to_owned(),
                namespace: Some("shop".to_owned()),
                name: "web".to_owned(),
            },
            json: object.to_string().into(),
        }
    }

    #[test]
    fn the_item_of_a_list_is_reviewed_as_an_object_that_exists() {
        let item = json!({"metadata": {"name": "web", "managedFields": []}, "spec": {"a": 1}, "status": {}});
        let review = stored("apps", "Deployment", &item).review().unwrap();
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
                            "metadata": {"name": "web"}, "spec": {"a": 1}});
        assert_eq!(*review.object, object);
        assert_eq!(
            (review.operation, review.door),
            (Operation::Update, Door::Cluster)
        );
        assert!(review.previous.is_none());
        // What the guardrails of other kinds read stays.
        let review = stored("argoproj.io", "Application", &item)
            .review()
            .unwrap();
        assert_eq!(review.object["status"], json!({}));
    }

    #[test]
    fn an_object_made_to_take_memory_is_not_read() {
        let many = json!({"spec": vec![json!([0]); 400_000]});
        let reason = stored("argoproj.io", "Rollout", &many)
            .review()
            .unwrap_err();
        assert_eq!(reason, "the object has too many values");
        let deep = format!("{{\"spec\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
        let mut unreadable = stored("argoproj.io", "Rollout", &json!({}));
        unreadable.json = deep.into();
        assert!(
            unreadable
                .review()
                .unwrap_err()
                .starts_with("object cannot be read")
        );
    }
}
