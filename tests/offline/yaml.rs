//! YAML against the Go library that kubectl uses.
