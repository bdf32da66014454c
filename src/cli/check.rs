//! `forestall check`: judges manifests before they go anywhere near a cluster.

mod encoding;
mod foreign;
mod inputs;
mod kustomization;
mod placeholder;
mod problem;
mod report;
mod text;
mod walk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, fs};

use futures::StreamExt as _;
use futures::stream;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use kube::config::KubeConfigOptions;
use tokio::time::{Instant, timeout};

use self::inputs::{Inputs, Source};
use self::problem::Problem;
use self::report::{Level, Report};
use self::walk::Selection;
use super::{FAILED, FOUND, complain, print, printable};
use crate::config::Config;
use crate::guard::Guard;
use crate::lookup::cluster::ClusterView;
use crate::lookup::files::{EvidenceFile, Files};
use crate::lookup::live::Live;
use crate::manifest::Document;
use crate::registry::RegistryClient;
use crate::registry::credentials::OwnCredentials;
use crate::report::metrics::Metrics;
use crate::review::{Review, Scope, Subject};
use crate::tree::{Node, Tree};
use crate::verdict::{Phase, Verdict};
use crate::yaml_file::Scalar;

/// How long the facts for one object may take: some registry probes one after another.
const PATIENCE: Duration = Duration::from_secs(10);
/// Objects that wait for registries at the same time.
const AT_ONCE: usize = 32;
/// Where objects without a namespace go unless somebody says otherwise, as with kubectl.
const DEFAULT_NAMESPACE: &str = "default";

/// Judges manifests
///
/// Exit status: 0 where nothing at or above --fail-on was found, 1 where something was, and 2 where
/// a file could not be read; the others are judged all the same. In a directory, what is no manifest
/// is left out.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Check {
    /// Manifests: files, directories (*.yaml, *.yml, *.json), or - for standard input
    #[arg(short = 'f', long, value_name = "FILE|DIR|-", required_unless_present = "files", num_args = 1..)]
    filename: Vec<PathBuf>,
    /// More of them, such as after --
    #[arg(value_name = "FILE|DIR|-")]
    files: Vec<PathBuf>,
    /// Look into directories in directories too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Leave out files and directories that this glob names, in the form of .gitignore; may be repeated
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Name what was left out, and faults that the cluster state has already
    #[arg(short, long)]
    verbose: bool,
    /// Manifests taken as already in the cluster: they are context, and not judged
    #[arg(long, value_name = "FILE|DIR", num_args = 1..)]
    cluster_state: Vec<PathBuf>,
    /// Facts that are known already
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// Write the facts that were learnt, to be given as --evidence later
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Ask no registry
    #[arg(long, conflicts_with = "context")]
    offline: bool,
    /// Take the files as the whole cluster: an object that is not among them does not exist
    #[arg(long)]
    complete: bool,
    /// Ask the cluster of this context of the kubeconfig too
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The namespace of objects that name none
    #[arg(short, long)]
    namespace: Option<String>,
    /// How findings are written
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// The level from which findings make the command fail
    #[arg(long, value_enum, default_value_t)]
    fail_on: FailOn,
}

/// How findings are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

/// The level from which findings make the command fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    #[default]
    Error,
    Warning,
    Never,
}

/// Whether the objects of a kind are in namespaces, as the definitions of custom resources say that
/// are given.
struct Scopes(BTreeMap<(String, String), bool>);

// === impl Check ===

