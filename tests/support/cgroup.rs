//! A control group of a test's own, with a memory limit that the kernel enforces.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// Where both versions are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// Its processes are killed when they take more than its limit. Removed when dropped, after them.
pub struct Cgroup {
    path: PathBuf,
    is_v2: bool,
}

impl Cgroup {
    /// Makes one with a limit in MiB, and without swap.
    ///
    /// # Panics
    /// Where this is not run as root, or the memory controller cannot be used: a test that cannot run
    /// fails.
    pub fn with_memory(name: &str, mebibytes: usize) -> Self {
        let is_v2 = Path::new(MOUNT).join("cgroup.controllers").exists();
        let parent = if is_v2 {
            PathBuf::from(MOUNT)
        } else {
            Path::new(MOUNT).join("memory")
        };
        let path = parent.join(format!("forestall-{name}-{}", std::process::id()));
        let cgroup = Self { path, is_v2 };
        let bytes = (mebibytes << 20).to_string();
        if is_v2 {
            Self::write_to(&parent.join("cgroup.subtree_control"), "+memory");
        }
        if let Err(error) = fs::create_dir(&cgroup.path) {
            panic!(
                "{}: {error}; this test makes a memory cgroup: run it as root",
                cgroup.path.display()
            );
        }
        if is_v2 {
            cgroup.write("memory.max", &bytes);
            cgroup.write("memory.swap.max", "0");
        } else {
            cgroup.write("memory.limit_in_bytes", &bytes);
        }
        cgroup
    }

    /// The words before a command that make it run in here.
    pub fn launcher(&self) -> Vec<String> {
        let enter = "echo $$ >\"$0\"; exec \"$@\"";
        let processes = self.path.join("cgroup.procs");
        ["bash", "-c", enter, processes.to_str().unwrap()]
            .map(str::to_owned)
            .into()
    }

    /// How many processes the kernel has killed in here.
    pub fn kills(&self) -> u64 {
        let file = if self.is_v2 {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let text = self.read(file);
        let mut lines = text.lines();
        let kills = lines.find_map(|line| line.strip_prefix("oom_kill "));
        kills.expect("the kernel counts kills").parse().unwrap()
    }

    /// The most memory that was taken in here, in MiB, with what the kernel keeps of files.
    pub fn peak(&self) -> u64 {
        let file = if self.is_v2 {
            "memory.peak"
        } else {
            "memory.max_usage_in_bytes"
        };
        self.read(file).trim().parse::<u64>().unwrap() >> 20
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path.join(file)).unwrap()
    }

    fn write(&self, file: &str, text: &str) {
        Self::write_to(&self.path.join(file), text);
    }

    fn write_to(path: &Path, text: &str) {
        if let Err(error) = fs::write(path, text) {
            panic!(
                "{}: {error}; this test needs root and the memory controller of cgroups",
                path.display()
            );
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel takes a moment to forget a process that has ended.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() || !self.path.exists() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        println!("{} is left over", self.path.display());
    }
}
