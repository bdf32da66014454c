//! Every guardrail, one line each: the only file to touch beside the guardrail's own and its page.

use super::{
    Meta, Rule, implicit_external_secret_defaults, impossible_memory_limit, missing_image,
    oom_killed_memory_limit, unignored_live_fields,
};
use crate::config::RuleSettings;

/// One guardrail and how it is made.
#[derive(Debug)]
pub struct Entry {
    /// What it is.
    pub meta: Meta,
    /// Makes it from its settings.
    ///
    /// # Errors
    /// The message names the key that cannot be used, relative to the guardrail's settings.
    pub build: fn(&RuleSettings) -> Result<Box<dyn Rule>, String>,
}

/// All guardrails, by name.
pub static CATALOGUE: &[Entry] = &[
    implicit_external_secret_defaults::RULE,
    impossible_memory_limit::RULE,
    missing_image::RULE,
    oom_killed_memory_limit::RULE,
    unignored_live_fields::RULE,
];

/// The guardrail of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.meta.name == name)
}

/// The name that is nearest to a misspelt one, for "did you mean".
#[must_use]
pub fn nearest_name(name: &str) -> Option<&'static str> {
    let wanted = name.to_ascii_lowercase().replace('_', "-");
    let shared = |entry: &Entry| {
        entry
            .meta
            .name
            .split('-')
            .filter(|word| wanted.split('-').any(|other| other == *word))
            .count()
    };
    CATALOGUE
        .iter()
        .max_by_key(|entry| shared(entry))
        .filter(|entry| shared(entry) > 0)
        .map(|entry| entry.meta.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case_sorted_and_lead_to_their_page() {
        let names: Vec<_> = CATALOGUE.iter().map(|entry| entry.meta.name).collect();
        assert!(names.is_sorted(), "{names:?}");
        for entry in CATALOGUE {
            let name = entry.meta.name;
            assert!(
                name.chars()
                    .all(|char| char.is_ascii_lowercase() || char == '-'),
                "{name}"
            );
            assert!(!entry.meta.watches.is_empty(), "{name} watches nothing");
            for heading in [
                "**Incident",
                "## What it catches",
                "## Why it hurts",
                "## What it does",
                "## How to allow it",
                "### Caught",
                "### Clean",
                "### Unknown",
            ] {
                assert!(
                    entry.meta.page.contains(heading),
                    "docs/rules/{name}.md lacks {heading}"
                );
            }
            assert!(
                entry.meta.page.starts_with(&format!("# {name}\n")),
                "docs/rules/{name}.md"
            );
        }
    }

    #[test]
    fn a_misspelt_name_gets_a_suggestion() {
        assert_eq!(nearest_name("missing-images"), Some("missing-image"));
        assert_eq!(
            nearest_name("oomkilled_memory_limit"),
            Some("oom-killed-memory-limit")
        );
        assert_eq!(nearest_name("xyz"), None);
    }
}
