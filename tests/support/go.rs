//! Programs in Go around the real implementations, built when a test first needs them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds a program of tests/programs and gives its path; see tests/programs/build.sh.
///
/// # Panics
/// Where it cannot be built: a test that cannot run fails.
pub fn go_program(name: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/build.sh");
    let build = Command::new(script)
        .arg(name)
        .output()
        .expect("bash is needed to build the programs of the tests");
    let complaint = String::from_utf8_lossy(&build.stderr);
    assert!(build.status.success(), "building {name}: {complaint}");
    PathBuf::from(String::from_utf8(build.stdout).unwrap().trim_end())
}
