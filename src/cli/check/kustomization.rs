//! What a kustomization and a Skaffold file say of other files.

use std::path::{Component, Path, PathBuf};

use super::foreign::directory_of;
use crate::manifest::{self, Document};
use crate::tree::Node;

/// Files under these keys are parts of the kustomization, and no objects by themselves.
const PARTS: &[&str] = &[
    "configurations",
    "generators",
    "patchesStrategicMerge",
    "transformers",
    "validators",
];
/// Under these, each entry has a path.
const PARTS_WITH_PATH: &[&str] = &["patches", "patchesJson6902", "replacements"];
/// Under these, each entry has lists of files that become values of ConfigMaps and Secrets.
const GENERATORS: &[&str] = &["configMapGenerator", "secretGenerator"];

/// What is read of a kustomization.
#[derive(Debug, Default)]
pub(super) struct Kustomization {
    /// Files that are parts of it.
    pub(super) parts: Vec<PathBuf>,
    /// Images that it writes anew, by the name that the manifests have.
    pub(super) images: Vec<String>,
    /// Whether it can only be rendered as a part of another one.
    pub(super) is_component: bool,
}

// === impl Kustomization ===

impl Kustomization {
    /// Reads what can be read: nothing depends on the rest.
    pub(super) fn read(path: &Path, text: &str) -> Self {
        let directory = directory_of(path);
        let mut kustomization = Self::default();
        for document in documents(text) {
            let root = document.object.root();
            let list = |key: &str| root.get(key).into_iter().flat_map(Node::items);
            let parts = PARTS
                .iter()
                .flat_map(|key| list(key))
                .filter_map(Node::as_str);
            let with_path = PARTS_WITH_PATH.iter().flat_map(|key| list(key));
            let with_path = with_path.filter_map(|part| part.text_at("/path"));
            let generated = GENERATORS.iter().flat_map(|key| list(key));
            let generated = generated.flat_map(|generator| {
                let files = ["files", "envs"].into_iter();
                files.flat_map(move |key| generator.get(key).into_iter().flat_map(Node::items))
            });
            // KEY=FILE, where the key is not the name of the file.
            let generated = generated.filter_map(Node::as_str);
            let generated =
                generated.map(|file| file.split_once('=').map_or(file, |(_, file)| file));
            let values = list("helmCharts").filter_map(|chart| chart.text_at("/valuesFile"));
            let parts = parts.chain(with_path).chain(generated).chain(values);
            let parts = parts.map(|part| normal(&directory.join(part)));
            kustomization.parts.extend(parts);
            let images = list("images").filter_map(|image| image.text_at("/name"));
            kustomization.images.extend(images.map(ToOwned::to_owned));
            kustomization.is_component |= root.text_at("/kind") == Some("Component");
        }
        kustomization
    }
}

/// The images that Skaffold builds, by the name that the manifests have.
pub(super) fn built_by_skaffold(text: &str) -> Vec<String> {
    let documents = documents(text);
    let artifacts = documents.iter().flat_map(|document| {
        let artifacts = document.object.root().at("/build/artifacts");
        artifacts.into_iter().flat_map(Node::items)
    });
    let images = artifacts.filter_map(|artifact| artifact.text_at("/image"));
    images.map(ToOwned::to_owned).collect()
}

fn documents(text: &str) -> Vec<Document> {
    manifest::read("", text.as_bytes()).0
}

/// A path without `.` and, as far as possible, `..`, so that it can be compared.
pub(super) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(normal.components().next_back(), Some(Component::Normal(_))) =>
            {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_of_a_kustomization_are_known() {
        let text = "
patches: [{path: a.yaml}, {path: ../b/c.yaml}, {patch: 'x: y'}]
patchesStrategicMerge: [./d.yaml]
patchesJson6902: [{path: e.yaml, target: {kind: Pod}}]
configurations: [f.yaml]
configMapGenerator: [{name: x, files: [g.yaml, key=h.yaml], envs: [i.env]}]
helmCharts: [{name: x, valuesFile: j.yaml}]
resources: [k.yaml]
images: [{name: controller, newTag: v1}, {newTag: v2}]
";
        let read = Kustomization::read(Path::new("./base/kustomization.yaml"), text);
        let parts: Vec<_> = read
            .parts
            .iter()
            .map(|part| part.to_str().unwrap())
            .collect();
        let mut expected: Vec<_> = "defgahij"
            .chars()
            .map(|name| match name {
                'i' => "base/i.env".to_owned(),
                name => format!("base/{name}.yaml"),
            })
            .collect();
        expected.push("b/c.yaml".to_owned());
        expected.sort();
        let mut parts: Vec<_> = parts.into_iter().map(ToOwned::to_owned).collect();
        parts.sort();
        assert_eq!(parts, expected);
        assert_eq!(read.images, ["controller"]);
        assert!(!read.is_component);
        let component = Kustomization::read(Path::new("kustomization.yaml"), "kind: Component\n");
        assert!(component.is_component);
    }

    #[test]
    fn images_that_skaffold_builds_are_known() {
        let text = "apiVersion: skaffold/v4beta11\nkind: Config\nbuild: {artifacts: [{image: web}, {context: x}]}\n";
        assert_eq!(built_by_skaffold(text), ["web"]);
    }
}
