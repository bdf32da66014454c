//! The laws, over the whole catalogue.