impl Check {
    /// Judges all files and prints what is found.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        let mut inputs = Inputs::default();
        let mut report = Report::default();
        match self.settings() {
            Ok((config, evidence, selection)) => {
                inputs.read(self.filename.iter().chain(&self.files), &selection);
                inputs.say_how_to_render(self.verbose);
                let mut state = Inputs::default();
                state.read(self.cluster_state.iter(), &selection);
                for read in [&mut inputs, &mut state] {
                    report.errors.append(&mut read.errors);
                    report.notices.append(&mut read.notices);
                    report.left_out.append(&mut read.left_out);
                }
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                let judged =
                    runtime
                        .map_err(|error| Problem::new("-", &error))
                        .and_then(|runtime| {
                            runtime.block_on(self.judge(
                                config,
                                evidence,
                                &inputs,
                                &state,
                                &mut report,
                            ))
                        });
                report.errors.extend(judged.err());
            }
            // Without the operator's decisions every verdict would be a guess.
            Err(problem) => report.errors.push(problem),
        }
        report.sort();
        self.tell(&report, &inputs.sources)
    }

    fn settings(&self) -> Result<(Config, Option<EvidenceFile>, Selection), Problem> {
        let selection = Selection::new(self.recursive, &self.exclude)?;
        let config = match &self.config {
            Some(path) => Config::parse(&path.display().to_string(), &read_text(path)?)?,
            None => Config::default(),
        };
        let evidence = match &self.evidence {
            Some(path) => Some(EvidenceFile::parse(
                &path.display().to_string(),
                &read_text(path)?,
            )?),
            None => None,
        };
        Ok((config, evidence, selection))
    }

    async fn judge(
        &self,
        config: Config,
        evidence: Option<EvidenceFile>,
        inputs: &Inputs,
        state: &Inputs,
        report: &mut Report,
    ) -> Result<(), Problem> {
        let mut files = Files::new(&config, evidence);
        if let Some(namespace) = &self.namespace {
            files = files.in_namespace(namespace);
        }
        // What is under check comes last: it will replace what is there.
        for document in state.documents().chain(inputs.documents()) {
            files.add(document.object.root());
        }
        if self.complete {
            files = files.complete();
        }
        if !self.offline {
            // Whoever cannot be asked makes things unknown; the rest is judged all the same.
            match self.live(&config).await {
                Ok(live) => files = files.with_live(live),
                Err(problem) => report.errors.push(problem),
            }
        }
        let guard =
            Guard::new(config, files).map_err(|mistake| Problem::new("configuration", &mistake))?;
        let scopes = Scopes::of(state.documents().chain(inputs.documents()));
        let before = self.before(state, &guard, &scopes);
        let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
        let reviews = inputs.sources.iter().flat_map(|source| {
            let documents = source.documents.iter();
            documents.map(move |document| (source, document))
        });
        let considered = reviews.map(|(source, document)| {
            self.consider(&guard, source, document, &before, &scopes, today)
        });
        // In order, though several wait for registries at once.
        let mut considered = stream::iter(considered).buffered(AT_ONCE);
        while let Some(result) = considered.next().await {
            match result {
                Ok((source, document, object, Some(verdict))) => {
                    report.add(source, document, &object, verdict, guard.config());
                }
                Ok((.., None)) => report.leave_to_controller(),
                Err(problem) => report.errors.push(problem),
            }
        }
        self.record(guard.lookup())
    }

    async fn live(&self, config: &Config) -> Result<Live, Problem> {
        let metrics = Arc::new(Metrics::default());
        let settings = config.registry();
        let own = match OwnCredentials::read(&settings) {
            // The configuration is the server's, too, and this need not be its machine.
            Err(error) if error.is_absence() => OwnCredentials::default(),
            own => own.map_err(|error| Problem::new("registry credentials", &error))?,
        };
        let registry = RegistryClient::with_credentials(&settings, own, metrics.clone());
        let registry = registry.map_err(|error| Problem::new("registries", &error))?;
        let cluster = match &self.context {
            Some(context) => Some(connect(context, metrics, config).await?),
            None => None,
        };
        Ok(Live {
            registry: Some(Arc::new(registry)),
            cluster,
            // The files know it.
            argocd_version: None,
        })
    }

    async fn consider<'a>(
        &self,
        guard: &Guard<Files>,
        source: &'a Source,
        document: &'a Document,
        before: &BTreeMap<Subject, &Arc<Tree>>,
        scopes: &Scopes,
        today: Date,
    ) -> Result<(&'a Source, &'a Document, Subject, Option<Verdict>), Problem> {
        let mut review = Review::of_shared(&document.object)
            .map_err(|missing| Problem::at(&source.name, document.locate(""), missing))?;
        let mut shown = review.subject.clone();
        // It was judged in the object that it is made from; files show it where a cluster was dumped.
        if review.has_controller() {
            return Ok((source, document, shown, None));
        }
        review.subject = self.placed(review.subject, guard, scopes);
        if self.namespace.is_some() {
            shown = review.subject.clone();
        }
        let identity = identity(document.object.root(), review.subject.clone());
        if let Some(previous) = identity.and_then(|identity| before.get(&identity)) {
            review = review.replacing(Arc::clone(previous));
        }
        let by = Instant::now() + PATIENCE;
        let verdict = guard.consider(&review, Phase::Validate, today, by).await;
        Ok((source, document, shown, Some(verdict)))
    }

    /// What is in the cluster, by identity: what is under check replaces it.
    fn before<'a>(
        &self,
        state: &'a Inputs,
        guard: &Guard<Files>,
        scopes: &Scopes,
    ) -> BTreeMap<Subject, &'a Arc<Tree>> {
        let subject = |document: &'a Document| {
            let root = document.object.root();
            let subject = Subject::of(root).ok()?;
            let identity = identity(root, self.placed(subject, guard, scopes))?;
            Some((identity, &document.object))
        };
        state.documents().filter_map(subject).collect()
    }

    /// The identity with the namespace that the object will be in.
    fn placed(&self, mut subject: Subject, guard: &Guard<Files>, scopes: &Scopes) -> Subject {
        if subject.namespace.is_none() && scopes.is_namespaced(&subject, guard) {
            let given = self.namespace.as_deref();
            subject.namespace = Some(given.unwrap_or(DEFAULT_NAMESPACE).to_owned());
        }
        subject
    }

    fn record(&self, files: &Files) -> Result<(), Problem> {
        let Some(path) = &self.record else {
            return Ok(());
        };
        let name = path.display().to_string();
        let mut learnt = files.learnt();
        learnt
            .at
            .get_or_insert_with(|| Scalar(Timestamp::now().to_string()));
        let text = learnt
            .to_yaml()
            .map_err(|error| Problem::new(&name, &error))?;
        fs::write(path, text).map_err(|error| Problem::new(&name, &error))
    }

    fn tell(&self, report: &Report, sources: &[Source]) -> ExitCode {
        for problem in report.errors.iter().chain(&report.notices) {
            complain(&problem.to_string());
        }
        let text = match self.output {
            Output::Text => text::render(report, sources, self.verbose),
            Output::Json => match serde_json::to_string_pretty(report) {
                Ok(text) => format!("{}\n", printable::json(&text)),
                Err(error) => {
                    complain(&error.to_string());
                    return ExitCode::from(FAILED);
                }
            },
        };
        print(&text, self.status(report))
    }

    fn status(&self, report: &Report) -> u8 {
        let found = match self.fail_on {
            FailOn::Error => report.count(Level::Error) > 0,
            FailOn::Warning => !report.findings.is_empty(),
            FailOn::Never => false,
        };
        if !report.errors.is_empty() {
            FAILED
        } else if found {
            FOUND
        } else {
            0
        }
    }
}

