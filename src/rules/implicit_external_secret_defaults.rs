//! `implicit-external-secret-defaults`: an ExternalSecret that leaves fields to the defaults of its
//! definition.
//!
//! The two doors differ on purpose. In files, Git can still be made to say what the cluster will
//! hold, so every default is written out. At admission the API server has already written the
//! definition's defaults (apiextensions-apiserver decodes, defaults, and only then asks webhooks),
//! so writing them again would do nothing, and writing more would make Argo CD report drift. All
//! that is left to do there is to put the organisation's own default in place of the definition's.

mod author;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::argocd::{self, Version};
use super::schema_defaults::{self, FieldPath};
use super::{Certainty, Finding, Judgement, Meta, Mistake, OwnSettings, Response, Rule};
use crate::duration;
use crate::evidence::{Evidence, ObjectsOf, Questions, Unknown};
use crate::objects::{
    ArgoCdApplication, ArgoCdController, ArgoCdParameters, DEFAULT_NAMESPACE, Definition,
    ObjectName, Reads,
};
use crate::review::{Door, Operation, Review, WatchedKind, patch};
use crate::tree::Node;
use author::Author;

const DEFINITION: &str = "externalsecrets.external-secrets.io";

/// What it is.
pub(crate) static META: Meta = Meta {
    name: "implicit-external-secret-defaults",
    summary: "an ExternalSecret that leaves fields to defaults that Git does not show",
    incident: "S2",
    watches: &[WatchedKind::namespaced(
        "external-secrets.io",
        "ExternalSecret",
        "externalsecrets",
    )],
    repairs: true,
    reads: &[
        Reads::named::<Definition>(DEFINITION),
        Reads::on_demand::<ArgoCdApplication>(),
        Reads::on_demand::<ArgoCdController>(),
        Reads::on_demand::<ArgoCdParameters>(),
    ],
    page: include_str!("../../docs/rules/implicit-external-secret-defaults.md"),
};

/// Its settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// The organisation's own defaults.
    #[serde(skip_serializing_if = "is_unset")]
    pub defaults: ExternalSecretDefaults,
}

/// What an ExternalSecret gets at admission where its author left the field out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExternalSecretDefaults {
    /// spec.refreshInterval, such as 1h0m0s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<String>,
    /// spec.target.creationPolicy: Owner, Orphan, Merge or None.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_policy: Option<String>,
    /// spec.target.deletionPolicy: Retain, Delete or Merge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<String>,
}

fn is_unset(defaults: &ExternalSecretDefaults) -> bool {
    *defaults == ExternalSecretDefaults::default()
}

impl OwnSettings for Settings {
    fn build(&self) -> Result<Box<dyn Rule>, Mistake> {
        let defaults = OrganisationDefault::all(self.defaults.clone());
        let defaults = defaults.map_err(|message| Mistake {
            pointer: "/defaults".to_owned(),
            message,
        })?;
        Ok(Box::new(ImplicitExternalSecretDefaults { defaults }))
    }
}

/// More fields than these are counted and not named in the message.
const NAMED_IN_MESSAGE: usize = 3;

struct ImplicitExternalSecretDefaults {
    defaults: Vec<OrganisationDefault>,
}

/// A field that the organisation gives a default of its own.
///
/// All of them are keys of maps: a key that Git lacks keeps an Argo CD Application in sync in each
/// of its three ways to compare, while one more key in an item of a list would not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OrganisationDefault {
    /// The key in the configuration.
    key: &'static str,
    /// The way to the field.
    path: &'static [&'static str],
    value: String,
}

const REFRESH_INTERVAL: &[&str] = &["spec", "refreshInterval"];
const CREATION_POLICY: &[&str] = &["spec", "target", "creationPolicy"];
const DELETION_POLICY: &[&str] = &["spec", "target", "deletionPolicy"];

