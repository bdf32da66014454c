//! Kubernetes quantities, such as `512Mi`.
use serde_json::Value;

/// A quantity of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i128);

/// Why a text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct QuantityError(String);

impl Quantity {
    /// Reads it.
    pub fn parse(_text: &str) -> Result<Self, QuantityError> {
        unimplemented!()
    }
    /// Reads a JSON string or number.
    pub fn from_json(_value: &Value) -> Result<Self, QuantityError> {
        unimplemented!()
    }
    /// Whole bytes, rounded away from zero as Kubernetes does.
    #[must_use]
    pub fn bytes(&self) -> i128 {
        self.0
    }
}

/// `512Mi` for 536870912.
#[must_use]
pub fn display_bytes(_bytes: u64) -> String {
    unimplemented!()
}
