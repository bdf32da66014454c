//! `unignored-live-fields`: an Application that Argo CD will show as out of sync, for fields that
//! the cluster writes and Git does not hold.
//!
//! The patch adds a list where there is none. It never adds to a list: Argo CD compares a list as a
//! whole, so the parent of the Application would patch it back. There, the message says what to
//! write in Git.

mod coverage;
mod jq;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::argocd::{self, FIRST_WITHOUT_STATUS, Version};
use super::schema_defaults::{self, ListDefault, Step};
use super::{Certainty, Finding, Judgement, Meta, Mistake, OwnSettings, Response, Rule};
use crate::evidence::{Evidence, ObjectsOf, Questions, Unknown};
use crate::objects::{
    ArgoCdController, ArgoCdParameters, Definition, ExternalSecret, ObjectName, Reads,
    compares_by_structure, has_compare_option, managed,
};
use crate::review::{Door, Review, WatchedKind, patch};
use crate::tree::Node;

/// Objects that a message names.
const NAMED: usize = 3;

const SERVICES_GROUP: &str = "apiregistration.k8s.io";
const SECRETS_GROUP: &str = "external-secrets.io";
const SECRETS_DEFINITION: &str = "externalsecrets.external-secrets.io";

/// What it is.
pub(crate) static META: Meta = Meta {
    name: "unignored-live-fields",
    summary: "an Application that Argo CD shows as OutOfSync for fields that the cluster writes",
    incident: "S2, S3",
    watches: &[WatchedKind::namespaced(
        "argoproj.io",
        "Application",
        "applications",
    )],
    repairs: true,
    reads: &[
        Reads::named::<Definition>(SECRETS_DEFINITION),
        Reads::all::<ArgoCdController>(),
        Reads::all::<ArgoCdParameters>(),
        Reads::on_demand::<ExternalSecret>(),
    ],
    page: include_str!("../../docs/rules/unignored-live-fields.md"),
};

/// Its settings: none of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {}

impl OwnSettings for Settings {
    fn build(&self) -> Result<Box<dyn Rule>, Mistake> {
        Ok(Box::new(UnignoredLiveFields))
    }
}

struct UnignoredLiveFields;

/// What one kind has in the cluster and not in Git.
struct LiveFields<'a> {
    group: &'static str,
    kind: &'static str,
    /// What they are, for people, before the names of the objects.
    what: &'static str,
    /// The key of an entry of ignoreDifferences that names them.
    key: &'static str,
    fields: Vec<Field>,
    /// The objects that have them; `None` where Argo CD has not compared the Application yet.
    objects: Option<Vec<Managed<'a>>>,
    /// What must be so of Git, where that is not known.
    condition: &'static str,
}

/// An object that the Application manages.
#[derive(Clone, Copy)]
struct Managed<'a> {
    namespace: &'a str,
    name: &'a str,
    /// Whether it is known that Git and the cluster differ.
    is_certain: bool,
}

/// One field.
struct Field {
    steps: Vec<Step>,
    /// How the entry names it.
    written: String,
}

impl Rule for UnignoredLiveFields {
    fn questions(&self, review: &Review) -> Questions {
        let mut questions = Questions::default();
        let (secrets, services) = (may_drift_in_lists(review), shows_api_services(review));
        if secrets || services {
            questions.ask(&ObjectsOf::<ArgoCdController>::all());
        }
        if secrets {
            questions.ask(&ObjectsOf::<ArgoCdParameters>::all());
            questions.ask(&schema_defaults::definition(SECRETS_DEFINITION));
            // In the cluster all defaults are written; only files show what Git leaves out.
            if review.door == Door::Files {
                questions.ask(&ObjectsOf::<ExternalSecret>::all());
            }
        }
        questions
    }

