//! The real tags that are nearest to one that does not exist.

/// A tag that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The tag.
    pub tag: String,
    /// Why it is near, such as `nearest lower version of this major`.
    pub why: &'static str,
}

/// At most three suggestions, the nearest first.
#[must_use]
pub fn nearest(_wanted: &str, _tags: &[String]) -> Vec<Suggestion> {
    unimplemented!()
}
