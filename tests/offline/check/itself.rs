//! What the program says of itself: its guardrails, its configuration, its arguments.

use std::process::Command;

use forestall::rules::catalogue::CATALOGUE;
use serde_json::{Value, json};

use super::Place;

#[test]
fn the_catalogue_is_printed_whole() {
    let place = Place::with(&[]);
    let listed = place.run("rules -o json").json();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), CATALOGUE.len());
    let [text, markdown] =
        ["text", "markdown"].map(|form| place.run(&format!("rules -o {form}")).stdout);
    for (meta, listed) in CATALOGUE.iter().zip(listed) {
        assert_eq!(listed["name"], meta.name);
        assert_eq!(listed["summary"], meta.summary);
        assert_eq!(listed["incident"], meta.incident);
        assert_eq!(listed["repairs"], meta.repairs);
        for kind in meta.watches {
            let rules = listed["rules"].as_array().unwrap();
            let rule = rules
                .iter()
                .find(|rule| rule["apiGroups"] == json!([kind.group]))
                .unwrap();
            assert!(
                rule["resources"]
                    .as_array()
                    .unwrap()
                    .contains(&json!(kind.plural)),
                "{rule}"
            );
            assert_eq!(rule["operations"], json!(["CREATE", "UPDATE"]));
            assert_eq!(rule["apiVersions"], json!(["*"]));
            assert_eq!(rule["scope"], "Namespaced");
            let permissions = listed["permissions"].as_array().unwrap();
            let watch = permissions
                .iter()
                .find(|permission| permission["apiGroups"] == json!([kind.group]))
                .unwrap();
            assert!(
                watch["resources"]
                    .as_array()
                    .unwrap()
                    .contains(&json!(kind.plural)),
                "{watch}"
            );
            assert_eq!(watch["verbs"], json!(["list", "watch"]));
        }
        assert!(
            text.contains(meta.name) && text.contains(meta.summary),
            "{text}"
        );
        assert!(
            markdown.contains(&format!("docs/rules/{}.md", meta.name)),
            "{markdown}"
        );
    }
}

#[test]
fn the_parts_of_pods_that_are_judged_are_watched_too() {
    let listed = Place::with(&[]).run("rules -o json").json();
    let rules = listed.as_array().unwrap().iter();
    let memory = rules
        .clone()
        .find(|rule| rule["name"] == "oom-killed-memory-limit")
        .unwrap();
    let core = memory["rules"]
        .as_array()
        .unwrap()
        .iter()
        .find(|rule| rule["apiGroups"] == json!([""]));
    let resources = core.unwrap()["resources"].as_array().unwrap();
    for part in ["pods", "pods/ephemeralcontainers", "pods/resize"] {
        assert!(resources.contains(&json!(part)), "{resources:?}");
    }
}

#[test]
fn a_guardrail_is_explained_by_its_page() {
    let place = Place::with(&[]);
    let page = place.run("explain missing-image");
    assert_eq!(page.status, 0);
    assert!(page.stdout.starts_with("# missing-image\n"), "{page:?}");
    assert!(page.stdout.contains("## How to allow it"), "{page:?}");
    assert!(!page.stdout.contains("## Cases"), "{page:?}");
    let whole = place.run("explain missing-image --cases");
    assert!(whole.stdout.contains("### Caught"), "{whole:?}");

    let misspelt = place.run("explain missing-images");
    assert_eq!(misspelt.status, 2);
    assert_eq!(
        misspelt.stderr,
        "there is no guardrail \"missing-images\"; did you mean missing-image?\n"
    );
    let unheard = place.run("explain xyz");
    assert!(
        unheard.stderr.contains("`forestall rules` lists them"),
        "{unheard:?}"
    );
}

#[test]
fn the_schema_knows_every_key_of_the_configuration() {
    let schema = Place::with(&[]).run("schema").json();
    let properties = schema["properties"].as_object().unwrap();
    for key in [
        "mode",
        "rules",
        "namespaces",
        "exemptions",
        "registries",
        "argocd",
    ] {
        assert!(properties.contains_key(key), "{key}");
    }
    assert_eq!(schema["additionalProperties"], false);
    let modes = find(&schema, "Mode");
    for mode in ["off", "audit", "warn", "enforce"] {
        assert!(modes.to_string().contains(&format!("{mode:?}")), "{modes}");
    }
    // `version: 2.10` and `limit: 512` are right as they are.
    assert_eq!(
        find(&schema, "Scalar")["type"],
        json!(["string", "number", "boolean"])
    );
}

fn find<'a>(schema: &'a Value, name: &str) -> &'a Value {
    &schema["$defs"][name]
}

#[test]
fn every_shell_gets_its_completions() {
    let place = Place::with(&[]);
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = place.run(&format!("completions {shell}"));
        assert_eq!(script.status, 0, "{script:?}");
        assert!(
            script.stdout.contains("cluster-state"),
            "{shell}: {script:?}"
        );
        place.write(shell, script.stdout.as_bytes());
    }
    let parsed = Command::new("bash")
        .arg("-n")
        .arg(place.path("bash"))
        .status()
        .unwrap();
    assert!(parsed.success());
    assert_eq!(place.run("completions tcsh").status, 2);
}

#[test]
fn the_version_is_that_of_the_package() {
    let version = Place::with(&[]).run("--version").stdout;
    assert_eq!(
        version,
        format!("forestall {}\n", env!("CARGO_PKG_VERSION"))
    );
}
