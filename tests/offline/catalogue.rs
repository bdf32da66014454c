//! The laws, over the whole catalogue: every case of docs/rules is a witness.

use forestall::rules::Response;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use forestall::config::{Config, Mode, NamespaceLabel};
use forestall::evidence::{
    Evidence, ImagePlatforms, ImageState, Listing, PresenceOf, Questions, Unknown,
};
use forestall::guard::Guard;
use forestall::lookup::Lookup;
use forestall::quantity::Quantity;
use forestall::review::{Door, Review, patch};
use forestall::rules::catalogue::CATALOGUE;
use forestall::rules::{Certainty, Finding, Guardrail, Judgement, Meta, Rule};
use forestall::tree::Tree;
use forestall::verdict::{Action, Phase, Verdict};
use jiff::civil::Date;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::page_cases::{Case, Outcome, cases, edit};

const BOTH: [Phase; 2] = [Phase::Mutate, Phase::Validate];

/// What is answered to questions.
type Answer = fn(Questions) -> Evidence;

/// Answers every question in the same way.
struct Facts(Answer);

impl Lookup for Facts {
    async fn gather(&self, asked: Questions, _: Door, _: Instant) -> Evidence {
        (self.0)(asked)
    }

    fn label(&self, _: &str) -> NamespaceLabel {
        NamespaceLabel::Known(None)
    }
}

fn today() -> Date {
    "2026-11-25".parse().unwrap()
}

fn soon() -> Instant {
    Instant::now() + std::time::Duration::from_secs(5)
}

/// Every guardrail set to one mode, with the settings of the case.
fn under(mode: Mode, case: &Case) -> Config {
    let mut config = case.config.clone();
    config.mode = Some(mode);
    config.namespaces.clear();
    for meta in CATALOGUE {
        config.rules.get_mut(meta.name).unwrap().mode = None;
    }
    config
}

async fn verdict<L: Lookup>(config: Config, lookup: L, review: &Review, phase: Phase) -> Verdict {
    Guard::new(config, lookup)
        .unwrap()
        .consider(review, phase, today(), soon())
        .await
}

/// What a case gives under a mode, on its own evidence.
async fn judged(case: &Case, mode: Mode, review: &Review, phase: Phase) -> Verdict {
    verdict(under(mode, case), case.lookup(), review, phase).await
}

fn refusals(verdict: &Verdict) -> BTreeSet<(String, String, String)> {
    let refused = verdict
        .records
        .iter()
        .filter(|record| record.action == Action::Refuse);
    let identity = |record: &forestall::verdict::Record| {
        let finding = &record.finding;
        (
            record.meta.name.to_owned(),
            finding.item.clone(),
            finding.value.clone(),
        )
    };
    refused.map(identity).collect()
}

fn admission(review: &Review) -> Review {
    let mut review = review.clone();
    review.door = Door::Admission;
    review
}

/// The same object, changed so, in place of what it was.
fn update(review: &Review, change: impl FnOnce(&mut Value)) -> Review {
    let mut updated = admission(review);
    edit(&mut updated, change);
    updated.replacing(Arc::clone(&review.object))
}

fn all<Q: Ord, A: Clone>(
    asked: BTreeSet<Q>,
    answer: &Result<A, Unknown>,
) -> BTreeMap<Q, Result<A, Unknown>> {
    let asked = asked.into_iter();
    asked.map(|question| (question, answer.clone())).collect()
}

/// The most favourable answer to every question. One of a new type has to find its own here.
fn favourable(asked: Questions) -> Evidence {
    let Questions {
        presence,
        platforms,
        configs,
        pull_secrets,
        memory,
        objects,
    } = asked;
    Evidence {
        presence: all(presence, &Ok(ImageState::Exists)),
        platforms: all(platforms, &Ok(ImagePlatforms::Any)),
        configs: all(configs, &Ok(Arc::default())),
        pull_secrets: all(pull_secrets, &Ok(Vec::new())),
        memory: all(memory, &Ok(Vec::new())),
        objects: all(objects, &Ok(Listing::empty())),
    }
}

