//! Of Argo CD: the version that runs, and whether it compares by server-side diff.

use super::{Projection, ReadableKind, Selector};
use crate::image::ImageReference;
use crate::review::WatchedKind;
use crate::tree::Node;
use crate::unknown::Unknown;

/// What the application controller is labelled with.
const CONTROLLER: (&str, &str) = ("app.kubernetes.io/name", "argocd-application-controller");

/// The ConfigMap with the settings of Argo CD's components.
pub const PARAMETERS: &str = "argocd-cmd-params-cm";

/// Says the same as the annotation `ServerSideDiff=true`, for all Applications (Argo CD,
/// user-guide/diff-strategies).
pub(crate) const SERVER_SIDE_DIFF: &str = "controller.diff.server.side";

/// The component of Argo CD that compares Applications with the cluster; a stateful set, or a
/// deployment where its clusters are distributed dynamically (Argo CD,
/// operator-manual/dynamic-cluster-distribution).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgoCdController {
    /// Its version, such as `v2.10.3`, or the image that does not tell it.
    pub version: Result<String, String>,
}

/// The settings of Argo CD's components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgoCdParameters {
    /// Whether it compares by server-side diff throughout. Absent means no.
    pub server_side_diff: bool,
}

// === impl ArgoCdController ===

impl Projection for ArgoCdController {
    const KINDS: &'static [ReadableKind] = &[
        ReadableKind::v1(WatchedKind::namespaced("apps", "Deployment", "deployments")),
        ReadableKind::v1(WatchedKind::namespaced(
            "apps",
            "StatefulSet",
            "statefulsets",
        )),
    ];

    const SELECTOR: Selector = Selector {
        labels: "app.kubernetes.io/name=argocd-application-controller",
        ..Selector::ALL
    };

    /// Reads the version from the tag of the image that runs, else from the label that its chart gives.
    fn of(controller: Node<'_>, _: WatchedKind) -> Result<Option<Self>, Unknown> {
        let label = |name| controller.at("/metadata/labels")?.get(name)?.as_str();
        let (name, value) = CONTROLLER;
        if label(name) != Some(value) {
            return Ok(None);
        }
        let image = image(controller).unwrap_or_default();
        let tag = ImageReference::parse(image)
            .ok()
            .and_then(|image| image.tag);
        let version = tag
            .as_deref()
            .and_then(numbers)
            .or_else(|| numbers(label("app.kubernetes.io/version")?))
            .ok_or_else(|| image.to_owned());
        Ok(Some(Self { version }))
    }
}

/// The image of the controller itself, beside which others may inject sidecars.
fn image(workload: Node<'_>) -> Option<&str> {
    let containers = workload.at("/spec/template/spec/containers")?;
    let is_controller = |container: &Node<'_>| {
        // `argocd-application-controller` in the project's manifests, shorter in its chart.
        let name = container.text_at("/name");
        name.is_some_and(|name| name.ends_with("application-controller"))
    };
    let controller = containers.items().find(is_controller);
    let controller = controller.or_else(|| containers.item(0))?;
    controller.text_at("/image")
}

/// `v2.10.3` out of `v2.10.3-rc1` or `2.10.3-debian-12-r0`; nothing out of `latest`.
fn numbers(text: &str) -> Option<String> {
    let digits = text.strip_prefix('v').unwrap_or(text);
    let end = digits
        .find(|char: char| !char.is_ascii_digit() && char != '.')
        .unwrap_or(digits.len());
    let numbers = digits[..end].trim_end_matches('.');
    let parts: Vec<&str> = numbers.split('.').collect();
    let plausible =
        (2..=3).contains(&parts.len()) && parts.iter().all(|part| (1..=4).contains(&part.len()));
    plausible.then(|| format!("v{numbers}"))
}

/// What Argo CD's settings take for true (Go, `strconv.ParseBool`).
pub(crate) fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

// === impl ArgoCdParameters ===

impl Projection for ArgoCdParameters {
    const KINDS: &'static [ReadableKind] = &[ReadableKind::v1(WatchedKind::namespaced(
        "",
        "ConfigMap",
        "configmaps",
    ))];

    /// All that Argo CD reads as its own settings carries this label.
    const SELECTOR: Selector = Selector {
        name: Some(PARAMETERS),
        labels: "app.kubernetes.io/part-of=argocd",
        ..Selector::ALL
    };

    fn of(parameters: Node<'_>, _: WatchedKind) -> Result<Option<Self>, Unknown> {
        if parameters.text_at("/metadata/name") != Some(PARAMETERS) {
            return Ok(None);
        }
        let data = parameters.get("data");
        let value = data.and_then(|data| data.get(SERVER_SIDE_DIFF)?.as_str());
        let server_side_diff = value.is_some_and(is_true);
        Ok(Some(Self { server_side_diff }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::tree::Tree;

    fn version(image: &str, version: Option<&str>) -> Result<String, String> {
        let labels: BTreeMap<_, _> = [CONTROLLER]
            .into_iter()
            .chain(version.map(|version| ("app.kubernetes.io/version", version)))
            .collect();
        let sidecar = json!({"name": "proxy", "image": "envoy:v1.30.0"});
        let own = json!({"name": "application-controller", "image": image});
        let controller = Tree::from(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "a", "labels": labels},
            "spec": {"template": {"spec": {"containers": [sidecar, own]}}},
        }));
        let kept = ArgoCdController::of(controller.root(), ArgoCdController::KINDS[1].kind);
        kept.unwrap().unwrap().version
    }

    #[test]
    fn the_version_is_the_tag_of_the_image_that_runs() {
        for (image, label, expected) in [
            ("quay.io/argoproj/argocd:v2.10.3", Some("v2.9.0"), "v2.10.3"),
            ("bitnami/argo-cd:2.10.3-debian-12-r0", None, "v2.10.3"),
            ("argocd:v3.1.0-rc1", None, "v3.1.0"),
            ("argocd:v2.10", None, "v2.10"),
            ("argocd:latest", Some("v2.9.0"), "v2.9.0"),
            ("argocd", Some("2.9.0"), "v2.9.0"),
        ] {
            let seen = version(image, label);
            assert_eq!(seen.as_deref(), Ok(expected), "{image} {label:?}");
        }
        assert_eq!(version("argocd", None), Err("argocd".to_owned()));
    }

    #[test]
    fn what_looks_like_no_version_is_none() {
        for text in [
            "latest",
            "",
            "v",
            "2",
            "20240101",
            "1.2.3.4",
            "v2..1",
            "sha-123.4",
            "2.20240101",
        ] {
            assert_eq!(numbers(text), None, "{text}");
        }
    }

    #[test]
    fn server_side_diff_is_read_as_argo_cd_reads_it() {
        for (data, on) in [
            (json!({"controller.diff.server.side": "true"}), true),
            (json!({"controller.diff.server.side": "True"}), true),
            (json!({"controller.diff.server.side": "yes"}), false),
            (json!({"controller.diff.server.side": "false"}), false),
            (json!({}), false),
        ] {
            let parameters = Tree::from(json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": PARAMETERS}, "data": data,
            }));
            let kept = ArgoCdParameters::of(parameters.root(), ArgoCdParameters::KINDS[0].kind);
            assert_eq!(kept.unwrap().unwrap().server_side_diff, on, "{data}");
        }
    }
}
