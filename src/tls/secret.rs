//! The Secret, watched by name: RBAC can grant that by `resourceNames`.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::time::sleep;

use super::{Certificates, Source};
use crate::lookup::cluster::WATCH_SECONDS;

impl Certificates {
    /// Watches the Secret for ever, and serves what it holds. Without a Secret, never does a thing.
    ///
    /// A watch that fails is begun again; what was served before is served on.
    pub async fn follow(&self, client: Client) {
        let Source::Secret(name) = &self.source else {
            return std::future::pending().await;
        };
        let api: Api<Secret> = Api::namespaced(client, &name.namespace);
        let only = watcher::Config::default()
            .timeout(WATCH_SECONDS)
            .fields(&format!("metadata.name={}", name.name));
        let mut events = pin!(watcher(api, only).default_backoff());
        let mut listed = None;
        let mut complaint = None;
        loop {
            match events.next().await {
                Some(Ok(event)) => {
                    complaint = None;
                    match event {
                        Event::Init => listed = None,
                        Event::InitApply(secret) => listed = Some(secret),
                        Event::InitDone => self.take(listed.take().map(data).as_ref()),
                        Event::Apply(secret) => self.take(Some(&data(secret))),
                        Event::Delete(_) => self.take(None),
                    }
                }
                Some(Err(error)) => {
                    let said = Some(error.to_string());
                    if complaint != said {
                        tracing::warn!(
                            "Secret {name} cannot be watched: {error}; grant get, list and watch on it"
                        );
                        complaint = said;
                    }
                }
                // It has no end; should it ever come, this must not spin.
                None => sleep(Duration::from_secs(1)).await,
            }
        }
    }
}

fn data(secret: Secret) -> BTreeMap<String, k8s_openapi::ByteString> {
    secret.data.unwrap_or_default()
}
