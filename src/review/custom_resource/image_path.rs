//! Where the objects of a kind name an image: `spec.image`, `spec.containers[*].image`.

use thiserror::Error;

use crate::review::workload::{ImageUse, LONGEST_TEXT, MOST_CONTAINERS};
use crate::tree::Node;
use crate::unknown::Unknown;

/// Keys of a path. Argo's `spec.workflowSpec.templates[*].containerSet.containers[*].image` has six.
const MOST_KEYS: usize = 16;
/// Bytes of a key.
const LONGEST_KEY: usize = 63;
/// Items of lists that are looked at in one object, all paths together. An object of 3 MiB has room
/// for hundreds of thousands.
const MOST_ITEMS: usize = 10_000;
/// Bytes of a name by which an item of a list is told apart from the others: those of a label.
const LONGEST_NAME: usize = 63;

/// A path to images in an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    key: String,
    /// Whether a list stands there, and the path goes on in each of its items.
    is_list: bool,
}

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidPath {
    /// It breaks the grammar.
    #[error(
        "{0:?} is no path; write keys with dots between them, and [*] after the key of a list, such \
         as spec.containers[*].image"
    )]
    Grammar(String),
    /// It is too deep.
    #[error("{0:?} has more than {MOST_KEYS} keys; write a shorter path")]
    TooDeep(String),
}

/// The images found in an object, and how much more may be looked at.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) images: Vec<ImageUse>,
    /// Where it is, as a JSON pointer.
    pointer: String,
    /// The same in the words of the path, with the names of items. One without a name has no place of
    /// its own: its index would be another one when the list is reordered.
    place: String,
    left: usize,
}

// === impl ImagePath ===

impl ImagePath {
    /// Reads a path.
    ///
    /// # Errors
    /// What it should look like.
    pub fn parse(text: &str) -> Result<Self, InvalidPath> {
        let step = |text: &str| {
            let (key, is_list) = match text.strip_suffix("[*]") {
                Some(key) => (key, true),
                None => (text, false),
            };
            let is_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            let fits = (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(is_key);
            fits.then(|| Step {
                key: key.to_owned(),
                is_list,
            })
        };
        let steps: Option<Vec<_>> = text.split('.').map(step).collect();
        let steps = steps.ok_or_else(|| InvalidPath::Grammar(text.to_owned()))?;
        if steps.len() > MOST_KEYS {
            return Err(InvalidPath::TooDeep(text.to_owned()));
        }
        Ok(Self(steps))
    }

    /// Finds the images at this path.
    ///
    /// # Errors
    /// [`Unknown::Unreadable`] where something else lies on the way, or a text is far too long.
    pub(super) fn find(&self, object: Node<'_>, walk: &mut Walk) -> Result<(), Unknown> {
        walk.pointer.clear();
        walk.place.clear();
        walk.enter(&self.0, object, None)
    }
}

impl std::fmt::Display for ImagePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, Step { key, is_list }) in self.0.iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            let each = if *is_list { "[*]" } else { "" };
            write!(f, "{dot}{key}{each}")?;
        }
        Ok(())
    }
}

// === impl Walk ===

impl Walk {
    pub(super) fn new() -> Self {
        Self {
            images: Vec::new(),
            pointer: String::new(),
            place: String::new(),
            left: MOST_ITEMS,
        }
    }

    /// Goes the rest of a path. `policy` is the pull policy that was passed last.
    fn enter(
        &mut self,
        steps: &[Step],
        here: Node<'_>,
        policy: Option<&str>,
    ) -> Result<(), Unknown> {
        if here.is_null() {
            return Ok(());
        }
        let Some((Step { key, is_list }, rest)) = steps.split_first() else {
            return self.take(here, policy);
        };
        if !here.is_map() {
            return Err(self.unreadable("is no object"));
        }
        // What is switched off is not run, so its image is not pulled.
        if here.get("enabled").and_then(Node::as_bool) == Some(false) {
            return Ok(());
        }
        let text = |key: &str| here.get(key).and_then(Node::as_str);
        let policy = text("imagePullPolicy").or(text("pullPolicy")).or(policy);
        let Some(next) = here.get(key) else {
            return Ok(());
        };
        let (pointer, place) = (self.pointer.len(), self.place.len());
        self.pointer.extend(["/", key]);
        let dot = if place == 0 { "" } else { "." };
        self.place.extend([dot, key]);
        if *is_list && next.is_list() {
            for (index, item) in next.items().enumerate() {
                self.item(rest, index, item, policy)?;
            }
        } else if *is_list && !next.is_null() {
            return Err(self.unreadable("is not a list"));
        } else {
            self.enter(rest, next, policy)?;
        }
        self.pointer.truncate(pointer);
        self.place.truncate(place);
        Ok(())
    }

