//! A tree of files as repositories have it: manifests among much that is none.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use serde_json::Value;

use super::{BAD_POD, GOOD_POD, Outcome, Place, assert_error, places};

const FOUND: &str = "impossible-memory-limit";

/// A template that can be read as YAML.
const QUOTED: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec: {containers: [{name: app, image: \"{{ .Values.image }}\", resources: {limits: {memory: \"{{ .Values.memory }}\"}}}]}
";

/// Files that are no manifests, and a part of what is said of each.
const OTHERS: &[(&str, &str, &str)] = &[
    (
        "a/chart/Chart.yaml",
        "apiVersion: v2\nname: web\nversion: 0.1.0\n",
        "Helm chart",
    ),
    ("a/chart/values.yaml", "image: {tag: 1}\n", "values"),
    (
        "a/chart/values-prod.yaml",
        "ingress: {apiVersion: 1, kind: a}\n",
        "apiVersion and kind",
    ),
    (
        "a/chart/templates/pod.yaml",
        "{{- if .Values.a }}\napiVersion: v1\nkind: Pod\n{{- end }}\n",
        "a template",
    ),
    (
        "a/chart/templates/quoted.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: \"{{ x }}\"}\n",
        "helm template a/chart",
    ),
    ("a/quoted.yaml", QUOTED, "a template"),
    (
        "a/base/kustomization.yaml",
        "resources: [pod.yaml]\npatches: [{path: part.yaml}, {path: ops.yaml}]\nconfigurations: [names.yaml]\n",
        "a kustomization",
    ),
    (
        "a/base/part.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a, resources: {limits: {memory: 1m}}}]}\n",
        "kubectl kustomize a/base",
    ),
    (
        "a/base/ops.yaml",
        "- {op: remove, path: /spec}\n",
        "kubectl kustomize a/base",
    ),
    (
        "a/base/names.yaml",
        "nameReference: [{kind: Service, version: v1}]\n",
        "kubectl kustomize a/base",
    ),
    (
        "a/overlay/kustomization.yml",
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n",
        "a kustomization",
    ),
    (
        "a/overlay/renamed.yaml",
        "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n",
        "kubectl kustomize a/overlay",
    ),
    (
        "a/ops.json",
        "[{\"op\": \"remove\", \"path\": \"/spec\"}]\n",
        "JSON 6902",
    ),
    (
        "a/docker-compose.yml",
        "services: {web: {image: nginx}}\n",
        "Compose",
    ),
    (
        "a/.github/workflows/ci.yaml",
        "on: push\njobs: {a: {steps: []}}\n",
        "GitHub",
    ),
    (
        "a/package.json",
        "{\"name\": \"web\"}\n",
        "apiVersion and kind",
    ),
    ("a/broken.yaml", "a: [\n", "apiVersion and kind"),
];

/// Files and reasons of what was left out.
fn left_out(report: &Value) -> Vec<(String, String)> {
    let left_out = report["leftOut"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pair = |entry: &Value| (text(&entry["source"]["file"]), text(&entry["message"]));
    left_out.iter().map(pair).collect()
}

fn last_line(outcome: &Outcome) -> &str {
    outcome.stdout.lines().next_back().unwrap_or_default()
}

#[test]
fn what_is_no_manifest_is_left_out_counted_and_named_on_request() {
    let mut files = vec![
        ("a/bad.yaml", BAD_POD),
        ("a/base/pod.yaml", GOOD_POD),
        ("a/chart/templates/plain.yaml", BAD_POD),
        ("a/comments.yaml", "# nothing\n---\n"),
    ];
    files.extend(OTHERS.iter().map(|(name, text, _)| (*name, *text)));
    let place = Place::with(&files);
    let report = place.report("-R -f a");
    assert_eq!(
        places(&report),
        [
            format!("{FOUND} a/bad.yaml:9"),
            format!("{FOUND} a/chart/templates/plain.yaml:9")
        ]
    );
    assert_eq!(report["errors"], serde_json::json!([]));
    let reasons = left_out(&report);
    for (name, _, reason) in OTHERS {
        let found = reasons.iter().find(|(file, _)| file == name);
        let Some((_, message)) = found else {
            panic!("{name} is not among {reasons:#?}");
        };
        assert!(message.contains(reason), "{name}: {message}");
    }
    assert_eq!(reasons.len(), OTHERS.len(), "{reasons:#?}");

    let quiet = place.check("-R -f a");
    assert_eq!(quiet.status, 1, "{quiet:?}");
    assert_eq!(
        last_line(&quiet),
        format!("3 objects: 2 errors, {} left out", OTHERS.len())
    );
    assert!(!quiet.stdout.contains("values-prod.yaml"), "{quiet:?}");
    let verbose = place.check("-v -R -f a");
    for (name, ..) in OTHERS {
        let line = format!("left out: {name}: ");
        assert!(verbose.stdout.contains(&line), "{line} in {verbose:?}");
    }
    // One line for each directory that is to be rendered.
    let hints: Vec<_> = quiet.stderr.lines().collect();
    assert_eq!(
        hints,
        [
            "a/chart: a Helm chart; check what it renders to: helm template a/chart | forestall check -f -",
            "a/base: a kustomization; check what it renders to: kubectl kustomize a/base | forestall check -f -",
            "a/overlay: a kustomization; check what it renders to: kubectl kustomize a/overlay | forestall check -f -",
        ]
    );
}

#[test]
fn a_broken_manifest_in_a_directory_is_an_error() {
    let place = Place::with(&[
        ("a/bad.yaml", BAD_POD),
        (
            "a/broken.yaml",
            "apiVersion: v1\nkind: Pod\nspec:\n  a: b: c\n",
        ),
        (
            "a/half.yaml",
            &format!("{GOOD_POD}---\nkind: [\n---\n- op: remove\n---\nreplicas: 3\n"),
        ),
    ]);
    let report = place.report("-f a");
    assert_eq!(places(&report), [format!("{FOUND} a/bad.yaml:9")]);
    assert_error(
        &report,
        "a/broken.yaml:4:7",
        "quote a value that holds a colon",
    );
    assert_error(&report, "a/half.yaml:6:7", "close the bracket");
    assert_eq!(report["errors"].as_array().unwrap().len(), 2, "{report:#}");
    let reasons = left_out(&report);
    let files: Vec<_> = reasons.iter().map(|(file, _)| file.as_str()).collect();
    assert_eq!(files, ["a/half.yaml", "a/half.yaml"], "{reasons:?}");
    assert!(
        place
            .check("-v -f a")
            .stdout
            .contains("left out: a/half.yaml:8:1: this is no object")
    );
}

#[test]
fn what_helm_says_beside_its_output_is_left_out() {
    let warned =
        format!("WARNING: Kubernetes configuration file is insecure. Location: /a\n---\n{BAD_POD}");
    let place = Place::with(&[("a/warned.yaml", &warned)]);
    let outcome = place.check("-v -f a");
    assert_eq!(outcome.status, 1, "{outcome:?}");
    assert!(
        outcome.stdout.contains("left out: a/warned.yaml:1:"),
        "{outcome:?}"
    );
    // A file that was named is as kubectl reads it.
    assert_eq!(place.check("-f a/warned.yaml").status, 2);
}

#[test]
fn a_directory_without_a_manifest_is_an_error_that_says_why() {
    let place = Place::with(&[
        ("chart/Chart.yaml", "apiVersion: v2\nname: web\n"),
        (
            "chart/templates/pod.yaml",
            "kind: Pod\napiVersion: v1\nmetadata: {name: {{ .Values.a }}}\n",
        ),
    ]);
    let outcome = place.check("-R -f chart");
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(
        outcome
            .stderr
            .contains("chart: no Kubernetes manifest in this directory"),
        "{outcome:?}"
    );
    assert!(
        outcome.stdout.contains("chart/templates/pod.yaml: this is a template, not a Kubernetes manifest; check what it renders to: helm template chart | forestall check -f -"),
        "{outcome:?}"
    );
}

#[test]
fn of_many_files_that_are_left_out_the_first_are_named_unasked() {
    let place = Place::with(&[]);
    for index in 0..30 {
        place.write(&format!("a/{index:02}.yaml"), b"a: 1\n");
    }
    let named = |arguments: &str| {
        let outcome = place.check(arguments);
        let lines = outcome
            .stdout
            .lines()
            .filter(|line| line.starts_with("left out: "));
        let lines: Vec<_> = lines.map(ToOwned::to_owned).collect();
        (lines.len(), lines[lines.len() - 1].clone())
    };
    let more = "left out: 10 more (-v names them)".to_owned();
    assert_eq!(named("-f a"), (21, more));
    assert_eq!(named("-v -f a").0, 30);
}

#[test]
fn a_file_that_is_named_has_to_be_a_manifest() {
    let place = Place::with(&[
        ("chart/Chart.yaml", "apiVersion: v2\nname: web\n"),
        (
            "chart/templates/pod.yaml",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: \"{{ x }}\"}\n",
        ),
        ("quoted.yaml", QUOTED),
        (
            "braces.yaml",
            "apiVersion: v1\nkind: Pod\n{{- if a }}\nspec: {}\n{{- end }}\n",
        ),
        ("values.yaml", "a: 1\n"),
        ("kustomization.yaml", "resources: []\n"),
        ("compose.yaml", "services: {}\n"),
        ("other.yaml", "a: 1\n"),
    ]);
    for (file, message) in [
        ("chart/Chart.yaml", "the description of a Helm chart"),
        (
            "chart/templates/pod.yaml",
            "a template, not a Kubernetes manifest; check what it renders to: helm template chart | forestall",
        ),
        (
            "quoted.yaml",
            "a template, not a Kubernetes manifest; check what it renders to: helm template CHART | forestall",
        ),
        ("braces.yaml", "a template"),
        ("values.yaml", "a file of values for a Helm chart"),
        (
            "kustomization.yaml",
            "a kustomization, not a Kubernetes manifest; check what it renders to: kubectl kustomize . | forestall",
        ),
        ("compose.yaml", "a Compose file"),
        ("other.yaml", "apiVersion is missing"),
    ] {
        let report = place.report(&format!("-f {file}"));
        let errors = report["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 1, "{file}: {errors:#?}");
        let told = errors[0]["message"].as_str().unwrap();
        assert!(told.contains(message), "{file}: {told}");
        assert_eq!(places(&report), Vec::<String>::new(), "{file}");
        assert_eq!(place.check(&format!("-f {file}")).status, 2, "{file}");
    }
}

#[test]
fn gitignore_and_exclude_leave_files_out() {
    let place = Place::with(&[
        ("a/.gitignore", "rendered/\n"),
        ("a/rendered/bad.yaml", BAD_POD),
        ("a/bad.yaml", BAD_POD),
        ("a/b/bad.yaml", BAD_POD),
        ("a/b/c/worse.yaml", BAD_POD),
        (".gitignore", "*\n"),
    ]);
    let found = |arguments: &str| places(&place.report(arguments));
    let of = |names: &[&str]| -> Vec<String> {
        names
            .iter()
            .map(|name| format!("{FOUND} {name}:9"))
            .collect()
    };
    // The .gitignore above is of no repository.
    assert_eq!(
        found("-R -f a"),
        of(&["a/b/bad.yaml", "a/b/c/worse.yaml", "a/bad.yaml"])
    );
    assert_eq!(
        found("-R -f a --exclude c --exclude a/bad.yaml"),
        of(&["a/b/bad.yaml"])
    );
    // From the directory that was named.
    assert_eq!(found("-R -f a --exclude /b/**"), of(&["a/bad.yaml"]));
    assert_eq!(
        found("-R --exclude worse.* -- a"),
        of(&["a/b/bad.yaml", "a/bad.yaml"])
    );
    assert_eq!(
        found("--exclude b/ -f a/b/bad.yaml a/bad.yaml"),
        of(&["a/bad.yaml"])
    );
    assert_eq!(found("a/bad.yaml"), of(&["a/bad.yaml"]));
    assert_eq!(place.check("-f a --exclude {a").status, 2);
    let nothing = place.check("-R -f a --exclude *.yaml");
    assert_eq!(nothing.status, 2, "{nothing:?}");
    assert!(
        nothing.stderr.contains(".gitignore and --exclude"),
        "{nothing:?}"
    );
    fs::create_dir(place.path(".git")).unwrap();
    assert_eq!(place.check("-R -f a").status, 2, "now it is of one");
}

#[test]
fn odd_files_of_a_directory_are_named_and_the_rest_is_judged() {
    let place = Place::with(&[("a/bad.yaml", BAD_POD)]);
    symlink("round.yaml", place.path("a/round.yaml")).unwrap();
    symlink("nowhere.yaml", place.path("a/dangling.yaml")).unwrap();
    symlink("..", place.path("a/up")).unwrap();
    let name = std::ffi::OsStr::from_bytes(b"a/\xe9.yaml");
    fs::write(place.0.path().join(name), BAD_POD).unwrap();
    let pipe = std::process::Command::new("mkfifo")
        .arg(place.path("a/pipe.yaml"))
        .status();
    assert!(pipe.unwrap().success());
    let report = place.report("-R -f a");
    assert_eq!(
        places(&report),
        [
            format!("{FOUND} a/bad.yaml:9"),
            format!("{FOUND} a/\u{fffd}.yaml:9")
        ]
    );
    let errors = report["errors"].as_array().unwrap();
    let files: Vec<_> = errors
        .iter()
        .map(|error| error["source"]["file"].as_str().unwrap())
        .collect();
    assert_eq!(files, ["a/dangling.yaml", "a/round.yaml"], "{errors:#?}");
    let reasons = left_out(&report);
    let files: Vec<_> = reasons.iter().map(|(file, _)| file.as_str()).collect();
    assert_eq!(files, ["a/pipe.yaml", "a/up"], "{reasons:?}");
}

#[test]
fn many_files_take_little_time() {
    let place = Place::with(&[("a/bad.yaml", BAD_POD)]);
    for index in 0..5_000 {
        place.write(
            &format!("a/{}/{index}.yaml", index % 50),
            GOOD_POD
                .replace("good", &format!("good-{index}"))
                .as_bytes(),
        );
        place.write(&format!("a/{}/{index}.json", index % 50), b"{}\n");
    }
    let start = std::time::Instant::now();
    let outcome = place.check("-R -f a");
    assert_eq!(last_line(&outcome), "5001 objects: 1 error, 5000 left out");
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}

#[test]
fn utf_16_is_read_with_a_warning() {
    let place = Place::with(&[]);
    for (name, mark, of) in [
        (
            "little.yaml",
            b"\xff\xfe",
            u16::to_le_bytes as fn(u16) -> [u8; 2],
        ),
        ("big.yaml", b"\xfe\xff", u16::to_be_bytes),
    ] {
        let text = format!("{GOOD_POD}---\n{BAD_POD}");
        let bytes: Vec<u8> = mark
            .iter()
            .copied()
            .chain(text.encode_utf16().flat_map(of))
            .collect();
        place.write(name, &bytes);
        let outcome = place.check(&format!("-f {name}"));
        assert_eq!(outcome.status, 1, "{outcome:?}");
        assert_eq!(
            outcome.stderr,
            format!(
                "{name}: warning: the file is UTF-16; save it as UTF-8, which every tool reads\n"
            )
        );
        assert!(
            outcome
                .stdout
                .contains(&format!("{name}:14:34: error[{FOUND}]")),
            "{outcome:?}"
        );
    }
}

#[test]
fn what_is_replaced_before_it_is_applied_proves_nothing() {
    let pod = |image: &str, memory: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  containers:\n  - name: app\n    image: {image}\n    resources: {{limits: {{memory: {memory}}}}}\n"
        )
    };
    let flux = format!(
        "{}---\n{}",
        pod("r.io/acme/web:${TAG:=v1}", "\"${MEMORY}\""),
        pod("\"${IMAGE}\"", "64Mi")
    );
    let place = Place::with(&[
        ("flux.yaml", &flux),
        ("ko.yaml", &pod("ko://r.io/acme/web", "64Mi")),
        ("braces.yaml", &pod("\"{{ image }}\"", "64Mi")),
        ("fault.yaml", &pod("\"${IMAGE}\"", "64m")),
        ("unnamed.yaml", &pod("\":latest\"", "64Mi")),
        ("missing.yaml", &pod("\"r.io/web:<no value>\"", "64Mi")),
    ]);
    for (file, line) in [
        (
            "flux.yaml",
            "not rendered: flux.yaml: ${TAG:=v1} and 2 more; check what it becomes: flux envsubst < flux.yaml | forestall check -f -",
        ),
        (
            "ko.yaml",
            "not rendered: ko.yaml: ko://r.io/acme/web; check what it becomes: ko resolve -f ko.yaml |",
        ),
        (
            "braces.yaml",
            "not rendered: braces.yaml: {{ image }}; check what it becomes: helm template",
        ),
    ] {
        let outcome = place.check(&format!("-f {file}"));
        assert_eq!(outcome.status, 0, "{outcome:?}");
        let lines = outcome.stdout.lines().filter(|said| said.starts_with(line));
        assert_eq!(lines.count(), 1, "{outcome:?}");
        assert_eq!(outcome.stdout.matches("not rendered: ").count(), 1);
        assert!(last_line(&outcome).contains(" not rendered"), "{outcome:?}");
        let report = place.report(&format!("-f {file}"));
        let reason = report["abstained"][0]["reason"].as_str().unwrap();
        assert!(
            reason.starts_with("app: ") && reason.contains(" is not rendered; "),
            "{reason}"
        );
    }
    // The fault beside it is one all the same.
    assert_eq!(
        places(&place.report("-f fault.yaml")),
        [format!("{FOUND} fault.yaml:8")]
    );
    for file in ["unnamed.yaml", "missing.yaml"] {
        assert_eq!(place.check(&format!("-f {file}")).status, 1, "{file}");
    }
}

#[test]
fn images_that_kustomize_writes_anew_prove_nothing() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: app, image: controller:latest}]}\n";
    let evidence = "images: {\"controller:latest\": missing}\n";
    let place = Place::with(&[
        ("a/pod.yaml", pod),
        ("b/pod.yaml", pod),
        ("evidence.yaml", evidence),
        (
            "b/kustomization.yaml",
            "resources: [pod.yaml]\nimages: [{name: controller, newTag: v1}]\n",
        ),
    ]);
    let report = place.report("--evidence evidence.yaml -f a b");
    assert_eq!(places(&report), ["missing-image a/pod.yaml:4"]);
    let reason = report["abstained"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("kubectl kustomize"), "{reason}");
}

