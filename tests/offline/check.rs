//! The command line as a process: what people and pipelines see of it.

mod bad_input;
mod custom_resources;
mod facts;
mod itself;
mod tree;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A Pod with an impossible limit; the finding is at line 9, column 28 of it.
const BAD_POD: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: bad
  namespace: shop
spec:
  containers:
  - name: app
    resources: {limits: {memory: 512m}}
    image: nginx:1.27
    imagePullPolicy: Never
";

/// A Pod of which nothing can be said.
const GOOD_POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: good, namespace: shop}
spec: {containers: [{name: app, image: nginx:1.27, imagePullPolicy: Never}]}
";

/// A Pod whose limit is only likely to be a mistake.
const ODD_POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: odd, namespace: shop}
spec: {containers: [{name: app, image: nginx:1.27, imagePullPolicy: Never,
  resources: {limits: {memory: \"1E\"}}}]}
";

/// A directory with files, in which commands run.
struct Place(TempDir);

/// What came of a command.
#[derive(Debug)]
struct Outcome {
    status: i32,
    stdout: String,
    stderr: String,
}

// === impl Place ===

impl Place {
    fn with(files: &[(&str, &str)]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            place.write(name, text.as_bytes());
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forestall"));
        command
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &str) -> Outcome {
        outcome(&mut self.command(arguments))
    }

    /// `check --offline` with these arguments.
    fn check(&self, arguments: &str) -> Outcome {
        self.run(&format!("check --offline {arguments}"))
    }

    /// The JSON report of `check --offline` with these arguments.
    fn report(&self, arguments: &str) -> Value {
        self.check(&format!("-o json {arguments}")).json()
    }

    fn run_with(&self, arguments: &str, input: &[u8]) -> Outcome {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        Outcome::of(child.wait_with_output().unwrap())
    }
}

// === impl Outcome ===

impl Outcome {
    fn of(output: std::process::Output) -> Self {
        Self {
            status: output.status.code().expect("no signal ended it"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn outcome(command: &mut Command) -> Outcome {
    Outcome::of(command.output().unwrap())
}

/// Rule, file and line of each finding.
fn places(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap();
    let place = |finding: &Value| {
        let source = &finding["source"];
        let [rule, file] = [&finding["rule"], &source["file"]].map(|text| text.as_str().unwrap());
        format!("{rule} {file}:{}", source["line"])
    };
    findings.iter().map(place).collect()
}

/// File, line and column of each error, and what its message must hold.
fn assert_error(report: &Value, place: &str, message: &str) {
    let errors = report["errors"].as_array().unwrap();
    let shown = |error: &Value| {
        let source = &error["source"];
        let file = source["file"].as_str().unwrap();
        format!("{file}:{}:{}", source["line"], source["column"])
    };
    assert!(
        errors
            .iter()
            .any(|error| shown(error) == place
                && error["message"].as_str().unwrap().contains(message)),
        "no {message:?} at {place} in {errors:#?}"
    );
}

#[test]
fn the_status_says_what_was_found() {
    let place = Place::with(&[
        ("good.yaml", GOOD_POD),
        ("bad.yaml", BAD_POD),
        ("odd.yaml", ODD_POD),
        ("broken.yaml", "a: [\n"),
    ]);
    for (arguments, status) in [
        ("-f good.yaml", 0),
        ("-f bad.yaml", 1),
        ("-f odd.yaml", 0),
        ("-f odd.yaml --fail-on warning", 1),
        ("-f bad.yaml --fail-on never", 0),
        ("-f broken.yaml", 2),
        ("-f broken.yaml --fail-on never", 2),
        ("-f bad.yaml broken.yaml", 2),
        ("-f bad.yaml -f absent.yaml", 2),
        ("-f good.yaml --config absent.yaml", 2),
        ("-f good.yaml --evidence absent.yaml", 2),
        ("-f good.yaml --cluster-state absent.yaml", 2),
        ("-f good.yaml --record no/such/directory.yaml", 2),
        ("", 2),
        ("-f good.yaml --unheard-of", 2),
        ("-f good.yaml -o sarif", 2),
        ("-f good.yaml --context prod", 2),
    ] {
        let outcome = place.check(arguments);
        assert_eq!(outcome.status, status, "{arguments}: {outcome:?}");
        assert_eq!(
            outcome.stderr.is_empty(),
            status != 2,
            "{arguments}: {outcome:?}"
        );
    }
}

#[test]
fn a_finding_is_shown_with_its_place_its_source_and_its_cure() {
    let outcome = Place::with(&[("bad.yaml", BAD_POD)]).check("-f bad.yaml");
    let expected = "\
bad.yaml:9:34: error[impossible-memory-limit]: container app has the memory limit \"512m\", which \
is 1 byte (m means thousandths); runc starts no container below 4Mi
  |
8 |   - name: app
9 |     resources: {limits: {memory: 512m}}
  |                                  ^
  help: write 512Mi if mebibytes are meant

1 object: 1 error
";
    assert_eq!(outcome.stdout, expected);
    assert_eq!((outcome.stderr.as_str(), outcome.status), ("", 1));
}

#[test]
fn the_json_report_has_this_form() {
    let place = Place::with(&[
        ("bad.yaml", BAD_POD),
        (
            "unknown.yaml",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: b}\nspec: {containers: [{name: app, image: x.y/z:1}]}\n",
        ),
    ]);
    let report = place.report("-f unknown.yaml bad.yaml absent.yaml");
    let expected = json!({
        "schemaVersion": 1,
        "findings": [{
            "rule": "impossible-memory-limit",
            "level": "error",
            "certainty": "proven",
            "object": {"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "bad"},
            "path": "/spec/containers/0/resources/limits/memory",
            "message": "container app has the memory limit \"512m\", which is 1 byte (m means thousandths); \
                        runc starts no container below 4Mi",
            "help": "write 512Mi if mebibytes are meant",
            "fix": null,
            "source": {"file": "bad.yaml", "line": 9, "column": 34},
        }],
        "abstained": [{
            "rule": "missing-image",
            "object": {"apiVersion": "v1", "kind": "Pod", "namespace": null, "name": "b"},
            "reason": "app (x.y/z:1): registries are not asked, and no evidence names it",
        }],
        "errors": [{
            "message": "No such file or directory (os error 2)",
            "source": {"file": "absent.yaml", "line": null, "column": null},
        }],
        "unchanged": [],
        "leftOut": [],
        "controlled": 0,
    });
    assert_eq!(report, expected);
}

#[test]
fn files_directories_lists_and_standard_input_are_read() {
    let second = format!("{GOOD_POD}---\n{BAD_POD}");
    let pod: Value = serde_saphyr::from_str(BAD_POD).unwrap();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [pod, pod]});
    let place = Place::with(&[
        ("a/two.yaml", &second),
        ("a/list.json", &format!("{list:#}")),
        ("a/deep/er/bad.yml", BAD_POD),
        ("a/notes.txt", "not: [a manifest"),
        ("empty/notes.txt", "nothing"),
    ]);
    let flat = places(&place.report("-f a"));
    assert_eq!(flat.len(), 3, "{flat:?}");
    assert!(flat[0].contains("a/list.json:"), "{flat:?}");
    assert_eq!(flat[2], "impossible-memory-limit a/two.yaml:14");
    let deep = places(&place.report("-R -f a"));
    assert_eq!(deep[0], "impossible-memory-limit a/deep/er/bad.yml:9");
    assert_eq!(deep.len(), 4, "{deep:?}");
    let named = places(&place.report("-f a/two.yaml -f a/deep/er/bad.yml"));
    assert_eq!(named.len(), 2, "{named:?}");

    let nothing = place.check("-f empty");
    assert_eq!(nothing.status, 2);
    assert!(
        nothing.stderr.contains("empty: no *.yaml, *.yml or *.json"),
        "{nothing:?}"
    );

    let piped = place.run_with("check --offline -o json -f -", second.as_bytes());
    assert_eq!(places(&piped.json()), ["impossible-memory-limit -:14"]);
}

#[test]
fn a_link_that_leads_back_is_not_followed() {
    let place = Place::with(&[("a/bad.yaml", BAD_POD)]);
    std::os::unix::fs::symlink("..", place.path("a/loop")).unwrap();
    std::os::unix::fs::symlink("bad.yaml", place.path("a/linked.yaml")).unwrap();
    let found = places(&place.report("-R -f a"));
    assert_eq!(
        found,
        [
            "impossible-memory-limit a/bad.yaml:9",
            "impossible-memory-limit a/linked.yaml:9"
        ]
    );
}

#[test]
fn two_thousand_objects_are_judged_in_order() {
    let pod = |index: usize| BAD_POD.replace("name: bad", &format!("name: bad-{index}"));
    let all: Vec<_> = (0..2000).map(pod).collect();
    let place = Place::with(&[("all.yaml", &all.join("---\n"))]);
    let report = place.report("-f all.yaml");
    let findings = report["findings"].as_array().unwrap();
    let names: Vec<_> = findings
        .iter()
        .map(|found| found["object"]["name"].as_str().unwrap())
        .collect();
    let expected: Vec<_> = (0..2000).map(|index| format!("bad-{index}")).collect();
    assert_eq!(names, expected);
    assert_eq!(findings[1999]["source"]["line"], 1999 * 12 + 9);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let all = vec![BAD_POD; 2000].join("---\n");
    let place = Place::with(&[("all.yaml", &all)]);
    let mut child = place
        .command("check --offline -f all.yaml")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let outcome = Outcome::of(child.wait_with_output().unwrap());
    assert_eq!((outcome.status, outcome.stderr.as_str()), (1, ""));
}

#[test]
fn colours_are_for_terminals_or_who_asks_for_them() {
    let place = Place::with(&[("bad.yaml", BAD_POD)]);
    assert!(!place.check("-f bad.yaml").stdout.contains('\u{1b}'));
    let mut command = place.command("check --offline -f bad.yaml");
    let forced = outcome(command.env("CLICOLOR_FORCE", "1"));
    assert!(forced.stdout.contains("\u{1b}["), "{forced:?}");
    let plain = outcome(command.env("NO_COLOR", "1").env_remove("CLICOLOR_FORCE"));
    assert!(!plain.stdout.contains('\u{1b}'), "{plain:?}");
}

#[test]
fn the_path_of_the_program_is_the_path_in_its_usage() {
    let place = Place::with(&[]);
    let plugin = place.path("kubectl-forestall");
    std::os::unix::fs::symlink(Path::new(env!("CARGO_BIN_EXE_forestall")), &plugin).unwrap();
    let usage = outcome(Command::new(plugin).args(["check", "--help"])).stdout;
    assert!(usage.contains("Usage: kubectl forestall check "), "{usage}");
    let usage = place.run("check --help").stdout;
    assert!(usage.contains("Usage: forestall check "), "{usage}");
}
