//! What the registry client does, as metrics.

use std::time::Duration;

use crate::registry::Observer;
use crate::report::metrics::{Metrics, RegistryLabel, RegistryLabels};

impl Observer for Metrics {
    fn ended(&self, registry: &str, outcome: &'static str) {
        let registry = self.registry_label(registry);
        let labels = RegistryLabels { registry, outcome };
        self.registry_requests.get_or_create(&labels).inc();
    }

    fn took(&self, registry: &str, time: Duration) {
        let registry = self.registry_label(registry);
        let seconds = self
            .registry_seconds
            .get_or_create(&RegistryLabel { registry });
        seconds.observe(time.as_secs_f64());
    }

    fn looked_up(&self, is_hit: bool) {
        let counter = if is_hit {
            &self.registry_cache_hits
        } else {
            &self.registry_cache_misses
        };
        counter.inc();
    }

    fn readable(&self, registry: &str, has_read: bool) {
        let registry = self.registry_label(registry);
        let gauge = self
            .registry_readable
            .get_or_create(&RegistryLabel { registry });
        // What was readable once stays so.
        if has_read {
            gauge.set(1);
        }
    }

    fn left_alone(&self, host: &str, is_left_alone: bool) {
        let registry = self.registry_label(host);
        let gauge = self
            .registry_left_alone
            .get_or_create(&RegistryLabel { registry });
        gauge.set(is_left_alone.into());
    }

    fn remaining(&self, host: &str, requests: u32) {
        let registry = self.registry_label(host);
        let gauge = self
            .registry_ratelimit_remaining
            .get_or_create(&RegistryLabel { registry });
        gauge.set(requests.into());
    }
}
