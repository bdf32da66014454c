//! The webhook and the check command agree.
