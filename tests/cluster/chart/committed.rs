//! Files of the chart that are made of others. `make chart` writes them; without it, they are compared.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use forestall::manifest;
use serde_json::{Value, json};

use super::{
    CASES, Packed, REGISTRY, command, is_hook, objects, rendered, source, template, values,
};
use crate::control_plane::run;

/// Where the table of values begins and ends in the README.
const TABLE: [&str; 2] = [
    "<!-- The table is written by `make chart`, from values.yaml. -->\n",
    "<!-- end of the table -->",
];

/// Compares a file with what it must be, or writes it.
fn committed(path: &Path, expected: &str) {
    if env::var_os("FORESTALL_WRITE").is_some() {
        fs::write(path, expected).unwrap();
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    let mut lines = found.lines().zip(expected.lines());
    let first = lines.position(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "{} is out of date from line {} on; run make chart",
        path.display(),
        1 + first.unwrap_or_else(|| found.lines().count().min(expected.lines().count())),
    );
}

/// What is packed with the chart.
pub(super) fn write_sources() {
    if env::var_os("FORESTALL_WRITE").is_some() {
        fs::write(source().join("files/catalogue.json"), printed_catalogue()).unwrap();
        fs::write(source().join("values.schema.json"), schema()).unwrap();
    }
}

fn print(arguments: &[&str]) -> String {
    let mut forestall = Command::new(env!("CARGO_BIN_EXE_forestall"));
    let output = run(forestall.args(arguments), "");
    assert!(output.success, "{}", output.stderr);
    output.stdout
}

fn printed_catalogue() -> String {
    print(&["rules", "-o", "json"])
}

/// The schema of the values, with the program's own definitions of what it reads.
fn schema() -> String {
    let path = source().join("values.schema.json");
    let mut schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let own = print(&["schema"]).replace("#/$defs/", "#/definitions/");
    let mut own: Value = serde_json::from_str(&own).unwrap();
    // Helm reads YAML 1.1, in which an unquoted off is false. Forestall takes that for off.
    let modes = ["off", "audit", "warn", "enforce"].map(Value::from);
    let modes: Vec<_> = modes.into_iter().chain([json!(false)]).collect();
    own["$defs"]["Mode"] =
        json!({"description": own["$defs"]["Mode"]["description"], "enum": modes});
    // Helm makes 2.1 of an unquoted 2.10.
    own["$defs"]["ArgoCdSettings"]["properties"]["version"] = json!({
        "description": own["$defs"]["ArgoCdSettings"]["properties"]["version"]["description"],
        "type": ["string", "null"],
    });
    // A guardrail that does not exist is named by templates/validate.yaml, with all that do.
    let rules = own["$defs"]
        .as_object_mut()
        .unwrap()
        .remove("Rules")
        .unwrap();
    schema["properties"]["rules"] = json!({"type": "object", "properties": rules["properties"]});
    schema["definitions"] = own["$defs"].take();
    format!("{schema:#}\n")
}

/// A value that has a comment of its own.
pub(super) struct Described {
    /// Such as `image.tag`.
    pub(super) name: String,
    default: Value,
    text: String,
}

/// The values of the chart, each the one below its `# --` comment.
pub(super) fn described() -> Vec<Described> {
    let text = fs::read_to_string(source().join("values.yaml")).unwrap();
    let (documents, errors) = manifest::read("values.yaml", text.as_bytes());
    assert!(errors.is_empty(), "{errors:?}");
    let defaults = documents[0].object.root().to_value();
    let mut path: Vec<&str> = Vec::new();
    let mut comment = None;
    let mut described: Vec<Described> = Vec::new();
    for line in text.lines() {
        let content = line.trim_start();
        if let Some(text) = content.strip_prefix("# -- ") {
            comment = Some(text.to_owned());
        }
        let Some((key, _)) = content.split_once(':') else {
            continue;
        };
        if content.starts_with(['#', '-']) {
            continue;
        }
        path.truncate((line.len() - content.len()) / 2);
        path.push(key);
        // What is in a list has no name of its own.
        let Some(default) = defaults.pointer(&format!("/{}", path.join("/"))) else {
            continue;
        };
        let name = path.join(".");
        let is_part = |whole: &Described| name.starts_with(&format!("{}.", whole.name));
        match comment.take() {
            Some(text) => described.push(Described {
                name,
                default: default.clone(),
                text,
            }),
            None => assert!(
                described.iter().any(is_part)
                    || default.as_object().is_some_and(|map| !map.is_empty()),
                "values.yaml: {name} has no comment that begins with # --"
            ),
        }
    }
    described
}

#[test]
fn the_catalogue_is_the_programs() {
    committed(&source().join("files/catalogue.json"), &printed_catalogue());
}

#[test]
fn the_schema_has_the_programs_definitions() {
    committed(&source().join("values.schema.json"), &schema());
}

#[test]
fn the_readme_has_every_value() {
    let path = source().join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let [begin, end] = TABLE;
    let (before, rest) = readme.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let mut table = "| value | default | |\n|---|---|---|\n".to_owned();
    for Described {
        name,
        default,
        text,
    } in described()
    {
        writeln!(table, "| `{name}` | `{default}` | {text} |").unwrap();
    }
    committed(&path, &format!("{before}{begin}\n{table}\n{end}{after}"));
}

#[test]
fn the_rendered_examples_are_what_the_chart_makes() {
    for name in CASES {
        let text = rendered(&["--no-hooks", "--values", values(name).to_str().unwrap()]);
        assert!(!objects(&text).iter().any(is_hook), "{name}");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/rendered");
        committed(&path.join(format!("{name}.yaml")), &text);
    }
    let cases = fs::read_dir(source().join("ci")).unwrap();
    assert_eq!(cases.count(), CASES.len(), "a file in ci is not rendered");
}

#[test]
fn the_same_values_give_the_same_bytes() {
    for name in CASES {
        let values = values(name);
        let arguments = ["--values", values.to_str().unwrap()];
        assert_eq!(rendered(&arguments), rendered(&arguments), "{name}");
    }
    let templates = fs::read_dir(source().join("templates")).unwrap();
    for file in templates.map(|entry| entry.unwrap().path()) {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        for function in [
            "lookup",
            "genCA",
            "genSelfSigned",
            "genSigned",
            "rand",
            "now",
            "uuidv4",
            "derivePassword",
        ] {
            let calls = text.split(|char: char| !char.is_ascii_alphanumeric());
            let found = calls.filter(|word| word.starts_with(function)).count();
            assert_eq!(found, 0, "{}: {function}", file.display());
        }
    }
}

#[test]
fn helm_has_nothing_to_complain_about() {
    let folder = tempfile::tempdir().unwrap();
    for name in CASES {
        let mut lint = command(folder.path());
        lint.args(["lint", "--strict", "--quiet"]).arg(source());
        lint.arg("--values").arg(values(name));
        let output = run(&mut lint, "");
        assert!(output.success, "{name}: {}{}", output.stdout, output.stderr);
        assert_eq!(output.stdout.trim(), "", "{name}");
    }
}

#[test]
fn the_chart_is_of_this_version_and_asks_for_a_kubernetes_that_has_what_it_uses() {
    assert!(
        Packed::shared().chart.exists(),
        "chart and program have one version"
    );
    let set = ["--set", REGISTRY];
    let of_this_version = format!("app.kubernetes.io/version: {:?}", env!("CARGO_PKG_VERSION"));
    assert!(rendered(&set).contains(&of_this_version));
    let old = template(&[&set[..], &["--kube-version", "1.28.0"]].concat());
    assert!(
        !old.success && old.stderr.contains("kubeVersion"),
        "{old:?}"
    );
}
