//! Whether the images in custom resources are seen: an operator names kinds, and a mistake in a name
//! is seen by nobody but the cluster.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;

use super::Check;
use super::api::{Api, Unread};
use super::facts::{Facts, Resources, Served};
use super::hooks::WebhookType;
use super::installation::{is_on, qualified, unreached};
use crate::config::Config;
use crate::review::custom_resource::{CustomResource, CustomResources};
use crate::rules::catalogue;

/// The guardrail that looks at them.
const RULE: &str = "missing-image";

/// What the configuration adds to what is built in.
fn known(config: Option<&Config>) -> Option<CustomResources> {
    let settings = config.map(|config| &config.rules.missing_image.own);
    let added = settings.map_or(&[][..], |settings| &settings.custom_resources);
    CustomResources::parse(added).ok()
}

/// Asks for the kinds of the groups that custom resources with images are in.
pub(super) async fn resources(
    api: &Api,
    groups: &Result<BTreeMap<String, Vec<String>>, Unread>,
    config: Option<&Config>,
) -> Result<Resources, Unread> {
    let groups = groups.as_ref().map_err(Clone::clone)?;
    let known = known(config);
    let kinds = known.iter().flat_map(CustomResources::iter);
    let wanted: BTreeSet<_> = kinds.map(|known| known.kind.group).collect();
    let served = wanted.into_iter().flat_map(|group| {
        let versions = groups.get(group).into_iter().flatten();
        versions.map(move |version| (group, version))
    });
    let asked = served.map(async |(group, version)| {
        let list: APIResourceList = api.get(&format!("/apis/{group}/{version}")).await?;
        Ok((group, list))
    });
    let mut resources = Resources::new();
    for (group, list) in try_join_all(asked).await? {
        // A slash: a part of an object, such as its status.
        let whole = list.resources.into_iter();
        for resource in whole.filter(|resource| !resource.name.contains('/')) {
            let served = Served {
                plural: resource.name,
                is_namespaced: resource.namespaced,
            };
            resources.insert((group.to_owned(), resource.kind), served);
        }
    }
    Ok(resources)
}

/// Every path is reached by a rule, where the cluster serves its kind.
pub(super) fn check(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "custom-resources";
    let is_judged = catalogue::find(RULE).is_some_and(|meta| is_on(meta, facts))
        && facts
            .own()
            .any(|hook| hook.phase == WebhookType::Validating);
    let Some(known) = known(facts.config.as_ref().ok()).filter(|_| is_judged) else {
        return Vec::new();
    };
    let resources = match &facts.resources {
        Ok(resources) => resources,
        Err(reason) => return vec![Check::unread(NAME, "the kinds of API groups", reason)],
    };
    let (mut reached, mut absent, mut checks) = (Vec::new(), Vec::new(), Vec::new());
    // Most clusters serve few of those that are built in.
    let mut absent_built_in = 0;
    for kind in known.iter() {
        let name = qualified(kind.kind.plural, kind.kind.group);
        match trouble(facts, resources, kind, &name) {
            Ok(true) => reached.push(name),
            Ok(false) if known.added().contains(&kind.kind) => absent.push(name),
            Ok(false) => absent_built_in += 1,
            Err((message, cure)) => checks.push(Check::warning(NAME, message, cure)),
        }
    }
    if absent_built_in > 0 {
        absent.push(format!("{absent_built_in} kinds that are built in"));
    }
    if checks.is_empty() {
        let reached = match reached.len() {
            0 => "the cluster serves no kind whose images missing-image knows".to_owned(),
            _ => format!("the rules reach {}", reached.join(", ")),
        };
        let absent = match absent.len() {
            0 => String::new(),
            _ => format!("\nnot served here: {}", absent.join(", ")),
        };
        checks.push(Check::ok(NAME, reached + &absent));
    }
    checks
}

/// Whether the cluster serves the kind, or why nobody sees its images, and the cure.
fn trouble(
    facts: &Facts,
    resources: &Resources,
    known: &CustomResource,
    name: &str,
) -> Result<bool, (String, String)> {
    let kind = known.kind;
    let Some(served) = resources.get(&(kind.group.to_owned(), kind.kind.to_owned())) else {
        return Ok(false);
    };
    let paths: Vec<_> = known.paths.iter().map(ToString::to_string).collect();
    let paths = paths.join(", ");
    if served.plural != kind.plural {
        let served = &served.plural;
        return Err((
            format!("the cluster serves {name} as {served}, so {RULE} does not see its {paths}"),
            format!("write plural: {served} in rules.{RULE}.customResources"),
        ));
    }
    if !served.is_namespaced {
        return Err((
            format!("{name} is cluster-scoped, so {RULE} does not see its {paths}"),
            format!(
                "Forestall judges namespaced objects; remove it from rules.{RULE}.customResources"
            ),
        ));
    }
    if unreached(facts, &[kind], WebhookType::Validating).is_empty() {
        return Ok(true);
    }
    Err((
        format!(
            "no rule of the validating webhook reaches {name}, so {RULE} does not see its {paths}"
        ),
        format!(
            "upgrade the chart to the version of this program, with what rules.{RULE}.customResources \
             has in its values, or give the webhook a rule for {name}"
        ),
    ))
}