    fn judge(&self, review: &Review, evidence: &Evidence) -> Judgement {
        let (secrets, services) = (may_drift_in_lists(review), shows_api_services(review));
        if !(secrets || services) {
            return Judgement::default();
        }
        let version = match argocd::version(evidence).and_then(Version::parse) {
            Ok(version) => version,
            Err(reason) => return Judgement::abstain("the Application", reason),
        };
        let mut judgement = Judgement::default();
        let mut needed = Vec::new();
        if secrets {
            match defaults_of_external_secrets(review, version, evidence) {
                Ok(live) => needed.extend(live),
                Err(reason) => judgement.add("the defaults of ExternalSecret", Err(reason)),
            }
        }
        if services && version < FIRST_WITHOUT_STATUS {
            needed.push(status_of_api_services(review));
        }
        if !needed.is_empty() {
            inspect(review, needed, version, &mut judgement);
        }
        judgement
    }
}

/// What a controller generates, it also writes back; its template is the place to change.
fn is_generated(review: &Review) -> bool {
    review.owner_references().next().is_some()
}

/// Whether Argo CD may show defaults in lists of an `ExternalSecret` as drift. One that was seen to manage
/// none cannot.
fn may_drift_in_lists(review: &Review) -> bool {
    let application = review.root();
    compares_by_structure(application)
        && !is_generated(review)
        && managed(application, SECRETS_GROUP, "ExternalSecret")
            .is_none_or(|managed| !managed.is_empty())
}

/// Whether Argo CD has seen an `APIService` among the resources; a new object has no status yet.
fn shows_api_services(review: &Review) -> bool {
    let application = review.root();
    managed(application, SERVICES_GROUP, "APIService").is_some_and(|managed| !managed.is_empty())
        && application.get("spec").is_some_and(Node::is_map)
        && !is_generated(review)
}

fn status_of_api_services(review: &Review) -> LiveFields<'_> {
    let services = managed(review.root(), SERVICES_GROUP, "APIService").unwrap_or_default();
    let services = services.into_iter().map(|(_, name)| Managed {
        // It has none; its destination says nothing of it.
        namespace: "",
        name,
        is_certain: false,
    });
    LiveFields {
        group: SERVICES_GROUP,
        kind: "APIService",
        what: "the status of",
        key: "jsonPointers",
        fields: vec![Field {
            steps: vec![Step::Key("status".to_owned())],
            written: "/status".to_owned(),
        }],
        objects: Some(services.collect()),
        condition: "if Git writes one",
    }
}

/// The defaults in list items that the installed definition writes, where Argo CD shows them.
fn defaults_of_external_secrets<'a>(
    review: &'a Review,
    version: Version,
    evidence: &Evidence,
) -> Result<Option<LiveFields<'a>>, Unknown> {
    let refuses_diff = has_compare_option(review.root(), "ServerSideDiff=false");
    if !argocd::shows_list_defaults(version, refuses_diff, evidence)? {
        return Ok(None);
    }
    let definition = schema_defaults::spec(SECRETS_DEFINITION, evidence)?;
    let fields: Vec<_> = schema_defaults::in_list_items(definition)
        .into_iter()
        .map(|ListDefault { steps, value }| Field {
            written: jq::guarded(&steps, &value),
            steps,
        })
        .collect();
    if fields.is_empty() {
        return Ok(None);
    }
    let known = managed(review.root(), SECRETS_GROUP, "ExternalSecret");
    let mut live = LiveFields {
        group: SECRETS_GROUP,
        kind: "ExternalSecret",
        what: "the defaults in lists of",
        key: "jqPathExpressions",
        condition: match known {
            Some(_) => "if Git leaves them out",
            None => "if it manages any that leaves them out",
        },
        objects: known.map(|known| {
            let managed = known.into_iter().map(|(namespace, name)| Managed {
                namespace,
                name,
                is_certain: false,
            });
            managed.collect()
        }),
        fields,
    };
    let can_drift = review.door != Door::Files || live.compare_with_files(evidence);
    Ok(can_drift.then_some(live))
}

