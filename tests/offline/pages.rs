//! The cases of docs/rules, run.
