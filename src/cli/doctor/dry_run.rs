//! The proof that the API server asks Forestall: objects that are not stored, and the Pods' own count
//! of them.
//!
//! Under failurePolicy Ignore it proves nothing that an object is admitted, so the Pods are asked what
//! they judged. Others may make dry runs at the same time; so it is a kind that hardly anybody
//! creates, several of them, and exactly as many must have arrived.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use super::Check;
use super::api::{Api, Unread};
use super::facts::{Counts, Facts, Proof};
use super::hooks::{Hook, Target, WebhookType};
use super::pods::Runner;

const NAME: &str = "dry-run";
/// The counter of reviews, docs/metrics.md.
const REVIEWS: &str = "forestall_admission_requests_total";
/// Objects in one attempt.
const SENT: u64 = 3;
/// Attempts, while others make dry runs of the same kind.
const ATTEMPTS: usize = 3;
/// Before the counters are read a second time, where a review seems to be missing.
const LATER: Duration = Duration::from_millis(500);

/// What to do where objects pass by.
const CURE: &str = "look at the checks of the Service and the certificate first; where they are ok, \
                    the API server cannot reach port 9443 of the Pods: look at network policies and \
                    security groups, and at apiserver_admission_webhook_fail_open_count in \
                    `kubectl get --raw /metrics`";

/// Kinds of which a dry run is made: the rarest first, so that nobody else's is counted.
const KINDS: [Kind; 3] = [
    Kind {
        api_version: "v1",
        name: "ReplicationController",
        group: "",
        plural: "replicationcontrollers",
    },
    Kind {
        api_version: "apps/v1",
        name: "DaemonSet",
        group: "apps",
        plural: "daemonsets",
    },
    Kind {
        api_version: "apps/v1",
        name: "Deployment",
        group: "apps",
        plural: "deployments",
    },
];

#[derive(Clone, Copy, Debug)]
struct Kind {
    api_version: &'static str,
    name: &'static str,
    group: &'static str,
    plural: &'static str,
}

/// Makes dry runs where Forestall must be asked about them.
pub(super) async fn prove(api: &Api, facts: &Facts) -> Proof {
    let (namespace, kinds) = match place(facts, api.default_namespace()) {
        Ok(place) => place,
        Err(reason) => return Proof::Unknown(reason),
    };
    let pods = facts.pods.as_ref().map_err(Clone::clone);
    let mut last = Unread::Absent("no rule covers a kind of which a dry run is made".to_owned());
    for kind in kinds {
        let path = kind.path(&namespace);
        let object = kind.object();
        let create = async || api.dry_run(&path, &object).await;
        let read = async || match &pods {
            Ok(pods) => read(api, pods, kind).await,
            Err(reason) => Err(reason.clone()),
        };
        let what = format!("a {} in namespace {namespace}", kind.name);
        match attempt(&what, create, read).await {
            // Another kind may be allowed.
            Proof::Unknown(reason) => last = reason,
            proof => return proof,
        }
    }
    Proof::Unknown(last)
}

/// The namespace and the kinds that the validating webhook is asked about.
fn place(facts: &Facts, preferred: &str) -> Result<(String, Vec<Kind>), Unread> {
    let mut own = facts.own();
    let Some(hook) = own.find(|hook| hook.phase == WebhookType::Validating) else {
        let reason = "no validating webhook calls Forestall";
        return Err(Unread::Absent(reason.to_owned()));
    };
    let namespaces = facts.namespaces.as_ref().map_err(Clone::clone)?;
    let judged = |name: &&str| {
        namespaces
            .get(*name)
            .is_some_and(|labels| hook.selects(labels))
    };
    let mut names = [preferred, "default"]
        .into_iter()
        .chain(namespaces.keys().map(String::as_str));
    let Some(namespace) = names.find(judged) else {
        let reason = format!("{hook} selects no namespace");
        return Err(Unread::Absent(reason));
    };
    let kinds = KINDS.into_iter().filter(|kind| kind.is_covered(hook));
    Ok((namespace.to_owned(), kinds.collect()))
}

async fn read(api: &Api, pods: &[Runner], kind: Kind) -> Result<Counts, Unread> {
    let labels = [
        ("webhook", "validating"),
        ("resource_kind", kind.name),
        ("operation", "CREATE"),
        ("dry_run", "true"),
    ];
    let read = pods.iter().map(async |pod| {
        let samples = pod.read(api).await?;
        Ok((pod.name.clone(), samples.count(REVIEWS, &labels)))
    });
    join_all(read).await.into_iter().collect()
}