fn inspect(
    review: &Review,
    needed: Vec<LiveFields<'_>>,
    version: Version,
    judgement: &mut Judgement,
) {
    match review.root().at("/spec/ignoreDifferences") {
        None => {
            let mut finding = absent(review, &needed, version);
            // Half a list now would stand in the way of the whole one a moment later.
            let abstained = &judgement.abstained;
            if abstained.iter().any(|item| !item.reason.is_lasting()) {
                finding.response = Response::Warn;
            }
            judgement.findings.push(finding);
        }
        Some(entries) if entries.is_list() => {
            let namespace = review.root().text_at("/spec/destination/namespace");
            let missing = needed
                .into_iter()
                .filter_map(|live| live.without_covered(entries, namespace));
            let count = entries.items().count();
            let findings = missing.map(|live| uncovered(&live, count, version));
            judgement.findings.extend(findings);
        }
        Some(_) => judgement.add(
            "spec.ignoreDifferences",
            Err(Unknown::unreadable("/spec/ignoreDifferences", "is no list")),
        ),
    }
}

fn absent(review: &Review, needed: &[LiveFields<'_>], version: Version) -> Finding {
    let entries: Vec<_> = needed.iter().map(LiveFields::entry).collect();
    let written: Vec<_> = needed.iter().map(LiveFields::in_yaml).collect();
    let what = needed
        .iter()
        .map(|live| format!("{}{}", live.subject(), live.condition_after(", ")));
    let what: Vec<_> = what.collect();
    Finding {
        certainty: Certainty::Likely,
        path: "/spec/ignoreDifferences".to_owned(),
        item: "spec.ignoreDifferences".to_owned(),
        value: "absent".to_owned(),
        magnitude: None,
        message: format!(
            "spec.ignoreDifferences is absent, so Argo CD {version} will report OutOfSync for {}",
            what.join(" and ")
        ),
        help: format!(
            "write under spec in Git: ignoreDifferences: [{}]",
            written.join(", ")
        ),
        offers: Vec::new(),
        response: patch::set(
            review.root(),
            &["spec", "ignoreDifferences"],
            Value::Array(entries),
        )
        .map_or(Response::Warn, Response::Repair),
    }
}

fn uncovered(live: &LiveFields<'_>, entries: usize, version: Version) -> Finding {
    let value = match entries {
        0 => "empty".to_owned(),
        1 => "1 entry".to_owned(),
        many => format!("{many} entries"),
    };
    Finding {
        certainty: Certainty::Likely,
        path: "/spec/ignoreDifferences".to_owned(),
        item: format!("{}/{}", live.group, live.kind),
        magnitude: None,
        message: format!(
            "spec.ignoreDifferences ({value}) does not cover {}, so Argo CD {version} will report \
             OutOfSync{}",
            live.subject(),
            live.condition_after(" ")
        ),
        value,
        help: format!("add to spec.ignoreDifferences in Git: {}", live.in_yaml()),
        offers: Vec::new(),
        response: Response::Warn,
    }
}

// === impl LiveFields ===

impl LiveFields<'_> {
    /// Takes out what the files show to leave nothing out, and says whether anything is left.
    fn compare_with_files(&mut self, evidence: &Evidence) -> bool {
        let Ok(found) = evidence.get(&ObjectsOf::<ExternalSecret>::all()) else {
            return true;
        };
        let in_files: Vec<_> = found
            .iter()
            .filter_map(|(name, secret)| Some((name, self.are_left_out_by(secret.ok()?))))
            .collect();
        let Some(objects) = &mut self.objects else {
            return in_files.is_empty() || in_files.iter().any(|(_, leaves_out)| *leaves_out);
        };
        objects.retain_mut(|object| {
            let is_this = |name: &ObjectName| {
                &*name.name == object.name && name.namespace.as_deref() == Some(object.namespace)
            };
            let shown = in_files.iter().find(|(name, _)| is_this(name));
            object.is_certain = shown.is_some_and(|(_, leaves_out)| *leaves_out);
            shown.is_none() || object.is_certain
        });
        !objects.is_empty()
    }

    fn are_left_out_by(&self, secret: &ExternalSecret) -> bool {
        self.fields
            .iter()
            .any(|field| match field.steps.split_last() {
                Some((Step::Key(key), map)) => secret.list_fields.leave_out(&dotted(map), key),
                _ => false,
            })
    }

    /// What the entries leave uncovered, of which objects.
    fn without_covered(mut self, entries: Node<'_>, destination: Option<&str>) -> Option<Self> {
        let uncovered = |entry_is_about: &dyn Fn(Node<'_>) -> bool, field: &Field| {
            !entries
                .items()
                .any(|entry| entry_is_about(entry) && coverage::covers(entry, &field.steps))
        };
        let (group, kind) = (self.group, self.kind);
        match &mut self.objects {
            None => {
                let about_all =
                    |entry: Node<'_>| coverage::is_about_all(entry, group, kind, destination);
                self.fields.retain(|field| uncovered(&about_all, field));
            }
            Some(objects) => {
                let differs = |object: &Managed<'_>, field: &Field| {
                    let Managed {
                        namespace, name, ..
                    } = *object;
                    let about = |entry: Node<'_>| {
                        coverage::is_about_kind(entry, group, kind)
                            && coverage::is_about_object(entry, namespace, name)
                    };
                    uncovered(&about, field)
                };
                let fields = &self.fields;
                objects.retain(|object| fields.iter().any(|field| differs(object, field)));
                let objects = &*objects;
                self.fields
                    .retain(|field| objects.iter().any(|object| differs(object, field)));
            }
        }
        (!self.fields.is_empty()).then_some(self)
    }

    /// What will be reported, of which objects.
    fn subject(&self) -> String {
        let Self { what, kind, .. } = self;
        let Some(objects) = &self.objects else {
            return format!("{what} {kind}s");
        };
        let has_certain = self.is_certain();
        let told = objects
            .iter()
            .filter(|object| object.is_certain == has_certain);
        let names: Vec<_> = told.map(ToString::to_string).collect();
        let shown = names
            .iter()
            .take(NAMED)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        match names.len().saturating_sub(NAMED) {
            0 => format!("{what} {kind} {shown}"),
            more => format!("{what} {kind} {shown} and {more} more"),
        }
    }

    /// Whether it is known of some object that it differs.
    fn is_certain(&self) -> bool {
        let mut objects = self.objects.iter().flatten();
        objects.any(|object| object.is_certain)
    }

    /// Under which condition, where there is one, after this text.
    fn condition_after(&self, before: &str) -> String {
        if self.is_certain() {
            String::new()
        } else {
            format!("{before}{}", self.condition)
        }
    }

    /// The entry of ignoreDifferences.
    fn entry(&self) -> Value {
        let written: Vec<_> = self.fields.iter().map(|field| &field.written).collect();
        json!({"group": self.group, "kind": self.kind, (self.key): written})
    }

    /// The same to be copied into Git. On one line, because a warning of the API server has one.
    fn in_yaml(&self) -> String {
        let quoted = |field: &Field| format!("'{}'", field.written.replace('\'', "''"));
        let written: Vec<_> = self.fields.iter().map(quoted).collect();
        format!(
            "{{group: {}, kind: {}, {}: [{}]}}",
            self.group,
            self.kind,
            self.key,
            written.join(", ")
        )
    }
}

