//! Patches apply and settle, for arbitrary objects.
