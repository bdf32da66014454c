//! The real tags that are nearest to one that does not exist.
//!
//! Tags are compared as versions where they are versions: somebody who wrote `v2.56.1` wants the
//! neighbours of that version, not the tag with the fewest different letters.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::review::image::is_tag;

/// How many suggestions a message can hold.
const MOST: usize = 3;
/// Fewer letters than this allow one typing mistake, more allow two.
const SHORT: usize = 6;
/// Words that mark a version as not yet released.
const PRERELEASES: &[&str] = &[
    "alpha", "beta", "dev", "m", "nightly", "pre", "preview", "rc", "snapshot",
];
/// Architectures as they stand in tags. An image of one architecture is nearly never what is meant.
const ARCHITECTURES: &[&str] = &[
    "386", "aarch64", "amd64", "arm", "arm32v5", "arm32v6", "arm32v7", "arm64", "arm64v8", "armv5",
    "armv6", "armv7", "armv8", "i386", "linux", "ppc64le", "riscv64", "s390x", "x86_64",
];
/// What tags of Windows images hold.
const WINDOWS: &[&str] = &["ltsc20", "nanoserver", "windows"];

/// A tag that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The tag.
    pub tag: String,
    /// Why it is near, such as `nearest lower version of this major`.
    pub why: &'static str,
}

/// A tag read as a version.
#[derive(Debug)]
struct Version<'a> {
    tag: &'a str,
    /// What stands before the number, such as `release-`.
    lead: &'a str,
    /// Whether a `v` stands before the number.
    v: bool,
    /// One to four numbers.
    numbers: Vec<u64>,
    /// Empty for a release.
    prerelease: String,
    /// What is left, such as `alpine` or `slim-bookworm`.
    variant: String,
}

/// Versions in their order: numbers, then prereleases before the release, then the prerelease's
/// word and numbers.
type Key = ([u64; 4], bool, Vec<(bool, u64, String)>);

/// Suggestions as they are found, the nearest first.
struct Near<'a> {
    wanted: &'a str,
    found: Vec<Suggestion>,
}

/// At most three suggestions, the nearest first. The order of the tags makes no difference.
#[must_use]
pub fn nearest(wanted: &str, tags: &[String]) -> Vec<Suggestion> {
    let tags: BTreeSet<&str> = tags.iter().map(String::as_str).collect();
    let tags: Vec<&str> = tags
        .into_iter()
        .filter(|tag| is_tag(tag) && *tag != wanted)
        .collect();
    let mut near = Near {
        wanted,
        found: Vec::new(),
    };
    let spelling = spelling(wanted);
    for tag in tags.iter().filter(|tag| self::spelling(tag) == spelling) {
        near.add(tag, "same version, written differently");
    }
    let tags: Vec<&str> = tags
        .into_iter()
        .filter(|tag| is_meant(tag, wanted))
        .collect();
    let versions: Vec<Version<'_>> = tags.iter().filter_map(|tag| Version::of(tag)).collect();
    let wanted_version = Version::of(wanted);
    if let Some(wanted) = &wanted_version {
        near.add_versions(wanted, &versions);
        near.add_variants(wanted, &versions);
        near.add_next_major(wanted, &versions);
    }
    near.add_misspelt(wanted_version.is_some(), &tags);
    if near.found.is_empty() {
        near.add_newest(wanted_version.as_ref(), &versions, &tags);
    }
    near.found.truncate(MOST);
    near.found
}

// === impl Near ===

