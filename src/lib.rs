//! Forestall: an admission webhook that stops production incidents before they happen.
//!
//! ```text
//! AdmissionReview ─envelope─► Review ─questions─► Questions ──Lookup─► Evidence
//!                                │                                       │
//!                                └──────────────► guardrails judge ◄─────┘
//!                                                      │ Findings, abstentions
//!                                               verdict::weigh ◄── modes, exemptions
//!                                                      │ Verdict
//!                      AdmissionReview ◄─answer────────┼──────► reports (metrics, log, Events)
//! ```
//!
//! No arrow turns back. Guardrails are pure: they ask questions before, and judge on the evidence
//! after. Only [`lookup`] and [`report`] touch the world, only [`verdict`] knows modes, and only
//! [`webhook`] knows the API's shapes. The webhook, the leader's [`background`] judgement and
//! `forestall check` are three doors to one engine, the [`guard`]; the first two go through [`judging`], which
//! bounds what it may take. Beside them, [`certificates`] keeps what the webhook serves by [`tls`], and
//! [`leader`] says who does so.
//!
//! The way through: `main` > `cli/serve` > `webhook/handler` > `judging` > `guard` >
//! `rules/missing_image` > `verdict` > `webhook/answer` > `report`.

// What must stay pure is held to it by clippy.toml: no clock, file, environment, socket or task.
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod config;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod duration;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod evidence;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod image;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod manifest;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod objects;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
mod placeholder;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod quantity;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod review;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod rules;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod tree;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod unknown;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod verdict;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod yaml_file;

pub mod admin;
pub mod background;
pub mod certificates;
pub mod cli;
pub mod guard;
pub mod judging;
pub mod leader;
pub mod lookup;
pub mod object_name;
pub mod registry;
pub mod report;
pub mod tls;
pub mod webhook;
