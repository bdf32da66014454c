//! The log: one line a review, never a body.
