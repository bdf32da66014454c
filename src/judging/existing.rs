//! Objects that are in the cluster already, judged where reviews are judged: by the same guard, in the
//! same places, within the same bounds.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::executor::{Executor, Size};
use super::memory::Denied;
use super::weight::most_bytes;
use super::{Judging, Work, object};
use crate::guard::Guard;
use crate::lookup::Lookup;
use crate::review::{Door, Operation, Review, Subject};
use crate::tree::Bound;
use crate::verdict::{Phase, Verdict};

/// For one object, questions to registries included.
const TIME: Duration = Duration::from_secs(5);

/// Which part of it facts may take.
const FOR_FACTS: Duration = Duration::from_millis(4500);

/// An object as the API server shows it.
#[derive(Debug)]
pub(crate) struct ExistingObject {
    pub(crate) subject: Subject,
    /// The whole object in JSON.
    pub(crate) json: Box<str>,
}

impl<L: Lookup + 'static> Judging<L> {
    /// Judges an object that nobody asks about. Nothing is counted or logged.
    ///
    /// # Errors
    /// Why it could not be judged, in words.
    pub(crate) async fn judge_existing(
        &self,
        guard: Arc<Guard<L>>,
        object: ExistingObject,
    ) -> Result<Verdict, String> {
        let now = Instant::now();
        let by = now + TIME;
        let json = object.json.as_bytes();
        let size = Size::of(json.len());
        let weight = json.len() + most_bytes(json, Bound::of(json), Phase::Validate);
        let share = self.memory.take(weight).map_err(|denied| match denied {
            Denied::Now => "reviews have the memory now".to_owned(),
            Denied::Ever => "it takes more memory than one review may have".to_owned(),
        })?;
        let executor = self.executor().clone();
        let read = async move { executor.run(size, move || (object.review(), share)).await };
        let read = Executor::until(by, read).await;
        let (review, share) = read.map_err(|cut| cut.to_string())?;
        let work = Work {
            guard,
            review: review?,
            share,
            phase: Phase::Validate,
            size,
            facts_by: now + FOR_FACTS,
        };
        let judged = self.judge(work, by).await;
        judged
            .map(|judged| judged.verdict)
            .map_err(|cut| cut.to_string())
    }
}

impl ExistingObject {
    fn review(self) -> Result<Review, String> {
        let Self { subject, json } = self;
        let json = Arc::new(String::from(json));
        let kind = (&*subject.group, &*subject.kind);
        let object = object::read(&json, &json, "object", kind)?;
        // It exists, so nothing is to be filled in.
        let operation = Operation::Update;
        Ok(Review::new(
            operation,
            subject,
            Arc::new(object),
            Door::Cluster,
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::{Config, NamespaceLabel};
    use crate::evidence::{Evidence, Questions};

    struct NoLookup;

    impl Lookup for NoLookup {
        async fn gather(&self, _: Questions, _: Door, _: Instant) -> Evidence {
            Evidence::default()
        }

        fn label(&self, _: &str) -> NamespaceLabel {
            NamespaceLabel::Absent
        }
    }

    fn existing(group: &str, kind: &str, object: &Value) -> ExistingObject {
        ExistingObject {
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
        let review = existing("apps", "Deployment", &item).review().unwrap();
        let object = json!({"metadata": {"name": "web"}, "spec": {"a": 1}});
        assert_eq!(review.root().to_value(), object);
        assert_eq!(
            (review.operation, review.door),
            (Operation::Update, Door::Cluster)
        );
        assert!(review.replaced().is_none());
        // What the guardrails of other kinds read stays.
        let review = existing("argoproj.io", "Application", &item)
            .review()
            .unwrap();
        assert!(review.root().get("status").is_some());
    }

    #[test]
    fn an_object_that_is_too_deep_cannot_be_read() {
        let deep = format!("{{\"spec\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
        let mut unreadable = existing("argoproj.io", "Rollout", &json!({}));
        unreadable.json = deep.into();
        let reason = unreadable.review().unwrap_err();
        assert!(reason.starts_with("object cannot be read"), "{reason}");
    }

    #[tokio::test]
    async fn the_lookup_is_told_that_nobody_waits() {
        struct Asked(std::sync::Mutex<Option<Door>>);
        impl Lookup for Asked {
            async fn gather(&self, _: Questions, door: Door, _: Instant) -> Evidence {
                *self.0.lock().unwrap() = Some(door);
                Evidence::default()
            }

            fn label(&self, _: &str) -> NamespaceLabel {
                NamespaceLabel::Known(None)
            }
        }
        let guard = || Guard::new(Config::default(), Asked(None.into())).unwrap();
        let judging = Judging::new(guard(), 128 << 20);
        let pod = json!({"metadata": {"name": "web"},
                         "spec": {"containers": [{"name": "web", "image": "nginx:1"}]}});
        let guard = Arc::new(guard());
        let judged = judging.judge_existing(Arc::clone(&guard), existing("", "Pod", &pod));
        judged.await.unwrap();
        let door = *guard.lookup().0.lock().unwrap();
        assert_eq!(door, Some(Door::Cluster));
    }

    #[tokio::test]
    async fn an_object_made_to_take_memory_is_not_read() {
        let many = json!({"spec": vec![json!([0]); 400_000]});
        let guard = || Guard::new(Config::default(), NoLookup).unwrap();
        let judging = Judging::new(guard(), 32 << 20);
        let object = existing("argoproj.io", "Rollout", &many);
        let reason = judging.judge_existing(Arc::new(guard()), object).await;
        assert_eq!(
            reason.unwrap_err(),
            "it takes more memory than one review may have"
        );
    }
}
