//! The pages of the guardrails hold what they promise: every case in them is run.

use std::path::Path;
use std::time::Duration;

use forestall::rules::Finding;
use forestall::rules::catalogue::{self, CATALOGUE};
use forestall::verdict::{Phase, Verdict};
use tokio::time::Instant;

use crate::page_cases::{Case, Outcome, cases, cases_of};

#[tokio::test]
async fn every_case_of_every_page_holds() {
    let mut broken = Vec::new();
    for case in cases() {
        let verdict = judge(&case).await;
        if let Err(problem) = held(&case, &verdict) {
            broken.push(format!("{}\n  {problem}", case.title));
        }
    }
    assert!(
        broken.is_empty(),
        "{} cases:\n{}",
        broken.len(),
        broken.join("\n")
    );
}

#[test]
fn every_page_has_a_case_of_each_kind() {
    for meta in CATALOGUE {
        let name = meta.name;
        let cases = cases_of(name, meta.page);
        for wanted in [Outcome::Caught, Outcome::Clean, Outcome::Unknown] {
            assert!(
                cases.iter().any(|case| case.outcome == wanted),
                "docs/rules/{name}.md has no case of the kind {wanted:?}"
            );
        }
    }
}

#[test]
fn every_page_belongs_to_a_guardrail() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rules");
    for file in std::fs::read_dir(pages).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(catalogue::find(name).is_some(), "{}", path.display());
    }
}

#[tokio::test]
async fn a_case_that_does_not_hold_is_noticed() {
    let object = "```yaml\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: app, \
                  image: nginx, resources: {limits: {memory: 512m}}}]}\n```\n";
    let expect = |text: &str| format!("{object}```yaml expect\n{text}\n```\n");
    for (case, complaint) in [
        (format!("### Clean: a\n{object}"), "1 findings, 0 expected"),
        (format!("### Caught: a\n{object}"), "names no finding"),
        (
            format!("### Caught: a\n{}", expect("findings: [{path: /spec}]")),
            "no finding like",
        ),
        (
            format!("### Caught: a\n{}", expect("findings: [{}]\nabstained: 1")),
            "0 abstained, 1 expected",
        ),
        (
            format!("### Unknown: a\n{}", expect("findings: [{}]")),
            "names a finding",
        ),
    ] {
        let page = format!("## Cases\n{case}");
        let case = &cases_of("impossible-memory-limit", &page)[0];
        let problem = held(case, &judge(case).await).unwrap_err();
        assert!(problem.contains(complaint), "{problem}");
    }
}

async fn judge(case: &Case) -> Verdict {
    let today = jiff::civil::date(2026, 11, 25);
    let by = Instant::now() + Duration::from_secs(10);
    let guard = case.guard();
    guard
        .consider(&case.review, Phase::Validate, today, by)
        .await
}

/// What the heading promises, and what the block of expectations says.
fn held(case: &Case, verdict: &Verdict) -> Result<(), String> {
    let expected = &case.expect.findings;
    if let Some(other) = verdict
        .records
        .iter()
        .find(|record| record.meta.name != case.rule)
    {
        return Err(format!("{} is on too", other.meta.name));
    }
    match case.outcome {
        Outcome::Caught if expected.is_empty() => {
            return Err("the case is Caught, and names no finding".to_owned());
        }
        Outcome::Clean | Outcome::Unknown if !expected.is_empty() => {
            return Err(format!(
                "the case is {:?}, and names a finding",
                case.outcome
            ));
        }
        _ => {}
    }
    let mut found: Vec<&Finding> = verdict
        .records
        .iter()
        .map(|record| &record.finding)
        .collect();
    let seen = format!("{found:#?}");
    if found.len() != expected.len() {
        return Err(format!(
            "{} findings, {} expected: {seen}",
            found.len(),
            expected.len()
        ));
    }
    for wanted in expected {
        let Some(index) = found.iter().position(|finding| wanted.is_like(finding)) else {
            return Err(format!("no finding like {wanted:?}: {seen}"));
        };
        found.remove(index);
    }
    let abstained = verdict.abstained.len();
    let fits = match (case.expect.abstained, case.outcome) {
        (Some(wanted), _) => abstained == wanted,
        (None, Outcome::Unknown) => abstained > 0,
        (None, Outcome::Caught | Outcome::Clean) => abstained == 0,
    };
    if fits {
        return Ok(());
    }
    let wanted = match case.expect.abstained {
        Some(number) => number.to_string(),
        None if case.outcome == Outcome::Unknown => "some".to_owned(),
        None => "none".to_owned(),
    };
    Err(format!(
        "{abstained} abstained, {wanted} expected: {:#?}",
        verdict.abstained
    ))
}