/// Creates, counts, and tries again while the count is higher than it can be.
async fn attempt(
    what: &str,
    create: impl AsyncFn() -> Result<(), Unread>,
    read: impl AsyncFn() -> Result<Counts, Unread>,
) -> Proof {
    let what = what.to_owned();
    let mut before = read().await;
    let mut attempts = 1;
    loop {
        let mut ended = Ok(());
        for _ in 0..SENT {
            ended = create().await;
            match &ended {
                Err(reason) if lacks_the_right(reason) => return Proof::Unknown(reason.clone()),
                _ => {}
            }
        }
        let mut judged = rise(&before, read().await);
        if judged.as_ref().is_ok_and(|judged| total(judged) < SENT) {
            tokio::time::sleep(LATER).await;
            judged = rise(&before, read().await);
        }
        match judged {
            Ok(judged) if total(&judged) > SENT && attempts < ATTEMPTS => {
                attempts += 1;
                before = read().await;
            }
            Ok(judged) => {
                return Proof::Made {
                    what,
                    judged,
                    ended,
                };
            }
            Err(reason) => {
                return Proof::Uncounted {
                    what,
                    reason,
                    ended,
                };
            }
        }
    }
}

/// By how much each count rose. One that fell belongs to a Pod that was started anew.
fn rise(before: &Result<Counts, Unread>, after: Result<Counts, Unread>) -> Result<Counts, Unread> {
    let before = before.as_ref().map_err(Clone::clone)?;
    let risen = after?.into_iter().map(|(pod, count)| {
        let began = before.get(&pod).copied().unwrap_or_default();
        match count.checked_sub(began) {
            Some(risen) => Ok((pod, risen)),
            None => Err(Unread::Failed(format!("Pod {pod} was started anew"))),
        }
    });
    risen.collect()
}

fn total(counts: &Counts) -> u64 {
    counts.values().sum()
}

/// Whether RBAC forbids the creation. An admission webhook that refuses is told by the same status.
fn lacks_the_right(reason: &Unread) -> bool {
    matches!(reason, Unread::Forbidden(message) if message.contains(" cannot create resource "))
}

/// Whether the API server refused because it could not ask this webhook. Its words are those of
/// k8s.io/apiserver 0.37.2, pkg/admission/plugin/webhook/errors.
fn failed_to_ask(hook: Option<&Hook>, reason: &Unread) -> bool {
    let failure = hook.map(|hook| format!("failed calling webhook {:?}", hook.webhook.name));
    failure.is_some_and(|failure| reason.to_string().contains(&failure))
}

// === impl Kind ===

impl Kind {
    fn is_covered(self, hook: &Hook) -> bool {
        hook.covers(Target {
            group: self.group,
            resource: self.plural,
            operation: "CREATE",
        })
    }

    fn path(self, namespace: &str) -> String {
        let api = if self.group.is_empty() { "api" } else { "apis" };
        let (api_version, plural) = (self.api_version, self.plural);
        format!("/{api}/{api_version}/namespaces/{namespace}/{plural}")
    }

    /// An object that nobody has anything against, without a Pod, and without a question to a
    /// registry: an image that is never pulled is asked of none.
    fn object(self) -> Value {
        let labels = json!({"app": "forestall-doctor"});
        let selector = match self.group {
            "" => labels.clone(),
            _ => json!({"matchLabels": labels}),
        };
        let quantity = json!({"cpu": "10m", "memory": "64Mi"});
        let mut object = json!({
            "apiVersion": self.api_version,
            "kind": self.name,
            "metadata": {"generateName": "forestall-doctor-", "labels": labels},
            "spec": {"selector": selector, "template": {"metadata": {"labels": labels}, "spec": {
                "automountServiceAccountToken": false,
                "securityContext": {"runAsNonRoot": true, "runAsUser": 65532,
                                    "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "none", "image": "forestall-doctor:1", "imagePullPolicy": "Never",
                    "resources": {"requests": quantity, "limits": quantity},
                    "securityContext": {"allowPrivilegeEscalation": false,
                                        "readOnlyRootFilesystem": true,
                                        "capabilities": {"drop": ["ALL"]}},
                }],
            }}},
        });
        if self.name != "DaemonSet" {
            object["spec"]["replicas"] = json!(0);
        }
        object
    }
}

/// What the dry run shows.
pub(super) fn check(facts: &Facts) -> Check {
    let validating = facts
        .own()
        .find(|hook| hook.phase == WebhookType::Validating);
    match &facts.proof {
        Proof::Unknown(reason) => Check::unknown(NAME, format!("no dry run was made: {reason}")),
        Proof::Uncounted {
            what,
            reason,
            ended,
        } => uncounted(validating, what, reason, ended),
        Proof::Made {
            what,
            judged,
            ended,
        } => made(what, judged, ended),
    }
}

fn made(what: &str, judged: &Counts, ended: &Result<(), Unread>) -> Check {
    let (raised, pods) = (total(judged), judged.len());
    let by: Vec<_> = judged
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(pod, count)| format!("{pod} ({count})"))
        .collect();
    let by = by.join(", ");
    let ended = match ended {
        Ok(()) => String::new(),
        Err(reason) => format!("\nthe API server said: {reason}"),
    };
    if raised == SENT {
        let message = format!(
            "the API server asked Forestall about all {SENT} server-side dry runs of {what}: {by}"
        );
        return Check::ok(NAME, message + &ended);
    }
    if raised > SENT {
        let message = format!(
            "{SENT} server-side dry runs of {what}, but {raised} were judged: {by}; somebody else \
             makes dry runs too, so it is not certain that these were among them"
        );
        let cure = "run this again when nobody else makes dry runs of that kind";
        return Check::warning(NAME, message + &ended, cure);
    }
    if raised == 0 {
        let message = format!(
            "{SENT} server-side dry runs of {what}, and none of {pods} Pods was asked about any: \
             objects pass unjudged or not at all"
        );
        return Check::error(NAME, message + &ended, CURE);
    }
    let message =
        format!("{SENT} server-side dry runs of {what}, but only {raised} were judged: {by}");
    Check::warning(NAME, message + &ended, CURE)
}

