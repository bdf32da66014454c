//! Handshakes that failed, told without letting a port scanner fill the log.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::AlertDescription;
use tokio::time::Instant;

use crate::report::metrics::Metrics;

/// Each address is named once in this time.
const WINDOW: Duration = Duration::from_mins(1);

/// So many addresses are named in it, which also bounds the memory.
const MOST_NAMED: usize = 20;

/// Counts them, and says some of them.
pub(super) struct Handshakes {
    metrics: Option<Arc<Metrics>>,
    window: Mutex<Window>,
}

struct Window {
    began: Instant,
    named: BTreeSet<IpAddr>,
    more: u64,
}

// === impl Handshakes ===

impl Handshakes {
    pub(super) fn new(metrics: Option<Arc<Metrics>>) -> Self {
        Self {
            metrics,
            window: Mutex::new(Window::new()),
        }
    }

    /// A handshake failed.
    pub(super) fn failed(&self, peer: SocketAddr, error: &io::Error) {
        if let Some(metrics) = &self.metrics {
            metrics.handshake_failures.inc();
        }
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.elapsed() >= WINDOW {
            let before = std::mem::replace(&mut *window, Window::new());
            if before.more > 0 {
                tracing::warn!(
                    more = before.more,
                    "more TLS handshakes failed before this one"
                );
            }
        }
        if window.names(peer.ip()) {
            tracing::warn!(%peer, "TLS handshake with {peer} failed: {}", reason(error));
        }
    }
}

// === impl Window ===

impl Window {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            named: BTreeSet::new(),
            more: 0,
        }
    }

    /// Whether to name this address now.
    fn names(&mut self, address: IpAddr) -> bool {
        let is_named = self.named.len() < MOST_NAMED && self.named.insert(address);
        self.more += u64::from(!is_named);
        is_named
    }
}

/// What failed, and where it has a cure, the cure.
fn reason(error: &io::Error) -> String {
    let cause = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidMessage(_)) => {
            format!("{error}; it does not speak TLS: use https")
        }
        Some(rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired,
        )) => format!(
            "{error}; it does not accept the certificate: its caBundle must hold the issuer of \
             the certificate, and the certificate the name that it calls"
        ),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_named_once_and_a_scanner_cannot_fill_the_log() {
        let mut window = Window::new();
        let address = |last: u8| IpAddr::from([127, 0, 0, last]);
        assert!(window.names(address(1)));
        assert!(!window.names(address(1)));
        let named = (0..=255)
            .filter(|last| window.names(address(*last)))
            .count();
        assert_eq!(named, MOST_NAMED - 1);
        assert_eq!(window.more, 1 + 256 - 19);
    }

    #[test]
    fn a_certificate_that_is_not_trusted_names_the_cure() {
        let alert = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
        let error = io::Error::new(io::ErrorKind::InvalidData, alert);
        assert!(
            reason(&error).contains("its caBundle must hold"),
            "{}",
            reason(&error)
        );
    }
}
