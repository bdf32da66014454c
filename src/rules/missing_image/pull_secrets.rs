//! Pull secrets that do not do what their author thinks.

use super::printable;
use crate::evidence::{Evidence, PullSecret, PullSecretState, PullSecretsOf, Puller, Unknown};
use crate::review::Review;
use crate::rules::{Certainty, Finding, Response};

/// What is wrong with the pull secrets of a pod.
///
/// # Errors
/// Why they are not known.
pub(super) fn findings(
    review: &Review,
    puller: &Puller,
    evidence: &Evidence,
) -> Result<Vec<Finding>, Unknown> {
    let secrets = evidence.get(&PullSecretsOf(puller.clone()))?;
    let secrets = secrets.iter();
    Ok(secrets
        .filter_map(|secret| finding(review, puller, secret))
        .collect())
}

fn finding(review: &Review, puller: &Puller, secret: &PullSecret) -> Option<Finding> {
    let name = printable(&secret.name);
    let (certainty, problem, help) = match &secret.state {
        PullSecretState::Usable => return None,
        PullSecretState::Malformed { problem } => (
            Certainty::Proven,
            format!("is malformed: {problem}"),
            "kubelet pulls no image for a pod with such a secret; make it with kubectl create secret \
             docker-registry"
                .to_owned(),
        ),
        PullSecretState::Ignored { kind } => (
            Certainty::Likely,
            format!(
                "has the type {:?} and no key of that type for kubelet, which ignores it",
                printable(kind)
            ),
            "write the type kubernetes.io/dockerconfigjson and the key .dockerconfigjson".to_owned(),
        ),
        PullSecretState::Absent => (
            Certainty::Likely,
            format!("does not exist in namespace {}", printable(&puller.namespace)),
            "kubelet pulls without it; create it, or name one that exists".to_owned(),
        ),
    };
    let item = format!("pull secret {name}");
    Some(Finding {
        certainty,
        path: pointer(review, puller, &secret.name)?,
        message: format!("{item} {problem}"),
        item,
        value: secret.name.clone(),
        magnitude: None,
        help,
        offers: Vec::new(),
        response: Response::Refuse,
    })
}

/// Where the pod names the secret, or the service account that does.
fn pointer(review: &Review, puller: &Puller, name: &str) -> Option<String> {
    let (base, spec) = review.pod_spec().ok()??;
    if let Some(index) = puller.named.iter().position(|named| named == name) {
        return Some(format!("{base}/imagePullSecrets/{index}/name"));
    }
    let written = ["serviceAccountName", "serviceAccount"].into_iter();
    let mut written = written.filter(|key| spec.get(key).is_some());
    Some(match written.next() {
        Some(key) => format!("{base}/{key}"),
        None => base.to_owned(),
    })
}
