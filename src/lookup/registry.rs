//! The registry client.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::evidence::{ImageState, Unknown};
use crate::review::image::ImageReference;

/// How a registry is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HostSettings {
    /// The address that is asked instead of the registry, such as `http://127.0.0.1:5000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

/// Asks registries.
#[derive(Debug)]
pub struct RegistryClient {}

impl RegistryClient {
    /// Whether a node could pull this image. What does not arrive by the deadline is unknown.
    pub async fn probe(
        &self,
        _image: &ImageReference,
        _by: Instant,
    ) -> Result<ImageState, Unknown> {
        unimplemented!()
    }
}
