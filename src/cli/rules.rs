//! `forestall rules`.
