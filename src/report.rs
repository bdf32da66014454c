//! What is told to the operators: metrics and the log.

pub mod log;
pub mod metrics;
pub mod visible;
