//! What a review takes in memory at most, counted before it is read.

use crate::tree::Bound;
use crate::verdict::Phase;

/// Bytes for each node where patches may be tried: the object is copied into values of `serde_json` 1,
/// whose maps are the standard library's B-trees. A map of one key takes a whole leaf of 640 bytes, and
/// its comma and colon room for another entry.
const COPIED_NODE: usize = 352;

/// How often a text of an object stands in what is said of it: item, value, message, path and help, of
/// a few guardrails.
const TEXT_IN_FINDINGS: usize = 16;

/// Bytes of all that is said of an object and of the one that it replaces: of at most
/// [`MOST_CONTAINERS`] in each. A container has an image of at most [`LONGEST_TEXT`], a name of a
/// quarter of that and a limit of a sixteenth. Three guardrails copy these into some 10 KiB for both
/// objects, and the warnings that are made of that take another 6.
///
/// [`MOST_CONTAINERS`]: crate::review::workload::MOST_CONTAINERS
/// [`LONGEST_TEXT`]: crate::review::workload::LONGEST_TEXT
const MOST_FINDINGS: usize = 16 << 20;

/// The bytes that reading and judging a text takes at most, beside the text itself.
pub(crate) fn most_bytes(json: &[u8], bound: Bound, phase: Phase) -> usize {
    let findings = json.len().saturating_mul(TEXT_IN_FINDINGS);
    let copy = match phase {
        Phase::Mutate => COPIED_NODE * bound.nodes + 2 * json.len(),
        Phase::Validate => 0,
    };
    bound.bytes() + findings.min(MOST_FINDINGS) + copy
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_figure_for_a_copy_is_that_of_the_library() {
        let leaf = 11 * (size_of::<String>() + size_of::<Value>()) + 16;
        // `{"a":` is two nodes, and room for an entry in a leaf that is half full.
        let entry = 2 * (size_of::<String>() + size_of::<Value>());
        assert!(2 * COPIED_NODE >= leaf + entry - 48);
    }

    #[test]
    fn a_large_review_of_few_nodes_takes_little_more_than_its_text() {
        // As Go writes a `<`; three bytes are the most that such an escape stands for.
        let text = format!("{{\"a\":\"{}\"}}", "\\u003c".repeat(3 << 20));
        let bound = Bound::of(text.as_bytes());
        assert!(bound.unescaped <= text.len() / 2 + 16);
        let bytes = most_bytes(text.as_bytes(), bound, Phase::Validate);
        assert!(text.len() + bytes <= 96 << 20, "{bytes}");
    }
}
