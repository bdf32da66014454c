//! Programs in Go around the real implementations, which the Makefile builds before the tests.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;

/// The path of a program of tests/programs/programs.sh.
///
/// # Panics
/// Where it is not built yet, with the command that builds it: a test that cannot run fails.
pub fn go_program(name: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/path.sh");
    let output = Command::new(script)
        .arg(name)
        .output()
        .expect("bash is needed to find the programs of the tests");
    let reason = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{reason}");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
}

/// What a program answers that reads one JSON string a line and writes one JSON answer a line.
#[allow(dead_code, reason = "only one of the test binaries compares with Go")]
pub fn answers<Answer: DeserializeOwned>(name: &str, questions: &[String]) -> Vec<Answer> {
    let mut program = Command::new(go_program(name))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = program.stdin.take().unwrap();
    let quoted = questions
        .iter()
        .map(|text| serde_json::to_string(text).unwrap() + "\n");
    let lines: String = quoted.collect();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()).unwrap());
    let output = program.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{name} failed");
    let output = String::from_utf8(output.stdout).unwrap();
    output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
