//! Forestall.