#[tokio::test]
async fn law_1_what_is_unknown_never_refuses() {
    let unknowns: [Answer; 8] = [
        |_| Evidence::default(),
        |asked| asked.unknown(&Unknown::NotAsked),
        |asked| asked.unknown(&Unknown::TimedOut),
        |asked| asked.unknown(&Unknown::NotSynced),
        |asked| asked.unknown(&Unknown::TooMany),
        |asked| asked.unknown(&Unknown::Panicked),
        |asked| {
            asked.unknown(&Unknown::Unavailable(
                "there is no cluster to ask".to_owned(),
            ))
        },
        |asked| {
            let (host, why) = ("docker.io".to_owned(), "it answered 500".to_owned());
            asked.unknown(&Unknown::Registry {
                host,
                why,
                answered_before: true,
            })
        },
    ];
    let mut seen = 0;
    for case in cases() {
        for review in [case.review.clone(), admission(&case.review)] {
            let config = || under(Mode::Enforce, &case);
            let best = verdict(config(), Facts(favourable), &review, Phase::Validate).await;
            for unknown in unknowns {
                let verdict = verdict(config(), Facts(unknown), &review, Phase::Validate).await;
                let extra: Vec<_> = refusals(&verdict)
                    .difference(&refusals(&best))
                    .cloned()
                    .collect();
                assert!(
                    extra.is_empty(),
                    "{}: refused without knowing: {extra:?}",
                    case.title
                );
                let told = verdict
                    .warnings
                    .iter()
                    .filter(|line| line.starts_with("forestall could not check"));
                assert!(told.count() <= 1, "{}: {:?}", case.title, verdict.warnings);
                seen += verdict.abstained.len();
            }
        }
    }
    assert!(seen > 0, "no case asked for anything");
}

#[tokio::test]
async fn law_1_what_stays_unknown_is_not_told_again_and_again() {
    let case = caught("missing-image");
    let lasting = |asked: Questions| {
        asked.unknown(&Unknown::Unavailable("registries are not asked".to_owned()))
    };
    let verdict = verdict(
        under(Mode::Enforce, &case),
        Facts(lasting),
        &case.review,
        Phase::Validate,
    )
    .await;
    assert_eq!(verdict.warnings, [""; 0]);
    assert!(
        verdict.audit["unknown"].contains("registries are not asked"),
        "{:?}",
        verdict.audit
    );
}

#[tokio::test]
async fn law_2_only_enforce_refuses_or_patches_and_audit_says_nothing() {
    let mut refused = 0;
    let mut patched = 0;
    for case in cases() {
        let review = admission(&case.review);
        for phase in BOTH {
            for mode in [Mode::Off, Mode::Audit, Mode::Warn] {
                let verdict = judged(&case, mode, &review, phase).await;
                assert!(
                    verdict.refusal.is_none() && verdict.patch.is_none(),
                    "{} {mode}",
                    case.title
                );
                if mode < Mode::Warn {
                    assert_eq!(verdict.warnings, [""; 0], "{} {mode}", case.title);
                }
                if mode == Mode::Off {
                    assert!(
                        verdict.records.is_empty() && verdict.audit.is_empty(),
                        "{}",
                        case.title
                    );
                }
            }
            let verdict = judged(&case, Mode::Enforce, &review, phase).await;
            refused += usize::from(verdict.refusal.is_some());
            patched += usize::from(verdict.patch.is_some());
            for record in &verdict.records {
                let likely = record.finding.certainty == Certainty::Likely;
                let unfit = record.action == Action::Refuse && (likely || record.meta.repairs);
                assert!(!unfit, "{}: {record:?}", case.title);
            }
        }
    }
    assert!(
        refused > 0 && patched > 0,
        "{refused} refused, {patched} patched: the cases show little"
    );
}

