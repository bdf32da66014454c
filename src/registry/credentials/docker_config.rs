//! Docker's configuration file, read as kubelet reads it (Kubernetes 1.37, pkg/credentialprovider
//! `config.go`): what it skips is skipped here, and what it fails over fails here.
//!
//! Only `username`, `password`, `email` and `auth` play a part. `identitytoken`, `registrytoken`
//! and credential helpers are nothing to kubelet.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{Credential, Origin};

/// Go's base64 reads any bits in what a last digit leaves over.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
const PADDED: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    LENIENT.with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);
const UNPADDED: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    LENIENT.with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// The credentials of a file, by the place for which they are written, such as `quay.io/core`.
#[derive(Clone, Debug, Default)]
pub struct DockerConfig(pub(super) BTreeMap<String, Arc<Credential>>);

/// Why kubelet cannot use a file. It shows nothing of what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// It is no JSON.
    #[error("it is not JSON")]
    NotJson,
    /// A value is of another type than kubelet reads.
    #[error("a value in it has the wrong type: write {{\"auths\": {{HOST: {{\"auth\": TEXT}}}}}}")]
    WrongType,
    /// An `auth` does not hold what it must.
    #[error("an \"auth\" in it is not the base64 of USERNAME:PASSWORD")]
    Auth,
}

/// A field of text. Go reads any bytes, and puts a sign of its own for what is no character.
struct Text(Zeroizing<String>);

/// An object of JSON whose fields are read one by one. Go takes them in any number: the last holds.
struct Object<T>(T);

trait Fields: Default {
    /// Reads one field, or skips it.
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
}

/// The file `config.json`: entries under `auths`.
#[derive(Default)]
struct File(Entries);

#[derive(Default)]
struct Entries {
    pairs: BTreeMap<String, Pair>,
    /// What is wrong with one of them, even where a later one takes its place.
    problem: Option<Malformed>,
}

/// User name and password.
type Pair = (Zeroizing<String>, Zeroizing<String>);

#[derive(Default)]
struct Entry {
    username: Option<Text>,
    password: Option<Text>,
    auth: Option<Text>,
}

/// Headers for the client: not used, but kubelet fails where one is no text.
#[derive(Default)]
struct Headers;

// === impl DockerConfig ===

impl DockerConfig {
    /// Reads `.dockerconfigjson`, or the file that `docker login` writes.
    ///
    /// # Errors
    /// What kubelet fails over.
    pub fn parse(bytes: &[u8], origin: &Origin) -> Result<Self, Malformed> {
        let File(entries) = read(bytes)?;
        Self::of(entries, origin)
    }

    /// Reads `.dockercfg`, the format before it: the entries alone.
    ///
    /// # Errors
    /// What kubelet fails over.
    pub fn parse_legacy(bytes: &[u8], origin: &Origin) -> Result<Self, Malformed> {
        Self::of(read(bytes)?, origin)
    }

    fn of(Entries { pairs, problem }: Entries, origin: &Origin) -> Result<Self, Malformed> {
        if let Some(problem) = problem {
            return Err(problem);
        }
        let credentials = pairs.into_iter().map(|(key, (username, password))| {
            let credential = Credential::new(username, password, origin.clone());
            (key, Arc::new(credential))
        });
        Ok(Self(credentials.collect()))
    }
}

fn read<T: Fields>(bytes: &[u8]) -> Result<T, Malformed> {
    // Reading texts as bytes, below, lets control characters pass, which JSON does not.
    serde_json::from_slice::<IgnoredAny>(bytes).map_err(|_| Malformed::NotJson)?;
    let read: Result<Option<Object<T>>, _> = serde_json::from_slice(bytes);
    let object = read.map_err(|_| Malformed::WrongType)?;
    Ok(object.map(|Object(fields)| fields).unwrap_or_default())
}

// === impl Entry ===