#[test]
fn what_a_controller_makes_is_not_judged() {
    let owned = |controller: &str| {
        BAD_POD.replace("  namespace: shop\n", &format!("  namespace: shop\n  ownerReferences: [{{kind: ReplicaSet, name: x, controller: {controller}}}]\n"))
    };
    let place = Place::with(&[
        ("made.yaml", &owned("true")),
        ("owned.yaml", &owned("false")),
    ]);
    let outcome = place.check("-f made.yaml");
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(
        last_line(&outcome),
        "1 object: nothing found, 1 left to a controller"
    );
    assert_eq!(place.check("-f owned.yaml").status, 1);
}

#[test]
fn a_fault_that_is_there_already_fails_nothing() {
    let labelled = BAD_POD.replace("metadata:\n", "metadata:\n  labels: {a: b}\n");
    let worse = BAD_POD.replace("512m", "256m");
    let elsewhere = BAD_POD.replace("namespace: shop", "namespace: other");
    let nowhere = BAD_POD.replace("  namespace: shop\n", "");
    let rollout = |version: &str| {
        format!(
            "apiVersion: apps/{version}\nkind: Deployment\nmetadata: {{name: a}}\nspec: {{template: {{spec: {{containers: [{{name: b, resources: {{limits: {{memory: 512m}}}}}}]}}}}}}\n"
        )
    };
    let place = Place::with(&[
        ("state.yaml", BAD_POD),
        ("labelled.yaml", &labelled),
        ("worse.yaml", &worse),
        ("elsewhere.yaml", &elsewhere),
        ("nowhere.yaml", &nowhere),
        ("old.yaml", &rollout("v1beta2")),
        ("new.yaml", &rollout("v1")),
    ]);
    let outcome = place.check("-v -f labelled.yaml --cluster-state state.yaml");
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(
        last_line(&outcome),
        "1 object: nothing found, 1 there already"
    );
    assert!(
        outcome
            .stdout
            .starts_with("there already: labelled.yaml:10:34: [impossible-memory-limit] "),
        "{outcome:?}"
    );
    let report = place.report("-f labelled.yaml --cluster-state state.yaml");
    assert_eq!(report["unchanged"][0]["level"], "error");
    for (arguments, status) in [
        ("-f worse.yaml --cluster-state state.yaml", 1),
        ("-f elsewhere.yaml --cluster-state state.yaml", 1),
        ("-f nowhere.yaml --cluster-state state.yaml", 1),
        ("-n shop -f nowhere.yaml --cluster-state state.yaml", 0),
        // The same object, whatever its version is.
        ("-f new.yaml --cluster-state old.yaml", 0),
    ] {
        let outcome = place.check(arguments);
        assert_eq!(outcome.status, status, "{arguments}: {outcome:?}");
    }
}