#[tokio::test]
async fn law_2_an_operator_may_let_likely_findings_refuse() {
    let mut refused = 0;
    for case in cases() {
        let mut config = under(Mode::Enforce, &case);
        config.rules.get_mut(case.rule).unwrap().refuse_likely = true;
        let review = admission(&case.review);
        let verdict = verdict(config, case.lookup(), &review, Phase::Validate).await;
        let likely = |record: &&forestall::verdict::Record| {
            record.finding.certainty == Certainty::Likely && record.action == Action::Refuse
        };
        refused += verdict.records.iter().filter(likely).count();
        assert!(
            verdict
                .records
                .iter()
                .filter(likely)
                .all(|record| record.finding.response == Response::Refuse),
            "{}",
            case.title
        );
    }
    assert!(refused > 0, "no case has a likely finding");
}

#[tokio::test]
async fn law_3_what_was_there_before_is_not_refused() {
    for case in cases() {
        // Something else changes, so that the content differs.
        let review = update(&case.review, |object| {
            object["forestall"] = json!("changed");
        });
        let verdict = judged(&case, Mode::Enforce, &review, Phase::Validate).await;
        assert_eq!(verdict.refusal, None, "{}", case.title);
    }
}

#[tokio::test]
async fn law_3_metadata_status_and_children_of_controllers_are_let_through() {
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a", "uid": "1", "controller": true}]);
    for case in cases() {
        let mut child = admission(&case.review);
        edit(&mut child, |object| {
            object["metadata"]["ownerReferences"] = owner.clone();
        });
        let labelled = update(&case.review, |object| {
            object["metadata"]["labels"] = json!({"a": "b"});
            object["status"] = json!({"a": "b"});
        });
        let parts = ["status", "scale", "eviction", "binding"].map(|part| {
            let mut review = admission(&case.review);
            review.sub_resource = Some(part.to_owned());
            review
        });
        for review in [child, labelled].iter().chain(&parts) {
            for phase in BOTH {
                let verdict = judged(&case, Mode::Enforce, review, phase).await;
                let silent = verdict.refusal.is_none()
                    && verdict.patch.is_none()
                    && verdict.warnings.is_empty();
                assert!(silent, "{}: {verdict:?}", case.title);
            }
        }
    }
}

#[tokio::test]
async fn law_3_a_new_finding_beside_a_repair_is_refused() {
    let pod = |images: [&str; 2], limit: &str| {
        let [first, second] = images;
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"}, "spec": {"containers": [
            {"name": "first", "image": first, "resources": {"limits": {"memory": limit}}},
            {"name": "second", "image": second},
        ]}})
    };
    let facts = || {
        Facts(|asked| {
            let mut evidence = favourable(asked);
            for (PresenceOf(pull), answer) in &mut evidence.presence {
                if pull.image.tag.as_deref() == Some("bad") {
                    *answer = Ok(ImageState::Missing(forestall::evidence::Missing {
                        what: forestall::evidence::MissingPart::Tag,
                        asked: "a test".to_owned(),
                        tags: Vec::new().into(),
                        holder: Ok(None),
                    }));
                }
            }
            evidence
        })
    };
    let change = |before: Value, after: Value| {
        update(&Review::of_manifest(before).unwrap(), |object| {
            *object = after;
        })
    };
    let enforce = Config::default;
    for (before, after, refused) in [
        // A raise is a repair, however far it is from enough.
        (pod(["a:1", "a:1"], "1m"), pod(["a:1", "a:1"], "512"), false),
        (pod(["a:1", "a:1"], "512"), pod(["a:1", "a:1"], "1m"), true),
        (
            pod(["a:bad", "a:1"], "1Gi"),
            pod(["a:1", "a:1"], "1Gi"),
            false,
        ),
        (
            pod(["a:bad", "a:bad"], "1Gi"),
            pod(["a:1", "a:bad"], "1Gi"),
            false,
        ),
        (
            pod(["a:bad", "a:1"], "1Gi"),
            pod(["a:1", "a:bad"], "1Gi"),
            true,
        ),
        (
            pod(["a:bad", "a:1"], "1m"),
            pod(["a:bad", "a:1"], "2k"),
            false,
        ),
        (pod(["a:1", "a:1"], "1m"), pod(["a:bad", "a:1"], "2k"), true),
    ] {
        let verdict = verdict(
            enforce(),
            facts(),
            &change(before, after.clone()),
            Phase::Validate,
        )
        .await;
        assert_eq!(
            verdict.refusal.is_some(),
            refused,
            "{after}: {:?}",
            verdict.refusal
        );
    }
}