/// The policies of external-secrets (`apis/externalsecrets/v1/externalsecret_types.go`).
const CREATION_POLICIES: &[&str] = &["Owner", "Orphan", "Merge", "None"];
const DELETION_POLICIES: &[&str] = &["Retain", "Delete", "Merge"];

impl Rule for ImplicitExternalSecretDefaults {
    fn questions(&self, review: &Review) -> Questions {
        let mut questions = Questions::default();
        let in_files = review.door == Door::Files;
        if in_files {
            questions.ask(&ObjectsOf::<ArgoCdApplication>::all());
            questions.ask(&ObjectsOf::<ArgoCdController>::all());
            questions.ask(&ObjectsOf::<ArgoCdParameters>::all());
        }
        if in_files || !self.left_to_the_organisation(review).is_empty() {
            questions.ask(&schema_defaults::definition(DEFINITION));
        }
        questions
    }

    fn judge(&self, review: &Review, evidence: &Evidence) -> Judgement {
        let definition = schema_defaults::spec(DEFINITION, evidence).and_then(|definition| {
            let version = &review.subject.version;
            schema_defaults::schema(definition, version).ok_or_else(|| {
                Unknown::Unavailable(format!(
                    "the definition of ExternalSecret serves no version {version}"
                ))
            })
        });
        if review.door == Door::Files {
            // What nobody shows as drift is no fault.
            let Some(application) = shown_as_drift(review, evidence) else {
                return Judgement::default();
            };
            let finding = definition.map(|schema| self.in_file(review, schema, application));
            return [("spec".to_owned(), finding)].into_iter().collect();
        }
        // The proof lies in the object, so it holds where the definition is not known, too.
        let schema = definition.ok();
        let findings = self
            .left_to_the_organisation(review)
            .into_iter()
            .filter_map(|default| default.at_admission(review, schema))
            .collect();
        Judgement {
            findings,
            abstained: Vec::new(),
        }
    }
}

/// The Application that Argo CD shows as drifted for defaults in lists of this ExternalSecret, where
/// that is known.
fn shown_as_drift<'e>(review: &Review, evidence: &'e Evidence) -> Option<&'e ObjectName> {
    let version = argocd::version(evidence).and_then(Version::parse).ok()?;
    let applications = evidence.get(&ObjectsOf::<ArgoCdApplication>::all()).ok()?;
    let namespace = review
        .subject
        .namespace
        .as_deref()
        .unwrap_or(DEFAULT_NAMESPACE);
    applications
        .iter()
        .filter_map(|(name, application)| Some((name, application.ok()?)))
        .find(|(_, application)| {
            let refuses_diff = application.refuses_server_side_diff;
            application.compares_by_structure
                && !application.ignores_external_secrets
                && application.manages(namespace, &review.subject.name)
                && argocd::shows_list_defaults(version, refuses_diff, evidence) == Ok(true)
        })
        .map(|(name, _)| name)
}

// === impl ImplicitExternalSecretDefaults ===

impl ImplicitExternalSecretDefaults {
    /// The organisation's defaults for what the author of a new object provably left out. An object
    /// that exists is never changed: its values are what its users rely on.
    fn left_to_the_organisation(&self, review: &Review) -> Vec<&OrganisationDefault> {
        if review.operation != Operation::Create || self.defaults.is_empty() {
            return Vec::new();
        }
        let author = Author::of(review.root());
        self.defaults
            .iter()
            .filter(|default| author.left_out(default.path))
            .collect()
    }