#[test]
fn objects_without_a_namespace_are_in_the_one_that_is_given() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {imagePullSecrets: [{name: key}], containers: [{name: app, image: \"r.io/a:1\"}]}\n";
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: key}\ntype: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: '{\"auths\": {}}'}\n";
    let account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: default}\nimagePullSecrets: [{name: absent}]\n";
    let elsewhere = secret.replace("{name: key}", "{name: key, namespace: other}");
    let by_account = pod.replace("imagePullSecrets: [{name: key}], ", "");
    let place = Place::with(&[
        (
            "config.yaml",
            "rules: {missing-image: {pullSecrets: true}}\n",
        ),
        ("evidence.yaml", "images: {\"r.io/a:1\": exists}\n"),
        ("pod.yaml", pod),
        ("secret.yaml", secret),
        ("elsewhere.yaml", &elsewhere),
        ("account.yaml", account),
        ("by-account.yaml", &by_account),
    ]);
    for namespace in ["", "-n shop"] {
        let report = |files: &str| {
            let found = place.report(&format!(
                "--complete --config config.yaml --evidence evidence.yaml {namespace} -f {files}"
            ));
            found["findings"].as_array().unwrap().len()
        };
        assert_eq!(report("pod.yaml secret.yaml"), 0, "{namespace}");
        assert_eq!(report("pod.yaml elsewhere.yaml"), 1, "{namespace}");
        assert_eq!(report("by-account.yaml account.yaml"), 1, "{namespace}");
    }
}

