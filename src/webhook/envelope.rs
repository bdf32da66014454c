//! The webhook's envelope.