impl Near<'_> {
    fn add(&mut self, tag: &str, why: &'static str) {
        if self.found.len() < MOST && self.found.iter().all(|found| found.tag != tag) {
            self.found.push(Suggestion {
                tag: tag.to_owned(),
                why,
            });
        }
    }

    fn add_version(&mut self, version: Option<&Version<'_>>, why: &'static str) {
        if let Some(version) = version {
            self.add(version.tag, why);
        }
    }

    /// The same version with or without `.0`, then its neighbours.
    fn add_versions(&mut self, wanted: &Version<'_>, versions: &[Version<'_>]) {
        let equal = versions.iter().filter(|version| {
            version.lead == wanted.lead
                && version.variant == wanted.variant
                && version.key() == wanted.key()
        });
        for version in equal {
            self.add(version.tag, "same version");
        }
        let alike = alike(wanted, versions);
        let minor: Vec<_> = alike
            .iter()
            .copied()
            .filter(|version| version.key().0[..2] == wanted.key().0[..2])
            .collect();
        if minor.is_empty() {
            let major = alike
                .into_iter()
                .filter(|version| version.numbers[0] == wanted.numbers[0])
                .collect();
            let (lower, higher) = neighbours(wanted, major);
            self.add_version(lower, "nearest lower version of this major");
            self.add_version(higher, "nearest higher version of this major");
        } else {
            let latest = newest(wanted, &minor);
            let (lower, higher) = neighbours(wanted, minor);
            self.add_version(lower, "nearest lower patch");
            self.add_version(higher, "nearest higher patch");
            self.add_version(latest, "latest patch of this minor");
        }
    }

    /// The same version with another variant: a misspelt one, or none.
    fn add_variants(&mut self, wanted: &Version<'_>, versions: &[Version<'_>]) {
        let same: Vec<_> = versions
            .iter()
            .filter(|version| version.lead == wanted.lead && version.key() == wanted.key())
            .filter(|version| version.variant != wanted.variant)
            .collect();
        let mut misspelt: Vec<_> = same
            .iter()
            .filter(|version| !version.variant.is_empty())
            .filter_map(|version| Some((distance(&version.variant, &wanted.variant)?, version.tag)))
            .collect();
        misspelt.sort_unstable();
        for (_, tag) in misspelt {
            self.add(tag, "the variant looks misspelt");
        }
        for version in same.iter().filter(|version| version.variant.is_empty()) {
            self.add(version.tag, "same version without the variant");
        }
    }

    fn add_next_major(&mut self, wanted: &Version<'_>, versions: &[Version<'_>]) {
        let later = alike(wanted, versions)
            .into_iter()
            .filter(|version| version.numbers[0] > wanted.numbers[0])
            .collect();
        let (_, first) = neighbours(wanted, later);
        self.add_version(first, "first version of the next major");
    }

    /// A typing mistake in what is not two versions: those are compared as numbers.
    fn add_misspelt(&mut self, wanted_is_version: bool, tags: &[&str]) {
        let wanted = self.wanted.to_ascii_lowercase();
        let most = if wanted.len() < SHORT { 1 } else { 2 };
        let mut misspelt: Vec<_> = tags
            .iter()
            .filter_map(|tag| Some((distance(&wanted, &tag.to_ascii_lowercase())?, *tag)))
            .filter(|(distance, _)| *distance <= most)
            .filter(|(_, tag)| !wanted_is_version || Version::of(tag).is_none())
            .collect();
        misspelt.sort_unstable();
        for (_, tag) in misspelt {
            self.add(tag, "looks misspelt");
        }
    }

    /// Where nothing is near, the newest release is a start.
    fn add_newest(
        &mut self,
        wanted: Option<&Version<'_>>,
        versions: &[Version<'_>],
        tags: &[&str],
    ) {
        let lead = wanted.map_or("", |wanted| wanted.lead);
        let variant = wanted.map_or("", |wanted| &wanted.variant);
        let releases = |variant: &str| {
            let released = versions.iter().filter(|version| {
                version.lead == lead && version.prerelease.is_empty() && version.variant == variant
            });
            released.max_by_key(|version| (version.key(), Reverse(version.tag)))
        };
        let newest = releases(variant).or_else(|| releases(""));
        self.add_version(newest, "highest version");
        if tags.contains(&"latest") {
            self.add("latest", "whatever was pushed last");
        }
    }
}

// === impl Version ===

