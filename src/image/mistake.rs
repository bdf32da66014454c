//! The commonest ways to miswrite an image reference, each in a sentence of its own.
//!
//! Only what the grammar has refused comes here. So whether it is wrong is never a guess; what was
//! meant is one, and it is offered only where it is a reference itself.

use super::{DIGEST_DIGITS, ImageReference, InvalidReference, Shown, is_lower_hex, split_tag};
use crate::placeholder;

/// Web pages of Docker Hub about an image, which people copy instead of its name.
const PAGES: &[&str] = &["hub.docker.com/r/", "hub.docker.com/_/"];
/// Bytes of a reference that a help offers; longer ones were never seen.
const LONGEST_OFFER: usize = 255;
/// Digits that a float has for certain, so that its number can be written out again (IEEE 754,
/// binary64).
const FLOAT_DIGITS: usize = 15;

/// What is wrong, and the reference to write where it can be made out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct Mistake {
    problem: String,
    pub(super) instead: Option<String>,
    pub(super) has_default: bool,
}

/// The refusal of a text, in the words for its mistake where it is a common one.
pub(super) fn explain(text: &str, error: InvalidReference) -> InvalidReference {
    if let Some(found) = placeholder::find(text) {
        return InvalidReference::Common(unreplaced(found));
    }
    let mended = mended(text);
    let problem = scheme(text)
        .map(|(scheme, _)| format!("leave {scheme} out, as an image has no scheme"))
        .or_else(|| blank(text))
        .or_else(|| digest_after_colon(text).map(|_| AFTER_COLON.to_owned()))
        .or_else(|| float(text).map(|_| FLOAT.to_owned()))
        .or_else(|| missing_part(text))
        .or_else(|| match (&error, &mended) {
            (InvalidReference::UpperCase(name), Some(_)) => {
                Some(format!("the name {name} has capital letters"))
            }
            (InvalidReference::Digest(digest), Some(_)) => {
                Some(format!("the digest {digest} is no digest"))
            }
            _ => None,
        });
    let Some(problem) = problem else {
        return match error {
            // In lower case it would be refused as well.
            InvalidReference::UpperCase(_) => InvalidReference::Name(Shown::of(split_tag(text).0)),
            error => error,
        };
    };
    let cure = match &mended {
        Some(instead) => instead,
        None => "NAME:TAG or NAME@DIGEST, such as nginx:1.27",
    };
    InvalidReference::Common(Mistake {
        problem: format!("{problem}; write {cure}"),
        instead: mended,
        has_default: false,
    })
}

const AFTER_COLON: &str = "a digest stands after @, not after a colon";
const FLOAT: &str = "the tag is a number that became a float, because it was not quoted where it \
                     is set; quote it there";

fn unreplaced(found: &str) -> Mistake {
    let shown = Shown::of(found);
    let problem = if placeholder::is_missing_value(found) {
        format!("{shown} is what a template prints for a value that is missing; set that value")
    } else {
        format!(
            "{shown} is a placeholder, which no node replaces; write the value, or check the output \
             of the tool that fills it in, such as helm template, flux build or envsubst"
        )
    };
    Mistake {
        problem,
        instead: None,
        has_default: placeholder::has_default(found),
    }
}

/// The text with all its common mistakes undone, where that makes it a reference.
fn mended(text: &str) -> Option<String> {
    let text = text.trim();
    let text = match scheme(text) {
        Some((_, rest)) => {
            let page = PAGES.iter().find_map(|page| rest.strip_prefix(page));
            page.unwrap_or(rest).trim_end_matches('/')
        }
        None => text,
    };
    let text = without_blanks(text)?;
    let text = digest_after_colon(&text).unwrap_or(text);
    let text = float(&text).unwrap_or(text);
    let text = in_lower_case(&text);
    let fits = text.len() <= LONGEST_OFFER && ImageReference::read(&text).is_ok();
    fits.then_some(text)
}

/// `https://` and what follows it.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text.find("://")?;
    let is_scheme = text[..end]
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    let (scheme, rest) = text.split_at(end + 3);
    (is_scheme && end > 0).then_some((scheme, rest))
}

