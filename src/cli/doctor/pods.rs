//! Forestall's Pods: what they are started with, and what they say of themselves.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EnvVar, PodCondition, SecretVolumeSource, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::api::{Api, Unread};
use super::samples::Samples;

/// The port for operators, unless a Pod is told otherwise.
const ADMIN_PORT: u16 = 8080;

/// What is read of a Pod. The whole type would bring code for hundreds of fields into the program.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pod {
    pub(super) metadata: ObjectMeta,
    pub(super) spec: PodSpec,
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodSpec {
    containers: Vec<Container>,
    volumes: Vec<Volume>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: String,
    conditions: Vec<PodCondition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    command: Vec<String>,
    args: Vec<String>,
    env: Vec<EnvVar>,
    volume_mounts: Vec<VolumeMount>,
}

/// A volume of a Pod, where it comes from a `ConfigMap` or a Secret.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Volume {
    name: String,
    pub(super) config_map: Option<ConfigMapVolumeSource>,
    pub(super) secret: Option<SecretVolumeSource>,
}

/// One of Forestall's Pods.
#[derive(Clone, Debug)]
pub(super) struct Runner {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) pod: Pod,
    /// What its /metrics says.
    pub(super) samples: Result<Samples, Unread>,
}

// === impl Runner ===

impl Runner {
    /// A Pod whose metrics have not been read.
    pub(super) fn of(pod: Pod) -> Self {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let reason = format!("the metrics of Pod {name} were not read");
        Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name,
            pod,
            samples: Err(Unread::Absent(reason)),
        }
    }

    /// Whether a Pod has neither ended nor been told to.
    pub(super) fn stays(pod: &Pod) -> bool {
        let phase = pod.status.phase.as_str();
        pod.metadata.deletion_timestamp.is_none() && !matches!(phase, "Succeeded" | "Failed")
    }

    /// Reads its metrics, through the API server's Pod proxy.
    pub(super) async fn ask(api: &Api, pod: Pod) -> Self {
        let runner = Self::of(pod);
        let samples = runner.read(api).await;
        Self { samples, ..runner }
    }

    /// Reads its metrics again.
    pub(super) async fn read(&self, api: &Api) -> Result<Samples, Unread> {
        let Self {
            name, namespace, ..
        } = self;
        let port = self.admin_port();
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/metrics");
        let text = api.text(&path).await?;
        Ok(Samples::parse(&text))
    }

    /// Whether the kubelet says that it is ready.
    pub(super) fn is_ready(&self) -> bool {
        let mut conditions = self.pod.status.conditions.iter();
        conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
    }

    fn admin_port(&self) -> u16 {
        let given = self.argument("--admin-listen");
        let port = given.and_then(|address| address.rsplit_once(':')?.1.parse().ok());
        port.unwrap_or(ADMIN_PORT)
    }

    /// The value of a flag of `forestall serve`, written `--flag=value` or `--flag value`.
    pub(super) fn argument(&self, flag: &str) -> Option<String> {
        let container = self.container()?;
        let words = container.command.iter().chain(&container.args);
        let mut words = words.skip_while(|word| {
            let rest = word.strip_prefix(flag);
            rest.is_none_or(|rest| !rest.is_empty() && !rest.starts_with('='))
        });
        let value = match words.next()?.split_once('=') {
            Some((_, value)) => value,
            None => words.next()?,
        };
        Some(self.expanded(container, value))
    }

    /// The volume that a path of the container is in, and the file in it.
    pub(super) fn volume<'a>(&self, path: &'a str) -> Option<(&Volume, &'a str)> {
        let mounts = self.container()?.volume_mounts.iter();
        let (mount, file) = mounts
            .filter_map(|mount| {
                let file = path.strip_prefix(mount.mount_path.trim_end_matches('/'))?;
                Some((mount, file.strip_prefix('/')?))
            })
            .max_by_key(|(mount, _)| mount.mount_path.len())?;
        let mut volumes = self.pod.spec.volumes.iter();
        Some((volumes.find(|volume| volume.name == mount.name)?, file))
    }

    /// The container that serves; sidecars have other arguments.
    fn container(&self) -> Option<&Container> {
        let containers = &self.pod.spec.containers;
        let serves = |container: &&Container| {
            let mut words = container.command.iter().chain(&container.args);
            words.any(|word| word == "serve")
        };
        containers.iter().find(serves)
    }

    /// `$(NAME)` with the variable's value, as the kubelet starts it, for the variables that a Pod
    /// says itself.
    fn expanded(&self, container: &Container, value: &str) -> String {
        let mut text = value.to_owned();
        for variable in &container.env {
            let field = variable.value_from.as_ref();
            let field = field.and_then(|source| source.field_ref.as_ref());
            let value = match field.map(|field| field.field_path.as_str()) {
                Some("metadata.namespace") => Some(&self.namespace),
                Some("metadata.name") => Some(&self.name),
                _ => variable.value.as_ref(),
            };
            if let Some(value) = value {
                text = text.replace(&format!("$({})", variable.name), value);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn runner(args: &Value) -> Runner {
        let pod = json!({
            "metadata": {"name": "forestall-1", "namespace": "guard"},
            "spec": {
                "containers": [
                    {"name": "proxy", "args": ["--config=/no"]},
                    {"name": "forestall", "args": args, "env": [
                        {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                        {"name": "KIND", "value": "tls"},
                    ], "volumeMounts": [
                        {"name": "root", "mountPath": "/etc/"},
                        {"name": "config", "mountPath": "/etc/forestall"},
                    ]},
                ],
                "volumes": [{"name": "root"}, {"name": "config", "configMap": {"name": "settings"}}],
            },
        });
        Runner::of(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn flags_are_read_as_the_kubelet_starts_the_program() {
        let args = json!([
            "serve",
            "--config-not=1",
            "--config=/etc/forestall/a.yaml",
            "--tls-secret",
            "$(POD_NAMESPACE)/forestall-$(KIND)",
            "--admin-listen=[::]:9000",
            "--odd"
        ]);
        let runner = runner(&args);
        let argument = |flag| runner.argument(flag);
        assert_eq!(
            argument("--config").as_deref(),
            Some("/etc/forestall/a.yaml")
        );
        assert_eq!(
            argument("--tls-secret").as_deref(),
            Some("guard/forestall-tls")
        );
        assert_eq!(argument("--tls-cert"), None);
        assert_eq!(argument("--odd"), None);
        assert_eq!(runner.admin_port(), 9000);
        assert_eq!(super::tests::runner(&json!(["serve"])).admin_port(), 8080);
    }

    #[test]
    fn a_file_is_found_in_the_innermost_volume() {
        let runner = runner(&json!(["serve"]));
        let (volume, file) = runner.volume("/etc/forestall/a.yaml").unwrap();
        assert_eq!(volume.config_map.as_ref().unwrap().name, "settings");
        assert_eq!(file, "a.yaml");
        assert!(runner.volume("/etcetera/a.yaml").is_none());
        assert!(runner.volume("/var/a.yaml").is_none());
    }
}
