//! The real tags that are nearest to one that does not exist.
//!
//! Tags are compared as versions where they are versions: somebody who wrote `v2.56.1` wants the
//! neighbours of that version, not the tag with the fewest different letters.

mod version;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use self::version::Version;
use crate::image::is_tag;

/// How many suggestions a message can hold.
const MOST: usize = 3;
/// Fewer letters than this allow one typing mistake, more allow two.
const SHORT: usize = 6;
/// Architectures as they stand in tags. An image of one architecture is nearly never what is meant.
const ARCHITECTURES: &[&str] = &[
    "386", "aarch64", "amd64", "arm", "arm32v5", "arm32v6", "arm32v7", "arm64", "arm64v8", "armv5",
    "armv6", "armv7", "armv8", "i386", "linux", "ppc64le", "riscv64", "s390x", "x86_64",
];
/// Words of what is built to be tried out, or to look for faults: nearly never what is meant.
const TRIALS: &[&str] = &[
    "cache", "canary", "ci", "debug", "dev", "devel", "nightly", "pr", "sha", "snapshot", "test",
    "testing", "unstable",
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
    near.add_float(&tags);
    let versions: Vec<Version<'_>> = tags.iter().filter_map(|tag| Version::of(tag)).collect();
    let wanted_version = Version::of(wanted);
    if let Some(wanted) = &wanted_version {
        near.add_words(wanted, &versions);
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

    /// The tag that loses its last zero where it is not quoted: to YAML, 1.10 is the number 1.1.
    fn add_float(&mut self, tags: &[&str]) {
        let parts = self.wanted.split_once('.');
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if parts.is_some_and(|(whole, fraction)| is_number(whole) && is_number(fraction)) {
            let quoted = format!("{}0", self.wanted);
            for tag in tags.iter().filter(|tag| **tag == quoted) {
                self.add(tag, "what 1.10 becomes without quotes is 1.1");
            }
        }
    }

    /// The same version without the word before it, or with a word before or after it, where it is
    /// nowhere as it is.
    fn add_words(&mut self, wanted: &Version<'_>, versions: &[Version<'_>]) {
        let same = versions.iter().filter(|version| version.key == wanted.key);
        let mut same: Vec<_> = same
            .map(|version| {
                (
                    version.lead != wanted.lead,
                    version.variant != wanted.variant,
                    version,
                )
            })
            .collect();
        let is_there = same.iter().any(|(lead, variant, _)| !lead && !variant);
        if is_there || !self.found.is_empty() || !wanted.is_precise() {
            return;
        }
        same.retain(|(other_lead, other_variant, version)| {
            let lead_fits = !other_lead || version.lead.is_empty() || wanted.lead.is_empty();
            let variant_fits = !other_variant
                || wanted.variant.is_empty()
                || *other_lead && version.variant.is_empty();
            lead_fits && variant_fits
        });
        same.sort_by_key(|(other_lead, other_variant, version)| {
            let lengths = (version.length != wanted.length, version.tag.len());
            (*other_variant, *other_lead, lengths, version.tag)
        });
        for (other_lead, _, version) in same {
            let why = match (other_lead, version.lead.is_empty()) {
                (true, true) => "same version without the word before it",
                (true, false) => "same version with a word before it",
                (false, _) => "same version with a variant",
            };
            self.add(version.tag, why);
        }
    }

    /// The same version with or without `.0`, then its neighbours.
    fn add_versions(&mut self, wanted: &Version<'_>, versions: &[Version<'_>]) {
        let equal = versions.iter().filter(|version| {
            version.lead == wanted.lead
                && version.variant == wanted.variant
                && version.key == wanted.key
        });
        for version in equal {
            self.add(version.tag, "same version");
        }
        let alike = alike(wanted, versions);
        let minor: Vec<_> = alike
            .iter()
            .copied()
            .filter(|version| version.key.numbers[..2] == wanted.key.numbers[..2])
            .collect();
        if minor.is_empty() {
            let major = alike
                .into_iter()
                .filter(|version| version.major() == wanted.major())
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
            .filter(|version| version.lead == wanted.lead && version.key == wanted.key)
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
            .filter(|version| version.major() > wanted.major())
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
                version.lead == lead && version.key.released && version.variant == variant
            });
            released.max_by_key(|version| (&version.key, Reverse(version.tag)))
        };
        let newest = releases(variant).or_else(|| releases(""));
        self.add_version(newest, "highest version");
        if tags.contains(&"latest") {
            self.add("latest", "whatever was pushed last");
        }
    }
}

