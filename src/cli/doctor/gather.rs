//! Asks a cluster all that `doctor` must know before it judges: the checks ask nobody.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::{join_all, join3};
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIGroupList;

use super::api::{Api, Unread};
use super::facts::{Backend, Endpoints, Facts, Proof};
use super::hooks::{Hook, Labels, ServiceName};
use super::pods::{Pod, Runner};
use super::{custom_resources, dry_run};
use crate::config::Config;

/// Services that are asked for at the same time.
const AT_ONCE: usize = 8;

/// Asks the cluster. What cannot be read is noted, and stops nothing else.
pub(super) async fn facts(api: &Api, wanted: Option<String>) -> Facts {
    let ((hooks, unread_hooks), namespaces, groups) =
        join3(hooks(api), namespaces(api), groups(api)).await;
    let home = home(&hooks, wanted.as_deref());
    let nobody = Unread::Absent("no webhook calls Forestall through a Service".to_owned());
    let backends = backends(api, &hooks, home.as_ref()).await;
    let pods = match &home {
        Some(home) => pods(api, home, &backends).await,
        None => Err(nobody),
    };
    let first = pods.as_ref().map_err(Clone::clone).and_then(|pods| {
        let none = || Unread::Absent("Forestall has no Pod".to_owned());
        pods.first().ok_or_else(none)
    });
    let config = configuration(api, first.clone()).await;
    let mut facts = Facts {
        now: Timestamp::now(),
        resources: custom_resources::resources(api, &groups, config.as_ref().ok()).await,
        config,
        certificate: certificate(api, first).await,
        proof: Proof::Unknown(Unread::Absent("no dry run was made".to_owned())),
        hooks,
        unread_hooks,
        namespaces,
        wanted,
        home,
        backends,
        pods,
        groups,
    };
    facts.proof = dry_run::prove(api, &facts).await;
    facts
}

/// The Service in the namespace that was asked for; else the first one.
fn home(hooks: &[Hook], wanted: Option<&str>) -> Option<ServiceName> {
    let ours = hooks.iter().filter(|hook| hook.is_forestall());
    let mut services: Vec<_> = ours.filter_map(Hook::service).collect();
    services.sort();
    services
        .into_iter()
        .find(|service| wanted.is_none_or(|wanted| service.namespace == wanted))
}

async fn hooks(api: &Api) -> (Vec<Hook>, Vec<Unread>) {
    let group = "/apis/admissionregistration.k8s.io/v1";
    let (mutating, validating) = (
        format!("{group}/mutatingwebhookconfigurations"),
        format!("{group}/validatingwebhookconfigurations"),
    );
    let (mutating, validating) = futures::join!(
        api.list::<MutatingWebhookConfiguration>(&mutating),
        api.list::<ValidatingWebhookConfiguration>(&validating)
    );
    let mut hooks = Vec::new();
    let mut unread = Vec::new();
    match mutating {
        Ok(all) => hooks.extend(Hook::of_mutating(all)),
        Err(reason) => unread.push(reason),
    }
    match validating {
        Ok(all) => hooks.extend(Hook::of_validating(all)),
        Err(reason) => unread.push(reason),
    }
    (hooks, unread)
}

async fn namespaces(api: &Api) -> Result<BTreeMap<String, Labels>, Unread> {
    let all: Vec<Namespace> = api.list("/api/v1/namespaces").await?;
    let named = all.into_iter().map(|namespace| {
        let metadata = namespace.metadata;
        let (name, labels) = (metadata.name, metadata.labels);
        (name.unwrap_or_default(), labels.unwrap_or_default())
    });
    Ok(named.collect())
}

async fn groups(api: &Api) -> Result<BTreeMap<String, Vec<String>>, Unread> {
    let list: APIGroupList = api.get("/apis").await?;
    let named = list.groups.into_iter().map(|group| {
        let versions = group.versions.into_iter();
        let versions = versions.map(|version| version.version).collect();
        (group.name, versions)
    });
    Ok(named.collect())
}

