//! One kind: listed, followed, and listed again when that is due.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use kube::api::ApiResource;
use kube::discovery;
use kube::error::DiscoveryError;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};

use super::Background;
use super::refusal_gauge::RefusalGauge;
use super::rounds::Rounds;
use super::watched_object::WatchedObject;
use crate::config::{Mode, NamespaceLabel};
use crate::evidence::Unknown;
use crate::guard::Guard;
use crate::lookup::Lookup;
use crate::lookup::cluster::{LONGEST_PAUSE, PAGE, WATCH_SECONDS, status_code};
use crate::report::events::Recorder;
use crate::report::metrics::RuleLabel;
use crate::review::{Scope, WatchedKind};
use crate::verdict::{Action, Phase, Verdict};

/// Follows one kind.
pub(super) struct Follower<'a, L> {
    background: &'a Background<L>,
    guard: &'a Arc<Guard<L>>,
    recorder: &'a Recorder,
    judging: &'a Semaphore,
    gauge: &'a RefusalGauge,
    kind: WatchedKind,
    resource: String,
    /// What is known of each object, by its uid.
    known: BTreeMap<String, Known>,
    /// What the labels of namespaces said when their objects were judged.
    labels: BTreeMap<String, NamespaceLabel>,
    /// Counts the lists: what the newest one lacks is gone.
    list: u32,
    rounds: Rounds,
    /// Why the kind is not followed, as said last.
    withheld: Option<Withheld>,
    /// Whether it is said that the kind cannot be listed.
    is_failing: bool,
}

/// What is kept of an object.
#[derive(Debug, Default)]
struct Known {
    content: u64,
    refused_by: Vec<&'static str>,
    /// Whether something about it may be known later.
    is_open: bool,
    /// The round in which it was judged.
    round: u32,
    list: u32,
}

/// Why a kind is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Withheld {
    /// There is no such kind, and so no object.
    NotServed,
    Forbidden,
}

// === impl Follower ===

