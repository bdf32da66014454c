//! `forestall check`.