impl Entry {
    /// User name and password; `auth` holds over the fields for them.
    fn pair(self) -> Result<Pair, Malformed> {
        let text = |field: Option<Text>| field.map(|Text(text)| text).unwrap_or_default();
        let auth = text(self.auth);
        if auth.is_empty() {
            return Ok((text(self.username), text(self.password)));
        }
        let engine = if auth.trim_end().ends_with('=') {
            PADDED
        } else {
            UNPADDED
        };
        // Go skips line ends wherever they stand.
        let digits = Zeroizing::new(auth.replace(['\r', '\n'], ""));
        let decoded = engine
            .decode(digits.as_bytes())
            .map_err(|_| Malformed::Auth)?;
        let decoded = Zeroizing::new(decoded);
        let decoded = Zeroizing::new(String::from_utf8_lossy(&decoded).into_owned());
        let (username, password) = decoded.split_once(':').ok_or(Malformed::Auth)?;
        Ok((
            Zeroizing::new(username.to_owned()),
            Zeroizing::new(password.to_owned()),
        ))
    }
}

impl Fields for Entry {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let field = match key.to_ascii_lowercase().as_str() {
            "username" => &mut self.username,
            "password" => &mut self.password,
            "auth" => &mut self.auth,
            // Not used, but kubelet fails where it is no text.
            "email" => return map.next_value::<Option<Text>>().map(drop),
            _ => return map.next_value::<IgnoredAny>().map(drop),
        };
        if let Some(text) = map.next_value()? {
            *field = Some(text);
        }
        Ok(())
    }
}

// === impl File ===

impl Fields for File {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key.to_ascii_lowercase().as_str() {
            "auths" => {
                let Self(all) = self;
                match map.next_value()? {
                    Some(Object(Entries { pairs, problem })) => {
                        all.pairs.extend(pairs);
                        all.problem = all.problem.or(problem);
                    }
                    None => all.pairs.clear(),
                }
                Ok(())
            }
            "httpheaders" => map.next_value::<Option<Object<Headers>>>().map(drop),
            _ => map.next_value::<IgnoredAny>().map(drop),
        }
    }
}

impl Fields for Entries {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let entry: Option<Object<Entry>> = map.next_value()?;
        let entry = entry.map(|Object(entry)| entry).unwrap_or_default();
        match entry.pair() {
            Ok(pair) => drop(self.pairs.insert(key.to_owned(), pair)),
            Err(problem) => self.problem = Some(problem),
        }
        Ok(())
    }
}

impl Fields for Headers {
    fn read<'de, A: MapAccess<'de>>(&mut self, _: &str, map: &mut A) -> Result<(), A::Error> {
        map.next_value::<Option<Text>>().map(drop)
    }
}

// === impl Object ===

impl<'de, T: Fields> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(T);
        impl<'de, T: Fields> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Object<T>, A::Error> {
                while let Some(Text(key)) = map.next_key()? {
                    self.0.read(&key, &mut map)?;
                }
                Ok(Object(self.0))
            }
        }
        deserializer.deserialize_map(ObjectVisitor(T::default()))
    }
}

