//! Under a memory limit that the kernel enforces, as in a Pod. Needs root.

use crate::besieged::Besieged;
use crate::cgroup::Cgroup;
use crate::siege::hostile;

/// A container's limit, in MiB, and what the rest of the process may take beside the reviews' half.
async fn case_92(limit: usize) {
    let cgroup = Cgroup::with_memory(&format!("memory-{limit}"), limit);
    let mut forestall = Besieged::start(&cgroup.launcher(), limit);
    forestall.withstands(&hostile()).await;
    println!(
        "{limit} MiB: {} MiB at the most, {} of the process itself",
        cgroup.peak(),
        forestall.peak()
    );
    assert_eq!(cgroup.kills(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_92_under_64_mib_large_reviews_are_answered_or_shed_and_nothing_is_killed() {
    case_92(64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_92_under_256_mib_large_reviews_are_answered_or_shed_and_nothing_is_killed() {
    case_92(256).await;
}

#[test]
fn a_process_that_takes_more_than_the_cgroup_has_is_killed() {
    let cgroup = Cgroup::with_memory("proof", 16);
    let mut command = cgroup.launcher();
    // One process: of several, the kernel may kill more than one.
    let hungry = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"];
    command.extend(hungry.map(str::to_owned));
    let status = std::process::Command::new(&command[0])
        .args(&command[1..])
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success());
    assert_eq!(cgroup.kills(), 1);
}