    fn item(
        &mut self,
        rest: &[Step],
        index: usize,
        item: Node<'_>,
        policy: Option<&str>,
    ) -> Result<(), Unknown> {
        self.left = self.left.checked_sub(1).ok_or(Unknown::TooMany)?;
        let (pointer, place) = (self.pointer.len(), self.place.len());
        self.pointer.extend(["/", &index.to_string()]);
        self.place.extend(["[", name(item).unwrap_or("*"), "]"]);
        self.enter(rest, item, policy)?;
        self.pointer.truncate(pointer);
        self.place.truncate(place);
        Ok(())
    }

    fn take(&mut self, here: Node<'_>, policy: Option<&str>) -> Result<(), Unknown> {
        let reference = here.as_str().ok_or_else(|| self.unreadable("is no text"))?;
        if reference.len() > LONGEST_TEXT {
            return Err(self.unreadable(&format!("is longer than {LONGEST_TEXT} bytes")));
        }
        // As many as a pod may have, since as much may be said of each.
        if self.images.len() == MOST_CONTAINERS {
            return Err(Unknown::TooMany);
        }
        let (item, pointer) = (self.place.clone(), self.pointer.clone());
        let image = ImageUse::at(item, reference, policy, pointer);
        self.images.push(image);
        Ok(())
    }

    fn unreadable(&self, problem: &str) -> Unknown {
        Unknown::unreadable(&self.pointer, problem)
    }
}