#[tokio::test]
async fn law_4_every_patch_applies_settles_and_keeps_the_object() {
    let mut count = 0;
    for case in cases() {
        let review = admission(&case.review);
        let verdict = judged(&case, Mode::Enforce, &review, Phase::Mutate).await;
        assert!(
            verdict.refusal.is_none(),
            "{}: the mutating webhook refused",
            case.title
        );
        let Some(patch) = verdict.patch else { continue };
        count += 1;
        let object = patch::apply(&review.object, &patch).unwrap();
        let repaired = review.with_object(Arc::new(object));
        let again = judged(&case, Mode::Enforce, &repaired, Phase::Mutate).await;
        assert_eq!(again.patch, None, "{}: it does not settle", case.title);
        let before = judged(
            &case,
            Mode::Enforce,
            &admission(&case.review),
            Phase::Validate,
        )
        .await;
        let after = judged(&case, Mode::Enforce, &repaired, Phase::Validate).await;
        assert!(
            after.records.len() < before.records.len(),
            "{}: {:?}",
            case.title,
            after.records
        );
    }
    assert!(count > 0, "no case is patched");
}

#[tokio::test]
async fn law_5_a_patch_changes_nothing_that_its_author_wrote() {
    const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    for case in cases() {
        let mut review = admission(&case.review);
        // As if the author had written all that the API server shows.
        let written = review.root().to_string();
        edit(&mut review, |object| {
            object["metadata"]["annotations"][LAST_APPLIED] = json!(written);
        });
        let verdict = judged(&case, Mode::Enforce, &review, Phase::Mutate).await;
        for operation in verdict.patch.into_iter().flat_map(|patch| patch.0) {
            let pointer = operation.path().to_string();
            let absent = review.root().at(&pointer).is_none();
            assert!(
                absent,
                "{}: {pointer} is changed, and its author wrote it",
                case.title
            );
        }
    }
}

#[tokio::test]
async fn law_6_a_panic_is_an_abstention_and_the_others_still_judge() {
    struct Panics;
    impl Rule for Panics {
        fn questions(&self, _: &Review) -> Questions {
            panic!("on purpose, in a test")
        }
        fn judge(&self, _: &Review, _: &Evidence) -> Judgement {
            panic!("on purpose, in a test")
        }
    }
    static PANICS: Meta = Meta {
        name: "panics",
        summary: "",
        incident: "",
        watches: forestall::review::workload::WORKLOADS,
        repairs: true,
        reads: &[],
        page: "",
    };
    let case = caught("impossible-memory-limit");
    let mut guardrails = under(Mode::Enforce, &case).guardrails().unwrap();
    guardrails.insert(
        0,
        Guardrail {
            meta: &PANICS,
            rule: Box::new(Panics),
        },
    );
    let guard = Guard::with(under(Mode::Enforce, &case), guardrails, Facts(favourable));
    for phase in BOTH {
        let verdict = guard
            .consider(&admission(&case.review), phase, today(), soon())
            .await;
        assert_eq!(verdict.refusal.is_some(), phase == Phase::Validate);
        assert!(
            verdict
                .abstained
                .iter()
                .any(|entry| entry.abstention.reason == Unknown::Panicked)
        );
    }
}

