//! The configuration file while the server runs: read again by content, and kept when it is wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;

use crate::config::Config;
use crate::guard::Guard;
use crate::judging::Judging;
use crate::lookup::cluster::ClusterView;
use crate::lookup::live::Live;
use crate::registry::RegistryClient;
use crate::report::metrics::{Metrics, ResultLabel};

/// What judges in a server.
pub(super) type LiveJudging = Judging<Live>;

/// The configuration file.
pub(super) struct Configuration {
    /// `None`: there is none, so nothing changes.
    path: Option<PathBuf>,
    /// What is in force.
    text: String,
    /// What was said of the file last, so that it is said once.
    complaint: Option<String>,
    metrics: Arc<Metrics>,
}

// === impl Configuration ===

impl Configuration {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// The mistake, with its place and the cure.
    pub(super) fn read(
        path: Option<PathBuf>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<(Self, Config)> {
        let text = path.as_deref().map(read).transpose()?.unwrap_or_default();
        let config = match &path {
            Some(path) => Config::parse(&path.display().to_string(), &text)?,
            None => Config::default(),
        };
        metrics.config_valid.set(1);
        let configuration = Self {
            path,
            text,
            complaint: None,
            metrics,
        };
        Ok((configuration, config))
    }

    /// Reads the file again, and judges by it from now on, if it can be used.
    pub(super) fn reload(&mut self, judging: &LiveJudging) {
        if let Some(registry) = &judging.guard().lookup().registry {
            registry.reload();
        }
        let Some(path) = &self.path else {
            return;
        };
        match self.change(path, judging) {
            Ok(None) => {}
            Ok(Some(text)) => {
                self.text = text;
                self.count("success");
                tracing::info!(file = %path.display(), "judging by the new configuration");
            }
            Err(error) => {
                let complaint = error.to_string();
                self.metrics.config_valid.set(0);
                if self.complaint.as_ref() != Some(&complaint) {
                    self.count("failure");
                    tracing::error!("{complaint}; the configuration before it is still in force");
                }
                self.complaint = Some(complaint);
                return;
            }
        }
        self.complaint = None;
        self.metrics.config_valid.set(1);
    }

    /// The new text, where there is one and it is in force now.
    fn change(&self, path: &Path, judging: &LiveJudging) -> anyhow::Result<Option<String>> {
        let text = read(path)?;
        let before = judging.guard();
        let config = Config::parse(&path.display().to_string(), &text)?;
        if text == self.text && registry_of(&config, &before)?.is_some() {
            return Ok(None);
        }
        let cluster = before.lookup().cluster.clone();
        judging.replace(guard(config, Some(&before), cluster, &self.metrics)?);
        Ok(Some(text))
    }

    fn count(&self, result: &'static str) {
        let label = ResultLabel { result };
        self.metrics.config_reloads.get_or_create(&label).inc();
    }
}

/// A guard by this configuration. What registries have told is kept, unless they are reached
/// otherwise than before.
pub(super) fn guard(
    config: Config,
    before: Option<&Guard<Live>>,
    cluster: Option<ClusterView>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Guard<Live>> {
    let kept = match before {
        Some(before) => registry_of(&config, before)?,
        None => None,
    };
    let registry = match kept {
        Some(registry) => registry,
        None => Arc::new(RegistryClient::new(&config.registry(), metrics.clone())?),
    };
    let lookup = Live {
        registry: Some(registry),
        cluster,
        argocd_version: config
            .argocd
            .version
            .as_ref()
            .map(|version| version.0.clone()),
    };
    Ok(Guard::new(config, lookup)?)
}

/// The registry client as it is, unless registries are reached otherwise now.
fn registry_of(
    config: &Config,
    before: &Guard<Live>,
) -> anyhow::Result<Option<Arc<RegistryClient>>> {
    let old = before.config();
    let is_same = old.registry() == config.registry();
    let Some(registry) = before.lookup().registry.as_ref().filter(|_| is_same) else {
        return Ok(None);
    };
    let is_current = registry.has_files_of(&config.registry())?;
    Ok(is_current.then(|| Arc::clone(registry)))
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).map_err(|error| {
        let path = path.display();
        anyhow!("--config {path}: {error}; name a text file that this process may read")
    })
}