/// The name of an item of a list. No schema need have checked it.
fn name(item: Node<'_>) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let name = item.get("name")?.as_str()?;
    ((1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::tree::Tree;

    fn images(path: &str, object: &Value) -> Result<Vec<ImageUse>, Unknown> {
        let mut walk = Walk::new();
        let object = Tree::from(object);
        ImagePath::parse(path)
            .unwrap()
            .find(object.root(), &mut walk)?;
        Ok(walk.images)
    }

    #[test]
    fn a_path_finds_every_image_that_it_leads_to() {
        let object = json!({"spec": {"imagePullPolicy": "Always", "templates": [
            {"name": "build", "containers": [{"name": "a", "image": "a:1"}, {"image": "b:1"}]},
            {"name": "test", "containers": null},
            {"name": "no\u{1b} name", "containers": [{"name": "c", "image": "c:1", "imagePullPolicy": "Never"}]},
        ]}});
        let found = images("spec.templates[*].containers[*].image", &object).unwrap();
        let seen: Vec<_> = found
            .iter()
            .map(|image| (&*image.item, &*image.written, image.pull_policy.as_deref()))
            .collect();
        assert_eq!(
            seen,
            [
                (
                    "spec.templates[build].containers[a].image",
                    "a:1",
                    Some("Always")
                ),
                (
                    "spec.templates[build].containers[*].image",
                    "b:1",
                    Some("Always")
                ),
                (
                    "spec.templates[*].containers[c].image",
                    "c:1",
                    Some("Never")
                ),
            ]
        );
        for image in &found {
            assert_eq!(object.pointer(&image.pointer()).unwrap(), &image.written);
        }
        let list = json!({"spec": {"images": ["a:1", "b:1"]}});
        let found = images("spec.images[*]", &list).unwrap();
        assert_eq!(found[1].item, "spec.images[*]");
        assert_eq!(found[1].pointer(), "/spec/images/1");
    }

    #[test]
    fn what_is_not_there_or_switched_off_is_no_image() {
        for object in [
            json!({}),
            json!({"spec": null}),
            json!({"spec": {"allocator": {}}}),
            json!({"spec": {"allocator": {"image": null}}}),
            json!({"spec": {"allocator": {"enabled": false, "image": "a:1"}}}),
        ] {
            let found = images("spec.allocator.image", &object).unwrap();
            assert!(found.is_empty(), "{object}");
        }
    }

    #[test]
    fn something_else_on_the_way_is_unreadable() {
        let long = "x".repeat(LONGEST_TEXT + 1);
        for (object, problem) in [
            (json!({"spec": []}), "/spec is no object"),
            (json!({"spec": {"list": {}}}), "/spec/list is not a list"),
            (json!({"spec": {"list": [1]}}), "/spec/list/0 is no object"),
            (
                json!({"spec": {"list": [{"image": {"tag": "1"}}]}}),
                "/spec/list/0/image is no text",
            ),
            (
                json!({"spec": {"list": [{"image": long}]}}),
                "/spec/list/0/image is longer than 1024 bytes",
            ),
        ] {
            let error = images("spec.list[*].image", &object).unwrap_err();
            assert_eq!(error, Unknown::Unreadable(problem.to_owned()));
        }
    }

    #[test]
    fn an_object_made_to_take_time_is_unknown() {
        let item = json!({"a": "x"});
        let many = |count| json!({"spec": {"list": vec![item.clone(); count]}});
        assert!(images("spec.list[*].image", &many(MOST_ITEMS)).is_ok());
        let error = images("spec.list[*].image", &many(MOST_ITEMS + 1)).unwrap_err();
        assert_eq!(error, Unknown::TooMany);
        let named = |count| json!({"spec": {"list": vec![json!({"image": "a:1"}); count]}});
        assert!(images("spec.list[*].image", &named(MOST_CONTAINERS)).is_ok());
        let error = images("spec.list[*].image", &named(MOST_CONTAINERS + 1)).unwrap_err();
        assert_eq!(error, Unknown::TooMany);
    }

    #[test]
    fn what_is_no_path_is_refused_with_an_example() {
        for text in [
            "",
            ".spec.image",
            "spec..image",
            "spec.image.",
            "spec.containers[].image",
            "spec.containers[0].image",
            "spec.containers[*][*].image",
            "[*]",
            "spec image",
            "/spec/image",
            "$.spec.image",
        ] {
            let error = ImagePath::parse(text).unwrap_err();
            assert_eq!(error, InvalidPath::Grammar(text.to_owned()));
            assert!(error.to_string().contains("spec.containers[*].image"));
        }
        let deep = vec!["a"; MOST_KEYS + 1].join(".");
        assert_eq!(ImagePath::parse(&deep), Err(InvalidPath::TooDeep(deep)));
    }

    proptest! {
        #[test]
        fn whatever_the_text_is_a_path_is_written_as_it_was_read(text in "\\PC{0,40}|[a-z.*\\[\\]]{0,12}") {
            if let Ok(path) = ImagePath::parse(&text) {
                prop_assert_eq!(path.to_string(), text);
            }
        }

        #[test]
        fn a_path_leads_to_the_image_that_lies_there(
            keys in prop::collection::vec(("[a-zA-Z_-]{1,8}", prop::option::of(0_usize..3)), 1..8),
        ) {
            // `enabled` and a policy may be keys themselves; the image is found all the same.
            let mut object = json!("a:1");
            let mut pointer = String::new();
            let mut path = Vec::new();
            for (key, index) in keys.iter().rev() {
                if let Some(index) = index {
                    let mut list = vec![Value::Null; *index];
                    list.push(object);
                    object = list.into();
                }
                object = json!({key: object});
            }
            for (key, index) in &keys {
                pointer.extend(["/", key]);
                match index {
                    Some(index) => {
                        pointer.extend(["/", &index.to_string()]);
                        path.push(format!("{key}[*]"));
                    }
                    None => path.push(key.clone()),
                }
            }
            let found = images(&path.join("."), &object).unwrap();
            prop_assert_eq!(found.len(), 1);
            prop_assert_eq!(found[0].pointer(), pointer);
        }
    }
}