/// Lists what is asked of the cluster of a context.
async fn connect(
    context: &str,
    metrics: Arc<Metrics>,
    config: &Config,
) -> Result<ClusterView, Problem> {
    let failed = |error: &dyn fmt::Display| Problem::new(&format!("--context {context}"), error);
    let options = KubeConfigOptions {
        context: Some(context.to_owned()),
        ..KubeConfigOptions::default()
    };
    let reached = kube::Config::from_kubeconfig(&options).await;
    let client = kube::Client::try_from(reached.map_err(|error| failed(&error))?)
        .map_err(|error| failed(&error))?;
    // A cluster that was named and does not answer is an error, not something unknown.
    match timeout(PATIENCE, client.apiserver_version()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(failed(&error)),
        Err(_) => return Err(failed(&"the API server does not answer")),
    }
    let (view, listed) = ClusterView::start(client, metrics, config);
    listed.await;
    Ok(view)
}

/// What an object replaces: the object of its group, kind, namespace and name, in whatever version it
/// is written. One without a name is always new.
fn identity(object: Node<'_>, subject: Subject) -> Option<Subject> {
    object.text_at("/metadata/name")?;
    Some(Subject {
        version: String::new(),
        ..subject
    })
}

// === impl Scopes ===

impl Scopes {
    fn of<'a>(documents: impl Iterator<Item = &'a Document>) -> Self {
        let definitions = documents.filter_map(|document| {
            let root = document.object.root();
            let subject = Subject::of(root).ok()?;
            if !subject.is("apiextensions.k8s.io", "CustomResourceDefinition") {
                return None;
            }
            let text = |pointer| root.text_at(pointer).map(ToOwned::to_owned);
            let kind = (text("/spec/group")?, text("/spec/names/kind")?);
            Some((kind, text("/spec/scope")? == Scope::Namespaced.as_str()))
        });
        Self(definitions.collect())
    }

    /// By its CustomResourceDefinition, or by the kinds that guardrails watch: the others are not
    /// judged, so it does not matter where they are.
    fn is_namespaced(&self, subject: &Subject, guard: &Guard<Files>) -> bool {
        let defined = (subject.group.clone(), subject.kind.clone());
        if let Some(is_namespaced) = self.0.get(&defined) {
            return *is_namespaced;
        }
        let watched = guard.watched(&subject.group, &subject.kind);
        watched.is_some_and(|watched| watched.scope == Scope::Namespaced)
    }
}

fn read_text(path: &Path) -> Result<String, Problem> {
    let name = path.display().to_string();
    let bytes = inputs::read_bounded(path).map_err(|error| Problem::new(&name, &error))?;
    String::from_utf8(bytes).map_err(|_| Problem::new(&name, &"it is no UTF-8 text"))
}
