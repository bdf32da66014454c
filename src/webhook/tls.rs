//! The webhook's tls.
