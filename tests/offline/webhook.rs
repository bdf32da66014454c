//! The router: whatever reviews arrive.
