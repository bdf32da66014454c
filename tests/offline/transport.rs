//! The port: whatever bytes arrive, and whenever.