impl<'a, L: Lookup + 'static> Follower<'a, L> {
    pub(super) fn new(
        background: &'a Background<L>,
        guard: &'a Arc<Guard<L>>,
        recorder: &'a Recorder,
        judging: &'a Semaphore,
        gauge: &'a RefusalGauge,
        kind: WatchedKind,
    ) -> Self {
        Self {
            background,
            guard,
            recorder,
            judging,
            gauge,
            kind,
            resource: kind.resource(),
            known: BTreeMap::new(),
            labels: BTreeMap::new(),
            list: 0,
            rounds: Rounds::new(background.pace, Instant::now()),
            withheld: None,
            is_failing: false,
        }
    }

    /// Follows for ever.
    pub(super) async fn follow(mut self) {
        let mut backoff = watcher::DefaultBackoff::default();
        loop {
            let withheld = match discover(&self.background.client, self.kind).await {
                Ok(Some(kind)) => self.list_and_watch(&kind).await,
                Ok(None) => Withheld::NotServed,
                Err(error) => {
                    tracing::debug!(resource = self.resource, %error, "the kind cannot be looked up");
                    sleep(backoff.next().unwrap_or(LONGEST_PAUSE)).await;
                    continue;
                }
            };
            backoff = watcher::DefaultBackoff::default();
            self.withhold(withheld);
            sleep(self.background.pace.retry).await;
        }
    }

    /// Lists and watches until the kind is withheld.
    async fn list_and_watch(&mut self, kind: &ApiResource) -> Withheld {
        let api: Api<WatchedObject> = Api::all_with(self.background.client.clone(), kind);
        let config = watcher::Config::default()
            .timeout(WATCH_SECONDS)
            .page_size(PAGE);
        loop {
            let mut events = Box::pin(watcher(api.clone(), config.clone()));
            let mut backoff = watcher::DefaultBackoff::default();
            let mut is_listing = true;
            loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    () = self.round_is_due(), if !is_listing => break,
                };
                let event = match event {
                    Some(Ok(event)) => event,
                    Some(Err(error)) => {
                        let status = status_code(&error);
                        match status {
                            403 => return Withheld::Forbidden,
                            404 => return Withheld::NotServed,
                            // A conversion webhook that is dead, say.
                            500..=599 if is_listing => self.fails(status),
                            _ => {}
                        }
                        // kube goes on where it was, or lists anew where it must.
                        tracing::debug!(resource = self.resource, %error, "the watch has failed");
                        sleep(backoff.next().unwrap_or(LONGEST_PAUSE)).await;
                        continue;
                    }
                    None => break,
                };
                backoff = watcher::DefaultBackoff::default();
                match event {
                    Event::Init => {
                        is_listing = true;
                        self.list += 1;
                    }
                    Event::InitApply(shown) | Event::Apply(shown) => {
                        self.look_at(kind, shown).await;
                    }
                    Event::InitDone => {
                        is_listing = false;
                        self.listed();
                    }
                    Event::Delete(shown) => self.forget(shown.uid()),
                }
            }
        }
    }

    /// Judges an object, where it is new, has changed, or is due.
    async fn look_at(&mut self, kind: &ApiResource, shown: WatchedObject) {
        if shown.has_controller {
            self.forget(shown.uid());
            return;
        }
        let label = shown.namespace().map(|namespace| self.label(namespace));
        let (uid, content) = (shown.uid().to_owned(), shown.content);
        let (list, round) = (self.list, self.rounds.now());
        if let Some(known) = self.known.get_mut(&uid) {
            known.list = list;
            if known.content == content && !self.rounds.is_due(known.round, known.is_open) {
                return;
            }
        }
        let (refused_by, is_open) = if label.is_none_or(is_known) {
            self.judge(kind, shown).await
        } else {
            // Whether it is off there will be known in a moment.
            (Vec::new(), true)
        };
        let known = Known {
            content,
            refused_by,
            is_open,
            round,
            list,
        };
        let before = self.known.get(&uid).map(|known| &*known.refused_by);
        self.gauge
            .change(before.unwrap_or_default(), &known.refused_by);
        self.known.insert(uid, known);
        if is_open {
            self.rounds.open();
        }
    }

    /// What the label of a namespace says; it is remembered, as its change is one for all objects.
    fn label(&mut self, namespace: &str) -> NamespaceLabel {
        let label = self.guard.lookup().label(namespace);
        if is_known(label) && self.labels.get(namespace) != Some(&label) {
            self.labels.insert(namespace.to_owned(), label);
        }
        label
    }

    /// The guardrails that would refuse the object, and whether more may be known of it later.
    async fn judge(&self, kind: &ApiResource, shown: WatchedObject) -> (Vec<&'static str>, bool) {
        let subject = shown.subject(kind);
        if self.guard.loudest(&subject, Phase::Validate) == Mode::Off {
            return (Vec::new(), false);
        }
        // It is never closed.
        let _turn = self.judging.acquire().await;
        let object = shown.reference(kind);
        let stored = shown.stored(kind);
        let judging = &self.background.judging;
        match judging.judge_existing(Arc::clone(self.guard), stored).await {
            Ok(verdict) => {
                self.count_panics(&verdict);
                let config = self.guard.config();
                let mut refused_by = Vec::new();
                for record in &verdict.records {
                    if matches!(record.action, Action::Exempt(_)) {
                        continue;
                    }
                    let would_refuse = record.would_refuse(config);
                    self.recorder.record(&object, record, would_refuse);
                    // They come by guardrail.
                    if would_refuse && refused_by.last() != Some(&record.meta.name) {
                        refused_by.push(record.meta.name);
                    }
                }
                let mut abstained = verdict.abstained.iter();
                (
                    refused_by,
                    abstained.any(|abstained| may_be_known_later(&abstained.abstention.reason)),
                )
            }
            Err(reason) => {
                tracing::debug!(resource = self.resource, reason, "an object was not judged");
                (Vec::new(), true)
            }
        }
    }

    fn count_panics(&self, verdict: &Verdict) {
        for abstained in &verdict.abstained {
            if abstained.abstention.reason == Unknown::Panicked {
                let rule = abstained.meta.name;
                let panics = &self.background.metrics.panics;
                panics.get_or_create(&RuleLabel { rule }).inc();
            }
        }
    }

    /// The list has ended: what it lacked is gone.
    fn listed(&mut self) {
        let (list, gauge) = (self.list, self.gauge);
        self.known.retain(|_, known| {
            let is_there = known.list == list;
            if !is_there {
                gauge.change(&known.refused_by, &[]);
            }
            is_there
        });
        let is_open = self.known.values().any(|known| known.is_open);
        let now = Instant::now();
        self.rounds.end(self.background.pace, is_open, now);
        gauge.available(self.kind, Some(true));
        gauge.looked_at(self.kind);
        let recovers = std::mem::take(&mut self.is_failing);
        if self.withheld.take().is_some() || recovers || self.list == 1 {
            let objects = self.known.len();
            tracing::info!(
                resource = self.resource,
                objects,
                "judged what is in the cluster"
            );
        }
    }

    fn forget(&mut self, uid: &str) {
        if let Some(known) = self.known.remove(uid) {
            self.gauge.change(&known.refused_by, &[]);
        }
    }

    /// The kind is not shown: nothing is known of its objects any more.
    fn withhold(&mut self, withheld: Withheld) {
        for known in self.known.values() {
            self.gauge.change(&known.refused_by, &[]);
        }
        self.known.clear();
        let available = match withheld {
            Withheld::NotServed => None,
            Withheld::Forbidden => Some(false),
        };
        self.gauge.available(self.kind, available);
        self.gauge.looked_at(self.kind);
        if self.withheld != Some(withheld) && withheld == Withheld::Forbidden {
            let resource = &self.resource;
            tracing::warn!(
                resource,
                "Forestall may not read {resource} (403), so what is in the cluster of it is not judged; grant it list and watch"
            );
        }
        self.withheld = Some(withheld);
    }

    /// The kind cannot be listed, so its numbers are not there; it is tried again.
    fn fails(&mut self, status: u16) {
        self.gauge.available(self.kind, Some(false));
        if !self.is_failing {
            let resource = &self.resource;
            tracing::warn!(
                resource,
                "the API server cannot list {resource} ({status}), so what is in the cluster of it is not judged; see why by kubectl get {resource} -A"
            );
        }
        self.is_failing = true;
    }

    /// Waits until something is to be judged again, and begins that round. It may be cut off.
    async fn round_is_due(&mut self) {
        loop {
            sleep_until(self.rounds.next()).await;
            let now = Instant::now();
            if self.rounds.begin(now) {
                return;
            }
            if self.rounds.look(self.background.pace, now) && self.labels_have_changed() {
                self.rounds.begin_everything();
                return;
            }
        }
    }

    fn labels_have_changed(&mut self) -> bool {
        let lookup = self.guard.lookup();
        let changed = |(namespace, before): (&String, &NamespaceLabel)| {
            let now = lookup.label(namespace);
            // What is not known for a while changes nothing.
            now != *before && is_known(now)
        };
        let has_changed = self.labels.iter().any(changed);
        if has_changed {
            self.labels.clear();
        }
        has_changed
    }
}

