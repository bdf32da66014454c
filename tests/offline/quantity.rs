//! Quantities against the Go library.