    /// One finding with one patch for the whole object: most leave out many fields.
    fn in_file(
        &self,
        review: &Review,
        schema: &Value,
        application: &ObjectName,
    ) -> Option<Finding> {
        let fields = schema_defaults::left_out(schema, review.root());
        // A key of a map that Git lacks is no drift.
        if !fields.iter().any(|field| field.place.is_in_list()) {
            return None;
        }
        let count = fields.len();
        let mut shown: Vec<_> = fields
            .iter()
            .take(NAMED_IN_MESSAGE)
            .map(|field| field.place.dotted())
            .collect();
        if count > NAMED_IN_MESSAGE {
            shown.push(format!("{} more", count - NAMED_IN_MESSAGE));
        }
        let mut help = vec!["write them out in Git, as the fix does".to_owned()];
        let other = self.defaults.iter().filter(|default| {
            let written = default.of_definition(schema);
            default.seen(review.root()).is_none()
                && !default.is_same(written.as_ref().and_then(Value::as_str))
        });
        help.extend(other.map(|default| {
            format!(
                "the organisation's default is {}: {}; write that instead if it is meant",
                default.name(),
                default.value
            )
        }));
        let operations = fields.iter().map(|field| {
            let path = field.place.pointer();
            json!({"op": "add", "path": path, "value": field.value})
        });
        let patch = serde_json::from_value(operations.collect()).ok();
        let names: Vec<_> = fields.iter().map(|field| field.place.named()).collect();
        Some(Finding {
            certainty: Certainty::Likely,
            path: "/spec".to_owned(),
            item: "spec".to_owned(),
            value: names.join(", "),
            magnitude: None,
            message: format!(
                "{count} field{} left to the defaults of the definition: {}; Argo CD will report \
                 OutOfSync for Application {application}",
                if count == 1 { " is" } else { "s are" },
                shown.join(", ")
            ),
            help: help.join("\n"),
            offers: Vec::new(),
            response: patch.map_or(Response::Warn, Response::Repair),
        })
    }
}

// === impl OrganisationDefault ===

impl OrganisationDefault {
    /// All that are configured.
    ///
    /// # Errors
    /// The key whose value external-secrets would refuse, and what to write instead.
    fn all(settings: ExternalSecretDefaults) -> Result<Vec<Self>, String> {
        let ExternalSecretDefaults {
            refresh_interval,
            creation_policy,
            deletion_policy,
        } = settings;
        if let Some(text) = &refresh_interval {
            duration::parse(text)
                .filter(|nanoseconds| *nanoseconds >= 0)
                .ok_or_else(|| {
                    format!(
                        "defaults.refreshInterval {text:?} is no duration; write one such as 1h0m0s or 15m"
                    )
                })?;
        }
        one_of(
            "creationPolicy",
            creation_policy.as_deref(),
            CREATION_POLICIES,
        )?;
        one_of(
            "deletionPolicy",
            deletion_policy.as_deref(),
            DELETION_POLICIES,
        )?;
        if let (Some(creation), Some(deletion)) = (&creation_policy, &deletion_policy)
            && !go_together(creation, deletion)
        {
            return Err(format!(
                "defaults.deletionPolicy {deletion} does not go with defaults.creationPolicy {creation}; \
                 write Retain, or the creationPolicy Owner"
            ));
        }
        let configured = [
            ("refreshInterval", REFRESH_INTERVAL, refresh_interval),
            ("creationPolicy", CREATION_POLICY, creation_policy),
            ("deletionPolicy", DELETION_POLICY, deletion_policy),
        ];
        Ok(configured
            .into_iter()
            .filter_map(|(key, path, value)| {
                Some(Self {
                    key,
                    path,
                    value: value?,
                })
            })
            .collect())
    }

    /// The field as people write it.
    fn name(&self) -> String {
        FieldPath::of_keys(self.path).dotted()
    }

