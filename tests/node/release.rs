//! A release of the packed chart, for the time of a test.

use serde_json::{Value, json};

use crate::control_plane::{Output, eventually};
use crate::node_under_test::{Node, REGISTRY_NAME, TAG};

/// `helm install`, and at the end `helm uninstall`.
pub struct Release<'node> {
    node: &'node Node,
    pub namespace: String,
}

/// A Deployment of one replica, whose Pods are labelled app=NAME.
pub fn deployment(name: &str, image: &str) -> Value {
    let labels = json!({"app": name});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {
            "containers": [{"name": "app", "image": image}],
        }},
    }})
}

impl<'node> Release<'node> {
    /// Installs the chart in a namespace of its own, with these values beside those of the node, and
    /// waits until its Pods are ready.
    pub fn install(node: &'node Node, values: &Value) -> Self {
        let release = Self::prepare(node);
        release.must_helm("install", &["--wait", "--timeout", "120s"], values);
        release
    }

    /// A namespace in which nothing is installed yet.
    pub fn prepare(node: &'node Node) -> Self {
        Self {
            namespace: node.cluster.namespace(),
            node,
        }
    }

    /// Runs Helm on this release with the chart and these values, which must succeed.
    pub fn must_helm(&self, verb: &str, flags: &[&str], values: &Value) {
        let output = self.helm(verb, flags, values);
        let pods = ["--namespace", &self.namespace, "describe", "pods"];
        assert!(
            output.success,
            "helm {verb}: {}\n{}",
            output.stderr,
            self.node.cluster.kubectl(&pods, "").stdout
        );
    }

    /// Runs Helm on this release with the chart and these values.
    pub fn helm(&self, verb: &str, flags: &[&str], values: &Value) -> Output {
        let mut all = json!({
            "image": {"registry": REGISTRY_NAME, "tag": TAG},
            "registries": {"docker.io": {"server": format!("http://{REGISTRY_NAME}")}},
        });
        for (key, value) in values.as_object().unwrap() {
            all[key] = value.clone();
        }
        let chart = self.node.chart.to_str().unwrap();
        let namespace = ["--namespace", &self.namespace, "--values", "-"];
        let arguments = [&[verb, "forestall", chart], &namespace[..], flags].concat();
        self.node.helm(&arguments, &all.to_string())
    }

    /// `helm rollback` to the release before.
    pub fn must_rollback(&self) {
        let arguments = ["rollback", "forestall", "--wait", "--timeout", "120s"];
        let output = self.node.helm(
            &[&arguments[..], &["--namespace", &self.namespace]].concat(),
            "",
        );
        assert!(output.success, "helm rollback: {}", output.stderr);
    }

    /// `helm uninstall`.
    pub fn must_uninstall(&self) {
        let arguments = ["uninstall", "forestall", "--namespace", &self.namespace];
        let output = self.node.helm(&arguments, "");
        assert!(output.success, "helm uninstall: {}", output.stderr);
    }

    pub fn apply(&self, namespace: &str, object: &Value) -> Output {
        let arguments = ["--namespace", namespace, "apply", "-f", "-"];
        self.node.cluster.kubectl(&arguments, &object.to_string())
    }

    /// Applies an object once the API server asks Forestall: it learns of webhooks within a second or so.
    pub fn until_judged(&self, namespace: &str, object: &Value) -> Output {
        let probe = deployment("probe", "prom/prometheus").to_string();
        let dry_run = [
            "--namespace",
            namespace,
            "create",
            "--dry-run=server",
            "-f",
            "-",
        ];
        eventually("a review", || {
            self.node.cluster.kubectl(&dry_run, &probe);
            self.sum(
                "forestall_admission_requests_total",
                &["webhook=\"validating\""],
            ) > 0.0
        });
        self.apply(namespace, object)
    }

    /// The Pods of the release.
    pub fn pods(&self) -> Vec<Value> {
        let arguments = ["--namespace", &self.namespace, "get", "pods", "-o", "json"];
        let list: Value = serde_json::from_str(&self.node.cluster.must(&arguments, "")).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// The sum over all Pods of a metric's samples that have these labels, read by the API server's proxy.
    pub fn sum(&self, metric: &str, labels: &[&str]) -> f64 {
        let mut sum = 0.0;
        for pod in self.pods() {
            let name = pod["metadata"]["name"].as_str().unwrap();
            let path = format!(
                "/api/v1/namespaces/{}/pods/{name}:8080/proxy/metrics",
                self.namespace
            );
            let text = self
                .node
                .cluster
                .kubectl(&["get", "--raw", &path], "")
                .stdout;
            sum += text
                .lines()
                .filter(|line| line.split(['{', ' ']).next() == Some(metric))
                .filter(|line| labels.iter().all(|label| line.contains(label)))
                .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
                .sum::<f64>();
        }
        sum
    }
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        let namespace = &self.namespace;
        if std::thread::panicking() {
            let logs = ["--namespace", namespace, "logs", "--prefix", "--tail=50"];
            let selector = ["--selector", "app.kubernetes.io/name=forestall"];
            let logs = self
                .node
                .cluster
                .kubectl(&[&logs[..], &selector].concat(), "");
            println!("the Pods logged:\n{}", logs.stdout);
        }
        self.node
            .helm(&["uninstall", "forestall", "--namespace", namespace], "");
        self.node
            .cluster
            .kubectl(&["delete", "namespace", namespace, "--wait=false"], "");
    }
}
