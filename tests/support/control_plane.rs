//! A real API server for the tests of this process, and the real kubectl.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::go::go_program;

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_mins(1);

/// etcd, kube-apiserver and kube-controller-manager; see tests/support/control-plane.sh.
pub struct ControlPlane {
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    namespaces: AtomicU32,
    /// Holds the other end of the script's standard input, without which the cluster ends: so it
    /// does not outlive this process, however that ends.
    supervisor: Child,
}

/// What a program printed.
#[derive(Debug)]
pub struct Output {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

impl ControlPlane {
    /// The cluster that all tests of this process share, each in namespaces of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<ControlPlane> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A cluster of its own, for a test that changes what all would see.
    pub fn start() -> Self {
        let support = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support");
        // The script removes it.
        let state = tempfile::Builder::new()
            .prefix("forestall-control-plane-")
            .tempdir()
            .unwrap()
            .keep();
        let policy = support.join("audit-policy.yaml");
        Self::by_script("control-plane.sh", [state, policy])
    }

    /// The cluster of a script that prints its kubeconfig, and ends it when its input ends.
    pub fn by_script<Argument: AsRef<OsStr>>(
        script: &str,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> Self {
        let support = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support");
        let mut supervisor = Command::new(support.join(script))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash is needed to start a cluster");
        let mut line = String::new();
        BufReader::new(supervisor.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(
            !line.is_empty(),
            "{script} does not bring up a cluster; its last lines are above"
        );
        Self {
            kubeconfig: PathBuf::from(line.trim_end()),
            kubectl: go_program("kubectl"),
            namespaces: AtomicU32::new(0),
            supervisor,
        }
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The program kubectl.
    pub fn kubectl_program(&self) -> &Path {
        &self.kubectl
    }

    /// The audit log: one JSON event in each line.
    pub fn audit_log(&self) -> PathBuf {
        self.kubeconfig.with_file_name("audit.log")
    }

    /// Runs kubectl as administrator.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(&self.kubectl);
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig);
        // Its caches of the API would be shared by clusters that come and go.
        command.env("KUBECACHEDIR", self.kubeconfig.with_file_name("cache"));
        run(&mut command, input)
    }

    /// Runs kubectl, which must succeed, and gives what it printed.
    pub fn must(&self, arguments: &[&str], input: &str) -> String {
        let output = self.kubectl(arguments, input);
        assert!(
            output.success,
            "kubectl {}: {}",
            arguments.join(" "),
            output.stderr
        );
        output.stdout
    }

    /// A new namespace, ready for Pods. Nobody needs to delete it.
    pub fn namespace(&self) -> String {
        let number = self.namespaces.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{number}");
        self.must(&["create", "namespace", &name], "");
        let account = ["--namespace", &name, "get", "serviceaccount", "default"];
        eventually("the ServiceAccount default", || {
            self.kubectl(&account, "").success
        });
        name
    }

    /// The administrator's client configuration.
    pub async fn config(&self) -> Config {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap()
    }

    /// An administrator's client, for the runtime of the calling test.
    pub async fn client(&self) -> Client {
        Client::try_from(self.config().await).unwrap()
    }
}

impl Drop for ControlPlane {
    /// Waits for its end, so that nothing of it disturbs what comes next.
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}

/// Runs a program with this input.
pub fn run(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not read its input is no failure of the test.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Output {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Waits until it is so; what never comes fails the test.
pub fn eventually(what: &str, is: impl Fn() -> bool) {
    let ends = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < ends, "{what} never came");
        std::thread::sleep(Duration::from_millis(50));
    }
}
