//! Which nodes a pod may be put on, as far as the platform of a node decides it.

use super::Review;
use crate::image::Platform;
use crate::tree::Node;

/// The label with the operating system of a node (Kubernetes, "Well-Known Labels").
pub const OS_LABEL: &str = "kubernetes.io/os";
/// The label with the architecture of a node.
pub const ARCHITECTURE_LABEL: &str = "kubernetes.io/arch";
/// The same two, as they were called before Kubernetes 1.14.
const OLD_OS_LABEL: &str = "beta.kubernetes.io/os";
const OLD_ARCHITECTURE_LABEL: &str = "beta.kubernetes.io/arch";

const TERMS: &str =
    "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";

impl Review {
    /// Whether the pod may be put on a node of this platform. Its node selector and its required
    /// node affinity are looked at; all that says nothing of platforms counts as fitting.
    #[must_use]
    pub fn may_run_on(&self, platform: &Platform) -> bool {
        let Ok(Some((_, spec))) = self.pod_spec() else {
            return true;
        };
        let selector = spec.get("nodeSelector").into_iter();
        let is_selected = selector.flat_map(Node::entries).all(|(key, wanted)| {
            label(platform, key).is_none_or(|value| wanted.as_str() == Some(value))
        });
        let terms = spec.at(TERMS).filter(|terms| terms.is_list());
        is_selected && terms.is_none_or(|terms| terms.items().any(|term| fits(platform, term)))
    }
}

/// What a node of this platform has as this label; `None` where the platform does not say.
fn label<'a>(platform: &'a Platform, key: &str) -> Option<&'a str> {
    match key {
        OS_LABEL | OLD_OS_LABEL => Some(&platform.os),
        ARCHITECTURE_LABEL | OLD_ARCHITECTURE_LABEL => Some(&platform.architecture),
        _ => None,
    }
}

/// Whether a term of the affinity may hold for a node of this platform.
fn fits(platform: &Platform, term: Node<'_>) -> bool {
    let requirements = term.get("matchExpressions").into_iter();
    requirements.flat_map(Node::items).all(|requirement| {
        let text = |key: &str| requirement.get(key).and_then(Node::as_str);
        let Some(value) = text("key").and_then(|key| label(platform, key)) else {
            return true;
        };
        let values = requirement.get("values").into_iter();
        let mut values = values.flat_map(Node::items);
        let is_listed = values.any(|other| other.as_str() == Some(value));
        match text("operator") {
            Some("In") => is_listed,
            Some("NotIn") => !is_listed,
            Some("DoesNotExist") => false,
            _ => true,
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fitting(spec: &Value) -> Vec<String> {
        let review = Review::of_manifest(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec,
        }))
        .unwrap();
        let platforms = [("linux", "amd64"), ("linux", "arm64"), ("windows", "amd64")];
        platforms
            .map(|(os, architecture)| Platform {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
            })
            .iter()
            .filter(|platform| review.may_run_on(platform))
            .map(ToString::to_string)
            .collect()
    }

    fn affinity(terms: &Value) -> Value {
        json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
        }}})
    }

    #[test]
    fn a_node_selector_keeps_other_platforms_out() {
        let all = ["linux/amd64", "linux/arm64", "windows/amd64"];
        for spec in [
            json!({}),
            json!({"nodeSelector": null}),
            json!({"nodeSelector": {"pool": "arm64"}}),
            json!({"nodeSelector": 5}),
        ] {
            assert_eq!(fitting(&spec), all, "{spec}");
        }
        let arm = json!({"nodeSelector": {ARCHITECTURE_LABEL: "arm64", "pool": "a"}});
        assert_eq!(fitting(&arm), ["linux/arm64"]);
        let windows = json!({"nodeSelector": {OLD_OS_LABEL: "windows"}});
        assert_eq!(fitting(&windows), ["windows/amd64"]);
    }

    #[test]
    fn of_the_terms_of_an_affinity_one_must_hold_and_all_of_its_requirements() {
        let requirement = |key: &str, operator: &str, values: Value| json!({"key": key, "operator": operator, "values": values});
        let linux = requirement(OS_LABEL, "In", json!(["linux"]));
        let not_arm = requirement(ARCHITECTURE_LABEL, "NotIn", json!(["arm64"]));
        let of_pool = requirement("pool", "In", json!(["a"]));
        let term = |requirements: &[&Value]| json!({"matchExpressions": requirements});
        for (terms, expected) in [
            (
                json!([term(&[&linux])]),
                &["linux/amd64", "linux/arm64"][..],
            ),
            (
                json!([term(&[&linux, &not_arm, &of_pool])]),
                &["linux/amd64"],
            ),
            (
                json!([term(&[&linux]), term(&[&not_arm])]),
                &["linux/amd64", "linux/arm64", "windows/amd64"],
            ),
            (
                json!([term(&[&requirement(OS_LABEL, "DoesNotExist", json!(null))])]),
                &[],
            ),
            (
                json!([term(&[&requirement(OS_LABEL, "Gt", json!(["1"]))])]),
                &["linux/amd64", "linux/arm64", "windows/amd64"],
            ),
        ] {
            assert_eq!(fitting(&affinity(&terms)), expected, "{terms}");
        }
    }
}
