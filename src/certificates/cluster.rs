//! The Secret and the two webhook configurations, as the API server has them.

use std::fmt::Debug;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::StreamExt;
use futures::future::try_join;
use futures::stream::{BoxStream, select_all};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{
    ApiResource, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams,
};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::secret_state::SecretState;
use super::{KeepError, Settings, replicas};
use crate::lookup::cluster::WATCH_SECONDS;
use crate::object_name::ObjectName;
use crate::report::metrics::{Metrics, WebhookLabel};

/// Who writes, in `managedFields`.
const MANAGER: &str = "forestall";
/// Says who keeps the Secret.
const MANAGED_BY: [&str; 2] = ["app.kubernetes.io/managed-by", "forestall"];
/// cert-manager writes this on a Secret that it keeps (its `CertificateNameKey`).
const CERT_MANAGER: &str = "cert-manager.io/certificate-name";

const SECRET_RIGHTS: &str = "create on secrets, and get, list, watch and update on this one";
const CONFIGURATION_RIGHTS: &str = "get, list, watch and patch on it";
const SLICE_RIGHTS: &str = "list on endpointslices in its namespace";

/// Reads and writes.
pub(super) struct Cluster {
    name: ObjectName,
    secrets: Api<Secret>,
    configuration: String,
    configurations: [Configurations; 2],
    slices: Api<EndpointSlice>,
    /// Reads metadata only, so that no key comes with it.
    watched: Api<PartialObjectMeta<Secret>>,
}

/// One kind of webhook configurations.
struct Configurations {
    /// `mutating` or `validating`, as metrics have it.
    webhook: &'static str,
    /// Untyped, so that nothing in it is lost.
    api: Api<DynamicObject>,
}

/// All of it at one time.
pub(super) struct FoundSecret {
    secret: Option<Secret>,
    configurations: [(&'static str, Option<DynamicObject>); 2],
}

// === impl Cluster ===

impl Cluster {
    pub(super) fn new(client: Client, settings: &Settings) -> Self {
        let namespace = &settings.secret.namespace;
        Self {
            name: settings.secret.clone(),
            secrets: Api::namespaced(client.clone(), namespace),
            configuration: settings.webhook_configuration.clone(),
            configurations: [
                Configurations::new::<MutatingWebhookConfiguration>(&client, "mutating"),
                Configurations::new::<ValidatingWebhookConfiguration>(&client, "validating"),
            ],
            slices: Api::namespaced(client.clone(), namespace),
            watched: Api::namespaced(client, namespace),
        }
    }

    /// Something may have changed. Only to look sooner: what a watch misses, the next look finds.
    pub(super) fn changes(&self) -> BoxStream<'static, ()> {
        let [mutating, validating] = &self.configurations;
        let all = [
            changes(self.watched.clone(), &self.name.name),
            changes(mutating.api.clone(), &self.configuration),
            changes(validating.api.clone(), &self.configuration),
        ];
        select_all(all).boxed()
    }

    /// The Secret last: so whoever reads slowly never takes an older Secret for the reason to change
    /// a newer configuration.
    pub(super) async fn read(&self) -> Result<FoundSecret, KeepError> {
        let [mutating, validating] = &self.configurations;
        let (mutating, validating) = try_join(
            mutating.read(&self.configuration),
            validating.read(&self.configuration),
        )
        .await?;
        let secret = self.secrets.get_opt(&self.name.name).await;
        let secret = secret.map_err(|error| self.about_secret("read", error))?;
        if let Some(owner) = secret.as_ref().and_then(|secret| owner(&secret.metadata)) {
            let name = self.name.clone();
            return Err(KeepError::Foreign { name, owner });
        }
        Ok(FoundSecret {
            secret,
            configurations: [mutating, validating],
        })
    }

    /// Writes the Secret, if nobody else has since it was seen.
    pub(super) async fn write(
        &self,
        seen: &FoundSecret,
        kept: &SecretState,
    ) -> Result<(), KeepError> {
        let mut secret = seen.secret.clone().unwrap_or_else(|| Secret {
            metadata: ObjectMeta {
                name: Some(self.name.name.clone()),
                ..ObjectMeta::default()
            },
            ..Secret::default()
        });
        let [label, value] = MANAGED_BY;
        secret
            .labels_mut()
            .insert(label.to_owned(), value.to_owned());
        let data = secret.data.get_or_insert_default();
        for (key, value) in kept.data() {
            data.insert(key.to_owned(), value);
        }
        let by = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let written = match &seen.secret {
            // It carries the version that was seen.
            Some(_) => self.secrets.replace(&self.name.name, &by, &secret).await,
            None => self.secrets.create(&by, &secret).await,
        };
        written
            .map(|_| ())
            .map_err(|error| self.about_secret("written", error))
    }

    /// Tells the API server whom to trust, in each webhook of both configurations.
    pub(super) async fn configure(
        &self,
        seen: &FoundSecret,
        bundle: &str,
    ) -> Result<(), KeepError> {
        for (configurations, (_, seen)) in self.configurations.iter().zip(&seen.configurations) {
            if let Some(seen) = seen {
                configurations.configure(seen, bundle).await?;
            }
        }
        Ok(())
    }

    /// The replicas that do not serve a leaf of the first authority, and why each does not.
    pub(super) async fn lagging(
        &self,
        kept: &SecretState,
        settings: &Settings,
    ) -> Result<Vec<String>, KeepError> {
        let service = &settings.service;
        let of_service =
            ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let slices = self.slices.list(&of_service).await;
        let slices = slices.map_err(|error| KeepError::Api {
            what: format!("the replicas behind Service {service} cannot be listed"),
            rights: SLICE_RIGHTS,
            error,
        })?;
        Ok(replicas::lagging(slices.items, kept, settings).await)
    }

    fn about_secret(&self, done: &str, error: kube::Error) -> KeepError {
        KeepError::Api {
            what: format!("Secret {} cannot be {done}", self.name),
            rights: SECRET_RIGHTS,
            error,
        }
    }
}

/// A word whenever the object of this name changes.
fn changes<K>(api: Api<K>, name: &str) -> BoxStream<'static, ()>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let only = watcher::Config::default()
        .timeout(WATCH_SECONDS)
        .fields(&format!("metadata.name={name}"));
    let is_change =
        async |event| matches!(event, Ok(Event::Apply(_) | Event::Delete(_))).then_some(());
    watcher(api, only)
        .default_backoff()
        .filter_map(is_change)
        .boxed()
}

