//! What a pod says that decides with which credentials its images are pulled.

use super::Review;
use super::workload::LONGEST_NAME;
use crate::tree::Node;
use crate::unknown::Unknown;

/// The service account of a pod that names none (Kubernetes,
/// plugin/pkg/admission/serviceaccount `DefaultServiceAccountName`).
pub(crate) const DEFAULT_ACCOUNT: &str = "default";

/// Pull secrets of one pod that are looked at. Each image is asked for with all of them.
const MOST_PULL_SECRETS: usize = 16;

/// A pod for which a node pulls images, as far as it decides with which pull secrets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Puller {
    /// Its namespace.
    pub namespace: String,
    /// Its service account, whose pull secrets count if it names none itself.
    pub service_account: String,
    /// The pull secrets that it names itself, as written: an empty name names none.
    pub named: Vec<String>,
}

impl Review {
    /// What the pods say that decides with which pull secrets their images are pulled.
    ///
    /// # Errors
    /// As [`Review::pod_spec`], and where there are far too many pull secrets or a name is far too
    /// long.
    pub fn puller(&self) -> Result<Option<Puller>, Unknown> {
        let Some((base, spec)) = self.pod_spec()? else {
            return Ok(None);
        };
        let account = ["serviceAccountName", "serviceAccount"].iter();
        let mut account = account.filter_map(|field| Some((*field, spec.get(field)?.as_str()?)));
        let account = account.find(|(_, name)| !name.is_empty());
        let secrets = spec.get("imagePullSecrets");
        let secrets = secrets.into_iter().flat_map(Node::items);
        if secrets.clone().nth(MOST_PULL_SECRETS).is_some() {
            return Err(Unknown::TooMany);
        }
        let named = secrets.map(|secret| {
            let name = secret.text_at("/name").unwrap_or_default();
            copied(name, base, "imagePullSecrets")
        });
        Ok(Some(Puller {
            namespace: self.subject.namespace.clone().unwrap_or_default(),
            service_account: match account {
                Some((field, name)) => copied(name, base, field)?,
                None => DEFAULT_ACCOUNT.to_owned(),
            },
            named: named.collect::<Result<_, _>>()?,
        }))
    }
}

/// A name of an object, from a field of the PodSpec.
fn copied(name: &str, base: &str, field: &str) -> Result<String, Unknown> {
    if name.len() <= LONGEST_NAME {
        return Ok(name.to_owned());
    }
    let problem = format!("is longer than {LONGEST_NAME} bytes");
    Err(Unknown::unreadable(&format!("{base}/{field}"), &problem))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pull_secrets_that_are_far_too_many_or_too_long_are_not_copied() {
        let puller = |spec| {
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": spec});
            Review::of_manifest(pod).unwrap().puller()
        };
        let secrets = |count| vec![json!({"name": "a"}); count];
        let most = puller(json!({"imagePullSecrets": secrets(MOST_PULL_SECRETS)}));
        assert_eq!(most.unwrap().unwrap().named, vec!["a"; MOST_PULL_SECRETS]);
        let many = puller(json!({"imagePullSecrets": secrets(MOST_PULL_SECRETS + 1)}));
        assert_eq!(many, Err(Unknown::TooMany));
        let long = "x".repeat(LONGEST_NAME + 1);
        for (spec, field) in [
            (json!({"serviceAccountName": long}), "serviceAccountName"),
            (
                json!({"imagePullSecrets": [{"name": long}]}),
                "imagePullSecrets",
            ),
        ] {
            let error = puller(spec).unwrap_err().to_string();
            assert_eq!(error, format!("/spec/{field} is longer than 253 bytes"));
        }
    }
}