impl fmt::Display for Managed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(self.name)
    }
}

/// A way as [`crate::objects::ListFields`] have it, such as `.spec.data[].remoteRef`.
fn dotted(steps: &[Step]) -> String {
    let step = |step: &Step| match step {
        Step::Key(key) => format!(".{key}"),
        Step::Each => "[]".to_owned(),
    };
    steps.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::schema_defaults::tests::external_secret;
    use super::*;
    use crate::evidence::{Listing, ObjectQuestion};

    /// What is known: Argo CD's version, its server-side diff, and the definition of a release.
    fn evidence(version: &str, diff: Option<bool>, release: Option<&str>) -> Evidence {
        let mut evidence = Evidence::default();
        let objects = &mut evidence.objects;
        objects.insert(controllers(), Ok(one_controller(version)));
        if let Some(server_side_diff) = diff {
            let found = ArgoCdParameters { server_side_diff };
            objects.insert(parameters(), Ok(Listing::of([("parameters", found)])));
        }
        if let Some(release) = release {
            objects.insert(definition(), Ok(one_definition(external_secret(release))));
        }
        evidence
    }

    fn controllers() -> ObjectQuestion {
        ObjectsOf::<ArgoCdController>::all().into()
    }

    fn one_controller(version: &str) -> Listing {
        let version = Ok(version.to_owned());
        Listing::of([("controller", ArgoCdController { version })])
    }

    fn parameters() -> ObjectQuestion {
        ObjectsOf::<ArgoCdParameters>::all().into()
    }

    fn definition() -> ObjectQuestion {
        schema_defaults::definition(SECRETS_DEFINITION).into()
    }

    fn one_definition(spec: Value) -> Listing {
        Listing::of([(SECRETS_DEFINITION, Definition(spec))])
    }

    fn usual() -> Evidence {
        evidence("v2.10.0", Some(false), Some("1.2.0"))
    }

    fn application() -> Review {
        Review::of_manifest(json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": {"name": "secrets", "namespace": "argocd"},
            "spec": {
                "project": "default",
                "destination": {"namespace": "shop", "server": "https://kubernetes.default.svc"},
                "source": {"repoURL": "https://git.example.com/shop.git", "path": "secrets"},
                "syncPolicy": {"syncOptions": ["CreateNamespace=true", "ServerSideApply=true"]},
            },
        }))
        .unwrap()
    }

    fn with_list(list: Value) -> Review {
        let mut review = application();
        review.edit(|object| object["spec"]["ignoreDifferences"] = list);
        review
    }

    fn with_api_service(mut review: Review) -> Review {
        let resources = json!([
            {"kind": "Service", "name": "metrics-server"},
            {"group": "apiregistration.k8s.io", "kind": "APIService", "name": "v1beta1.metrics.k8s.io"},
            {"group": "external-secrets.io", "kind": "ExternalSecret", "name": "db"},
        ]);
        review.edit(|object| object["status"] = json!({"resources": resources}));
        review
    }

    fn without_server_side_apply(mut review: Review) -> Review {
        let policy = json!({"syncOptions": ["ServerSideApply=false"]});
        review.edit(|object| object["spec"]["syncPolicy"] = policy);
        review
    }

    fn judge(review: &Review, evidence: &Evidence) -> Judgement {
        UnignoredLiveFields.judge(review, evidence)
    }

    /// The list after the patch; judged again, the Application gives nothing.
    fn repaired(review: &Review, evidence: &Evidence) -> Value {
        let judgement = judge(review, evidence);
        assert_eq!(judgement.abstained, []);
        let [finding] = &judgement.findings[..] else {
            panic!("{judgement:?}")
        };
        let fix = finding.response.patch().expect("a fix");
        let object = patch::apply(&review.object, fix).unwrap();
        let patched = review.with_object(Arc::new(object));
        assert_eq!(judge(&patched, evidence), Judgement::default());
        let list = patched.root().at("/spec/ignoreDifferences");
        list.unwrap().to_value()
    }

    fn help(review: &Review, evidence: &Evidence) -> Vec<String> {
        let judgement = judge(review, evidence);
        assert_eq!(judgement.abstained, []);
        let findings = judgement.findings.into_iter();
        findings
            .map(|finding| {
                assert_eq!(finding.response, Response::Warn);
                finding.help
            })
            .collect()
    }

    #[test]
    fn case_23_s02_the_defaults_in_lists_are_ignored_by_value() {
        let list = repaired(&application(), &usual());
        let entry = &list[0];
        assert_eq!(
            (&entry["group"], &entry["kind"]),
            (&json!("external-secrets.io"), &json!("ExternalSecret"))
        );
        let expressions = entry["jqPathExpressions"].as_array().unwrap();
        for expected in [
            r#".spec.data[]?.remoteRef.conversionStrategy | select(. == "Default")"#,
            r#".spec.data[]?.remoteRef.decodingStrategy | select(. == "None")"#,
            r#".spec.dataFrom[]?.find.conversionStrategy | select(. == "Default")"#,
            r#".spec.dataFrom[]?.rewrite[]?.merge.conflictPolicy | select(. == "Error")"#,
        ] {
            assert!(
                expressions.contains(&json!(expected)),
                "{expected} {expressions:?}"
            );
        }
        // Map fields are never a difference.
        assert!(!list.to_string().contains("deletionPolicy"));
    }

    #[test]
    fn the_expressions_come_from_the_installed_definition() {
        let old = repaired(&application(), &usual()).to_string();
        assert!(!old.contains("nullBytePolicy"));
        let newer = evidence("v2.10.0", Some(false), Some("2.3.0"));
        assert!(
            repaired(&application(), &newer)
                .to_string()
                .contains("nullBytePolicy")
        );
    }

    /// The example has the defaults of external-secrets 1.2.0, so that the demo shows what a real
    /// cluster would.
    #[test]
    fn the_definition_in_the_examples_has_all_defaults_of_1_2_0() {
        let text = include_str!("../../examples/crds/externalsecrets.yaml");
        let definition: Value = serde_saphyr::from_str(text).unwrap();
        let found = schema_defaults::in_list_items(&definition["spec"]);
        let found: Vec<_> = found
            .iter()
            .map(|default| jq::guarded(&default.steps, &default.value))
            .collect();
        insta::assert_snapshot!(found.join("\n"), @r#"
        .spec.data[]?.remoteRef.conversionStrategy | select(. == "Default")
        .spec.data[]?.remoteRef.decodingStrategy | select(. == "None")
        .spec.data[]?.remoteRef.metadataPolicy | select(. == "None")
        .spec.data[]?.sourceRef.generatorRef.apiVersion | select(. == "generators.external-secrets.io/v1alpha1")
        .spec.dataFrom[]?.extract.conversionStrategy | select(. == "Default")
        .spec.dataFrom[]?.extract.decodingStrategy | select(. == "None")
        .spec.dataFrom[]?.extract.metadataPolicy | select(. == "None")
        .spec.dataFrom[]?.find.conversionStrategy | select(. == "Default")
        .spec.dataFrom[]?.find.decodingStrategy | select(. == "None")
        .spec.dataFrom[]?.rewrite[]?.merge.conflictPolicy | select(. == "Error")
        .spec.dataFrom[]?.rewrite[]?.merge.into | select(. == "")
        .spec.dataFrom[]?.rewrite[]?.merge.priorityPolicy | select(. == "Strict")
        .spec.dataFrom[]?.rewrite[]?.merge.strategy | select(. == "Extract")
        .spec.dataFrom[]?.sourceRef.generatorRef.apiVersion | select(. == "generators.external-secrets.io/v1alpha1")
        .spec.target.template.templateFrom[]?.configMap.items[]?.templateAs | select(. == "Values")
        .spec.target.template.templateFrom[]?.secret.items[]?.templateAs | select(. == "Values")
        .spec.target.template.templateFrom[]?.target | select(. == "Data")
        "#);
    }

    #[test]
    fn case_24_a_list_of_its_own_gets_the_yaml_for_git() {
        let list =
            json!([{"group": "apps", "kind": "Deployment", "jsonPointers": ["/spec/replicas"]}]);
        let help = help(&with_list(list), &usual());
        let start = "add to spec.ignoreDifferences in Git: {group: external-secrets.io, kind: ExternalSecret, \
                     jqPathExpressions: ['.spec.data[]?.remoteRef.conversionStrategy | select(. == \"Default\")', ";
        assert_eq!(help.len(), 1);
        assert!(help[0].starts_with(start), "{}", help[0]);
        let yaml = help[0]
            .split_once(": {")
            .map(|(_, yaml)| format!("{{{yaml}"))
            .unwrap();
        let parsed: Value = serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(parsed, repaired(&application(), &usual())[0]);
        assert_eq!(
            judge(&with_list(json!([parsed])), &usual()),
            Judgement::default()
        );
    }

    #[test]
    fn case_25_an_empty_list_is_a_list() {
        assert_eq!(help(&with_list(json!([])), &usual()).len(), 1);
    }

    #[test]
    fn case_26_what_an_application_set_generates_is_left_alone() {
        let mut review = with_api_service(application());
        let owners = json!([{"kind": "ApplicationSet", "name": "all"}]);
        review.edit(|object| object["metadata"]["ownerReferences"] = owners);
        assert!(UnignoredLiveFields.questions(&review).is_empty());
        assert_eq!(judge(&review, &usual()), Judgement::default());
    }

    #[test]
    fn case_28_without_server_side_apply_all_is_in_sync() {
        let review = without_server_side_apply(application());
        assert!(UnignoredLiveFields.questions(&review).is_empty());
        assert_eq!(judge(&review, &usual()), Judgement::default());
    }

    #[test]
    fn case_29_server_side_diff_knows_the_defaults() {
        let annotated = |options: &str| {
            let mut review = application();
            let annotations = json!({"argocd.argoproj.io/compare-options": options});
            review.edit(|object| object["metadata"]["annotations"] = annotations);
            review
        };
        let nothing = Judgement::default();
        assert_eq!(
            judge(
                &annotated("IgnoreExtraneous, ServerSideDiff=true"),
                &usual()
            ),
            nothing
        );
        let throughout = evidence("v2.10.0", Some(true), Some("1.2.0"));
        assert_eq!(judge(&application(), &throughout), nothing);
        repaired(&annotated("ServerSideDiff=false"), &throughout);
        for (version, found) in [
            ("v2.4.28", 0),
            ("v2.5.0", 1),
            ("3.5.7", 1),
            ("v3.6.0-rc1", 0),
            ("4.0", 0),
        ] {
            let evidence = evidence(version, Some(false), Some("1.2.0"));
            assert_eq!(
                judge(&application(), &evidence).findings.len(),
                found,
                "{version}"
            );
        }
    }

    #[test]
    fn a_definition_without_defaults_in_lists_needs_nothing() {
        let mut evidence = usual();
        let empty = one_definition(json!({"versions": []}));
        evidence.objects.insert(definition(), Ok(empty));
        assert_eq!(judge(&application(), &evidence), Judgement::default());
    }

    #[test]
    fn case_31_what_is_covered_is_silent() {
        for entry in [
            json!({"group": "*", "kind": "*", "jsonPointers": ["/spec"]}),
            json!({"group": "external-secrets.io", "kind": "External*", "jqPathExpressions": [".spec.data, .spec.dataFrom, .spec.target"]}),
            json!({"group": "external-secrets.io", "kind": "ExternalSecret", "jqPathExpressions": [".spec | .. | .conversionStrategy?"]}),
        ] {
            assert_eq!(
                judge(&with_list(json!([entry])), &usual()),
                Judgement::default(),
                "{entry}"
            );
        }
        let mut full = repaired(&application(), &usual());
        full[0]["name"] = json!("other");
        assert_eq!(help(&with_list(full), &usual()).len(), 1);
    }

    #[test]
    fn only_what_is_not_covered_is_named() {
        let mut full = repaired(&application(), &usual());
        full[0]["jqPathExpressions"]
            .as_array_mut()
            .unwrap()
            .remove(0);
        assert_eq!(
            help(&with_list(full), &usual()),
            [
                "add to spec.ignoreDifferences in Git: {group: external-secrets.io, kind: ExternalSecret, \
              jqPathExpressions: ['.spec.data[]?.remoteRef.conversionStrategy | select(. == \"Default\")']}"
            ]
        );
    }

    #[test]
    fn case_37_an_update_is_repaired_like_a_new_one() {
        let review = application();
        let before = Arc::clone(&review.object);
        repaired(&review.replacing(before), &usual());
    }

    #[test]
    fn case_39_the_form_of_the_source_does_not_matter() {
        for (key, source) in [
            (
                "sources",
                json!([{"repoURL": "https://a"}, {"repoURL": "https://b"}]),
            ),
            ("sourceHydrator", json!({"drySource": {}, "syncSource": {}})),
        ] {
            let mut review = application();
            review.edit(|object| {
                let spec = object["spec"].as_object_mut().unwrap();
                spec.remove("source");
                spec.insert(key.to_owned(), source);
            });
            repaired(&review, &usual());
        }
    }

    #[test]
    fn case_40_s03_the_status_of_an_api_service_is_ignored_before_3_0() {
        let review = without_server_side_apply(with_api_service(application()));
        let mut only_the_version = Questions::default();
        only_the_version.ask(&ObjectsOf::<ArgoCdController>::all());
        assert_eq!(UnignoredLiveFields.questions(&review), only_the_version);
        let list = repaired(&review, &evidence("v2.10.0", None, None));
        let entry = json!({"group": "apiregistration.k8s.io", "kind": "APIService", "jsonPointers": ["/status"]});
        assert_eq!(list, json!([entry]));
    }

    #[test]
    fn case_41_from_3_0_on_every_status_is_ignored_anyway() {
        let review = without_server_side_apply(with_api_service(application()));
        assert_eq!(
            judge(&review, &evidence("v3.0.0", None, None)),
            Judgement::default()
        );
    }

    #[test]
    fn case_42_an_entry_without_a_group_covers_no_api_service() {
        let entry = json!({"kind": "APIService", "jsonPointers": ["/status"]});
        let review = without_server_side_apply(with_api_service(with_list(json!([entry]))));
        assert_eq!(
            help(&review, &usual()),
            [
                "add to spec.ignoreDifferences in Git: {group: apiregistration.k8s.io, kind: APIService, jsonPointers: ['/status']}"
            ]
        );
    }

    #[test]
    fn both_incidents_are_repaired_by_one_patch() {
        let review = with_api_service(application());
        let list = repaired(&review, &usual());
        assert_eq!(list.as_array().unwrap().len(), 2);
        assert_eq!(list[1]["kind"], "APIService");
        assert_eq!(
            help(&with_api_service(with_list(json!([]))), &usual()).len(),
            2
        );
    }

    #[test]
    fn an_unknown_version_is_no_reason_to_act() {
        for version in [None, Some("latest"), Some("v2"), Some("")] {
            let mut evidence = usual();
            let answer = version.map(one_controller).ok_or(Unknown::NotSynced);
            evidence.objects.insert(controllers(), answer);
            let judgement = judge(&application(), &evidence);
            assert_eq!(
                (judgement.findings.len(), judgement.abstained.len()),
                (0, 1),
                "{version:?}"
            );
        }
    }

    #[test]
    fn half_a_list_is_added_only_where_the_rest_will_stay_unknown() {
        let review = with_api_service(application());
        let patches = |question: ObjectQuestion, reason: Unknown| {
            let mut evidence = usual();
            evidence.objects.insert(question, Err(reason));
            let judgement = judge(&review, &evidence);
            assert_eq!(
                (judgement.findings.len(), judgement.abstained.len()),
                (1, 1)
            );
            judgement.findings[0].response.patch().is_some()
        };
        let absent = Unknown::Unavailable("not installed".to_owned());
        assert!(patches(definition(), absent));
        for soon_known in [Unknown::NotSynced, Unknown::NotAsked] {
            assert!(!patches(definition(), soon_known));
        }
        assert!(!patches(parameters(), Unknown::TimedOut));
        let mut evidence = usual();
        evidence
            .objects
            .insert(parameters(), Err(Unknown::NotAsked));
        repaired(&review, &evidence);
    }

    #[test]
    fn a_list_that_is_no_list_is_not_judged() {
        for odd in [json!(null), json!("text"), json!({})] {
            let judgement = judge(&with_list(odd), &usual());
            assert_eq!(
                (judgement.findings.len(), judgement.abstained.len()),
                (0, 1)
            );
        }
        // Nothing is needed, so nothing is said of the list either.
        let review = with_list(json!("text"));
        let evidence = evidence("v3.6.0", None, None);
        assert_eq!(judge(&review, &evidence), Judgement::default());
    }

    #[test]
    fn any_json_is_judged_without_a_panic() {
        for odd in [
            json!(null),
            json!("text"),
            json!([1]),
            json!({"syncPolicy": {"syncOptions": "ServerSideApply=true"}}),
        ] {
            let mut review = with_api_service(application());
            review.edit(|object| object["spec"] = odd.clone());
            judge(&review, &usual());
            let mut review = application();
            review.edit(|object| object["status"] = json!({"resources": odd}));
            judge(&review, &usual());
            judge(
                &with_list(json!([odd, {"group": odd, "kind": odd, "jqPathExpressions": odd}])),
                &usual(),
            );
        }
    }
}