fn blank(text: &str) -> Option<String> {
    if !text.contains(char::is_whitespace) {
        return None;
    }
    let place = if text.trim_end() != text {
        "ends with a blank"
    } else if text.trim_start() != text {
        "begins with a blank"
    } else {
        "has a blank inside"
    };
    Some(format!("the image {place}"))
}

/// Nothing where a blank stands between two words: a colon may have been meant.
fn without_blanks(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let may_follow = |pair: &[&str]| {
        let is_word = |char: Option<char>| char.is_some_and(char::is_alphanumeric);
        !(is_word(pair[0].chars().next_back()) && is_word(pair[1].chars().next()))
    };
    words.windows(2).all(may_follow).then(|| words.concat())
}

/// `name:sha256:…` and `name:@sha256:…` with the `@` where it belongs.
fn digest_after_colon(text: &str) -> Option<String> {
    let digest = |text: &str| {
        let mut algorithms = DIGEST_DIGITS.iter().map(|(algorithm, _)| algorithm);
        algorithms.any(|algorithm| {
            let rest = text.strip_prefix(algorithm);
            rest.is_some_and(|rest| rest.starts_with(':'))
        })
    };
    let mut colons = text.match_indices(':').map(|(colon, _)| colon);
    colons.find_map(|colon| {
        let (name, rest) = (&text[..colon], &text[colon + 1..]);
        let rest = rest.strip_prefix('@').unwrap_or(rest);
        digest(rest).then(|| format!("{name}@{rest}"))
    })
}

/// The same with its tag written out, where that is a float as Go prints it: `2.0240115e+07`.
fn float(text: &str) -> Option<String> {
    let (name, tag) = split_tag(text);
    let (mantissa, exponent) = tag?.split_once("e+")?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let places: usize = exponent.parse().ok()?;
    let is_exact = whole.len() == 1 && places < FLOAT_DIGITS && fraction.len() <= places;
    let is_float = is_number(&digits) && is_number(exponent) && is_exact;
    is_float.then(|| format!("{name}:{digits:0<width$}", width = places + 1))
}

/// What is printed where one of the values of an image is empty.
fn missing_part(text: &str) -> Option<String> {
    let lacks = match text.as_bytes() {
        [b':' | b'@', ..] => "the name is missing",
        [b'/', ..] => "nothing stands before the first /",
        [.., b':'] => "nothing stands after the colon",
        [.., b'@'] => "nothing stands after the @",
        _ => return None,
    };
    Some(format!(
        "{lacks}, as where a chart prints a value that is not set"
    ))
}