/// Who else keeps this object.
fn owner(metadata: &ObjectMeta) -> Option<String> {
    let annotations = metadata.annotations.as_ref();
    if annotations.is_some_and(|annotations| annotations.contains_key(CERT_MANAGER)) {
        return Some("cert-manager".to_owned());
    }
    let mut owners = metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    Some(format!("{} {}", owner.kind, owner.name))
}

// === impl Configurations ===

impl Configurations {
    fn new<K: Resource<DynamicType = ()>>(client: &Client, webhook: &'static str) -> Self {
        let kind = ApiResource::erase::<K>(&());
        Self {
            webhook,
            api: Api::all_with(client.clone(), &kind),
        }
    }

    async fn read(&self, name: &str) -> Result<(&'static str, Option<DynamicObject>), KeepError> {
        match self.api.get_opt(name).await {
            Ok(configuration) => Ok((self.webhook, configuration)),
            Err(error) => Err(self.about(name, "read", error)),
        }
    }

    async fn configure(&self, seen: &DynamicObject, bundle: &str) -> Result<(), KeepError> {
        let name = seen.name_any();
        let wrong = wrong(seen, bundle);
        if wrong.is_empty() {
            return Ok(());
        }
        let bundle = BASE64.encode(bundle);
        // The places of webhooks are those of this version.
        let version = seen.metadata.resource_version.as_deref();
        let mut operations =
            vec![json!({"op": "test", "path": "/metadata/resourceVersion", "value": version})];
        operations.extend(wrong.iter().map(|place| {
            let to = format!("/webhooks/{place}/clientConfig/caBundle");
            json!({"op": "add", "path": to, "value": bundle})
        }));
        let operations = serde_json::from_value(Value::Array(operations))
            .map_err(|error| self.about(&name, "patched", kube::Error::SerdeError(error)))?;
        let by = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Json::<()>(operations);
        let written = self.api.patch(&name, &by, &patch).await;
        written.map_err(|error| self.about(&name, "patched", error))?;
        let webhook = self.webhook;
        tracing::info!("wrote the caBundle of the {webhook} webhook configuration {name}");
        Ok(())
    }

    fn about(&self, name: &str, done: &str, error: kube::Error) -> KeepError {
        let webhook = self.webhook;
        KeepError::Api {
            what: format!("the {webhook} webhook configuration {name} cannot be {done}"),
            rights: CONFIGURATION_RIGHTS,
            error,
        }
    }
}

/// The places of the webhooks in a configuration that trust anything else than this.
fn wrong(configuration: &DynamicObject, bundle: &str) -> Vec<usize> {
    let bundle = BASE64.encode(bundle);
    let webhooks = configuration.data["webhooks"].as_array();
    let webhooks = webhooks.into_iter().flatten().enumerate();
    webhooks
        .filter(|(_, webhook)| webhook["clientConfig"]["caBundle"] != bundle)
        .map(|(place, _)| place)
        .collect()
}

// === impl FoundSecret ===

impl FoundSecret {
    pub(super) fn kept(&self) -> SecretState {
        let data = self.secret.as_ref().and_then(|secret| secret.data.as_ref());
        data.map(SecretState::of_secret).unwrap_or_default()
    }

    /// The version of the Secret.
    pub(super) fn version(&self) -> Option<String> {
        self.secret.as_ref()?.resource_version()
    }

    /// Whether every configuration that exists trusts just this; shown by metrics one by one.
    pub(super) fn report(&self, bundle: &str, metrics: &Metrics) -> bool {
        let mut all = true;
        for (webhook, configuration) in &self.configurations {
            let is_right = configuration
                .as_ref()
                .map(|configuration| wrong(configuration, bundle).is_empty());
            all &= is_right.unwrap_or(true);
            let gauge = metrics
                .webhook_configured
                .get_or_create(&WebhookLabel { webhook });
            gauge.set(i64::from(is_right.unwrap_or(false)));
        }
        all
    }

    /// Whom the API server trusts now, in PEM.
    pub(super) fn bundles(&self) -> Vec<Vec<u8>> {
        let configurations = self
            .configurations
            .iter()
            .filter_map(|(_, seen)| seen.as_ref());
        let mut bundles: Vec<Vec<u8>> = configurations
            .flat_map(|configuration| {
                configuration.data["webhooks"]
                    .as_array()
                    .into_iter()
                    .flatten()
            })
            .filter_map(|webhook| {
                BASE64
                    .decode(webhook["clientConfig"]["caBundle"].as_str()?)
                    .ok()
            })
            .collect();
        bundles.dedup();
        bundles
    }
}
