//! The registry client against real and hostile registries.
