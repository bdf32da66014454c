//! What a file is that is no Kubernetes manifest, and what to check in its place.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use crate::manifest::{Document, ManifestError};
use crate::review::Subject;
use crate::tree::Node;

/// The file that makes a directory a chart.
pub(super) const CHART: &str = "Chart.yaml";
/// The files that make a directory a kustomization.
pub(super) const KUSTOMIZATIONS: &[&str] =
    &["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// What Helm alone knows, within braces.
static OF_HELM: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let words = r#"\.Values\b|\.Release\.|\.Chart\.|\.Capabilities\.|\.Files\.|\binclude "|\btpl "#;
    Regex::new(&format!(r"\{{\{{[^\n]*(?:{words})")).ok()
});

/// Fields whose text is for others, who may well use Helm's syntax.
const TEXTS: &[&str] = &[
    "annotations",
    "args",
    "command",
    "data",
    "stringData",
    "value",
];

/// A file that is no manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    /// As in "this is …".
    what: &'static str,
    /// What to check in its place.
    instead: Option<String>,
}

// === impl Foreign ===

impl Foreign {
    /// A file that can be told by its name and its first lines.
    pub(super) fn of(path: &Path, text: &str) -> Option<Self> {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let directory = directory_of(path);
        let plain = |what| {
            Some(Self {
                what,
                instead: None,
            })
        };
        let is_compose = name.starts_with("docker-compose") || name.starts_with("compose");
        let in_github = || path.components().any(|part| part.as_os_str() == ".github");
        match name {
            CHART => Some(Self {
                what: "the description of a Helm chart",
                instead: Some(rendered_by_helm(directory)),
            }),
            name if KUSTOMIZATIONS.contains(&name) => Some(Self {
                what: "a kustomization",
                instead: Some(rendered_by_kustomize(directory)),
            }),
            _ if may_be_manifest(text) => None,
            "requirements.yaml" => plain("the list of charts that a Helm chart needs"),
            name if name.starts_with("values") => plain("a file of values for a Helm chart"),
            ".gitlab-ci.yml" => plain("a pipeline of GitLab CI"),
            _ if in_github() => plain("a file of GitHub, such as a workflow"),
            _ if is_compose => plain("a Compose file"),
            _ if text
                .trim_start_matches(['-', '[', '{', '"', ' ', '\n'])
                .starts_with("op")
                && text.contains("path") =>
            {
                plain("a JSON 6902 patch")
            }
            _ => None,
        }
    }

    /// A file from which something else makes manifests: of the chart in this directory, if any.
    pub(super) fn template(chart: Option<&Path>) -> Self {
        Self {
            what: "a template",
            instead: Some(chart.map_or_else(
                || "helm template CHART | forestall check -f -".to_owned(),
                rendered_by_helm,
            )),
        }
    }

    /// A patch or another part of the kustomization in this directory.
    pub(super) fn part_of_kustomization(directory: &Path) -> Self {
        Self {
            what: "a part of a kustomization",
            instead: Some(rendered_by_kustomize(directory)),
        }
    }

    /// A file of kustomize, whatever its name is.
    pub(super) fn of_kustomize(path: &Path) -> Self {
        Self {
            what: "a file of kustomize",
            instead: Some(rendered_by_kustomize(directory_of(path))),
        }
    }

    /// A file of which nothing more is known.
    pub(super) fn unknown() -> Self {
        Self {
            what: "a file without an object that has apiVersion and kind",
            instead: None,
        }
    }
}

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "this is {}, not a Kubernetes manifest", self.what)?;
        match &self.instead {
            Some(command) => write!(f, "; check what it renders to: {command}"),
            None => Ok(()),
        }
    }
}

/// How a chart is checked.
pub(super) fn rendered_by_helm(chart: &Path) -> String {
    format!("helm template {} | forestall check -f -", chart.display())
}

/// How a kustomization is checked.
pub(super) fn rendered_by_kustomize(directory: &Path) -> String {
    format!(
        "kubectl kustomize {} | forestall check -f -",
        directory.display()
    )
}

/// The directory of a file; of one without, the current one.
pub(super) fn directory_of(path: &Path) -> &Path {
    let directory = path.parent().unwrap_or(path);
    if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    }
}

/// The chart whose template a file is, by where it lies.
pub(super) fn chart_of(path: &Path) -> Option<&Path> {
    let mut above = path.ancestors().skip(1);
    let templates = above.find(|directory| {
        directory.file_name() == Some(OsStr::new("templates"))
            && directory_of(directory).join(CHART).is_file()
    });
    templates.map(directory_of)
}

/// Whether an object may be in a text at all: so most files are left out unread.
pub(super) fn may_be_manifest(text: &str) -> bool {
    text.contains("apiVersion") && text.contains("kind")
}

/// Whether a text that cannot be read was meant to be a manifest.
pub(super) fn is_meant_as_manifest(text: &str) -> bool {
    let has = |key: &str| {
        let is_key = |rest: &str| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':');
        let of = |line: &str| {
            let line = line
                .trim_start_matches("---")
                .trim_start_matches(['-', ' ', '"', '\'', '{']);
            line.strip_prefix(key).is_some_and(is_key)
        };
        // The keys of JSON may be on one line, and are indented elsewhere.
        let is_json = text.trim_start().starts_with('{');
        let mut lines = text.lines();
        lines.any(|line| (is_json || !line.starts_with([' ', '\t'])) && of(line))
            || is_json
                && text
                    .match_indices(key)
                    .any(|(at, _)| is_key(&text[at + key.len()..]))
    };
    has("apiVersion") && has("kind")
}

