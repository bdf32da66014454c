//! What is seen of Argo CD: the version that runs, and whether it compares by server-side diff.

use std::collections::BTreeSet;

use kube::api::DynamicObject;
use serde_json::Value;

use crate::evidence::Unknown;
use crate::image::ImageReference;

/// The component that compares Applications with the cluster; a stateful set, or a deployment where
/// its clusters are distributed dynamically (Argo CD, operator-manual/dynamic-cluster-distribution).
pub(super) const CONTROLLERS: &str = "app.kubernetes.io/name=argocd-application-controller";
/// All that Argo CD reads as its own settings carries this label.
pub(super) const PART_OF: &str = "app.kubernetes.io/part-of=argocd";
/// The settings of its components.
pub(in crate::lookup) const PARAMETERS: &str = "argocd-cmd-params-cm";

/// Says the same as the annotation `ServerSideDiff=true`, for all Applications (Argo CD,
/// user-guide/diff-strategies).
const SERVER_SIDE_DIFF: &str = "/data/controller.diff.server.side";

/// The version of one controller, or the image that does not tell it.
pub(in crate::lookup) type Version = Result<String, String>;

/// Reads the version from the tag of the image that runs, else from the label that its chart gives.
pub(in crate::lookup) fn version(controller: &DynamicObject) -> Version {
    let image = image(&controller.data).unwrap_or_default();
    let label = controller.metadata.labels.as_ref();
    ImageReference::parse(image)
        .ok()
        .and_then(|image| image.tag)
        .as_deref()
        .and_then(numbers)
        .or_else(|| label.and_then(|labels| numbers(labels.get("app.kubernetes.io/version")?)))
        .ok_or_else(|| image.to_owned())
}

/// The image of the controller itself, beside which others may inject sidecars.
fn image(workload: &Value) -> Option<&str> {
    let containers = workload
        .pointer("/spec/template/spec/containers")?
        .as_array()?;
    let name = |container: &Value| Some(container.get("name")?.as_str()?.to_owned());
    containers
        .iter()
        .find(|container| {
            // `argocd-application-controller` in the project's manifests, shorter in its chart.
            name(container).is_some_and(|name| name.ends_with("application-controller"))
        })
        .or_else(|| containers.first())?
        .get("image")?
        .as_str()
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

/// The one version that all controllers have.
pub(in crate::lookup) fn one_version(versions: Vec<Version>) -> Result<String, Unknown> {
    let cure = "write argocd.version in the configuration";
    let versions: BTreeSet<Version> = versions.into_iter().collect();
    let mut found = versions.iter();
    let problem = match (found.next(), found.next()) {
        (Some(Ok(version)), None) => return Ok(version.clone()),
        (None, _) => "no Argo CD is seen in the cluster".to_owned(),
        (Some(Err(image)), None) => {
            format!("the image {image:?} does not tell the version of Argo CD")
        }
        (Some(one), Some(other)) => {
            let shown = |version: &Version| version.clone().unwrap_or_else(|image| image);
            format!(
                "Argo CD runs here as {} and as {}",
                shown(one),
                shown(other)
            )
        }
    };
    Err(Unknown::Unavailable(format!("{problem}; {cure}")))
}

/// Whether the settings turn server-side diff on. Absent means no.
pub(in crate::lookup) fn server_side_diff(parameters: &DynamicObject) -> bool {
    // What Go's strconv.ParseBool takes for true, by which Argo CD reads it.
    parameters
        .data
        .pointer(SERVER_SIDE_DIFF)
        .and_then(Value::as_str)
        .is_some_and(|text| matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// What all settings agree on; without any, Argo CD's own default.
pub(in crate::lookup) fn one_flag(flags: &BTreeSet<bool>) -> Result<bool, Unknown> {
    if flags.len() > 1 {
        return Err(Unknown::Unavailable(format!(
            "the ConfigMaps {PARAMETERS} in this cluster disagree on controller.diff.server.side"
        )));
    }
    Ok(flags.contains(&true))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn controller(image: &str, label: Option<&str>) -> DynamicObject {
        let labels: BTreeMap<_, _> = label
            .map(|version| ("app.kubernetes.io/version", version))
            .into_iter()
            .collect();
        let sidecar = json!({"name": "proxy", "image": "envoy:v1.30.0"});
        let own = json!({"name": "application-controller", "image": image});
        serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "a", "labels": labels},
            "spec": {"template": {"spec": {"containers": [sidecar, own]}}},
        }))
        .unwrap()
    }

    #[test]
    fn the_version_is_the_tag_of_the_image_that_runs() {
        for (image, label, version) in [
            ("quay.io/argoproj/argocd:v2.10.3", Some("v2.9.0"), "v2.10.3"),
            ("bitnami/argo-cd:2.10.3-debian-12-r0", None, "v2.10.3"),
            ("argocd:v3.1.0-rc1", None, "v3.1.0"),
            ("argocd:v2.10", None, "v2.10"),
            ("argocd:latest", Some("v2.9.0"), "v2.9.0"),
            ("argocd", Some("2.9.0"), "v2.9.0"),
        ] {
            let seen = super::version(&controller(image, label));
            assert_eq!(seen.as_deref(), Ok(version), "{image} {label:?}");
        }
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
    fn one_version_holds_two_do_not_and_none_names_the_cure() {
        let v = |text: &str| Ok(text.to_owned());
        assert_eq!(
            one_version(vec![v("v2.10.0"), v("v2.10.0")]),
            Ok("v2.10.0".to_owned())
        );
        for (versions, problem) in [
            (
                vec![],
                "no Argo CD is seen in the cluster; write argocd.version in the configuration",
            ),
            (
                vec![v("v2.10.0"), v("v3.0.0")],
                "Argo CD runs here as v2.10.0 and as v3.0.0; write",
            ),
            (
                vec![Err("argocd:main".to_owned())],
                "the image \"argocd:main\" does not tell",
            ),
        ] {
            let unknown = one_version(versions).unwrap_err();
            assert!(unknown.is_lasting());
            assert!(unknown.to_string().starts_with(problem), "{unknown}");
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
            let parameters = serde_json::from_value(json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": PARAMETERS}, "data": data,
            }));
            assert_eq!(server_side_diff(&parameters.unwrap()), on, "{data}");
        }
        assert_eq!(one_flag(&BTreeSet::new()), Ok(false));
        assert_eq!(one_flag(&BTreeSet::from([true])), Ok(true));
        assert!(one_flag(&BTreeSet::from([true, false])).is_err());
    }
}
