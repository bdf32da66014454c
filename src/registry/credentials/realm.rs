//! Which token server may have a registry's credentials.
//!
//! A registry names its token server itself, so a hostile one, or one that was taken over, would
//! name its own (CVE-2026-33540 of distribution, CVE-2026-48978 of oras-go).

use reqwest::Url;

/// Whether the credentials for a registry may be sent to a token server: it is the same host, or
/// belongs to the same owner, or the operator names it.
pub(in super::super) fn may_have(registry: &Url, token_hosts: &[String], realm: &Url) -> bool {
    let (Some(own), Some(host)) = (registry.host_str(), realm.host_str()) else {
        return false;
    };
    if realm.scheme() != "https" && realm.scheme() != registry.scheme() {
        return false;
    }
    own == host
        || is_same_owner(own, host)
        || token_hosts.iter().any(|named| is_named(named, realm))
}

/// Whether two names lie below the same one that somebody can register.
fn is_same_owner(one: &str, other: &str) -> bool {
    // An address is no name: to the list, 10.0.0.1 and 192.0.0.1 would lie below `0.1`.
    let is_name = |host: &str| {
        let last = host.trim_end_matches('.').rsplit('.').next();
        last.is_some_and(|label| label.starts_with(|char: char| char.is_ascii_alphabetic()))
    };
    let owner = |host: &'_ str| psl::domain_str(host).map(ToOwned::to_owned);
    is_name(one) && is_name(other) && owner(one).is_some() && owner(one) == owner(other)
}

/// Whether the operator names this host; a name without a port is for the scheme's own.
fn is_named(named: &str, realm: &Url) -> bool {
    let named = Url::parse(&format!("{}://{named}", realm.scheme()));
    named.is_ok_and(|named| named.origin() == realm.origin())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_case_77_and_78_only_the_registrys_owner_gets_its_credentials() {
        let named = ["tokens.test".to_owned(), "127.0.0.1:5001".to_owned()];
        for (registry, realm, may) in [
            (
                "https://registry-1.docker.io",
                "https://auth.docker.io/token",
                true,
            ),
            (
                "https://registry.gitlab.com",
                "https://gitlab.com/jwt/auth",
                true,
            ),
            (
                "https://a.azurecr.io",
                "https://a.azurecr.io/oauth2/token",
                true,
            ),
            // Everybody can have a name below these.
            ("https://a.github.io", "https://evil.github.io/", false),
            ("https://a.co.uk", "https://evil.co.uk/", false),
            (
                "https://registry.corp",
                "https://registry.corp:8443/token",
                true,
            ),
            (
                "https://registry.corp",
                "https://auth.registry.corp/token",
                true,
            ),
            (
                "https://registry.example.com",
                "https://evil.test/token",
                false,
            ),
            (
                "https://registry.example.com",
                "https://registry.example.com.evil.test/",
                false,
            ),
            (
                "https://registry.example.com",
                "http://registry.example.com/token",
                false,
            ),
            (
                "http://registry.example.com",
                "http://registry.example.com/token",
                true,
            ),
            (
                "http://registry.example.com",
                "https://auth.example.com/token",
                true,
            ),
            ("https://10.0.0.1", "https://10.0.0.1:444/", true),
            ("https://10.0.0.1", "https://192.0.0.1/", false),
            ("https://[::1]", "https://[::2]/", false),
            ("https://localhost", "https://localhost/", true),
            ("https://a.localhost", "https://b.localhost/", false),
            ("https://a.test", "https://tokens.test/t", true),
            ("https://a.test", "https://tokens.test:444/t", false),
            ("http://127.0.0.2:5000", "http://127.0.0.1:5001/t", true),
            ("https://127.0.0.2:5000", "http://127.0.0.1:5001/t", false),
        ] {
            let url = |text: &str| Url::parse(text).unwrap();
            assert_eq!(
                may_have(&url(registry), &named, &url(realm)),
                may,
                "{registry} {realm}"
            );
        }
    }
}
