//! The tags of a repository: for the nearest ones, and to see whether the registry contradicts
//! itself.

use std::collections::BTreeSet;

use reqwest::header::LINK;
use reqwest::{Method, Response, Url};
use serde::{Deserialize, Deserializer};

use super::error_body::{self, is_about_repository};
use super::probe_error::ProbeError;
use super::session::Session;
use super::transport::{MOST_REDIRECTS, body, is_page};
use crate::image::is_tag;

/// Pages that are asked for.
pub(super) const MOST_PAGES: usize = 5;
/// Tags of one page; ECR refuses to give more (go-containerregistry, `defaultPageSize`).
const PAGE: &str = "1000";
/// Bytes of one page: registries without pages give all tags at once.
const LONGEST_PAGE: usize = 2 * 1024 * 1024;
/// Tags that are kept of a repository.
const MOST_TAGS: usize = 20_000;

/// What a registry says of the tags of a repository.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tags {
    /// In order, each once. Not all of them where there are many.
    pub(super) names: Vec<String>,
    /// Whether the wanted one is among them.
    pub(super) has_wanted: bool,
    /// Whether the registry says that there is no such repository.
    pub(super) is_unknown_repository: bool,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    tags: PageTags<'a>,
}

/// The tags of a page, without what is none.
struct PageTags<'a>(Vec<&'a str>);

/// Lists the tags of a repository, as far as the registry lets us and the time reaches.
///
/// # Errors
/// A registry that fails over this repository may have failed before as well: its 404 is no proof.
pub(super) async fn list(
    session: &Session<'_>,
    wanted: &str,
    most_pages: usize,
) -> Result<Tags, ProbeError> {
    let first = first_page(session);
    let mut next = Some(first.clone());
    let mut asked = BTreeSet::new();
    let mut tags = Tags::default();
    while let Some(url) = next.take() {
        let Ok(response) = session.ask(Method::GET, &url, MOST_REDIRECTS).await else {
            break;
        };
        match response.status().as_u16() {
            200 if !is_page(response.headers()) => {}
            status @ 500.. => return Err(ProbeError::Status(status)),
            404 if asked.is_empty() => {
                let body = body(response, error_body::LONGEST, session.by).await;
                tags.is_unknown_repository = body.is_ok_and(|body| is_about_repository(&body));
                break;
            }
            _ => break,
        }
        let follow = following(&response, &first);
        let Ok(body) = body(response, LONGEST_PAGE, session.by).await else {
            break;
        };
        let Ok(page) = serde_json::from_slice::<Page<'_>>(&body) else {
            break;
        };
        tags.add(page.tags.0, wanted);
        asked.insert(url);
        let is_last = asked.len() + 1 == most_pages;
        next = follow
            // The pages are in order, so the last one is better spent near what was wanted.
            .map(|url| if is_last { near(&first, wanted) } else { url })
            .filter(|url| asked.len() < most_pages && !asked.contains(url));
    }
    tags.names.sort_unstable();
    tags.names.dedup();
    tags.names.shrink_to_fit();
    Ok(tags)
}

fn first_page(session: &Session<'_>) -> Url {
    let mut url = session.url("tags/list");
    url.query_pairs_mut().append_pair("n", PAGE);
    url
}

/// The page that begins a little before the wanted tag: `last=v2.5` for `v2.56.1`.
fn near(first: &Url, wanted: &str) -> Url {
    let mut url = first.clone();
    url.query_pairs_mut().append_pair("last", shortened(wanted));
    url
}

/// What tags near this one begin with. A tag is ASCII, so it can be cut anywhere.
fn shortened(tag: &str) -> &str {
    match tag.rfind('.') {
        Some(dot) if dot > 1 => &tag[..dot - 1],
        _ => &tag[..tag.len() / 2],
    }
}

/// The next page, if the registry names one. It must be of the same list on the same host: else a
/// registry could send us anywhere.
fn following(response: &Response, first: &Url) -> Option<Url> {
    let header = response.headers().get(LINK)?.to_str().ok()?;
    let target = next_link(header)?;
    let url = response.url().join(target).ok()?;
    let is_same = url.origin() == first.origin()
        && url.path() == first.path()
        && url.username().is_empty()
        && url.password().is_none();
    is_same.then_some(url)
}