impl<'a> Version<'a> {
    fn of(tag: &'a str) -> Option<Self> {
        let digits = tag.find(|char: char| char.is_ascii_digit())?;
        let (before, after) = tag.split_at(digits);
        let v = before.ends_with(['v', 'V']);
        let lead = if v { &before[..digits - 1] } else { before };
        let named = lead
            .strip_suffix(['-', '_'])
            .is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic()));
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
            numbers,
            prerelease,
            variant,
        })
    }

    fn key(&self) -> Key {
        let mut padded = [0; 4];
        padded[..self.numbers.len()].copy_from_slice(&self.numbers);
        (
            padded,
            self.prerelease.is_empty(),
            natural(&self.prerelease),
        )
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

/// A text in words and numbers, so that `rc.9` comes before `rc.10`.
fn natural(text: &str) -> Vec<(bool, u64, String)> {
    text.split(['.', '-'])
        .flat_map(|part| {
            let digits = part
                .find(|char: char| char.is_ascii_digit())
                .unwrap_or(part.len());
            let (word, number) = part.split_at(digits);
            [(true, 0, word.to_owned()), {
                let parsed = number.parse().unwrap_or(0);
                (false, parsed, String::new())
            }]
        })
        .collect()
}

/// The versions that could stand for the wanted one: same lead and variant, no prerelease unless
/// one is wanted, and as many numbers where there are such.
fn alike<'v, 'a>(wanted: &Version<'_>, versions: &'v [Version<'a>]) -> Vec<&'v Version<'a>> {
    let alike: Vec<_> = versions
        .iter()
        .filter(|version| version.lead == wanted.lead && version.variant == wanted.variant)
        .filter(|version| version.prerelease.is_empty() || !wanted.prerelease.is_empty())
        .collect();
    let as_long: Vec<_> = alike
        .iter()
        .copied()
        .filter(|version| version.numbers.len() == wanted.numbers.len())
        .collect();
    if as_long.is_empty() { alike } else { as_long }
}

/// The nearest below and above. Of equal versions, the one that is written like the wanted one.
fn neighbours<'v, 'a>(
    wanted: &Version<'_>,
    mut versions: Vec<&'v Version<'a>>,
) -> (Option<&'v Version<'a>>, Option<&'v Version<'a>>) {
    let key = wanted.key();
    versions.sort_by_cached_key(|version| (version.key(), version.v != wanted.v, version.tag));
    let higher = versions.iter().copied().find(|version| version.key() > key);
    versions.retain(|version| version.key() < key);
    (newest(wanted, &versions), higher)
}

fn newest<'v, 'a>(wanted: &Version<'_>, versions: &[&'v Version<'a>]) -> Option<&'v Version<'a>> {
    versions
        .iter()
        .copied()
        .max_by_key(|version| (version.key(), version.v == wanted.v, Reverse(version.tag)))
}

/// A tag without what people write differently: case, `v`, `_` and `+`.
fn spelling(tag: &str) -> String {
    let tag = tag.to_ascii_lowercase().replace(['_', '+'], "-");
    match tag.strip_prefix('v') {
        Some(rest) if rest.starts_with(|char: char| char.is_ascii_digit()) => rest.to_owned(),
        _ => tag,
    }
}

/// Whether somebody who wrote the wanted tag could mean this one: no signature, no build of one
/// commit, and an image of one architecture or for Windows only where that is asked for.
fn is_meant(tag: &str, wanted: &str) -> bool {
    let is_signature = [".sig", ".att", ".sbom"]
        .iter()
        .any(|end| tag.ends_with(end))
        || ["sha256-", "sha512-"]
            .iter()
            .any(|start| tag.starts_with(start));
    !is_signature
        && !words(tag).any(is_commit)
        && (has_architecture(wanted) || !has_architecture(tag))
        && (is_for_windows(wanted) || !is_for_windows(tag))
}

fn words(tag: &str) -> impl Iterator<Item = &str> {
    tag.split(['-', '_'])
}

/// 7 to 40 hexadecimal digits. A letter and a digit must be among them: 20240115 is a date.
fn is_commit(word: &str) -> bool {
    (7..=40).contains(&word.len())
        && word
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && word.bytes().any(|byte| byte.is_ascii_digit())
        && word.bytes().any(|byte| byte.is_ascii_alphabetic())
}

fn has_architecture(tag: &str) -> bool {
    let tag = tag.to_ascii_lowercase();
    tag.contains("x86_64") || words(&tag).any(|word| ARCHITECTURES.contains(&word))
}

fn is_for_windows(tag: &str) -> bool {
    let tag = tag.to_ascii_lowercase();
    WINDOWS.iter().any(|word| tag.contains(word))
}

/// How many letters must be changed, left out, put in or swapped with the next one, if at most two
/// (the optimal string alignment distance, in a band of five columns).
fn distance(left: &str, right: &str) -> Option<usize> {
    const MOST_MISTAKES: usize = 2;
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len().abs_diff(right.len()) > MOST_MISTAKES {
        return None;
    }
    let far = MOST_MISTAKES + 1;
    let mut before_last = vec![far; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).map(|column| column.min(far)).collect();
    for row in 1..=left.len() {
        let mut current = vec![far; right.len() + 1];
        if row <= MOST_MISTAKES {
            current[0] = row;
        }
        let band = row.saturating_sub(MOST_MISTAKES).max(1)..=(row + MOST_MISTAKES).min(right.len());
        for column in band {
            let changed = usize::from(left[row - 1] != right[column - 1]);
            let mut least = (last[column] + 1)
                .min(current[column - 1] + 1)
                .min(last[column - 1] + changed);
            let swapped = row > 1
                && column > 1
                && left[row - 1] == right[column - 2]
                && left[row - 2] == right[column - 1];
            if swapped {
                least = least.min(before_last[column - 2] + 1);
            }
            current[column] = least.min(far);
        }
        if current.iter().all(|least| *least >= far) {
            return None;
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last.last().copied().filter(|least| *least < far)
}
