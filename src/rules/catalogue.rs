//! Every guardrail, one line each: the only file to touch beside the guardrail's own and its page.

use super::Meta;

/// Hands the guardrails, as the names of their modules, to a macro: what stands for each of them
/// follows from this list.
macro_rules! each_guardrail {
    ($then:ident) => {
        $then! {
            implicit_external_secret_defaults,
            impossible_memory_limit,
            missing_image,
            oom_killed_memory_limit,
            unignored_live_fields,
        }
    };
}
pub(crate) use each_guardrail;

macro_rules! catalogue {
    ($($rule:ident),* $(,)?) => {
        /// All guardrails, by name.
        pub static CATALOGUE: &[&Meta] = &[$(&super::$rule::META),*];
    };
}
each_guardrail!(catalogue);

/// The guardrail of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Meta> {
    let mut metas = CATALOGUE.iter().copied();
    metas.find(|meta| meta.name == name)
}

/// The name that is nearest to a misspelt one, for "did you mean".
#[must_use]
pub fn nearest_name(name: &str) -> Option<&'static str> {
    let wanted = name.to_ascii_lowercase().replace('_', "-");
    let shared = |meta: &Meta| {
        meta.name
            .split('-')
            .filter(|word| wanted.split('-').any(|other| other == *word))
            .count()
    };
    CATALOGUE
        .iter()
        .max_by_key(|meta| shared(meta))
        .filter(|meta| shared(meta) > 0)
        .map(|meta| meta.name)
}

/// What is said to whoever writes a name at this place that no guardrail has.
#[must_use]
pub fn no_such(name: &str, place: &str) -> String {
    match nearest_name(name) {
        Some(nearest) => {
            format!("{place}: there is no guardrail {name:?}; did you mean {nearest}?")
        }
        None => format!("{place}: there is no guardrail {name:?}; `forestall rules` lists them"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case_sorted_and_lead_to_their_page() {
        let names: Vec<_> = CATALOGUE.iter().map(|meta| meta.name).collect();
        assert!(names.is_sorted(), "{names:?}");
        for meta in CATALOGUE {
            let name = meta.name;
            assert!(
                name.chars()
                    .all(|char| char.is_ascii_lowercase() || char == '-'),
                "{name}"
            );
            assert!(!meta.watches.is_empty(), "{name} watches nothing");
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
                    meta.page.contains(heading),
                    "docs/rules/{name}.md lacks {heading}"
                );
            }
            assert!(
                meta.page.starts_with(&format!("# {name}\n")),
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
