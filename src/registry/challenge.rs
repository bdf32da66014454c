//! The `WWW-Authenticate` header: how a registry asks for a token (RFC 9110, section 11.6.1).

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// Headers that are read; a registry sends one or two.
const MOST_HEADERS: usize = 8;
/// Bytes that are read of each.
const LONGEST_HEADER: usize = 8 * 1024;

/// How a registry wants to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With a token.
    Bearer(Bearer),
    /// With user name and password.
    Basic,
}

/// A challenge of the scheme `Bearer`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bearer {
    /// The address of the token server.
    pub(super) realm: String,
    /// What the token server calls the registry.
    pub(super) service: Option<String>,
    /// What the token must be good for.
    pub(super) scope: Option<String>,
}

/// The first `Bearer` challenge with a realm, whatever stands beside it; else `Basic`. A node
/// chooses so, too (containerd, core/remotes/docker/auth `ParseAuthHeader`).
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut has_basic = false;
    let headers = headers.get_all(WWW_AUTHENTICATE).iter().take(MOST_HEADERS);
    let headers = headers.filter_map(|header| header.to_str().ok());
    for header in headers.filter(|header| header.len() <= LONGEST_HEADER) {
        match challenge_in(header) {
            Some(Challenge::Bearer(bearer)) => return Some(Challenge::Bearer(bearer)),
            Some(Challenge::Basic) => has_basic = true,
            None => {}
        }
    }
    has_basic.then_some(Challenge::Basic)
}

/// A header holds challenges, each a scheme and parameters, and commas stand between all of them;
/// so a word is a parameter if `=` follows, else the next scheme.
fn challenge_in(header: &str) -> Option<Challenge> {
    let mut rest = Cursor(header);
    let mut current: Option<Bearer> = None;
    let mut has_basic = false;
    while let Some(word) = rest.word() {
        if let Some(value) = rest.value() {
            let Some(bearer) = current.as_mut() else {
                continue;
            };
            match word.to_ascii_lowercase().as_str() {
                "realm" => bearer.realm = value,
                "service" => bearer.service = Some(value),
                "scope" => bearer.scope = Some(value),
                _ => {}
            }
        } else {
            if current
                .as_ref()
                .is_some_and(|bearer| !bearer.realm.is_empty())
            {
                break;
            }
            has_basic |= word.eq_ignore_ascii_case("basic");
            current = word.eq_ignore_ascii_case("bearer").then(Bearer::default);
        }
    }
    let bearer = current.filter(|bearer| !bearer.realm.is_empty());
    let basic = has_basic.then_some(Challenge::Basic);
    bearer.map(Challenge::Bearer).or(basic)
}

/// What is left of a header.
struct Cursor<'a>(&'a str);

// === impl Cursor ===

impl<'a> Cursor<'a> {
    /// The next word, past whatever separates words.
    fn word(&mut self) -> Option<&'a str> {
        let is_inside = |char: char| !char.is_whitespace() && !matches!(char, ',' | '=' | '"');
        let start = self.0.find(is_inside)?;
        let rest = &self.0[start..];
        let end = rest.find(|char| !is_inside(char)).unwrap_or(rest.len());
        self.0 = &rest[end..];
        Some(&rest[..end])
    }

    /// The value, if `=` is next.
    fn value(&mut self) -> Option<String> {
        let rest = self.0.trim_start().strip_prefix('=')?.trim_start();
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find([',', ' ', '\t']).unwrap_or(rest.len());
            self.0 = &rest[end..];
            return Some(rest[..end].to_owned());
        };
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    self.0 = &quoted[at + 1..];
                    return Some(value);
                }
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                _ => value.push(char),
            }
        }
        self.0 = "";
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    use super::*;

    fn read(headers: &[&str]) -> Option<Challenge> {
        let mut map = HeaderMap::new();
        for header in headers {
            map.append(WWW_AUTHENTICATE, HeaderValue::from_str(header).unwrap());
        }
        challenge(&map)
    }

    fn parse(headers: &[&str]) -> Option<Bearer> {
        match read(headers)? {
            Challenge::Bearer(bearer) => Some(bearer),
            Challenge::Basic => None,
        }
    }

    fn expected(realm: &str, service: Option<&str>, scope: Option<&str>) -> Bearer {
        Bearer {
            realm: realm.to_owned(),
            service: service.map(ToOwned::to_owned),
            scope: scope.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn a_challenge_of_docker_hub_is_read() {
        let header = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull,push""#;
        let scope = "repository:library/nginx:pull,push";
        assert_eq!(
            parse(&[header]).unwrap(),
            expected(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some(scope)
            )
        );
    }

    #[test]
    fn registry_case_45_bearer_is_found_among_other_challenges() {
        let wanted = expected("https://a/t", Some("s"), None);
        let bearer = r#"Bearer realm="https://a/t", service=s"#;
        for headers in [
            &["Negotiate", bearer][..],
            &[r#"Negotiate, Basic realm="x", bearer realm="https://a/t" , service="s""#],
            &[&format!(
                "{bearer}, Basic realm=\"https://b\", scope=\"no\""
            )],
            &["Negotiate abc==", bearer],
            &[&format!("Negotiate abc==, {bearer}")],
            &["Bearer error=\"no realm\"", bearer],
            &[r#"BEARER  realm = "https:\/\/a/t" ,, service="s""#],
        ] {
            assert_eq!(parse(headers).as_ref(), Some(&wanted), "{headers:?}");
        }
    }

    #[test]
    fn without_a_bearer_realm_there_is_no_challenge() {
        for header in [
            "",
            "Basic realm=\"x\"",
            "Bearer",
            "Bearer service=\"x\"",
            "realm=\"x\"",
            "Bearer realm=\"\"",
        ] {
            assert_eq!(parse(&[header]), None, "{header:?}");
        }
        assert_eq!(parse(&[]), None);
        let long = format!("Bearer realm=\"{}\"", "x".repeat(LONGEST_HEADER));
        assert_eq!(parse(&[&long]), None);
    }

    #[test]
    fn basic_is_taken_where_there_is_no_bearer() {
        for headers in [
            &[r#"Basic realm="x""#][..],
            &["basic"],
            &["Negotiate", r#"Basic realm="Bearer""#],
            &[r#"Bearer error="no realm", Basic realm="x""#],
            &[r#"Basic realm="x", charset="UTF-8", Digest nonce="y""#],
        ] {
            assert_eq!(read(headers), Some(Challenge::Basic), "{headers:?}");
        }
        for headers in [
            &["Negotiate"][..],
            &[r#"Digest realm="Basic""#],
            &["realm=basic"],
        ] {
            assert_eq!(read(headers), None, "{headers:?}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_a_panic(header in "\\PC{0,80}|[Bb]earer [a-z=\", \\\\]{0,60}") {
            challenge_in(&header);
        }
    }
}
