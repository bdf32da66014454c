//! The view of the cluster, in good days and bad.