/// Names and the digits of digests have no capital letters; tags may.
fn in_lower_case(text: &str) -> String {
    let (before, digest) = match text.split_once('@') {
        Some((before, digest)) => (before, Some(digest)),
        None => (text, None),
    };
    let (name, tag) = split_tag(before);
    let tag = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
    let digest = digest.map(|digest| {
        let digest = digest.to_ascii_lowercase();
        let is_bare = digest.len() == 64 && digest.bytes().all(is_lower_hex);
        format!("@{}{digest}", if is_bare { "sha256:" } else { "" })
    });
    format!(
        "{}{tag}{}",
        name.to_ascii_lowercase(),
        digest.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(text: &str) -> InvalidReference {
        ImageReference::parse(text).unwrap_err()
    }

    #[test]
    fn what_was_meant_is_offered_where_it_can_be_made_out() {
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        let (upper, hex) = (digest[7..].to_uppercase(), &digest[7..]);
        for (text, sentence, instead) in [
            (
                format!("shop/web:{digest}"),
                "a digest stands after @, not after a colon",
                format!("shop/web@{digest}"),
            ),
            (
                format!("registry.example.com:5000/web:1.2:{digest}"),
                "a digest stands after @",
                format!("registry.example.com:5000/web:1.2@{digest}"),
            ),
            (
                format!("shop/web:@{digest}"),
                "a digest stands after @",
                format!("shop/web@{digest}"),
            ),
            (
                "https://registry.example.com/shop/web:1.2.0".to_owned(),
                "leave https:// out, as an image has no scheme",
                "registry.example.com/shop/web:1.2.0".to_owned(),
            ),
            (
                "docker://nginx:1.27".to_owned(),
                "leave docker:// out",
                "nginx:1.27".to_owned(),
            ),
            (
                "https://hub.docker.com/r/grafana/loki/".to_owned(),
                "leave https:// out",
                "grafana/loki".to_owned(),
            ),
            (
                "oci://Registry.example.com/Shop/Web:V1 ".to_owned(),
                "leave oci:// out",
                "registry.example.com/shop/web:V1".to_owned(),
            ),
            (
                "redis:7.2 ".to_owned(),
                "the image ends with a blank",
                "redis:7.2".to_owned(),
            ),
            (
                "\tredis:7.2".to_owned(),
                "the image begins with a blank",
                "redis:7.2".to_owned(),
            ),
            (
                "quay.io/shop/ web: 1.0".to_owned(),
                "the image has a blank inside",
                "quay.io/shop/web:1.0".to_owned(),
            ),
            (
                "shop/web:2.0240115e+07".to_owned(),
                "a number that became a float",
                "shop/web:20240115".to_owned(),
            ),
            (
                "shop/web:1e+06".to_owned(),
                "a number that became a float",
                "shop/web:1000000".to_owned(),
            ),
            (
                "Shop/Web:1".to_owned(),
                "has capital letters",
                "shop/web:1".to_owned(),
            ),
            (
                format!("web@sha256:{upper}"),
                "is no digest",
                format!("web@sha256:{hex}"),
            ),
            (
                format!("web@{hex}"),
                "is no digest",
                format!("web@sha256:{hex}"),
            ),
            (
                format!("web@sha256:{upper} "),
                "the image ends with a blank",
                format!("web@sha256:{hex}"),
            ),
        ] {
            let error = refused(&text);
            let message = error.to_string();
            assert!(message.contains(sentence), "{text:?}: {message}");
            assert_eq!(error.instead(), Some(&*instead), "{text:?}");
            assert!(
                message.ends_with(&format!("; write {instead}")),
                "{message}"
            );
        }
    }

    #[test]
    fn what_cannot_be_made_out_is_not_offered() {
        for (text, sentence) in [
            ("nginx 1.27", "the image has a blank inside; write NAME:TAG"),
            ("shop/web:sha256:abc", "a digest stands after @"),
            ("https://", "leave https:// out"),
            (":latest", "the name is missing, as where a chart prints"),
            (":", "the name is missing"),
            ("/shop/web:1", "nothing stands before the first /"),
            ("nginx:", "nothing stands after the colon"),
            ("Shop//Web", "is not HOST/PATH"),
            ("shop/web:1.5e+300", "is no tag"),
            ("${IMAGE}", "\"${IMAGE}\" is a placeholder"),
            ("shop/web:$TAG", "\"$TAG\" is a placeholder"),
            ("$(REGISTRY)/Web:1", "\"$(REGISTRY)\" is a placeholder"),
            (
                "{{ .Values.Image }}",
                "\"{{ .Values.Image }}\" is a placeholder",
            ),
            ("https://<HOST>/web:1 ", "\"<HOST>\" is a placeholder"),
            ("shop/web:%s", "\"%s\" is a placeholder"),
            ("web:<no value>", "prints for a value that is missing"),
        ] {
            let error = refused(text);
            assert!(error.to_string().contains(sentence), "{text:?}: {error}");
            assert_eq!(error.instead(), None, "{text:?}");
        }
        assert!(refused("web:${TAG:=1.0}").has_default());
        assert!(!refused("web:${TAG}").has_default());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_offered_is_a_reference(
            text in "(https://|docker:)?[A-Za-z./: ]{0,8}[:/@]{0,2}(sha256:|\\$\\{A|<|%s)?([0-9.e+]{0,9}|\\PC{0,6})[ \t:]?",
        ) {
            if let Err(error) = ImageReference::parse(&text) {
                let instead = error.instead();
                prop_assert!(instead.is_none_or(|instead| ImageReference::parse(instead).is_ok()));
                prop_assert!(error.to_string().len() < 1000);
            }
        }
    }
}
