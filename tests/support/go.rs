//! Programs in Go around the real implementations, built when a test first needs them.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds tests/programs/NAME and gives the path of the program.
///
/// It is kept outside the clone, by the hash of its files, so it is built again when they change.
///
/// # Panics
/// Where it cannot be built: a test that cannot run fails.
pub fn go_program(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/programs")
        .join(name);
    let directory = cache().join("bin");
    fs::create_dir_all(&directory).unwrap();
    let program = directory.join(format!("{name}-{:016x}", hash(&source)));
    // Other test processes may want the same program at the same time.
    let lock = File::create(directory.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    if !program.exists() {
        let unfinished = program.with_extension("unfinished");
        let build = Command::new("go")
            .args(["build", "-trimpath", "-ldflags=-s -w", "-o"])
            .args([&unfinished, Path::new(".")])
            .env("CGO_ENABLED", "0")
            .current_dir(&source)
            .output()
            .expect("go is needed to build the programs of the tests");
        let complaint = String::from_utf8_lossy(&build.stderr);
        assert!(
            build.status.success(),
            "go build of tests/programs/{name}: {complaint}"
        );
        fs::rename(&unfinished, &program).unwrap();
    }
    program
}

fn cache() -> PathBuf {
    match std::env::var_os("FORESTALL_CACHE") {
        Some(path) => PathBuf::from(path),
        None => Path::new(&std::env::var_os("HOME").expect("HOME is set")).join(".cache/forestall"),
    }
}

fn hash(directory: &Path) -> u64 {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files.iter().filter(|file| file.is_file()) {
        file.file_name().hash(&mut hasher);
        fs::read(file).unwrap().hash(&mut hasher);
    }
    hasher.finish()
}
