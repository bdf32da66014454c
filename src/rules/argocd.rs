//! What Argo CD is here, by its own objects: its version, and how it compares.

use std::collections::BTreeSet;
use std::fmt;

use crate::evidence::{Evidence, ObjectsOf};
use crate::objects::{ArgoCdController, ArgoCdParameters, PARAMETERS};
use crate::unknown::Unknown;

/// The first version that knows ServerSideApply=true (argo-cd, docs/operator-manual/upgrading).
pub(super) const FIRST_WITH_SERVER_SIDE_APPLY: Version = Version(2, 5);

/// From here ServerSideApply=true means server-side diff, which knows the defaults (argo-cd,
/// docs/operator-manual/upgrading/3.5-3.6.md).
pub(super) const FIRST_WITH_IMPLIED_DIFF: Version = Version(3, 6);

/// From here the status of every kind is ignored, and not only that of custom resources (argo-cd,
/// docs/operator-manual/upgrading/2.14-3.0.md).
pub(super) const FIRST_WITHOUT_STATUS: Version = Version(3, 0);

/// Major and minor version of Argo CD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u32, u32);

/// The version that all application controllers have.
///
/// # Errors
/// None is seen, or several that differ.
pub fn version(evidence: &Evidence) -> Result<&str, Unknown> {
    let found = evidence.get(&ObjectsOf::<ArgoCdController>::all())?;
    let controllers = found.readable();
    let versions: BTreeSet<_> = controllers
        .map(|controller| controller.version.as_deref())
        .collect();
    // It can only be of one kind; what is seen of it is enough, unless more may be seen in a moment.
    match found.rest() {
        Err(unknown) if versions.is_empty() || unknown == Unknown::NotSynced => {
            return Err(unknown);
        }
        _ => {}
    }
    one(&versions)
}

/// Whether Argo CD, as it runs here, shows the defaults that a definition writes into lists as drift of
/// Applications that it compares by structured merge.
///
/// # Errors
/// Its version is not known, or how it compares.
pub(super) fn shows_list_defaults(
    version: Version,
    refuses_server_side_diff: bool,
    evidence: &Evidence,
) -> Result<bool, Unknown> {
    if !(FIRST_WITH_SERVER_SIDE_APPLY..FIRST_WITH_IMPLIED_DIFF).contains(&version) {
        return Ok(false);
    }
    // The Application can switch off what is on for all.
    if refuses_server_side_diff {
        return Ok(true);
    }
    match server_side_diff(evidence) {
        Ok(is_on) => Ok(!is_on),
        // Where nobody says otherwise, Argo CD's own default holds: it is off.
        Err(Unknown::NotAsked | Unknown::Unavailable(_)) => Ok(true),
        Err(reason) => Err(reason),
    }
}

fn one<'e>(versions: &BTreeSet<Result<&'e str, &String>>) -> Result<&'e str, Unknown> {
    let cure = "write argocd.version in the configuration";
    let mut found = versions.iter();
    let problem = match (found.next(), found.next()) {
        (Some(Ok(version)), None) => return Ok(version),
        (None, _) => "no Argo CD is seen in the cluster".to_owned(),
        (Some(Err(image)), None) => {
            format!("the image {image:?} does not tell the version of Argo CD")
        }
        (Some(one), Some(other)) => {
            let [one, other] = [one, other].map(|version| version.unwrap_or_else(|image| image));
            format!("Argo CD runs here as {one} and as {other}")
        }
    };
    Err(Unknown::Unavailable(format!("{problem}; {cure}")))
}

/// Whether Argo CD is set to server-side diff throughout. A cluster that does not say so has Argo CD's
/// own default, which is no.
///
/// # Errors
/// The settings cannot be seen, or contradict each other.
pub fn server_side_diff(evidence: &Evidence) -> Result<bool, Unknown> {
    let found = evidence.get(&ObjectsOf::<ArgoCdParameters>::all())?;
    let settings = found.readable();
    let flags: BTreeSet<bool> = settings.map(|settings| settings.server_side_diff).collect();
    match found.rest() {
        Err(unknown) if flags.is_empty() || unknown == Unknown::NotSynced => return Err(unknown),
        _ => {}
    }
    if flags.len() > 1 {
        return Err(Unknown::Unavailable(format!(
            "the ConfigMaps {PARAMETERS} in this cluster disagree on controller.diff.server.side"
        )));
    }
    Ok(flags.contains(&true))
}

// === impl Version ===

impl Version {
    /// Reads `v2.10.0`, `2.10`, `v3.0.0-rc1+abc`.
    pub(super) fn parse(text: &str) -> Result<Self, Unknown> {
        let number = |part: Option<&str>| {
            let part = part?;
            let end = part.find(|char: char| !char.is_ascii_digit());
            part[..end.unwrap_or(part.len())].parse().ok()
        };
        let mut parts = text.strip_prefix('v').unwrap_or(text).split('.');
        match (number(parts.next()), number(parts.next())) {
            (Some(major), Some(minor)) => Ok(Self(major, minor)),
            _ => Err(Unknown::Unavailable(format!(
                "the version of Argo CD is {text:?}, which is none; configure argocd.version"
            ))),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_version_holds_two_do_not_and_none_names_the_cure() {
        let main = "argocd:main".to_owned();
        assert_eq!(one(&BTreeSet::from([Ok("v2.10.0")])), Ok("v2.10.0"));
        for (versions, problem) in [
            (
                vec![],
                "no Argo CD is seen in the cluster; write argocd.version in the configuration",
            ),
            (
                vec![Ok("v2.10.0"), Ok("v3.0.0")],
                "Argo CD runs here as v2.10.0 and as v3.0.0; write",
            ),
            (vec![Err(&main)], "the image \"argocd:main\" does not tell"),
        ] {
            let unknown = one(&versions.into_iter().collect()).unwrap_err();
            assert!(unknown.is_lasting());
            assert!(unknown.to_string().starts_with(problem), "{unknown}");
        }
    }
}
