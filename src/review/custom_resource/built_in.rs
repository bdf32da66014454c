//! The kinds that are known without configuration.
//!
//! A path is here only if its operator hands the value on to the nodes as it is written. Where an
//! operator puts an image together of several fields, or pulls it only under a condition that the path
//! does not show, there is none: better no answer than a wrong one.

use crate::review::WatchedKind;

/// One kind and where it names images.
pub(super) struct BuiltIn {
    pub(super) kind: WatchedKind,
    pub(super) paths: &'static [&'static str],
    /// Whether its objects run steps, one of which may make the image of another.
    pub(super) runs_steps: bool,
}

pub(super) const BUILT_IN: &[BuiltIn] = &[
    // prometheus-operator, pkg/operator/image.go `BuildImagePath`: an image that is written is taken
    // as it is. Containers are merged into the pod (Documentation/api-reference/api.md).
    operator(
        ["monitoring.coreos.com", "Alertmanager", "alertmanagers"],
        SERVER,
    ),
    operator(
        ["monitoring.coreos.com", "Prometheus", "prometheuses"],
        &[
            "spec.image",
            "spec.thanos.image",
            "spec.containers[*].image",
            "spec.initContainers[*].image",
        ],
    ),
    operator(
        [
            "monitoring.coreos.com",
            "PrometheusAgent",
            "prometheusagents",
        ],
        SERVER,
    ),
    operator(
        ["monitoring.coreos.com", "ThanosRuler", "thanosrulers"],
        SERVER,
    ),
    // opentelemetry-operator, internal/manifests/collector/container.go and
    // apis/v1beta1/common.go; apis/v1alpha1/instrumentation_types.go. Not the image of
    // spec.targetAllocator, which runs only where its `enabled` says so.
    operator(
        [
            "opentelemetry.io",
            "OpenTelemetryCollector",
            "opentelemetrycollectors",
        ],
        &[
            "spec.image",
            "spec.initContainers[*].image",
            "spec.additionalContainers[*].image",
        ],
    ),
    operator(
        ["opentelemetry.io", "Instrumentation", "instrumentations"],
        &[
            "spec.java.image",
            "spec.java.extensions[*].image",
            "spec.nodejs.image",
            "spec.python.image",
            "spec.dotnet.image",
            "spec.go.image",
            "spec.apacheHttpd.image",
            "spec.nginx.image",
        ],
    ),
    // Strimzi, "Custom resource API reference", `image`. Not ZooKeeper and not the init images: those
    // are only pulled where other fields say so.
    operator(
        ["kafka.strimzi.io", "Kafka", "kafkas"],
        &[
            "spec.kafka.image",
            "spec.entityOperator.topicOperator.image",
            "spec.entityOperator.userOperator.image",
            "spec.cruiseControl.image",
            "spec.kafkaExporter.image",
        ],
    ),
    operator(
        ["kafka.strimzi.io", "KafkaBridge", "kafkabridges"],
        &["spec.image"],
    ),
    operator(
        ["kafka.strimzi.io", "KafkaConnect", "kafkaconnects"],
        &["spec.image"],
    ),
    operator(
        [
            "kafka.strimzi.io",
            "KafkaMirrorMaker2",
            "kafkamirrormaker2s",
        ],
        &["spec.image"],
    ),
    // Argo Workflows, pkg/apis/workflow/v1alpha1/workflow_types.go `WorkflowSpec` and `Template`.
    workflow("Workflow", "workflows", TEMPLATES),
    workflow("WorkflowTemplate", "workflowtemplates", TEMPLATES),
    workflow(
        "CronWorkflow",
        "cronworkflows",
        &[
            "spec.workflowSpec.templates[*].container.image",
            "spec.workflowSpec.templates[*].script.image",
            "spec.workflowSpec.templates[*].containerSet.containers[*].image",
            "spec.workflowSpec.templates[*].initContainers[*].image",
            "spec.workflowSpec.templates[*].sidecars[*].image",
            "spec.workflowSpec.templateDefaults.container.image",
            "spec.workflowSpec.templateDefaults.script.image",
        ],
    ),
    // CloudNativePG, `getImageInfoFromImage`: the image is `cluster.Spec.ImageName`.
    operator(
        ["postgresql.cnpg.io", "Cluster", "clusters"],
        &["spec.imageName"],
    ),
    // KEDA, apis/keda/v1alpha1/scaledjob_types.go: a JobSpec.
    operator(
        ["keda.sh", "ScaledJob", "scaledjobs"],
        &[
            "spec.jobTargetRef.template.spec.containers[*].image",
            "spec.jobTargetRef.template.spec.initContainers[*].image",
        ],
    ),
    // KubeRay, ray-operator/apis/ray/v1: pod templates.
    operator(
        ["ray.io", "RayCluster", "rayclusters"],
        &[
            "spec.headGroupSpec.template.spec.containers[*].image",
            "spec.headGroupSpec.template.spec.initContainers[*].image",
            "spec.workerGroupSpecs[*].template.spec.containers[*].image",
            "spec.workerGroupSpecs[*].template.spec.initContainers[*].image",
        ],
    ),
    operator(
        ["ray.io", "RayJob", "rayjobs"],
        &[
            "spec.rayClusterSpec.headGroupSpec.template.spec.containers[*].image",
            "spec.rayClusterSpec.headGroupSpec.template.spec.initContainers[*].image",
            "spec.rayClusterSpec.workerGroupSpecs[*].template.spec.containers[*].image",
            "spec.rayClusterSpec.workerGroupSpecs[*].template.spec.initContainers[*].image",
        ],
    ),
    operator(
        ["ray.io", "RayService", "rayservices"],
        &[
            "spec.rayClusterConfig.headGroupSpec.template.spec.containers[*].image",
            "spec.rayClusterConfig.headGroupSpec.template.spec.initContainers[*].image",
            "spec.rayClusterConfig.workerGroupSpecs[*].template.spec.containers[*].image",
            "spec.rayClusterConfig.workerGroupSpecs[*].template.spec.initContainers[*].image",
        ],
    ),
];

/// Where most of what prometheus-operator runs names its images.
const SERVER: &[&str] = &[
    "spec.image",
    "spec.containers[*].image",
    "spec.initContainers[*].image",
];

/// Where workflows and their templates do.
const TEMPLATES: &[&str] = &[
    "spec.templates[*].container.image",
    "spec.templates[*].script.image",
    "spec.templates[*].containerSet.containers[*].image",
    "spec.templates[*].initContainers[*].image",
    "spec.templates[*].sidecars[*].image",
    "spec.templateDefaults.container.image",
    "spec.templateDefaults.script.image",
];

const fn operator(
    [group, kind, plural]: [&'static str; 3],
    paths: &'static [&'static str],
) -> BuiltIn {
    BuiltIn {
        kind: WatchedKind::namespaced(group, kind, plural),
        paths,
        runs_steps: false,
    }
}

const fn workflow(
    kind: &'static str,
    plural: &'static str,
    paths: &'static [&'static str],
) -> BuiltIn {
    BuiltIn {
        runs_steps: true,
        ..operator(["argoproj.io", kind, plural], paths)
    }
}
