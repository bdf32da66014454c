//! `forestall serve`.
