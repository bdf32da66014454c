//! Tags read as versions.

/// Words that mark a version as not yet released.
const PRERELEASES: &[&str] = &[
    "alpha", "beta", "dev", "m", "nightly", "pre", "preview", "rc", "snapshot",
];
/// A tag read as a version.
#[derive(Debug)]
pub(super) struct Version<'a> {
    pub(super) tag: &'a str,
    /// What stands before the number, such as `release-`.
    pub(super) lead: &'a str,
    /// Whether a `v` stands before the number.
    pub(super) v: bool,
    /// How many numbers are written: one to four.
    pub(super) length: usize,
    pub(super) key: Key,
    /// What is left, such as `alpine` or `slim-bookworm`.
    pub(super) variant: String,
}

/// What versions are ordered by: the numbers; prereleases before the release; of prereleases, words
/// and numbers, so that `rc.9` comes before `rc.10`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) numbers: [u64; 4],
    pub(super) released: bool,
    prerelease: Vec<(String, u64)>,
}

// === impl Version ===

impl<'a> Version<'a> {
    pub(super) fn of(tag: &'a str) -> Option<Self> {
        let digits = tag.find(|char: char| char.is_ascii_digit())?;
        let (before, after) = tag.split_at(digits);
        let v = before.ends_with(['v', 'V']);
        let lead = if v { &before[..digits - 1] } else { before };
        let named = lead.strip_suffix(['-', '_']).is_some_and(|name| {
            let mut words = name.split(['-', '_']);
            words.all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphabetic()))
        });
        if !lead.is_empty() && !named {
            return None;
        }
        let (numbers, rest) = split_numbers(after)?;
        let (prerelease, variant) = split_prerelease(rest);
        if !rest.is_empty() && !rest.starts_with(['-', '_', '.', '+']) && prerelease.is_empty() {
            return None;
        }
        Some(Self {
            tag,
            lead,
            v,
            length: numbers.len(),
            key: Key::of(&numbers, &prerelease),
            variant,
        })
    }

    /// Whether it has two numbers or more: a single one may be a date, or that of a build.
    pub(super) fn is_precise(&self) -> bool {
        self.length > 1
    }

    pub(super) fn major(&self) -> u64 {
        self.key.numbers[0]
    }
}

// === impl Key ===

impl Key {
    fn of(numbers: &[u64], prerelease: &str) -> Self {
        let mut padded = [0; 4];
        padded[..numbers.len()].copy_from_slice(numbers);
        let parts = prerelease.split(['.', '-']).map(|part| {
            let word = part.trim_end_matches(|char: char| char.is_ascii_digit());
            (word.to_owned(), part[word.len()..].parse().unwrap_or(0))
        });
        Self {
            numbers: padded,
            released: prerelease.is_empty(),
            prerelease: parts.collect(),
        }
    }
}

/// Up to four numbers with points between them, and what follows.
fn split_numbers(text: &str) -> Option<(Vec<u64>, &str)> {
    let mut numbers = Vec::new();
    let mut rest = text;
    loop {
        let end = rest
            .find(|char: char| !char.is_ascii_digit())
            .unwrap_or(rest.len());
        numbers.push(rest[..end].parse().ok()?);
        rest = &rest[end..];
        let more = rest
            .strip_prefix('.')
            .filter(|next| next.starts_with(|char: char| char.is_ascii_digit()));
        match more {
            Some(next) if numbers.len() < 4 => rest = next,
            _ => return Some((numbers, rest)),
        }
    }
}

/// The prerelease and the variant in what follows the numbers, in lower case: `-rc.1-alpine` is
/// `rc.1` and `alpine`.
fn split_prerelease(rest: &str) -> (String, String) {
    let rest = rest.to_ascii_lowercase();
    let text = rest.trim_start_matches(['-', '_', '.', '+']);
    let word = text
        .find(|char: char| !char.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let numbers = text[word..]
        .find(|char: char| !char.is_ascii_digit() && char != '.')
        .map_or(text.len(), |end| word + end);
    // rc-1 is rc 1, but alpha-slim is alpha and slim.
    let dashed = text[numbers..].strip_prefix('-').map_or(0, |after| {
        after
            .find(|char: char| !char.is_ascii_digit())
            .unwrap_or(after.len())
    });
    let end = if numbers == word && dashed > 0 {
        numbers + 1 + dashed
    } else {
        numbers
    };
    let ends = text[end..].is_empty() || text[end..].starts_with(['-', '_']);
    if ends && PRERELEASES.contains(&&text[..word]) {
        let variant = text[end..].trim_start_matches(['-', '_']);
        (text[..end].to_owned(), variant.to_owned())
    } else {
        (String::new(), text.to_owned())
    }
}
