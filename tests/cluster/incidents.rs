//! The incidents of a real team, at a real API server.
