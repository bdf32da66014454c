//! The webhook's server.