#[tokio::test]
async fn law_7_a_review_asks_a_bounded_number_of_questions() {
    struct Counts(std::sync::atomic::AtomicUsize);
    impl Lookup for &Counts {
        async fn gather(&self, asked: Questions, _: Door, _: Instant) -> Evidence {
            let requests = asked.presence.len() + asked.platforms.len() + asked.configs.len();
            self.0
                .fetch_add(requests, std::sync::atomic::Ordering::Relaxed);
            Evidence::default()
        }
        fn label(&self, _: &str) -> NamespaceLabel {
            NamespaceLabel::Known(None)
        }
    }
    let containers: Vec<_> = (0..5000)
        .map(|index| json!({"name": format!("c{index}"), "image": format!("a:{index}")}))
        .collect();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"},
        "spec": {"containers": containers}});
    let review = admission(&Review::of_manifest(pod).unwrap());
    let counts = Counts(0.into());
    let verdict = verdict(Config::default(), &counts, &review, Phase::Validate).await;
    assert!(counts.0.load(std::sync::atomic::Ordering::Relaxed) <= 64);
    assert_eq!(verdict.refusal, None);
    assert!(
        verdict
            .abstained
            .iter()
            .any(|entry| entry.abstention.reason == Unknown::TooMany)
    );
}

#[tokio::test]
async fn a_guardrail_asks_only_for_objects_that_are_watched_for_it() {
    let mut asked = 0;
    for case in cases() {
        for review in [case.review.clone(), admission(&case.review)] {
            for guardrail in under(Mode::Enforce, &case).guardrails().unwrap() {
                let meta = &guardrail.meta;
                for question in guardrail.rule.questions(&review).objects {
                    let mut reads = meta.reads.iter();
                    let is_read = reads.any(|reads| question.is_read_by(reads));
                    assert!(is_read, "{}: {question:?}", meta.name);
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 0, "no case asked for an object");
}

#[tokio::test]
async fn law_8_the_order_of_the_catalogue_changes_nothing() {
    for case in cases() {
        let review = admission(&case.review);
        for phase in BOTH {
            let first = judged(&case, Mode::Enforce, &review, phase).await;
            let mut guardrails = under(Mode::Enforce, &case).guardrails().unwrap();
            guardrails.reverse();
            let guard = Guard::with(under(Mode::Enforce, &case), guardrails, case.lookup());
            let second = guard.consider(&review, phase, today(), soon()).await;
            assert_eq!(
                format!("{first:?}"),
                format!("{second:?}"),
                "{}",
                case.title
            );
        }
    }
}

#[tokio::test]
async fn law_8_all_findings_are_told_and_not_the_first() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"}, "spec": {"containers": [
        {"name": "first", "image": "A:1", "resources": {"limits": {"memory": "1m"}}},
        {"name": "second", "image": "B:1", "resources": {"limits": {"memory": "2m"}}},
    ]}});
    let review = admission(&Review::of_manifest(pod).unwrap());
    let refusal = verdict(
        Config::default(),
        Facts(favourable),
        &review,
        Phase::Validate,
    )
    .await
    .refusal
    .unwrap();
    for part in [
        "for 4 reasons",
        "\"A:1\"",
        "\"B:1\"",
        "\"1m\"",
        "\"2m\"",
        "spec.containers[1].image",
    ] {
        assert!(refusal.contains(part), "{part} is not in {refusal}");
    }
}

#[tokio::test]
async fn law_10_what_a_help_offers_is_taken_by_the_same_guardrail() {
    let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
    for case in cases() {
        let verdict = judged(&case, Mode::Audit, &case.review, Phase::Validate).await;
        for record in verdict.records {
            for (advice, object) in advised(&case.review, &record.finding) {
                let repaired = case.review.with_object(Arc::new(object));
                let again = judged(&case, Mode::Audit, &repaired, Phase::Validate).await;
                let about = |finding: &Finding| (finding.path.clone(), finding.item.clone());
                let mut left = again.records.iter();
                let left = left.find(|left| about(&left.finding) == about(&record.finding));
                assert!(
                    left.is_none(),
                    "{}: {advice} is advised: {left:?}",
                    case.title
                );
                *taken.entry(case.rule).or_default() += 1;
            }
        }
    }
    for meta in CATALOGUE {
        let name = meta.name;
        assert!(taken.contains_key(name), "no case of {name} offers a value");
    }
}