#[test]
fn whether_a_kind_is_namespaced_is_known_and_not_guessed() {
    let cluster = "apiVersion: postgresql.cnpg.io/v1\nkind: Cluster\nmetadata: {name: db}\nspec: {imageName: \"r.io/pg:1\"}\n";
    let there = cluster.replace("{name: db}", "{name: db, namespace: shop}");
    let definition = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: clusters.postgresql.cnpg.io}\nspec: {group: postgresql.cnpg.io, names: {kind: Cluster}, scope: Cluster}\n";
    let place = Place::with(&[
        ("evidence.yaml", "images: {\"r.io/pg:1\": missing}\n"),
        ("cluster.yaml", cluster),
        ("there.yaml", &there),
        ("definition.yaml", definition),
    ]);
    let known = "--evidence evidence.yaml -f cluster.yaml";
    let status = |arguments: &str| place.check(&format!("{known} {arguments}")).status;
    assert_eq!(status("-n shop --cluster-state there.yaml"), 0);
    assert_eq!(status("-n other --cluster-state there.yaml"), 1);
    let namespace = |arguments: &str| {
        let report = place.report(&format!("-n shop {known} {arguments}"));
        report["findings"][0]["object"]["namespace"].clone()
    };
    assert_eq!(namespace(""), "shop");
    assert_eq!(namespace("definition.yaml"), Value::Null);
    assert_eq!(namespace("--cluster-state definition.yaml"), Value::Null);
}