    /// What the object holds there.
    fn seen<'a>(&self, object: Node<'a>) -> Option<Node<'a>> {
        object.at(&FieldPath::of_keys(self.path).pointer())
    }

    /// What the definition writes there.
    fn of_definition(&self, schema: &Value) -> Option<Value> {
        schema_defaults::default_at(schema, self.path)
    }

    /// What to put in place of the definition's default, for a field that the author left out.
    fn at_admission(&self, review: &Review, schema: Option<&Value>) -> Option<Finding> {
        let seen = self.seen(review.root());
        if self.is_same(seen.and_then(Node::as_str)) || !self.fits(review.root()) {
            return None;
        }
        let property = match schema {
            // A field that the definition does not have would be dropped again.
            Some(schema) => Some(schema_defaults::property(schema, self.path)?),
            None => None,
        };
        // Any other value was put there by somebody else, such as another webhook.
        if let (Some(schema), Some(seen)) = (schema, seen)
            && self.of_definition(schema) != Some(seen.to_value())
        {
            return None;
        }
        let name = self.name();
        let now = seen.map_or_else(|| "absent".to_owned(), |seen| plain(&seen.to_value()));
        let (problem, help, response) =
            match property.and_then(|property| self.refused_by(property)) {
                Some(allowed) => (
                    format!(
                        "is {}, which the installed definition does not allow",
                        self.value
                    ),
                    format!(
                        "correct rules.{}.defaults.{} in the configuration; {allowed}",
                        META.name, self.key
                    ),
                    Response::Warn,
                ),
                None => (
                    format!("is {}", self.value),
                    format!(
                        "write {name}: {} in Git, or the value that is meant",
                        self.value
                    ),
                    Response::Repair(patch::set(
                        review.root(),
                        self.path,
                        Value::from(self.value.as_str()),
                    )?),
                ),
            };
        Some(Finding {
            certainty: Certainty::Likely,
            path: FieldPath::of_keys(self.path).pointer(),
            item: name.clone(),
            value: now.clone(),
            magnitude: None,
            message: format!(
                "{name} was left out and is {now}; the organisation's default {problem}"
            ),
            help,
            offers: Vec::new(),
            response,
        })
    }

    fn is_same(&self, seen: Option<&str>) -> bool {
        let Some(seen) = seen else {
            return false;
        };
        // 1h and 1h0m0s are the same interval.
        seen == self.value
            || self.path == REFRESH_INTERVAL
                && duration::parse(seen)
                    .is_some_and(|seen| Some(seen) == duration::parse(&self.value))
    }

    /// Whether the object stays one that external-secrets accepts. What the author wrote for one
    /// policy can rule out the organisation's default for the other.
    fn fits(&self, object: Node<'_>) -> bool {
        let policy = |pointer| object.text_at(pointer).unwrap_or_default();
        let creation = policy("/spec/target/creationPolicy");
        let deletion = policy("/spec/target/deletionPolicy");
        match self.key {
            "creationPolicy" => go_together(&self.value, deletion),
            "deletionPolicy" => go_together(creation, &self.value),
            _ => true,
        }
    }

    /// Why the definition would refuse the value. A rule that is not understood here counts as
    /// refusing: a default that makes a request fail is worse than none.
    fn refused_by(&self, property: &Value) -> Option<String> {
        if let Some(allowed) = property.get("enum").and_then(Value::as_array) {
            let wanted = Value::from(self.value.as_str());
            let list: Vec<_> = allowed.iter().map(plain).collect();
            return (!allowed.contains(&wanted)).then(|| format!("it allows {}", list.join(", ")));
        }
        let kind = property.get("type").and_then(Value::as_str);
        if kind.is_some_and(|kind| kind != "string") {
            return Some("it wants no string there".to_owned());
        }
        [
            "pattern",
            "format",
            "minLength",
            "maxLength",
            "x-kubernetes-validations",
        ]
        .iter()
        .find(|rule| property.get(**rule).is_some())
        .map(|rule| format!("it has a {rule} there, which is not checked here"))
    }
}

fn one_of(key: &str, value: Option<&str>, allowed: &[&str]) -> Result<(), String> {
    match value {
        Some(value) if !allowed.contains(&value) => Err(format!(
            "defaults.{key} {value:?} is none; write one of {}",
            allowed.join(", ")
        )),
        _ => Ok(()),
    }
}