/// What the advice of a finding is, and the object that becomes of following it.
fn advised(review: &Review, finding: &Finding) -> Vec<(String, Tree)> {
    let help = &finding.help;
    let written = |change: &dyn Fn(&mut Value)| {
        let mut object = review.root().to_value();
        change(&mut object);
        Tree::from(object)
    };
    let mut advised = Vec::new();
    if let Some(fix) = finding.response.patch() {
        let object = patch::apply(&review.object, fix).unwrap();
        advised.push(("the fix".to_owned(), object));
    }
    // A tag may be offered by itself, where it is clear of which repository.
    for offer in &finding.offers {
        let tag = offer.rsplit_once(':').map_or(&**offer, |(_, tag)| tag);
        assert!(help.contains(tag), "{offer} is not in {help:?}");
    }
    let words = help.split([' ', ',', ';', '"']);
    let quantities = words.filter(|word| {
        let has_digit = word.starts_with(|char: char| char.is_ascii_digit());
        let is_seen = *word == finding.value;
        has_digit && !is_seen && finding.path.ends_with("/memory") && Quantity::parse(word).is_ok()
    });
    let values = finding.offers.iter().map(String::as_str).chain(quantities);
    advised.extend(values.map(|value| {
        let object = written(&|object| *object.pointer_mut(&finding.path).unwrap() = json!(value));
        (value.to_owned(), object)
    }));
    if let Some((_, yaml)) = help.split_once(" in Git: ") {
        let (read, errors) = forestall::manifest::read("help", yaml.as_bytes());
        assert!(errors.is_empty() && read.len() == 1, "{help:?}: {errors:?}");
        let advice = read[0].object.root().to_value();
        let object = written(&|object| {
            let entries = &mut object["spec"]["ignoreDifferences"];
            match advice.get("ignoreDifferences") {
                Some(whole) => *entries = whole.clone(),
                None if entries.is_null() => *entries = json!([advice]),
                None => entries.as_array_mut().unwrap().push(advice.clone()),
            }
        });
        advised.push((yaml.to_owned(), object));
    }
    advised
}

#[tokio::test]
async fn an_exemption_with_reason_and_date_is_honoured_and_a_lapsed_one_is_not() {
    let case = caught("impossible-memory-limit");
    let annotated = |until: &str, reason: Option<&str>| {
        let mut review = admission(&case.review);
        edit(&mut review, |object| {
            let annotations = &mut object["metadata"]["annotations"];
            *annotations = json!({
                "forestall.dev/allow": "impossible-memory-limit", "forestall.dev/allow-until": until,
            });
            if let Some(reason) = reason {
                annotations["forestall.dev/allow-reason"] = json!(reason);
            }
        });
        review
    };
    let verdict =
        async |review: Review| judged(&case, Mode::Enforce, &review, Phase::Validate).await;
    let allowed = verdict(annotated("2026-11-25", Some("a test"))).await;
    assert_eq!(allowed.refusal, None);
    assert!(
        allowed.audit["exemption"].contains("a test"),
        "{:?}",
        allowed.audit
    );
    let lapsed = verdict(annotated("2026-11-24", Some("a test"))).await;
    assert!(lapsed.refusal.is_some());
    assert!(
        lapsed
            .warnings
            .iter()
            .any(|line| line.contains("ended on 2026-11-24")),
        "{:?}",
        lapsed.warnings
    );
    for odd in [
        annotated("soon", Some("a test")),
        annotated("2027-01-01", None),
        annotated("2027-01-01", Some(" ")),
    ] {
        let verdict = verdict(odd).await;
        assert!(verdict.refusal.is_some());
        assert!(
            verdict
                .warnings
                .iter()
                .any(|line| line.contains("nothing is allowed by annotation")),
            "{:?}",
            verdict.warnings
        );
    }
}

fn caught(rule: &str) -> Case {
    let mine = |case: &Case| case.rule == rule && case.outcome == Outcome::Caught;
    cases()
        .into_iter()
        .find(mine)
        .unwrap_or_else(|| panic!("docs/rules/{rule}.md has a caught case"))
}