// === impl Text ===

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl Visitor<'_> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Text, E> {
                let text = String::from_utf8_lossy(bytes).into_owned();
                Ok(Text(Zeroizing::new(text)))
            }
        }
        // As bytes, since a string of JSON may hold half a surrogate pair.
        deserializer.deserialize_bytes(TextVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(json: &str) -> Result<Vec<(String, String, String)>, Malformed> {
        let DockerConfig(entries) = DockerConfig::parse(json.as_bytes(), &Origin::Own)?;
        let names = |(key, credential): (String, Arc<Credential>)| {
            let (username, password) = (&credential.username, &credential.password);
            (key, username.to_string(), password.to_string())
        };
        Ok(entries.into_iter().map(names).collect())
    }

    fn entry(fields: &str) -> Result<(String, String), Malformed> {
        let names = names(&format!("{{\"auths\":{{\"a\":{fields}}}}}"))?;
        Ok((names[0].1.clone(), names[0].2.clone()))
    }

    #[test]
    fn auth_holds_over_user_name_and_password() {
        for (fields, username, password) in [
            (r#"{"username":"u","password":"p"}"#, "u", "p"),
            (r#"{"auth":"dTpw"}"#, "u", "p"),
            (r#"{"auth":"dTpw","username":"x","password":"y"}"#, "u", "p"),
            (r#"{"auth":"","username":"u","password":"p"}"#, "u", "p"),
            (r#"{"auth":"dTpwOnE="}"#, "u", "p:q"),
            (r#"{"auth":"dTpwOnE"}"#, "u", "p:q"),
            (r#"{"auth":"dTpw\nOnE=\n"}"#, "u", "p:q"),
            (r#"{"identitytoken":"x"}"#, "", ""),
            ("null", "", ""),
        ] {
            let expected = (username.to_owned(), password.to_owned());
            assert_eq!(entry(fields), Ok(expected), "{fields}");
        }
    }

    #[test]
    fn registry_case_52_what_kubelet_fails_over_is_malformed() {
        for (json, problem) in [
            ("", Malformed::NotJson),
            ("{\"auths\":", Malformed::NotJson),
            ("{} x", Malformed::NotJson),
            ("[]", Malformed::WrongType),
            ("5", Malformed::WrongType),
            (r#"{"auths":[]}"#, Malformed::WrongType),
            (r#"{"auths":{"a":"dTpw"}}"#, Malformed::WrongType),
            (r#"{"auths":{"a":{"username":5}}}"#, Malformed::WrongType),
            (r#"{"auths":{"a":{"email":[]}}}"#, Malformed::WrongType),
            (r#"{"HttpHeaders":{"a":5}}"#, Malformed::WrongType),
            (r#"{"auths":{"a":{"auth":"%"}}}"#, Malformed::Auth),
            (r#"{"auths":{"a":{"auth":"dTpw="}}}"#, Malformed::Auth),
            (r#"{"auths":{"a":{"auth":"dTpw "}}}"#, Malformed::Auth),
            // Only a user name.
            (r#"{"auths":{"a":{"auth":"dXU"}}}"#, Malformed::Auth),
        ] {
            assert_eq!(names(json).unwrap_err(), problem, "{json}");
        }
    }

    #[test]
    fn what_kubelet_does_not_read_may_be_anything() {
        for json in [
            "null",
            "{}",
            r#"{"auths":null,"credHelpers":5,"HttpHeaders":null}"#,
            r#"{"credsStore":"osxkeychain","x":1e999,"y":"\ud800"}"#,
        ] {
            assert_eq!(names(json), Ok(vec![]), "{json}");
        }
        let deep = format!("{{\"x\":{}1{}}}", "[".repeat(2000), "]".repeat(2000));
        assert_eq!(names(&deep), Ok(vec![]));
        let mixed = r#"{"AUTHS":{"b":{}},"auths":{"a":{"USERNAME":"u","userName":null}}}"#;
        let entry =
            |key: &str, username: &str| (key.to_owned(), username.to_owned(), String::new());
        assert_eq!(names(mixed), Ok(vec![entry("a", "u"), entry("b", "")]));
    }

    #[test]
    fn the_format_before_it_has_the_entries_alone() {
        let old = br#"{"https://index.docker.io/v1/":{"auth":"dTpw"}}"#;
        let DockerConfig(entries) = DockerConfig::parse_legacy(old, &Origin::Own).unwrap();
        assert_eq!(
            entries.keys().collect::<Vec<_>>(),
            ["https://index.docker.io/v1/"]
        );
        let new = br#"{"auths":{"a":{"auth":"dTpw"}}}"#;
        // `a` is a field that entries do not have.
        let DockerConfig(entries) = DockerConfig::parse_legacy(new, &Origin::Own).unwrap();
        assert_eq!(entries.keys().collect::<Vec<_>>(), ["auths"]);
    }
}
