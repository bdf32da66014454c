//! What Forestall knows of itself: `rules`, `explain`, `schema` and `completions`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::CommandFactory as _;
use serde_json::{Value, json};

use super::{Cli, FAILED, complain, print};
use crate::config::Config;
use crate::guard::SUB_RESOURCES;
use crate::lookup::cluster;
use crate::review::Scope;
use crate::rules::Meta;
use crate::rules::catalogue::{self, CATALOGUE};

/// Lists the guardrails
///
/// As JSON, each has name, summary, incident, repairs (whether it patches, and so belongs to the
/// mutating webhook too), rules (what it judges, as a webhook configuration writes it) and
/// permissions (what it watches in the cluster, as RBAC writes it).
#[derive(Debug, clap::Args)]
pub struct Rules {
    /// How they are written
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
    Markdown,
}

/// Prints the page of a guardrail: the incident, what it catches, how to allow it
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// The guardrail, such as missing-image
    rule: String,
    /// Print the cases of the page too
    #[arg(long)]
    cases: bool,
}

/// Prints the JSON Schema of the configuration file
#[derive(Debug, clap::Args)]
pub struct Schema {}

/// Prints the completion script of a shell
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

// === impl Rules ===

impl Rules {
    /// Prints the catalogue.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        let metas = CATALOGUE.iter().copied();
        let text = match self.output {
            Output::Text => {
                let widest = metas.clone().map(|meta| meta.name.len()).max();
                let widest = widest.unwrap_or_default();
                let row = |meta: &Meta| format!("{:widest$}  {}", meta.name, meta.summary);
                metas.map(row).collect::<Vec<_>>().join("\n")
            }
            Output::Json => {
                let rules: Vec<_> = metas.map(as_json).collect();
                format!("{:#}", Value::from(rules))
            }
            Output::Markdown => {
                let head = [
                    "| guardrail | it finds | incident | repairs |",
                    "|---|---|---|---|",
                ];
                let head = head.into_iter().map(ToOwned::to_owned);
                head.chain(metas.map(markdown_row))
                    .collect::<Vec<_>>()
                    .join("\n")
            }
        };
        print(&format!("{text}\n"), 0)
    }
}

fn markdown_row(meta: &Meta) -> String {
    let Meta {
        name,
        summary,
        incident,
        repairs,
        ..
    } = meta;
    let repairs = if *repairs { "yes" } else { "no" };
    format!("| [{name}](docs/rules/{name}.md) | {summary} | {incident} | {repairs} |")
}

fn as_json(meta: &Meta) -> Value {
    json!({
        "name": meta.name,
        "summary": meta.summary,
        "incident": meta.incident,
        "repairs": meta.repairs,
        "rules": webhook_rules(meta),
        "permissions": cluster::permissions(meta),
    })
}

/// What a guardrail watches, as a webhook configuration writes it: one entry for each API group and
/// scope.
fn webhook_rules(meta: &Meta) -> Vec<Value> {
    let mut groups: BTreeMap<(&str, Scope), Vec<String>> = BTreeMap::new();
    for kind in meta.watches {
        let resources = groups.entry((kind.group, kind.scope)).or_default();
        resources.push(kind.plural.to_owned());
        if (kind.group, kind.kind) == ("", "Pod") {
            let parts = SUB_RESOURCES.iter();
            resources.extend(parts.map(|part| format!("{}/{part}", kind.plural)));
        }
    }
    let rule = |((group, scope), resources): ((&str, Scope), _)| {
        json!({
            "apiGroups": [group],
            "apiVersions": ["*"],
            "resources": resources,
            "operations": ["CREATE", "UPDATE"],
            "scope": scope.as_str(),
        })
    };
    groups.into_iter().map(rule).collect()
}

// === impl Explain ===

impl Explain {
    /// Prints the page.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        let Some(meta) = catalogue::find(&self.rule) else {
            let cure = match catalogue::nearest_name(&self.rule) {
                Some(name) => format!("did you mean {name}?"),
                None => "`forestall rules` lists them".to_owned(),
            };
            complain(&format!("there is no guardrail {:?}; {cure}", self.rule));
            return ExitCode::from(FAILED);
        };
        let page = meta.page;
        let text = match page.split_once("\n## Cases\n") {
            Some((text, _)) if !self.cases => text,
            _ => page,
        };
        print(&format!("{}\n", text.trim_end()), 0)
    }
}

// === impl Schema ===

impl Schema {
    /// Prints the schema.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        let schema = schemars::schema_for!(Config);
        print(&format!("{:#}\n", schema.as_value()), 0)
    }
}

// === impl Completions ===

impl Completions {
    /// Prints the script.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "forestall", &mut script);
        print(&String::from_utf8_lossy(&script), 0)
    }
}
