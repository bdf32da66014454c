//! Certificates, and how they are replaced.