/// What the webhook of external-secrets accepts, and a little less: it refuses Delete with Merge
/// and None, and Merge with None (`apis/externalsecrets/v1/externalsecret_validator.go`); Delete
/// with Orphan would delete what was meant to outlive its owner.
fn go_together(creation: &str, deletion: &str) -> bool {
    match deletion {
        "Delete" => creation == "Owner",
        "Merge" => creation != "None",
        _ => true,
    }
}

/// A value as it is written in YAML, near enough to be read.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .filter(|text| !text.is_empty())
        .map_or_else(|| value.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::schema_defaults::tests::external_secret;
    use super::*;
    use crate::evidence::Listing;
    use crate::objects::Projection as _;
    use crate::tree::Tree;

    const ALL_WRITTEN: &str = r#"{"target": {"creationPolicy": "Owner", "deletionPolicy": "Retain"},
        "refreshInterval": "1h0m0s"}"#;

    fn evidence(definition: Value) -> Evidence {
        let mut evidence = Evidence::default();
        let question = schema_defaults::definition(DEFINITION);
        let definition = Listing::of([(DEFINITION, Definition(definition))]);
        evidence.objects.insert(question.into(), Ok(definition));
        let version = Ok("v2.10.0".to_owned());
        let controllers = Listing::of([("controller", ArgoCdController { version })]);
        let question = ObjectsOf::<ArgoCdController>::all();
        evidence.objects.insert(question.into(), Ok(controllers));
        let application = json!({
            "spec": {
                "destination": {"namespace": "default"},
                "syncPolicy": {"syncOptions": ["ServerSideApply=true"]},
            },
            "status": {"resources": [
                {"group": "external-secrets.io", "kind": "ExternalSecret", "name": "db"},
            ]},
        });
        let tree = Tree::from(application);
        let kind = ArgoCdApplication::KINDS[0].kind;
        let application = ArgoCdApplication::of(tree.root(), kind).unwrap().unwrap();
        let applications = Listing::of([("shop", application)]);
        let question = ObjectsOf::<ArgoCdApplication>::all();
        evidence.objects.insert(question.into(), Ok(applications));
        evidence
    }

    fn build(defaults: Value) -> Result<Box<dyn Rule>, Mistake> {
        let defaults = serde_json::from_value(defaults).unwrap();
        Settings { defaults }.build()
    }

    fn in_files(spec: &Value) -> Review {
        let object = json!({
            "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret",
            "metadata": {"name": "db"}, "spec": spec,
        });
        Review::of_manifest(object).unwrap()
    }

    /// As kubectl apply sends `applied` and the API server shows it with `more` of spec.target.
    fn at_admission(target: &Value, more: &Value) -> Review {
        let mut review = in_files(&json!({"refreshInterval": "1h0m0s", "target": target}));
        let applied = review.root().to_string();
        review.edit(|object| {
            object["metadata"]["annotations"] =
                json!({"kubectl.kubernetes.io/last-applied-configuration": applied});
            let target = object["spec"]["target"].as_object_mut().unwrap();
            target.extend(more.as_object().unwrap().clone());
        });
        review.door = Door::Admission;
        review
    }

    fn crd_defaults() -> Value {
        json!({"creationPolicy": "Owner", "deletionPolicy": "Retain"})
    }

    fn judge(defaults: Value, review: &Review, evidence: &Evidence) -> Vec<Finding> {
        let judgement = build(defaults).unwrap().judge(review, evidence);
        assert_eq!(judgement.abstained, []);
        judgement.findings
    }

    /// The patched object; judged again, it gives nothing.
    fn repaired(defaults: &Value, review: &Review, evidence: &Evidence) -> Value {
        let mut patched = review.clone();
        for finding in judge(defaults.clone(), review, evidence) {
            let fix = finding.response.patch().expect("a fix");
            let object = patch::apply(&patched.object, fix).unwrap();
            patched = patched.with_object(Arc::new(object));
        }
        assert_eq!(judge(defaults.clone(), &patched, evidence), []);
        patched.root().to_value()
    }

    fn operations(spec: &str, release: &str) -> Vec<String> {
        let mut spec: Value = serde_json::from_str(spec).unwrap();
        let written: Value = serde_json::from_str(ALL_WRITTEN).unwrap();
        spec.as_object_mut()
            .unwrap()
            .extend(written.as_object().unwrap().clone());
        let evidence = evidence(external_secret(release));
        let review = in_files(&spec);
        repaired(&json!({}), &review, &evidence);
        let findings = judge(json!({}), &review, &evidence);
        let fixes = findings
            .iter()
            .filter_map(|finding| finding.response.patch());
        fixes
            .flat_map(|fix| fix.0.iter().map(|operation| operation.path().to_string()))
            .collect()
    }

    #[test]
    fn case_21_files_get_every_default_of_the_release_that_is_installed() {
        let spec = r#"{"data": [
            {"secretKey": "user", "remoteRef": {"key": "db"}},
            {"secretKey": "password", "remoteRef": {"key": "db"}}]}"#;
        assert_eq!(operations(spec, "1.2.0").len(), 6);
        assert_eq!(operations(spec, "2.3.0").len(), 8);
        assert_eq!(operations(spec, "2.9.0"), [""; 0]);
    }

    #[test]
    fn case_22_only_what_is_there_is_completed() {
        let spec = r#"{"data": [{"secretKey": "a", "sourceRef": {"generatorRef": {"kind": "Password"}}}]}"#;
        assert_eq!(
            operations(spec, "1.2.0"),
            ["/spec/data/0/sourceRef/generatorRef/apiVersion"]
        );
        let spec = r#"{"dataFrom": [{"extract": {"key": "a"}}, {"find": {"name": {}}}]}"#;
        let paths = operations(spec, "1.2.0");
        let below = |part: &str| paths.iter().filter(|path| path.contains(part)).count();
        assert_eq!(
            (below("/extract/"), below("/find/"), paths.len()),
            (3, 2, 5)
        );
    }

    #[test]
    fn a_file_gets_one_finding_that_names_the_fields() {
        let review = in_files(&json!({
            "data": [{"secretKey": "password", "remoteRef": {"key": "db", "decodingStrategy": "Base64"}}],
            "target": {"name": "db", "deletionPolicy": "Merge"},
        }));
        let evidence = evidence(external_secret("1.2.0"));
        let findings = judge(
            json!({"deletionPolicy": "Retain", "creationPolicy": "Orphan"}),
            &review,
            &evidence,
        );
        let [finding] = &findings[..] else {
            panic!("{findings:?}")
        };
        assert_eq!(
            finding.message,
            "4 fields are left to the defaults of the definition: spec.data[0].remoteRef.conversionStrategy, \
             spec.data[0].remoteRef.metadataPolicy, spec.refreshInterval, 1 more; \
             Argo CD will report OutOfSync for Application default/shop"
        );
        assert!(
            finding
                .value
                .contains("spec.data[password].remoteRef.metadataPolicy")
        );
        assert!(
            finding
                .help
                .contains("default is spec.target.creationPolicy: Orphan")
        );
        assert!(!finding.help.contains("deletionPolicy"), "{}", finding.help);
        let patched = repaired(&json!({}), &review, &evidence);
        assert_eq!(patched["spec"]["target"]["deletionPolicy"], "Merge");
        assert_eq!(
            patched["spec"]["data"][0]["remoteRef"]["decodingStrategy"],
            "Base64"
        );
    }

    #[test]
    fn a_file_without_its_definition_is_not_judged() {
        let rule = build(json!({})).unwrap();
        let mut unknown = evidence(external_secret("1.2.0"));
        let question = schema_defaults::definition(DEFINITION);
        unknown
            .objects
            .insert(question.into(), Err(Unknown::NotAsked));
        let judgement = rule.judge(&in_files(&json!({})), &unknown);
        assert_eq!(judgement.abstained.len(), 1);
        // Where nobody is known to show it, nothing is missing either.
        let judgement = rule.judge(&in_files(&json!({})), &Evidence::default());
        assert_eq!(judgement, Judgement::default());
        let mut old = in_files(&json!({}));
        old.subject.version = "v1beta1".to_owned();
        let judgement = rule.judge(&old, &evidence(external_secret("1.2.0")));
        assert!(matches!(
            judgement.abstained[0].reason,
            Unknown::Unavailable(_)
        ));
    }

    #[test]
    fn case_19_admission_writes_no_default_of_the_definition() {
        let review = at_admission(&json!({"name": "db"}), &crd_defaults());
        let rule = build(json!({})).unwrap();
        assert!(rule.questions(&review).is_empty());
        let judgement = rule.judge(&review, &evidence(external_secret("1.2.0")));
        assert_eq!(judgement, Judgement::default());
    }

    #[test]
    fn s02_the_organisations_default_takes_the_place_of_the_definitions() {
        let review = at_admission(&json!({"name": "db"}), &crd_defaults());
        let defaults = json!({"deletionPolicy": "Delete"});
        for evidence in [evidence(external_secret("1.2.0")), Evidence::default()] {
            let patched = repaired(&defaults, &review, &evidence);
            assert_eq!(
                patched["spec"]["target"],
                json!({"name": "db", "creationPolicy": "Owner", "deletionPolicy": "Delete"})
            );
        }
        let findings = judge(defaults, &review, &Evidence::default());
        assert_eq!(
            findings[0].message,
            "spec.target.deletionPolicy was left out and is Retain; the organisation's default is Delete"
        );
    }

    #[test]
    fn what_the_author_wrote_stays() {
        let defaults = json!({"deletionPolicy": "Delete"});
        let evidence = evidence(external_secret("1.2.0"));
        let written = at_admission(
            &json!({"deletionPolicy": "Retain"}),
            &json!({"creationPolicy": "Owner"}),
        );
        assert_eq!(judge(defaults.clone(), &written, &evidence), []);
        let mut unproven = at_admission(&json!({}), &crd_defaults());
        unproven.edit(|object| object["metadata"]["annotations"] = json!({}));
        assert_eq!(judge(defaults.clone(), &unproven, &evidence), []);
        let other = json!({"creationPolicy": "Owner", "deletionPolicy": "Merge"});
        let by_another_webhook = at_admission(&json!({}), &other);
        assert_eq!(judge(defaults, &by_another_webhook, &evidence), []);
    }

    #[test]
    fn an_object_that_exists_is_never_changed() {
        let review = at_admission(&json!({}), &crd_defaults());
        let before = Arc::clone(&review.object);
        let review = review.replacing(before);
        let defaults = json!({"deletionPolicy": "Delete"});
        assert_eq!(
            judge(defaults, &review, &evidence(external_secret("1.2.0"))),
            []
        );
    }

    #[test]
    fn an_equal_interval_is_no_other_value() {
        let mut review = at_admission(&json!({}), &crd_defaults());
        let applied = r#"{"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret",
            "metadata": {"name": "db"}, "spec": {}}"#;
        review.edit(|object| {
            object["metadata"]["annotations"] =
                json!({"kubectl.kubernetes.io/last-applied-configuration": applied});
        });
        let evidence = evidence(external_secret("1.2.0"));
        assert_eq!(
            judge(json!({"refreshInterval": "60m"}), &review, &evidence),
            []
        );
        let patched = repaired(&json!({"refreshInterval": "15m"}), &review, &evidence);
        assert_eq!(patched["spec"]["refreshInterval"], "15m");
    }

    #[test]
    fn policies_that_external_secrets_refuses_together_are_never_made() {
        let evidence = evidence(external_secret("1.2.0"));
        for creation in ["Merge", "None", "Orphan"] {
            let review = at_admission(
                &json!({"creationPolicy": creation}),
                &json!({"deletionPolicy": "Retain"}),
            );
            assert_eq!(
                judge(json!({"deletionPolicy": "Delete"}), &review, &evidence),
                []
            );
        }
        let delete = at_admission(
            &json!({"deletionPolicy": "Delete"}),
            &json!({"creationPolicy": "Owner"}),
        );
        assert_eq!(
            judge(json!({"creationPolicy": "Merge"}), &delete, &evidence),
            []
        );
        let both = at_admission(&json!({}), &crd_defaults());
        let patched = repaired(
            &json!({"creationPolicy": "Merge", "deletionPolicy": "Merge"}),
            &both,
            &evidence,
        );
        assert_eq!(
            patched["spec"]["target"],
            json!({"creationPolicy": "Merge", "deletionPolicy": "Merge"})
        );
    }

    #[test]
    fn a_default_that_the_definition_refuses_is_said_and_not_written() {
        let mut definition = external_secret("1.2.0");
        let target =
            "/versions/0/schema/openAPIV3Schema/properties/spec/properties/target/properties";
        let properties = definition.pointer_mut(target).unwrap();
        let review = at_admission(&json!({}), &crd_defaults());
        properties["deletionPolicy"]["enum"] = json!(["Retain", "Merge"]);
        let findings = judge(
            json!({"deletionPolicy": "Delete"}),
            &review,
            &evidence(definition.clone()),
        );
        assert_eq!(findings[0].response, Response::Warn);
        assert!(
            findings[0].help.ends_with("it allows Retain, Merge"),
            "{}",
            findings[0].help
        );
        let properties = definition.pointer_mut(target).unwrap();
        properties["deletionPolicy"] =
            json!({"type": "string", "default": "Retain", "pattern": "^R"});
        let findings = judge(
            json!({"deletionPolicy": "Delete"}),
            &review,
            &evidence(definition.clone()),
        );
        assert_eq!(findings[0].response, Response::Warn);
        let properties = definition.pointer_mut(target).unwrap();
        properties.as_object_mut().unwrap().remove("deletionPolicy");
        let findings = judge(
            json!({"deletionPolicy": "Delete"}),
            &review,
            &evidence(definition),
        );
        assert_eq!(findings, []);
    }

    #[test]
    fn a_setting_that_external_secrets_would_refuse_is_named_with_its_cure() {
        let error = |defaults| build(defaults).err().expect("an error").message;
        assert_eq!(
            error(json!({"deletionPolicy": "Keep"})),
            "defaults.deletionPolicy \"Keep\" is none; write one of Retain, Delete, Merge"
        );
        assert_eq!(
            error(json!({"creationPolicy": "owner"})),
            "defaults.creationPolicy \"owner\" is none; write one of Owner, Orphan, Merge, None"
        );
        for interval in ["1 hour", "-1h", ""] {
            let error = error(json!({"refreshInterval": interval}));
            assert!(error.starts_with("defaults.refreshInterval"), "{error}");
        }
        let together = error(json!({"creationPolicy": "Merge", "deletionPolicy": "Delete"}));
        assert!(
            together.contains("does not go with defaults.creationPolicy Merge"),
            "{together}"
        );
    }

    #[test]
    fn any_json_is_judged_without_a_panic() {
        let rule = build(json!({"refreshInterval": "1m", "deletionPolicy": "Delete"})).unwrap();
        for odd in [
            json!(null),
            json!("text"),
            json!([1]),
            json!({"target": []}),
            json!({"data": {"a": [null]}}),
        ] {
            for door in [Door::Files, Door::Admission] {
                let mut review = in_files(&odd);
                review.door = door;
                let applied = json!({"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": {"name": "db"}});
                review.edit(|object| {
                    object["metadata"]["annotations"] =
                        json!({"kubectl.kubernetes.io/last-applied-configuration": applied.to_string()});
                });
                for definition in [external_secret("1.2.0"), json!([])] {
                    rule.judge(&review, &evidence(definition));
                }
            }
        }
    }
}
