//! The pull secrets of the pods under review, read one by one when a review needs them.
//!
//! Secrets are neither listed nor watched: Forestall shall hold no more of them than it must, and
//! may be let into single namespaces only.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use futures::future::join_all;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{Api, Client};
use moka::Expiry;
use moka::future::Cache;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};
use zeroize::Zeroizing;

use crate::evidence::{Puller, Unknown};
use crate::lookup::pull_secrets::Content;

/// How long a Secret counts as it was read.
const USABLE: Duration = Duration::from_mins(1);
/// The same of one that is absent or broken: somebody may be about to repair it.
const UNUSABLE: Duration = Duration::from_secs(5);
/// Secrets and service accounts that are remembered.
const MOST_KEPT: u64 = 4096;
/// Pull secrets of one pod that are read.
const MOST_SECRETS: usize = 16;
/// The most time for one read.
const PATIENCE: Duration = Duration::from_secs(3);

/// Reads pull secrets.
pub(super) struct PullSecrets {
    client: Client,
    secrets: Cache<Key, Fetched<Content>>,
    accounts: Cache<Key, Fetched<Vec<String>>>,
}

/// A pull secret of a pod; `None` where there is none of that name.
pub(in crate::lookup) type Named = (String, Option<Arc<Content>>);

/// Namespace and name.
type Key = (String, String);

/// What was read; `None`: there is no such object.
type Fetched<T> = Result<Option<Arc<T>>, Unknown>;

struct PullSecretLifetimes;

// === impl PullSecrets ===

impl PullSecrets {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            secrets: Cache::builder()
                .max_capacity(MOST_KEPT)
                .expire_after(PullSecretLifetimes)
                .build(),
            accounts: Cache::builder()
                .max_capacity(MOST_KEPT)
                .expire_after(PullSecretLifetimes)
                .build(),
        }
    }

    /// The pull secrets that kubelet would use for a pod, in order.
    pub(super) async fn of(&self, puller: &Puller, by: Instant) -> Result<Vec<Named>, Unknown> {
        let read = timeout_at(by, self.read(puller)).await;
        read.map_err(|_| Unknown::TimedOut)?
    }

    async fn read(&self, puller: &Puller) -> Result<Vec<Named>, Unknown> {
        let Puller {
            namespace,
            service_account,
            named,
        } = puller;
        if !is_label(namespace) {
            let problem = "its namespace is not known, so its pull secrets are not";
            return Err(Unknown::Unavailable(problem.to_owned()));
        }
        // The API server adds those of the service account where a pod names none (Kubernetes 1.37,
        // plugin/pkg/admission/serviceaccount); of a template's pods it has not done so yet.
        let of_account;
        let names = if named.is_empty() {
            of_account = self.account(namespace, service_account).await?;
            &*of_account
        } else {
            named
        };
        // An empty name is none to kubelet.
        let names: Vec<&String> = names.iter().filter(|name| !name.is_empty()).collect();
        if names.len() > MOST_SECRETS {
            return Err(Unknown::TooMany);
        }
        let read = names.into_iter().map(async |name| {
            let content = self.secret(namespace, name).await?;
            Ok((name.clone(), content))
        });
        join_all(read).await.into_iter().collect()
    }

    async fn account(&self, namespace: &str, name: &str) -> Result<Arc<Vec<String>>, Unknown> {
        let names = |account: ServiceAccount| {
            let secrets = account.image_pull_secrets.unwrap_or_default();
            secrets.into_iter().map(|secret| secret.name).collect()
        };
        let key = (namespace.to_owned(), name.to_owned());
        let read = self.get("ServiceAccount", &key, names);
        let account = self.accounts.get_with_by_ref(&key, read).await?;
        account.ok_or_else(|| {
            let problem = format!("there is no ServiceAccount {namespace}/{name} yet");
            Unknown::Unavailable(problem)
        })
    }

    async fn secret(&self, namespace: &str, name: &str) -> Fetched<Content> {
        let content = |secret: Secret| {
            let kind = secret.type_.unwrap_or_default();
            let data = secret.data.unwrap_or_default().into_iter();
            let data = data.map(|(key, ByteString(value))| (key, Zeroizing::new(value)));
            Content::read(namespace, name, &kind, &data.collect())
        };
        let key = (namespace.to_owned(), name.to_owned());
        let read = self.get("Secret", &key, content);
        self.secrets.get_with_by_ref(&key, read).await
    }

    async fn get<K, T>(
        &self,
        kind: &str,
        (namespace, name): &Key,
        look: impl FnOnce(K) -> T,
    ) -> Fetched<T>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        // The name becomes a part of the address, where `../` would lead elsewhere. kubelet finds
        // nothing of such a name either.
        if !name.split('.').all(is_label) {
            return Ok(None);
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        match timeout(PATIENCE, api.get_opt(name)).await {
            Ok(Ok(object)) => Ok(object.map(look).map(Arc::new)),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(Unknown::Unavailable(
                format!("Forestall may not read {kind} {namespace}/{name}; grant it get there"),
            )),
            Ok(Err(_)) | Err(_) => Err(Unknown::TimedOut),
        }
    }
}

/// Whether this is a part of an object's name (RFC 1123).
fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner)
}

impl fmt::Debug for PullSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PullSecrets")
    }
}

// === impl PullSecretLifetimes ===

impl Expiry<Key, Fetched<Content>> for PullSecretLifetimes {
    fn expire_after_create(
        &self,
        _: &Key,
        answer: &Fetched<Content>,
        _: Clock,
    ) -> Option<Duration> {
        let is_usable =
            matches!(answer, Ok(Some(content)) if matches!(**content, Content::Usable(_)));
        Some(if is_usable { USABLE } else { UNUSABLE })
    }
}

impl Expiry<Key, Fetched<Vec<String>>> for PullSecretLifetimes {
    fn expire_after_create(
        &self,
        _: &Key,
        answer: &Fetched<Vec<String>>,
        _: Clock,
    ) -> Option<Duration> {
        Some(if matches!(answer, Ok(Some(_))) {
            USABLE
        } else {
            UNUSABLE
        })
    }
}
