//! The webhook's handler.
