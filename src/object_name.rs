//! An object of the cluster by namespace and name, as flags have it.

use std::fmt;
use std::str::FromStr;

/// The longest name that any object has (Kubernetes, "Object Names and IDs": DNS subdomains).
const LONGEST: usize = 253;

/// A namespaced object, as `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// Where it lies.
    pub namespace: String,
    /// What it is called.
    pub name: String,
}

/// A text that names no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no object; write NAMESPACE/NAME, such as forestall/forestall")]
pub struct NoObjectName(String);

// === impl ObjectName ===

impl FromStr for ObjectName {
    type Err = NoObjectName;

    fn from_str(text: &str) -> Result<Self, NoObjectName> {
        let is_name = |part: &str| {
            let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
            !part.is_empty() && part.len() <= LONGEST && part.bytes().all(plain)
        };
        match text.split_once('/') {
            Some((namespace, name)) if is_name(namespace) && is_name(name) => Ok(Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(NoObjectName(text.to_owned())),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_named_by_namespace_and_name() {
        let name: ObjectName = "forestall/forestall-webhook.v1".parse().unwrap();
        assert_eq!(
            (&*name.namespace, &*name.name),
            ("forestall", "forestall-webhook.v1")
        );
        assert_eq!(name.to_string(), "forestall/forestall-webhook.v1");
        for odd in [
            "",
            "forestall",
            "/forestall",
            "forestall/",
            "a/b/c",
            "A/b",
            "a/b?c",
        ] {
            let error = odd.parse::<ObjectName>().unwrap_err().to_string();
            let expected = "names no object; write NAMESPACE/NAME, such as forestall/forestall";
            assert_eq!(error, format!("{odd:?} {expected}"));
        }
    }
}
