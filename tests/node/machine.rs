//! What the node leaves on the machine: nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::control_plane::{eventually, run};
use crate::node_under_test::Turn;

/// What a node could leave behind. Other programs come and go meanwhile, so only what is named like
/// the node's own things counts, and every network device.
fn traces(state: &Path) -> BTreeSet<String> {
    let state = state.to_str().unwrap();
    let mut traces = BTreeSet::new();
    for process in fs::read_dir("/proc").unwrap() {
        let path = process.unwrap().path();
        let command = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        if command.contains(state) || command.contains("support/node.sh") {
            traces.insert(format!(
                "process {}: {}",
                path.display(),
                command.replace('\0', " ")
            ));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains(state));
    traces.extend(mounts.map(|line| format!("mount {line}")));
    let listed = |program: &str, arguments: &[&str]| {
        let output = run(Command::new(program).args(arguments), "");
        assert!(output.success, "{program}: {}", output.stderr);
        let lines = output
            .stdout
            .lines()
            .map(|line| format!("{program}: {line}"));
        lines.collect::<Vec<_>>()
    };
    traces.extend(listed("ip", &["-brief", "link"]).into_iter().map(|line| {
        line.split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" ")
    }));
    traces.extend(listed("ip", &["netns", "list"]));
    traces.extend(listed("nft", &["list", "tables"]));
    // Not deeper, where groups may go while it looks.
    let groups = ["/sys/fs/cgroup", "-maxdepth", "2", "-name"];
    traces.extend(listed(
        "find",
        &[&groups[..], &["*forestall-node*"]].concat(),
    ));
    for folder in [
        "/var/lib",
        "/var/log",
        "/run",
        "/opt",
        "/usr/libexec",
        "/etc/cni",
    ] {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            traces.insert(entry.unwrap().path().display().to_string());
        }
    }
    if Path::new(state).exists() {
        traces.insert(state.to_owned());
    }
    traces
}

/// A node, and the process that holds the other end of its script's input, as a test process does.
struct Held {
    holder: Child,
    script: Child,
}

impl Held {
    /// Brings up a node with a Pod that runs.
    fn start(kubectl: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/node.sh");
        let mut sleep = Command::new("sleep");
        let mut holder = sleep
            .arg("infinity")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut script = Command::new(script)
            .stdin(holder.stdout.take().unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut kubeconfig = String::new();
        BufReader::new(script.stdout.take().unwrap())
            .read_line(&mut kubeconfig)
            .unwrap();
        let kubectl = |arguments: &[&str]| {
            let network = Path::new(&kubeconfig)
                .ancestors()
                .nth(2)
                .unwrap()
                .join("netns");
            let mut command = Command::new("nsenter");
            command
                .arg(format!("--net={}", network.display()))
                .arg(kubectl);
            command.arg(format!("--kubeconfig={}", kubeconfig.trim_end()));
            run(command.args(arguments), "")
        };
        eventually("a Pod", || {
            kubectl(&["run", "pause", "--image=registry.test:5000/pause:1"]).success
        });
        let ready = kubectl(&[
            "wait",
            "--for=condition=Ready",
            "pod/pause",
            "--timeout=60s",
        ]);
        assert!(ready.success, "{}", ready.stderr);
        Self { holder, script }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for process in [&mut self.holder, &mut self.script] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

#[test]
fn a_node_leaves_nothing_on_the_machine_however_it_ends() {
    let mut turn = Turn::wait();
    let (state, kubectl) = (
        turn.state().to_owned(),
        turn.cluster.kubectl_program().to_owned(),
    );
    turn.end_node();
    let before = traces(&state);
    let own = |trace: &String| {
        trace.contains("forestall-node") || trace.contains(state.to_str().unwrap())
    };
    assert!(!before.iter().any(own), "{before:#?}");

    // Nobody is left to remove anything, so the next node does. Processes and mounts go by themselves.
    let mut killed = Held::start(&kubectl);
    killed.script.kill().unwrap();
    let running = |trace: &String| trace.starts_with("process") || trace.starts_with("mount");
    eventually("the end of all processes and mounts", || {
        !traces(&state).iter().any(running)
    });
    assert_ne!(traces(&state), before);
    drop(killed);

    let mut abandoned = Held::start(&kubectl);
    assert!(traces(&state).len() > before.len() + 10);
    abandoned.holder.kill().unwrap();
    assert!(abandoned.script.wait().unwrap().success());
    assert_eq!(traces(&state), before);
}