async fn backends(
    api: &Api,
    hooks: &[Hook],
    home: Option<&ServiceName>,
) -> BTreeMap<ServiceName, Backend> {
    let blocking = hooks.iter().filter(|hook| hook.fails());
    let services = blocking.filter_map(Hook::service);
    let services: BTreeSet<_> = services.chain(home.cloned()).collect();
    let asked = services.into_iter().map(async |service| {
        let backend = backend(api, &service).await;
        (service, backend)
    });
    stream::iter(asked)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

async fn pods(
    api: &Api,
    home: &ServiceName,
    backends: &BTreeMap<ServiceName, Backend>,
) -> Result<Vec<Runner>, Unread> {
    let service = backends.get(home).map(|backend| &backend.service);
    let selector = match service {
        Some(Ok(service)) => service
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.as_ref()),
        Some(Err(reason)) => return Err(reason.clone()),
        None => None,
    };
    let Some(selector) = selector.filter(|selector| !selector.is_empty()) else {
        let reason = format!("Service {home} selects no Pods");
        return Err(Unread::Absent(reason));
    };
    let pairs: Vec<_> = selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let (namespace, selector) = (&home.namespace, pairs.join(","));
    let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={selector}");
    let pods: Vec<Pod> = api.list(&path).await?;
    let stays = pods.into_iter().filter(Runner::stays);
    Ok(join_all(stays.map(|pod| Runner::ask(api, pod))).await)
}

/// The file that the Pods are given, where it comes from a `ConfigMap`.
async fn configuration(api: &Api, pod: Result<&Runner, Unread>) -> Result<Config, Unread> {
    let pod = pod?;
    let unseen = |reason: String| Unread::Absent(reason);
    let Some(path) = pod.argument("--config") else {
        return Ok(Config::default());
    };
    let Some((volume, file)) = pod.volume(&path) else {
        return Err(unseen(format!(
            "{path} of Pod {} is in no volume",
            pod.name
        )));
    };
    let Some(name) = volume.config_map.as_ref().map(|source| &source.name) else {
        return Err(unseen(format!(
            "{path} of Pod {} is in no ConfigMap",
            pod.name
        )));
    };
    let namespace = &pod.namespace;
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
    let config_map: ConfigMap = api.get(&path).await?;
    let data = config_map.data.unwrap_or_default();
    let Some(text) = data.get(file) else {
        return Err(unseen(format!("configmap/{name} has no key {file}")));
    };
    let source = format!("configmap/{name}, {file}");
    Config::parse(&source, text).map_err(|error| Unread::Failed(error.to_string()))
}

/// The Secret with the certificate, and the certificate in it.
async fn certificate(api: &Api, pod: Result<&Runner, Unread>) -> Result<(String, Vec<u8>), Unread> {
    let pod = pod?;
    let of_flag = pod.argument("--tls-secret").and_then(|secret| {
        let (namespace, name) = secret.split_once('/')?;
        Some((namespace.to_owned(), name.to_owned(), "tls.crt".to_owned()))
    });
    let of_volume = || {
        let path = pod.argument("--tls-cert")?;
        let (volume, file) = pod.volume(&path)?;
        let secret = volume.secret.as_ref()?.secret_name.clone()?;
        Some((pod.namespace.clone(), secret, file.to_owned()))
    };
    let Some((namespace, name, key)) = of_flag.or_else(of_volume) else {
        let reason = format!("Pod {} takes its certificate from no Secret", pod.name);
        return Err(Unread::Absent(reason));
    };
    let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
    let secret: Secret = api.get(&path).await?;
    let place = format!("secret/{name} in namespace {namespace}");
    match secret.data.unwrap_or_default().remove(&key) {
        Some(pem) => Ok((place, pem.0)),
        None => Err(Unread::Absent(format!("{place} has no key {key}"))),
    }
}

async fn backend(api: &Api, name: &ServiceName) -> Backend {
    let ServiceName { namespace, name } = name;
    let service = format!("/api/v1/namespaces/{namespace}/services/{name}");
    let slices = format!(
        "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices\
         ?labelSelector=kubernetes.io/service-name={name}"
    );
    let (service, slices) = futures::join!(
        api.get::<Service>(&service),
        api.list::<EndpointSlice>(&slices)
    );
    Backend {
        service,
        endpoints: slices.map(|slices| endpoints(&slices)),
    }
}

fn endpoints(slices: &[EndpointSlice]) -> Endpoints {
    let all = slices.iter().flat_map(|slice| &slice.endpoints);
    // Unknown counts as ready. Source: EndpointConditions in the API reference.
    let ready = |conditions: Option<bool>| conditions.unwrap_or(true);
    let states: BTreeMap<_, _> = all
        .map(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            let is_ready = ready(conditions.and_then(|conditions| conditions.ready));
            (endpoint.addresses.first(), is_ready)
        })
        .collect();
    Endpoints {
        ready: states.values().filter(|ready| **ready).count(),
        all: states.len(),
    }
}