fn is_known(label: NamespaceLabel) -> bool {
    matches!(label, NamespaceLabel::Known(_))
}

/// The kind as the API server prefers it; `None` where it serves none.
async fn discover(client: &Client, kind: WatchedKind) -> kube::Result<Option<ApiResource>> {
    let group = match discovery::group(client, kind.group).await {
        Ok(group) => group,
        Err(kube::Error::Discovery(DiscoveryError::MissingApiGroup(_))) => return Ok(None),
        Err(error) => return Err(error),
    };
    // The version that a group prefers need not have all of its kinds.
    let versions = [group.preferred_version_or_latest()].into_iter();
    let mut found = versions
        .chain(group.versions())
        .flat_map(|version| group.versioned_resources(version));
    let found = found.find(|(resource, _)| resource.kind == kind.kind);
    let is_namespaced = kind.scope == Scope::Namespaced;
    let found = found.filter(|(_, capabilities)| {
        (capabilities.scope == discovery::Scope::Namespaced) == is_namespaced
    });
    Ok(found.map(|(resource, _)| resource))
}

/// Whether asking again may help before everything is judged again anyway.
fn may_be_known_later(reason: &Unknown) -> bool {
    matches!(
        reason,
        Unknown::TimedOut
            | Unknown::NotSynced
            | Unknown::Registry { .. }
            | Unknown::BeingFetched(_)
    )
}
