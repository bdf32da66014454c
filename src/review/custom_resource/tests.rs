use serde_json::{Value, json};

use super::*;

fn entry(group: &str, kind: &str, plural: &str, paths: &[&str]) -> CustomResourceSettings {
    CustomResourceSettings {
        group: group.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
        paths: paths.iter().map(ToString::to_string).collect(),
    }
}

fn widget(paths: &[&str]) -> CustomResourceSettings {
    entry("example.com", "Widget", "widgets", paths)
}

fn seen(all: &CustomResources, object: Value) -> Vec<String> {
    let review = Review::of_manifest(object).unwrap();
    let images = all.of(&review.subject).unwrap().images(&review).unwrap();
    let seen = images
        .iter()
        .map(|image| format!("{} {}", image.item, image.written));
    seen.collect()
}

#[test]
fn every_built_in_path_is_one_and_no_kind_is_there_twice() {
    let all = CustomResources::parse(&[]).unwrap();
    assert!(all.added().is_empty());
    let kinds: BTreeSet<_> = all.iter().map(|known| known.kind).collect();
    assert_eq!(kinds.len(), CUSTOM_RESOURCES.len());
    for known in all.iter() {
        let WatchedKind {
            group,
            kind,
            plural,
            ..
        } = known.kind;
        let again = entry(group, kind, plural, &["spec.image"]);
        again.check().unwrap();
    }
}

#[test]
fn a_kind_is_added_and_one_that_is_built_in_keeps_its_paths() {
    let all = CustomResources::parse(&[
        widget(&["spec.image", "spec.images[*]"]),
        entry(
            "monitoring.coreos.com",
            "Prometheus",
            "prometheuses",
            &["spec.image", "spec.extra.image"],
        ),
    ])
    .unwrap();
    let [added] = all.added() else {
        panic!("{:?}", all.added())
    };
    assert_eq!(
        (added.group, added.kind, added.plural),
        ("example.com", "Widget", "widgets")
    );
    let object = json!({"apiVersion": "example.com/v1", "kind": "Widget",
                        "spec": {"image": "a:1", "images": ["b:1"]}});
    assert_eq!(seen(&all, object), ["spec.image a:1", "spec.images[*] b:1"]);
    let object = json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "spec": {
        "image": "a:1", "extra": {"image": "b:1"}, "containers": [{"name": "c", "image": "c:1"}]}});
    assert_eq!(
        seen(&all, object),
        [
            "spec.image a:1",
            "spec.containers[c].image c:1",
            "spec.extra.image b:1"
        ]
    );
}

#[test]
fn an_entry_that_cannot_be_used_is_named_with_its_place_and_the_cure() {
    let image = &["spec.image"][..];
    let many = vec!["spec.image"; MOST_PATHS + 1];
    for (entries, pointer, words) in [
        (
            vec![entry("", "Widget", "widgets", image)],
            "/customResources/0/group",
            "customResources[0].group: \"\" is no API group",
        ),
        (
            vec![entry("example.com/v1", "Widget", "widgets", image)],
            "/customResources/0/group",
            "before the slash",
        ),
        (
            vec![entry("example.com", "widget", "widgets", image)],
            "/customResources/0/kind",
            "\"widget\" is no kind",
        ),
        (
            vec![entry("example.com", "Widget", "Widgets", image)],
            "/customResources/0/plural",
            "write it in lower case",
        ),
        (
            vec![entry("argoproj.io", "Rollout", "rollouts", image)],
            "/customResources/0/kind",
            "Rollout carries a pod template",
        ),
        (
            vec![entry("argoproj.io", "Workflow", "workflow", image)],
            "/customResources/0/plural",
            "the resource name of Workflow is workflows",
        ),
        (
            vec![widget(image), widget(image)],
            "/customResources/1/kind",
            "Widget has an entry already",
        ),
        (
            vec![widget(&[])],
            "/customResources/0/paths",
            "there is no path",
        ),
        (
            vec![widget(&many)],
            "/customResources/0/paths",
            "more than 32 paths",
        ),
        (
            vec![widget(&["spec.image", "spec..image"])],
            "/customResources/0/paths/1",
            "customResources[0].paths[1]: \"spec..image\" is no path",
        ),
        (
            vec![widget(image); MOST_KINDS + 1],
            "/customResources",
            "customResources: there are more than 64 kinds",
        ),
    ] {
        let error = CustomResources::parse(&entries).unwrap_err();
        assert_eq!(error.pointer(), pointer, "{error}");
        assert!(error.to_string().contains(words), "{words:?}: {error}");
    }
}

#[test]
fn a_text_that_is_kept_is_kept_once() {
    let [first, second] = ["widgets", "widgets"].map(kept);
    assert!(std::ptr::eq(first, second));
}
