//! What the documentation says of the code must be so.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use forestall::config::Config;
use forestall::rules::catalogue::CATALOGUE;

#[test]
fn every_link_leads_to_a_file() {
    let mut broken = Vec::new();
    for page in files(Path::new(""), &["md"]) {
        let text = read(&page);
        // In `[text](target)`, the target ends at the first bracket.
        let targets = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        let own = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
        for target in own {
            let file = target.split('#').next().unwrap_or_default();
            if !root().join(page.parent().unwrap()).join(file).exists() {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_tests_that_the_threat_model_names_exist() {
    let page = read(Path::new("docs/architecture.md"));
    let (_, table) = page.split_once("| threat |").unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let named: BTreeSet<_> = rows
        .filter_map(|row| row.rsplit('|').nth(1))
        .flat_map(quoted)
        .collect();
    assert!(named.len() > 10, "{named:?}");
    let code: String = ["src", "tests"]
        .iter()
        .flat_map(|folder| files(Path::new(folder), &["rs"]))
        .map(|file| read(&file))
        .collect();
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !code.contains(&format!("fn {name}(")))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_metric_is_described_and_no_other() {
    // A metric that has counted nothing yet is not in /metrics, so the source has to say.
    let source = read(Path::new("src/report/metrics.rs"));
    let registered: BTreeSet<_> = source
        .lines()
        .filter_map(|line| line.trim().strip_suffix(';')?.strip_prefix('"'))
        .filter_map(|line| {
            let (name, rest) = line.split_once('"')?;
            let (_, field) = rest.rsplit_once(", ")?;
            let (_, declared) = source.split_once(&format!("pub {field}: "))?;
            let is_counter = declared.lines().next()?.contains("Counter");
            Some(format!(
                "forestall_{name}{}",
                if is_counter { "_total" } else { "" }
            ))
        })
        .chain(["forestall_build_info".to_owned()])
        .collect();
    assert!(registered.len() > 10, "{registered:?}");
    let page = read(Path::new("docs/metrics.md"));
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| `forestall_"));
    let described: BTreeSet<_> = rows
        .filter_map(|row| row.split('|').nth(1))
        .flat_map(quoted)
        .filter(|name| {
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        })
        .collect();
    assert_eq!(described, registered);
}

#[test]
fn the_readme_names_every_guardrail_and_its_configuration_is_valid() {
    let readme = read(Path::new("README.md"));
    for meta in CATALOGUE {
        let name = meta.name;
        assert!(
            readme.contains(&format!("| [{name}](docs/rules/{name}.md) |")),
            "{name}"
        );
    }
    let block = readme.split("```yaml\n").nth(1).unwrap();
    let (text, _) = block.split_once("```").unwrap();
    Config::parse("README.md", text).unwrap();
}

#[test]
fn the_readme_shows_what_check_prints() {
    let readme = read(Path::new("README.md"));
    let (_, shown) = readme
        .split_once("\n$ cargo run --release -- ")
        .expect("the README shows a first command");
    let (command, shown) = shown.split_once('\n').unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_forestall"))
        .args(command.split(' '))
        .current_dir(root())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), shown);
    assert_eq!(output.status.code(), Some(1), "it has a finding");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &Path) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split('`').skip(1).step_by(2).map(ToOwned::to_owned)
}

/// The files below a folder, relative to the repository; what is built or hidden is left out.
fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = folder.join(&name);
        if name.starts_with('.') || path == Path::new("target") {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&path, extensions));
        } else if extensions
            .iter()
            .any(|wanted| path.extension().is_some_and(|is| is == *wanted))
        {
            found.push(path);
        }
    }
    found
}