/// The versions that could stand for the wanted one: same lead and variant, no prerelease unless
/// one is wanted, and as many numbers where there are such. Where none has the lead, those without.
fn alike<'v, 'a>(wanted: &Version<'_>, versions: &'v [Version<'a>]) -> Vec<&'v Version<'a>> {
    let with = |lead: &str| -> Vec<&'v Version<'a>> {
        versions
            .iter()
            .filter(|version| version.lead == lead && version.variant == wanted.variant)
            .filter(|version| version.key.released || !wanted.key.released)
            .collect()
    };
    let mut alike = with(wanted.lead);
    if alike.is_empty() && wanted.is_precise() {
        alike = with("");
    }
    let as_long: Vec<_> = alike
        .iter()
        .copied()
        .filter(|version| version.length == wanted.length)
        .collect();
    if as_long.is_empty() { alike } else { as_long }
}

/// The nearest below and above. Of equal versions, the one that is written like the wanted one.
fn neighbours<'v, 'a>(
    wanted: &Version<'_>,
    mut versions: Vec<&'v Version<'a>>,
) -> (Option<&'v Version<'a>>, Option<&'v Version<'a>>) {
    let above = versions.iter().copied();
    let higher = above
        .filter(|version| version.key > wanted.key)
        .min_by_key(|version| (&version.key, version.v != wanted.v, version.tag));
    versions.retain(|version| version.key < wanted.key);
    (newest(wanted, &versions), higher)
}

fn newest<'v, 'a>(wanted: &Version<'_>, versions: &[&'v Version<'a>]) -> Option<&'v Version<'a>> {
    versions
        .iter()
        .copied()
        .max_by_key(|version| (&version.key, version.v == wanted.v, Reverse(version.tag)))
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
/// commit, and an image of one architecture, for Windows or for trials only where that is asked for.
fn is_meant(tag: &str, wanted: &str) -> bool {
    let is_signature = [".sig", ".att", ".sbom"]
        .iter()
        .any(|end| tag.ends_with(end))
        || ["sha256-", "sha512-"]
            .iter()
            .any(|start| tag.starts_with(start));
    let is_trial = |word: &str| {
        let is_same = |other: &str| {
            let is_misspelt = word.len() > 3 && distance(other, word).is_some_and(|far| far < 2);
            other.eq_ignore_ascii_case(word) || is_misspelt
        };
        let is_listed = TRIALS.iter().any(|trial| trial.eq_ignore_ascii_case(word));
        is_listed && !words(wanted).any(is_same)
    };
    !is_signature
        && !words(tag).any(is_trial)
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
/// (the optimal string alignment distance).
///
/// Of its table only the five cells of a row around the diagonal can be that near. Cell `k` of row
/// `row` is column `row + k - 2`.
fn distance(left: &str, right: &str) -> Option<usize> {
    const MOST_MISTAKES: usize = 2;
    const FAR: usize = MOST_MISTAKES + 1;
    const BAND: usize = 2 * MOST_MISTAKES + 1;
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len().abs_diff(right.len()) > MOST_MISTAKES {
        return None;
    }
    let mut before_last = [FAR; BAND];
    let mut last = [FAR, FAR, 0, 1, 2];
    for row in 1..=left.len() {
        let mut current = [FAR; BAND];
        for k in 0..BAND {
            let column = match (row + k).checked_sub(MOST_MISTAKES) {
                Some(0) => {
                    current[k] = row;
                    continue;
                }
                Some(column) if column <= right.len() => column,
                _ => continue,
            };
            let changed = usize::from(left[row - 1] != right[column - 1]);
            let mut fewest = last[k] + changed;
            if k > 0 {
                fewest = fewest.min(current[k - 1] + 1);
            }
            if let Some(above) = last.get(k + 1) {
                fewest = fewest.min(above + 1);
            }
            let swapped = row > 1
                && column > 1
                && left[row - 1] == right[column - 2]
                && left[row - 2] == right[column - 1];
            if swapped {
                fewest = fewest.min(before_last[k] + 1);
            }
            current[k] = fewest;
        }
        if current.iter().all(|mistakes| *mistakes >= FAR) {
            return None;
        }
        before_last = std::mem::replace(&mut last, current);
    }
    let mistakes = last[right.len() + MOST_MISTAKES - left.len()];
    (mistakes < FAR).then_some(mistakes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prometheus() -> Vec<String> {
        let mut tags = owned(&[
            "latest",
            "main",
            "v2.55.0-rc.0",
            "v3.0.0-beta.1",
            "v3.0.0-rc.1",
        ]);
        for (minor, patches) in [(52, 2), (53, 6), (54, 2), (55, 2)] {
            tags.extend((0..patches).map(|patch| format!("v2.{minor}.{patch}")));
        }
        tags.extend(owned(&["v3.0.0", "v3.0.1", "v3.1.0"]));
        tags
    }

    fn loki() -> Vec<String> {
        let mut tags: Vec<String> = (0..18).map(|patch| format!("2.9.{patch}")).collect();
        tags.extend(owned(&["2.8.11", "3.0.0", "3.0.1", "3.7.6"]));
        let architectures = tags.iter().map(|tag| format!("{tag}-amd64"));
        tags.extend(architectures.collect::<Vec<_>>());
        tags.extend(owned(&[
            "latest",
            "main-0a1b2c3",
            "k229-a1b2c3d",
            "weekly-k229",
        ]));
        tags
    }

    fn alloy() -> Vec<String> {
        let mut tags = owned(&["v1.4.3", "v1.5.0-rc.0", "v1.5.0-rc.1", "v1.5.0", "v1.5.1"]);
        for variant in ["boringcrypto", "nanoserver-1809"] {
            let variants = tags.iter().filter(|tag| !tag.contains("nanoserver"));
            let variants = variants.filter(|tag| !tag.contains("boring"));
            tags.extend(
                variants
                    .map(|tag| format!("{tag}-{variant}"))
                    .collect::<Vec<_>>(),
            );
        }
        tags.extend(owned(&["latest", "boringcrypto", "nanoserver-1809"]));
        tags
    }

    fn nginx() -> Vec<String> {
        owned(&[
            "latest",
            "1.25",
            "1.25.3",
            "1.25.3-alpine",
            "1.25.4",
            "1.25.4-alpine",
            "1.25.5",
            "1.25.5-alpine",
            "1.27.0",
            "1.27.0-alpine",
            "1.27.0-alpine-slim",
            "stable",
            "mainline",
            "alpine",
            "1.25.5-bookworm",
        ])
    }

    fn python() -> Vec<String> {
        owned(&[
            "3.12",
            "3.12-slim",
            "3.12-slim-bookworm",
            "3.12-slim-bullseye",
            "3.12.1-slim-bullseye",
            "3.11-slim-bullseye",
            "3.12-alpine",
            "latest",
            "slim",
        ])
    }

    fn owned(tags: &[&str]) -> Vec<String> {
        tags.iter().map(ToString::to_string).collect()
    }

    fn names(wanted: &str, tags: &[String]) -> Vec<String> {
        let near = nearest(wanted, tags).into_iter();
        near.map(|suggestion| suggestion.tag).collect()
    }

    #[test]
    fn s08_prometheus_v2_56_1_is_between_two_majors() {
        let near = nearest("v2.56.1", &prometheus());
        let near: Vec<_> = near.iter().map(|near| (&*near.tag, near.why)).collect();
        let expected = [
            ("v2.55.1", "nearest lower version of this major"),
            ("v3.0.0", "first version of the next major"),
        ];
        assert_eq!(near, expected);
    }

    #[test]
    fn s08_loki_2_10_6_is_between_two_majors() {
        assert_eq!(names("2.10.6", &loki()), ["2.9.17", "3.0.0"]);
    }

    #[test]
    fn s08_alloy_1_5_0_lacks_its_v() {
        let near = nearest("1.5.0", &alloy());
        assert_eq!(names("1.5.0", &alloy()), ["v1.5.0", "v1.5.1"]);
        assert_eq!(near[0].why, "same version, written differently");
        assert_eq!(near[1].why, "nearest higher patch");
    }

    #[test]
    fn a_word_before_or_after_the_version_is_left_out_or_added() {
        let released = owned(&[
            "1.86.1",
            "1.86.2",
            "1.87.0-rc.1",
            "main-latest",
            "main-v1.83.14-nightly",
        ]);
        let near = nearest("main-1.86.2", &released);
        assert_eq!(names("main-1.86.2", &released), ["1.86.2", "1.86.1"]);
        assert_eq!(near[0].why, "same version without the word before it");
        let unlikely = [
            "sha-4.5.6",
            "nightly-4.5.6",
            "4.5.6-dev",
            "4.5.6-arm64",
            "4.5.6-debug",
            "4.5.6-rc.1",
            "rel-4.5.6-debug",
            "4.5.6-0a1b2c3",
        ];
        for (wanted, tags, expected) in [
            (
                "4.5.6",
                &["rel-4.5.6", "4.5.5"][..],
                &["rel-4.5.6", "4.5.5"][..],
            ),
            ("v4.5.6", &["rel-4.5.6"], &["rel-4.5.6"]),
            ("4.5.6", &["4.5.6-jammy"], &["4.5.6-jammy"]),
            ("4.5.6-jammy", &["4.5.6"], &["4.5.6"]),
            ("my-app-4.5.6", &["4.5.6", "v4.5.6"], &["4.5.6", "v4.5.6"]),
            (
                "rel-4.5.6-jammy",
                &["4.5.6", "4.5.6-jammy"],
                &["4.5.6-jammy", "4.5.6"],
            ),
            ("rel-4.5.6", &["4.5.4", "4.6.0"], &["4.5.4"]),
            // Its own line of versions comes first where the version itself is nowhere.
            ("rel-4.5.6", &["rel-4.5.4", "4.5.5"], &["rel-4.5.4"]),
            // A single number is a build, and no version.
            ("build-7", &["7", "8"], &[]),
            ("4.5.6", &unlikely, &[]),
            ("rel-4.5.6", &unlikely, &[]),
            ("4.5.7-debug", &unlikely, &["4.5.6-debug"]),
            ("debug-4.5.6", &["4.5.6"], &["4.5.6"]),
            ("4.5.6-debgu", &unlikely, &["4.5.6-debug"]),
            ("unstabel", &["unstable"], &["unstable"]),
        ] {
            assert_eq!(names(wanted, &owned(tags)), expected, "{wanted}");
        }
    }

    #[test]
    fn a_tag_that_lost_its_last_zero_is_the_nearest() {
        let tags = owned(&["1.0", "1.1.7", "1.10", "1.2"]);
        assert_eq!(names("1.1", &tags)[0], "1.10");
        assert!(!names("v1.1", &tags).contains(&"1.10".to_owned()));
    }

    #[test]
    fn neighbours_of_a_version_come_before_its_look_alikes() {
        let (prometheus, loki, alloy) = (prometheus(), loki(), alloy());
        let (nginx, python) = (nginx(), python());
        for (wanted, tags, expected) in [
            ("v2.9.10", &loki, &["2.9.10", "2.9.9", "2.9.11"][..]),
            ("2.9.18", &loki, &["2.9.17", "3.0.0"]),
            ("2.10.6-amd64", &loki, &["2.9.17-amd64", "3.0.0-amd64"]),
            ("v1.5.9", &alloy, &["v1.5.1"]),
            (
                "1.5.0-boringcrypto",
                &alloy,
                &["v1.5.0-boringcrypto", "v1.5.1-boringcrypto", "v1.5.0"],
            ),
            ("v1.5.0-rc.2", &alloy, &["v1.5.0-rc.1", "v1.5.0", "v1.5.1"]),
            ("1.25.4-alpnie", &nginx, &["1.25.4-alpine", "1.25.4"]),
            ("1.25.9-alpine", &nginx, &["1.25.5-alpine"]),
            ("1.26-alpine", &nginx, &["1.25.5-alpine", "1.27.0-alpine"]),
            ("3.13-slim-bullseye", &python, &["3.12-slim-bullseye"]),
            (
                "3.12-slim-bulseye",
                &python,
                &["3.12-slim-bullseye", "3.12"],
            ),
            ("V2.55.1", &prometheus, &["v2.55.1", "v2.55.0", "v3.0.0"]),
            ("v2.55", &prometheus, &["v2.55.0", "v2.55.1", "v3.0.0"]),
            ("latset", &nginx, &["latest"]),
            ("Alpine", &nginx, &["alpine"]),
            ("1.25.x", &nginx, &["1.25"]),
        ] {
            assert_eq!(names(wanted, tags), expected, "{wanted}");
        }
    }

    #[test]
    fn where_nothing_is_near_the_newest_release_is_a_start() {
        assert_eq!(names("v9.9.9", &prometheus()), ["v3.1.0", "latest"]);
        assert_eq!(names("production", &prometheus()), ["v3.1.0", "latest"]);
        assert_eq!(
            names("v9.9.9-distroless", &prometheus()),
            ["v3.1.0", "latest"]
        );
        assert_eq!(names("v1", &[]), Vec::<String>::new());
    }

    #[test]
    fn of_equal_versions_the_one_written_alike_comes_first() {
        let tags = owned(&["v1.4.0", "1.4.0", "1.6.0", "v1.6.0"]);
        assert_eq!(names("v1.5.0", &tags), ["v1.4.0", "v1.6.0"]);
        assert_eq!(names("1.5.0", &tags), ["1.4.0", "1.6.0"]);
        let tags = owned(&["v1.4.0", "V1.4.0", "1.4"]);
        for tags in [tags.clone(), tags.into_iter().rev().collect()] {
            assert_eq!(names("1.4.0", &tags), ["V1.4.0", "v1.4.0", "1.4"]);
        }
    }

    #[test]
    fn dates_are_versions_but_commits_and_signatures_are_not() {
        let tags = owned(&[
            "20240115",
            "20240117",
            "1.0.0-0a1b2c3",
            "sha256-0a.sig",
            "20240116-arm64",
            "20240116-windowsservercore-ltsc2022",
        ]);
        assert_eq!(names("20240116", &tags), ["20240117"]);
        assert_eq!(
            names("main-0a1b2c4", &owned(&["main-0a1b2c3"])),
            Vec::<String>::new()
        );
    }

    #[test]
    fn registry_case_96_images_for_one_architecture_and_signatures_are_near_to_nothing() {
        let hash = "a".repeat(64);
        let tags = [
            "v1.0.0-amd64",
            "v1.0.0-arm64",
            &format!("sha256-{hash}"),
            &format!("sha256-{hash}.sig"),
            &format!("sha256-{hash}.att"),
            &format!("sha256-{hash}.sbom"),
        ];
        for wanted in ["v1.0.0", "v1.0.1", "latest"] {
            assert_eq!(names(wanted, &owned(&tags)), [""; 0], "{wanted}");
        }
    }

    #[test]
    fn distances_are_counted_up_to_two() {
        for (left, right, expected) in [
            ("", "", Some(0)),
            ("abc", "abc", Some(0)),
            ("latset", "latest", Some(1)),
            ("abc", "", None),
            ("ab", "", Some(2)),
            ("abcd", "badc", Some(2)),
            ("abcdef", "xbcdey", Some(2)),
            ("abcdef", "xbzdey", None),
            ("xxabcdef", "abcdef", Some(2)),
        ] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
            assert_eq!(distance(right, left), expected, "{right} {left}");
        }
    }

    #[test]
    fn twenty_thousand_tags_are_no_trouble() {
        let tags: Vec<String> = (0..20_000)
            .map(|number| {
                format!(
                    "v{}.{}.{}-alpine",
                    number / 400,
                    number / 20 % 20,
                    number % 20
                )
            })
            .collect();
        let expected = ["v49.19.19-alpine"];
        assert_eq!(names("v49.20.1-alpine", &tags), expected);
        let long = "x".repeat(128);
        let tags: Vec<String> = (0..20_000)
            .map(|number| format!("{long:.122}{number}"))
            .collect();
        assert_eq!(names(&format!("{long:.122}12y45"), &tags).len(), MOST);
    }

    /// Tags that are near to each other, and anything else.
    fn tag() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[vV]?[0-3](\\.[0-3]){0,3}(-(rc\\.?[0-9]|alpine|alpnie|slim|amd64))?",
            1 => "[a-c]{1,4}",
            1 => "[0-9a-zA-Z_.+-]{0,12}",
            1 => "\\PC{0,8}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn suggestions_are_tags_of_the_list_in_whatever_order(
            wanted in tag(),
            tags in prop::collection::vec(tag(), 0..24),
            turn in 0..24_usize,
        ) {
            let near = nearest(&wanted, &tags);
            prop_assert!(near.len() <= MOST);
            for (index, suggestion) in near.iter().enumerate() {
                prop_assert!(tags.contains(&suggestion.tag));
                prop_assert!(suggestion.tag != wanted && is_tag(&suggestion.tag));
                prop_assert!(near[..index].iter().all(|other| other.tag != suggestion.tag));
            }
            let mut turned: Vec<String> = tags.iter().rev().cloned().collect();
            turned.rotate_left(turn.checked_rem(tags.len()).unwrap_or(0));
            prop_assert_eq!(near, nearest(&wanted, &turned));
        }

        #[test]
        fn distances_are_those_of_the_whole_table(left in "[ab]{0,7}", right in "[ab]{0,7}") {
            let whole = whole_table(left.as_bytes(), right.as_bytes());
            prop_assert_eq!(distance(&left, &right), (whole <= 2).then_some(whole));
        }
    }

    fn whole_table(left: &[u8], right: &[u8]) -> usize {
        let mut table = vec![vec![0; right.len() + 1]; left.len() + 1];
        for row in 0..=left.len() {
            for column in 0..=right.len() {
                table[row][column] = match (row, column) {
                    (0, far) | (far, 0) => far,
                    _ => {
                        let changed = usize::from(left[row - 1] != right[column - 1]);
                        let mut least = (table[row - 1][column] + 1)
                            .min(table[row][column - 1] + 1)
                            .min(table[row - 1][column - 1] + changed);
                        if row > 1
                            && column > 1
                            && left[row - 1] == right[column - 2]
                            && left[row - 2] == right[column - 1]
                        {
                            least = least.min(table[row - 2][column - 2] + 1);
                        }
                        least
                    }
                };
            }
        }
        table[left.len()][right.len()]
    }
}