/// The target of `<…>; rel="next"` among the links of a header (RFC 8288).
fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    loop {
        let (_, after) = rest.split_once('<')?;
        let (target, after) = after.split_once('>')?;
        let end = after.find('<').unwrap_or(after.len());
        let is_next = after[..end].split([';', ',']).any(|parameter| {
            let parameter = parameter.trim();
            let value = parameter
                .get(..4)
                .filter(|name| name.eq_ignore_ascii_case("rel="))
                .map(|name| parameter[name.len()..].trim_matches('"'));
            value.is_some_and(|value| value.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(target);
        }
        rest = &after[end..];
    }
}

// === impl Tags ===

impl Tags {
    /// Adds a page. Where there are too many, those near the wanted one are kept.
    fn add(&mut self, page: Vec<&str>, wanted: &str) {
        self.has_wanted |= page.contains(&wanted);
        let start = shortened(wanted);
        let (near, others): (Vec<_>, Vec<_>) =
            page.into_iter().partition(|tag| tag.starts_with(start));
        let room = MOST_TAGS.saturating_sub(near.len());
        self.names.truncate(room);
        let added = near.into_iter().chain(others).map(ToOwned::to_owned);
        self.names.extend(added.take(MOST_TAGS - self.names.len()));
    }
}

// === impl PageTags ===

impl<'de: 'a, 'a> Deserialize<'de> for PageTags<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tags: Option<Vec<&str>> = Option::deserialize(deserializer)?;
        let mut tags = tags.unwrap_or_default();
        tags.retain(|tag| is_tag(tag));
        Ok(Self(tags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(json: &str) -> Option<Vec<&str>> {
        let page: Page<'_> = serde_json::from_str(json).ok()?;
        Some(page.tags.0)
    }

    #[test]
    fn registry_case_90_no_tags_may_be_null() {
        assert_eq!(tags(r#"{"name":"a","tags":null}"#), Some(Vec::new()));
        assert_eq!(tags(r#"{"name":"a"}"#), Some(Vec::new()));
        assert_eq!(tags(r#"{"tags":["b","a"]}"#).unwrap(), ["b", "a"]);
        assert_eq!(tags(r#"{"tags":"a"}"#), None);
        assert_eq!(tags(r#"{"tags":[5]}"#), None);
        assert_eq!(tags("5"), None);
    }

    #[test]
    fn what_is_no_tag_is_left_out() {
        let hostile = r#"{"tags":["v1","","<script>","a b","-v","тег","v2"]}"#;
        assert_eq!(tags(hostile).unwrap(), ["v1", "v2"]);
    }

    #[test]
    fn registry_case_95_of_too_many_tags_those_near_the_wanted_one_are_kept() {
        let many: Vec<String> = (0..MOST_TAGS).map(|index| format!("a{index}")).collect();
        let page = |tags: &[&'static str]| -> Vec<&str> {
            many.iter()
                .map(String::as_str)
                .chain(tags.iter().copied())
                .collect()
        };
        let mut tags = Tags::default();
        tags.add(page(&[]), "v2.56.1");
        tags.add(page(&["v2.55.1", "v2.54.0", "v3.0.0"]), "v2.56.1");
        assert_eq!(tags.names.len(), MOST_TAGS);
        assert!(tags.names.iter().any(|tag| tag == "v2.55.1"));
        assert!(tags.names.iter().any(|tag| tag == "v2.54.0"));
        assert!(!tags.has_wanted);
        tags.add(page(&["v2.56.1"]), "v2.56.1");
        assert!(tags.has_wanted);
    }

    #[test]
    fn the_next_page_is_found_among_links() {
        for (header, target) in [
            (
                "</v2/a/tags/list?last=b&n=2>; rel=\"next\"",
                Some("/v2/a/tags/list?last=b&n=2"),
            ),
            ("<x>; rel=next", Some("x")),
            ("<x>; REL=\"NEXT\"; title=\"t\"", Some("x")),
            ("<x>; rel=\"prev\", <y>; rel=\"next\"", Some("y")),
            ("<x>; rel=\"prev\"", None),
            ("<x>", None),
            ("x; rel=\"next\"", None),
            ("<x; rel=\"next\"", None),
            ("", None),
            ("<a>;é", None),
        ] {
            assert_eq!(next_link(header), target, "{header}");
        }
    }

    #[test]
    fn the_page_near_a_tag_begins_before_it() {
        for (tag, last) in [
            ("v2.56.1", "v2.5"),
            ("1.25.4-alpnie", "1.2"),
            ("latset", "lat"),
            ("v9", "v"),
            ("1", ""),
            ("a.b", "a"),
        ] {
            assert_eq!(shortened(tag), last, "{tag}");
            assert!(last < tag);
        }
    }
}
