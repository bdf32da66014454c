//! The webhook from a request to an answer, without a socket. The numbers are those of the fault
//! catalogue in docs/architecture.md.

mod deadlines;
mod envelopes;
mod images;
mod objects;
mod repairs;
mod requests;
pub mod support;
mod verdicts;
