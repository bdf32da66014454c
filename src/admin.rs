//! The port for operators: /livez, /readyz, /metrics. Plain HTTP, nothing to change here.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What must be true before requests may come.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<BTreeMap<&'static str, bool>>);

impl Readiness {
    /// All of these are unmet at first.
    #[must_use]
    pub fn waiting_for(conditions: &[&'static str]) -> Self {
        Self(Mutex::new(
            conditions.iter().map(|name| (*name, false)).collect(),
        ))
    }

    /// Says whether a condition is met now.
    pub fn set(&self, condition: &'static str, met: bool) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(condition, met);
    }

    /// The conditions that are not met.
    #[must_use]
    pub fn unmet(&self) -> Vec<&'static str> {
        let conditions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        conditions
            .iter()
            .filter(|(_, met)| !**met)
            .map(|(name, _)| *name)
            .collect()
    }
}