/// Whether an object was admitted says something only where it would not be admitted unasked.
fn uncounted(
    hook: Option<&Hook>,
    what: &str,
    reason: &Unread,
    ended: &Result<(), Unread>,
) -> Check {
    let insists = hook.is_some_and(|hook| {
        hook.fails() && hook.webhook.match_conditions.iter().flatten().count() == 0
    });
    let why = format!("the counters of the Pods cannot be read: {reason}");
    match ended {
        Err(refusal) if failed_to_ask(hook, refusal) => {
            let message = format!("a server-side dry run of {what} was refused: {refusal}\n{why}");
            Check::error(NAME, message, CURE)
        }
        Ok(()) if insists => {
            let message = format!(
                "a server-side dry run of {what} was admitted under failurePolicy Fail, so \
                 Forestall was asked; {why}"
            );
            Check::ok(NAME, message)
        }
        Ok(()) => {
            let message = format!(
                "a server-side dry run of {what} was admitted, which under failurePolicy Ignore \
                 proves nothing; {why}"
            );
            Check::unknown(NAME, message)
        }
        Err(refusal) => {
            let message = format!("a server-side dry run of {what} was refused: {refusal}\n{why}");
            Check::unknown(NAME, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> Counts {
        let owned = |(pod, count): &(&str, u64)| ((*pod).to_owned(), *count);
        pairs.iter().map(owned).collect()
    }

    /// An attempt in a cluster where each creation raises the count of Pod a by so many.
    async fn with(raised_by_each: u64, noise: u64) -> Proof {
        let count = Cell::new(7);
        let create = async || {
            count.set(count.get() + raised_by_each);
            Ok(())
        };
        let read = async || {
            count.set(count.get() + noise);
            Ok(counts(&[("a", count.get()), ("b", 1)]))
        };
        attempt("it", create, read).await
    }

    fn judged(proof: &Proof) -> u64 {
        match proof {
            Proof::Made { judged, .. } => total(judged),
            proof => panic!("{proof:?}"),
        }
    }

    #[tokio::test]
    async fn exactly_what_was_sent_must_arrive() {
        assert_eq!(judged(&with(1, 0).await), SENT);
        assert_eq!(judged(&with(0, 0).await), 0);
        assert_eq!(
            judged(&with(1, 2).await),
            SENT + 2,
            "others make dry runs too"
        );
    }

    #[tokio::test]
    async fn one_burst_of_others_is_waited_out() {
        let readings = RefCell::new(vec![20, 16, 13, 6, 0].into_iter().rev());
        let read = async || {
            let next = readings.borrow_mut().next();
            Ok(counts(&[("a", next.expect("no further reading"))]))
        };
        // 0 to 6 is too many; 13 to 16 is exact.
        let proof = attempt("it", async || Ok(()), read).await;
        assert_eq!(judged(&proof), SENT);
    }

    #[tokio::test]
    async fn a_pod_that_started_anew_is_not_counted() {
        let readings = RefCell::new(vec![1, 5]);
        let read = async || {
            let next = readings.borrow_mut().pop();
            Ok(counts(&[("a", next.expect("no further reading"))]))
        };
        let proof = attempt("it", async || Ok(()), read).await;
        assert!(matches!(proof, Proof::Uncounted { .. }), "{proof:?}");
    }

    #[tokio::test]
    async fn a_missing_right_to_create_ends_it() {
        let message =
            "replicationcontrollers is forbidden: User \"ana\" cannot create resource \"x\"";
        let forbidden = Unread::Forbidden(message.to_owned());
        let sent = Cell::new(0);
        let create = async || {
            sent.set(sent.get() + 1);
            Err(forbidden.clone())
        };
        let proof = attempt("it", create, async || Ok(counts(&[]))).await;
        assert_eq!(proof, Proof::Unknown(forbidden.clone()));
        assert_eq!(sent.get(), 1);
    }

    #[test]
    fn no_guardrail_asks_a_registry_or_finds_anything_about_the_objects() {
        use crate::evidence::Evidence;
        use crate::review::Review;
        for kind in KINDS {
            let review = Review::of_manifest(kind.object()).unwrap();
            for guardrail in crate::config::Config::default().guardrails().unwrap() {
                let (name, rule) = (guardrail.meta.name, guardrail.rule);
                let questions = rule.questions(&review);
                assert!(questions.presence.is_empty(), "{name} of {kind:?}");
                let judgement = rule.judge(&review, &Evidence::default());
                assert_eq!(judgement.findings, [], "{name} of {kind:?}");
            }
        }
    }
}
