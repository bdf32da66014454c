//! A guardrail that asks what an image says of its process: in a review, and in `check`.

use forestall::config::Mode;
use forestall::evidence::{ConfigOf, Evidence, PlatformsOf, Pull, Questions};
use forestall::guard::Guard;
use forestall::lookup::Lookup as _;
use forestall::lookup::files::{EvidenceFile, Files};
use forestall::lookup::live::Live;
use forestall::review::Door;
use forestall::review::Review;
use forestall::rules::Guardrail;
use forestall::rules::Response;
use forestall::rules::{Certainty, Finding, Judgement, Meta, Rule};
use forestall::verdict::{Phase, Verdict};
use serde_json::Value;

use super::*;

/// A guardrail that wants no debugger in production.
struct NoDebug;

static NO_DEBUG: Meta = Meta {
    name: "debug-image",
    summary: "a guardrail of a test",
    incident: "none",
    watches: forestall::review::workload::WORKLOADS,
    repairs: false,
    reads: &[],
    page: "",
};

fn image_of(review: &Review) -> Option<forestall::image::ImageReference> {
    let image = review.root().at("/spec/containers/0/image")?;
    Some(reference(image.as_str()?))
}

fn pull(image: forestall::image::ImageReference) -> Pull {
    Pull {
        image,
        puller: None,
    }
}

impl Rule for NoDebug {
    fn questions(&self, review: &Review) -> Questions {
        let mut questions = Questions::default();
        if let Some(image) = image_of(review) {
            questions.ask(&ConfigOf(pull(image)));
        }
        questions
    }

    fn judge(&self, review: &Review, evidence: &Evidence) -> Judgement {
        let Some(image) = image_of(review) else {
            return Judgement::default();
        };
        match evidence.get(&ConfigOf(pull(image.clone()))) {
            Ok(config) if config.env.iter().any(|variable| variable == "DEBUG=1") => Judgement {
                findings: vec![Finding {
                    certainty: Certainty::Proven,
                    path: "/spec/containers/0/image".to_owned(),
                    item: "container app".to_owned(),
                    value: image.to_string(),
                    magnitude: None,
                    message: "is built for debugging".to_owned(),
                    help: "take the other one".to_owned(),
                    offers: Vec::new(),
                    response: Response::Refuse,
                }],
                abstained: Vec::new(),
            },
            Ok(_) => Judgement::default(),
            Err(unknown) => Judgement::abstain("container app", unknown),
        }
    }
}

async fn judged<L: forestall::lookup::Lookup>(lookup: L, door: Door) -> Verdict {
    let config = Config {
        mode: Some(Mode::Enforce),
        ..Config::default()
    };
    let guardrail = Guardrail {
        meta: &NO_DEBUG,
        rule: Box::new(NoDebug),
    };
    let guard = Guard::with(config, vec![guardrail], lookup);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"containers": [{"name": "app", "image": IMAGE}]},
    });
    let mut review = Review::of_manifest(pod).unwrap();
    review.door = door;
    let today = jiff::civil::date(2026, 11, 26);
    let by = Instant::now() + PATIENCE;
    guard.consider(&review, Phase::Validate, today, by).await
}

fn live(client: RegistryClient) -> Live {
    Live {
        registry: Some(Arc::new(client)),
        cluster: None,
        argocd_version: None,
    }
}

#[tokio::test]
async fn a_guardrail_that_asks_for_a_configuration_abstains_once_and_judges_from_then_on() {
    let mut store = Store::default();
    store.image("DEBUG=1");
    let registry = store.serve().await;
    let lookup = live(client_of(&registry.url()));
    let first = judged(lookup.clone(), Door::Admission).await;
    assert_eq!(first.refusal, None);
    let [abstained] = first.abstained.as_slice() else {
        panic!("{:?}", first.abstained);
    };
    let reason = &abstained.abstention.reason;
    assert_eq!(*reason, Unknown::BeingFetched("registry.test".to_owned()));
    assert!(!reason.is_lasting());
    let by = Instant::now() + PATIENCE;
    loop {
        let next = judged(lookup.clone(), Door::Admission).await;
        if next.refusal.is_some() {
            break;
        }
        assert!(Instant::now() < by, "{:?}", next.abstained);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn check_waits_for_a_configuration_and_what_it_records_reads_back_equal() {
    let mut store = Store::default();
    let image = store.image("DEBUG=1");
    store.index(&[("linux/amd64", &image)]);
    let registry = store.serve().await;
    let lookup = live(client_of(&registry.url()));
    let files = Files::new(&Config::default(), None).with_live(lookup);
    let platforms = PlatformsOf(pull(reference(IMAGE)));
    let by = Instant::now() + PATIENCE;
    let mut only_platforms = Questions::default();
    only_platforms.ask(&platforms);
    let mut asked = only_platforms.clone();
    asked.ask(&ConfigOf(pull(reference(IMAGE))));
    files.gather(asked, Door::Files, by).await;
    let recorded = files.learnt().to_yaml().unwrap();
    let value: Value = serde_saphyr::from_str(&recorded).unwrap();
    let expected = json!({"env": ["DEBUG=1"], "entrypoint": [], "cmd": ["serve"], "labels": {},
                          "platforms": ["linux/amd64"]});
    assert_eq!(value["imageConfigs"][IMAGE], expected);
    assert!(judged(files, Door::Files).await.refusal.is_some());

    let evidence = EvidenceFile::parse("r.yaml", &recorded).unwrap();
    let offline = Files::new(&Config::default(), Some(evidence));
    let evidence = offline.gather(only_platforms, Door::Files, by).await;
    assert!(evidence.get(&platforms).is_ok());
    assert!(judged(offline, Door::Files).await.refusal.is_some());
}

#[tokio::test]
async fn evidence_of_platforms_alone_says_nothing_of_the_process() {
    let files = |config: &str| {
        let text = format!("imageConfigs: {{'{IMAGE}': {config}}}");
        let evidence = EvidenceFile::parse("e.yaml", &text).unwrap();
        Files::new(&Config::default(), Some(evidence))
    };
    let only_platforms = judged(files("{platforms: [linux/amd64]}"), Door::Files).await;
    assert_eq!(
        (only_platforms.refusal, only_platforms.abstained.len()),
        (None, 1)
    );
    for (config, is_refused) in [
        ("{env: [A=1, DEBUG=1]}", true),
        ("{labels: {a: 1}}", false),
        ("{cmd: []}", false),
    ] {
        let verdict = judged(files(config), Door::Files).await;
        assert_eq!(verdict.refusal.is_some(), is_refused, "{config}");
        assert!(verdict.abstained.is_empty(), "{config}");
    }
}
