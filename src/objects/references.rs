//! Of whatever describes pods: the objects that it names.

use super::{Projection, ReadableKind, Reference, Referent};
use crate::review::WatchedKind;
use crate::review::puller::DEFAULT_ACCOUNT;
use crate::review::workload::{TEMPLATES, pod_spec};
use crate::tree::Node;
use crate::unknown::Unknown;

/// Containers have no fields but these that name other objects.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// The ConfigMaps, Secrets, claims and the ServiceAccount that a pod template names, in order, each
/// once. What a controller makes is left out: the object that it is made from names the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodReferences(pub Box<[Reference]>);

impl Projection for PodReferences {
    const KINDS: &'static [ReadableKind] = &{
        let mut kinds = [ReadableKind::v1(TEMPLATES[0].kind); TEMPLATES.len()];
        let mut index = 0;
        while index < TEMPLATES.len() {
            kinds[index] = ReadableKind {
                kind: TEMPLATES[index].kind,
                versions: TEMPLATES[index].versions,
            };
            index += 1;
        }
        kinds
    };

    fn of(object: Node<'_>, kind: WatchedKind) -> Result<Option<Self>, Unknown> {
        let owners = object.at("/metadata/ownerReferences").into_iter();
        let mut owners = owners.flat_map(Node::items);
        let is_controller = |owner: Node<'_>| owner.get("controller")?.as_bool();
        if owners.any(|owner| is_controller(owner) == Some(true)) {
            return Ok(None);
        }
        let spec = pod_spec(kind.group, kind.kind, object)?;
        Ok(Some(spec.map_or_else(Self::default, |(_, spec)| {
            Self::in_spec(spec)
        })))
    }

    fn refers_to(&self, other: &Reference) -> bool {
        self.0.binary_search(other).is_ok()
    }
}

impl PodReferences {
    /// What a PodSpec names.
    #[must_use]
    pub fn in_spec(spec: Node<'_>) -> Self {
        let mut found = Vec::new();
        let mut add = |kind, name: Option<&str>| {
            let name = name.filter(|name| !name.is_empty());
            found.extend(name.map(|name| Reference {
                kind,
                name: name.into(),
            }));
        };
        let account = ["/serviceAccountName", "/serviceAccount"].into_iter();
        let mut account = account.filter_map(|pointer| spec.text_at(pointer));
        let account = account.find(|name| !name.is_empty());
        add(Referent::ServiceAccount, account.or(Some(DEFAULT_ACCOUNT)));
        for secret in items(spec, "imagePullSecrets") {
            add(Referent::Secret, secret.text_at("/name"));
        }
        for container in CONTAINERS.into_iter().flat_map(|list| items(spec, list)) {
            for source in items(container, "envFrom") {
                add(Referent::ConfigMap, source.text_at("/configMapRef/name"));
                add(Referent::Secret, source.text_at("/secretRef/name"));
            }
            for variable in items(container, "env") {
                let name = |pointer| variable.text_at(pointer);
                add(Referent::ConfigMap, name("/valueFrom/configMapKeyRef/name"));
                add(Referent::Secret, name("/valueFrom/secretKeyRef/name"));
            }
        }
        for volume in items(spec, "volumes") {
            let claim = volume.text_at("/persistentVolumeClaim/claimName");
            add(Referent::Claim, claim);
            add(Referent::ConfigMap, volume.text_at("/configMap/name"));
            add(Referent::Secret, volume.text_at("/secret/secretName"));
            for source in volume
                .get("projected")
                .into_iter()
                .flat_map(|all| items(all, "sources"))
            {
                add(Referent::ConfigMap, source.text_at("/configMap/name"));
                add(Referent::Secret, source.text_at("/secret/name"));
            }
        }
        found.sort_unstable();
        found.dedup();
        Self(found.into())
    }
}

fn items<'t>(value: Node<'t>, key: &str) -> impl Iterator<Item = Node<'t>> + use<'t> {
    value.get(key).into_iter().flat_map(Node::items)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tree::Tree;

    fn kind(name: &str) -> WatchedKind {
        let mut kinds = PodReferences::KINDS.iter().map(|readable| readable.kind);
        kinds.find(|kind| kind.kind == name).unwrap()
    }

    fn read(name: &str, object: Value) -> Result<Option<PodReferences>, Unknown> {
        PodReferences::of(Tree::from(object).root(), kind(name))
    }

    #[test]
    fn everything_that_a_pod_template_names_is_found_once() {
        let spec = json!({
            "serviceAccountName": "web",
            "imagePullSecrets": [{"name": "pull"}, {"name": ""}],
            "initContainers": [{"envFrom": [{"configMapRef": {"name": "env"}}, {"secretRef": {"name": "env-secret"}}]}],
            "containers": [{"env": [
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "key", "key": "a"}}},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "key-secret", "key": "b"}}},
                {"name": "C", "value": "c"},
            ]}],
            "ephemeralContainers": [{"envFrom": [{"configMapRef": {"name": "env"}}]}],
            "volumes": [
                {"name": "a", "configMap": {"name": "mounted"}},
                {"name": "b", "secret": {"secretName": "mounted-secret"}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "d", "projected": {"sources": [
                    {"configMap": {"name": "projected"}}, {"secret": {"name": "projected-secret"}}]}},
                {"name": "e", "emptyDir": {}},
            ],
        });
        let object = json!({"metadata": {"name": "a"},
            "spec": {"jobTemplate": {"spec": {"template": {"spec": spec}}}}});
        let references = read("CronJob", object).unwrap().unwrap();
        let names = |wanted: Referent| {
            let found = references.0.iter().filter(|found| found.kind == wanted);
            found.map(|found| &*found.name).collect::<Vec<_>>()
        };
        assert_eq!(
            names(Referent::ConfigMap),
            ["env", "key", "mounted", "projected"]
        );
        assert_eq!(
            names(Referent::Secret),
            [
                "env-secret",
                "key-secret",
                "mounted-secret",
                "projected-secret",
                "pull"
            ]
        );
        assert_eq!(names(Referent::Claim), ["data"]);
        assert_eq!(names(Referent::ServiceAccount), ["web"]);
        assert!(references.refers_to(&Reference {
            kind: Referent::Claim,
            name: "data".into()
        }));
    }

    #[test]
    fn a_pod_without_an_account_has_the_default_one() {
        let pod = read("Pod", json!({"spec": {}})).unwrap().unwrap();
        let default = Reference {
            kind: Referent::ServiceAccount,
            name: "default".into(),
        };
        assert_eq!(*pod.0, [default]);
    }

    #[test]
    fn what_a_controller_makes_is_left_out_and_what_is_no_template_cannot_be_read() {
        let owners = json!([{"kind": "ReplicaSet", "name": "web-1", "controller": true}]);
        let made = json!({"metadata": {"ownerReferences": owners}, "spec": {}});
        assert_eq!(read("Pod", made), Ok(None));
        let odd = read("Deployment", json!({"spec": {"template": 1}})).unwrap_err();
        assert_eq!(odd.to_string(), "/spec/template is no object");
    }
}
