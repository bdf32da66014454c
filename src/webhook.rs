//! The webhook: AdmissionReviews in, AdmissionReviews out.

pub mod answer;
pub mod envelope;
pub mod handler;
pub mod server;
pub mod tls;
