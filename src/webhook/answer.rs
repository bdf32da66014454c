//! The webhook's answer.