/// Whether the document of this line was meant to be an object. What Helm says beside its output, such
/// as a warning, was not.
pub(super) fn is_about_object(lines: &[&str], line: usize) -> bool {
    let is_separator = |line: &&str| line.starts_with("---");
    let (before, after) = lines.split_at(line.min(lines.len()));
    // A separator with text on its line begins the document.
    let start = before.iter().rposition(is_separator).unwrap_or(0);
    let end = after.iter().position(is_separator);
    let after = &after[..end.unwrap_or(after.len())];
    let mut document = before[start..].iter().chain(after);
    document.any(|line| line.contains("apiVersion") || line.contains("kind"))
}

/// Whether a text is a template: it is no YAML where its braces stand, or Helm alone can have written
/// a value that is no text for somebody else.
pub(super) fn is_template(text: &str, documents: &[Document], errors: &[ManifestError]) -> bool {
    if !text.contains("{{") && !text.contains("{%") {
        return false;
    }
    let mut broken = errors.iter().filter(|error| !error.is_no_object).peekable();
    if broken.peek().is_some() {
        let lines: Vec<_> = text.lines().collect();
        let has_braces = |error: &ManifestError| {
            let line = lines.get(error.position.line.saturating_sub(1));
            line.is_some_and(|line| line.contains("{{") || line.contains("{%"))
        };
        // A text within a manifest is indented.
        let begins = |line: &&str| line.starts_with("{{") || line.starts_with("{%");
        return broken.any(has_braces) || lines.iter().any(begins) || is_of_helm(text);
    }
    documents.iter().any(|document| {
        let root = document.object.root();
        Subject::of(root).is_ok_and(|subject| is_built_in(&subject)) && holds_helm(root)
    })
}

/// Operators define kinds whose values are templates of their own.
fn is_built_in(subject: &Subject) -> bool {
    !subject.group.contains('.') || subject.group.ends_with(".k8s.io")
}

fn holds_helm(node: Node<'_>) -> bool {
    if let Some(text) = node.as_str() {
        return !text.contains('\n') && is_of_helm(text);
    }
    let mut entries = node.entries();
    node.items().any(holds_helm)
        || entries.any(|(key, value)| is_of_helm(key) || !TEXTS.contains(&key) && holds_helm(value))
}

fn is_of_helm(text: &str) -> bool {
    text.contains("{{") && OF_HELM.as_ref().is_some_and(|regex| regex.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;

    fn told_as_template(text: &str) -> bool {
        let (documents, errors) = manifest::read("a.yaml", text.as_bytes());
        is_template(text, &documents, &errors)
    }

    #[test]
    fn templates_are_told_from_manifests_with_texts_for_others() {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n";
        for template in [
            "{{- if .Values.a }}\napiVersion: v1\nkind: Pod\n{{- end }}\n".to_owned(),
            format!("{pod}  labels: {{{{ x }}}}\n"),
            format!("{pod}spec:\n  {{{{- with $x }}}}\n  a: b\n  {{{{- end }}}}\n"),
            format!("{pod}spec: {{containers: [{{image: \"{{{{ .Values.a }}}}\"}}]}}\n"),
            format!("{pod}  labels:\n    a: '{{{{ include \"b\" . }}}}'\n"),
            format!("{pod}{{% if a %}}\nspec: {{}}\n{{% endif %}}\n"),
        ] {
            assert!(told_as_template(&template), "{template}");
        }
        let rule =
            "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {name: a}\n";
        for manifest in [
            pod.to_owned(),
            format!("{pod}  annotations: {{a: \"{{{{ .Values.a }}}}\"}}\n"),
            format!("{pod}spec:\n  containers:\n  - args: [\"{{{{ .Values.a }}}}\"]\n"),
            format!("{pod}spec:\n  containers:\n  - image: \"{{{{ image }}}}\"\n"),
            format!("{rule}spec: {{summary: \"{{{{ .Values.a }}}}\"}}\n"),
            "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: |\n    {{ .Values.a }}\n".to_owned(),
            // Broken, but not by the braces.
            "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: |\n    {{ x }}\nb: [\n".to_owned(),
        ] {
            assert!(!told_as_template(&manifest), "{manifest}");
        }
    }

    #[test]
    fn a_line_is_about_an_object_where_its_document_is() {
        let text = "WARNING: a: b\n---\nkind: Pod\na: b: c\n---\nx: y: z\n---apiVersion: v1\na: [\n---\nb: [";
        let lines: Vec<_> = text.lines().collect();
        let about: Vec<_> = (1..=10).map(|line| is_about_object(&lines, line)).collect();
        let expected = [
            false, true, true, true, false, false, true, true, false, false,
        ];
        assert_eq!(about, expected);
    }

    #[test]
    fn a_broken_file_is_meant_as_a_manifest_by_its_own_keys() {
        for manifest in [
            "apiVersion: v1\nkind: Pod\nspec: [\n",
            "---apiVersion: v1\nkind: Pod\n",
            "- apiVersion: v1\nkind: Pod\n",
            "{\"apiVersion\": \"v1\",\n  \"kind\" : \"Pod\"\n",
            "{\"a\": 1, \"kind\":\"Pod\", \"apiVersion\":\"v1\"",
        ] {
            assert!(is_meant_as_manifest(manifest), "{manifest}");
        }
        for other in [
            "ingress:\n  apiVersion: v1\n  kind: Ingress\na: [\n",
            "apiVersion: v2\nname: [\n",
            "apiVersions: 1\nkinds: 2\n",
            "{\"apiVersion\": \"v1\", \"kinds\": [",
        ] {
            assert!(!is_meant_as_manifest(other), "{other}");
        }
    }
}
