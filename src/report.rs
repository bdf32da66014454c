//! What is told to the operators: metrics, the log, and Events.

pub mod events;
pub mod log;
pub mod metrics;
pub mod visible;
