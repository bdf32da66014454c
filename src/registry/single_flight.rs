//! What goes on behind an answer, when nobody waits for it: each of it once at a time.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Asked;
use super::content::Pinned;

/// Something that is found out for the next review.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Flight {
    /// Whether an image is still there.
    Image(Asked),
    /// The configuration of an image.
    Config(Pinned),
}

/// All that is under way.
#[derive(Debug, Default)]
pub(super) struct SingleFlight(Mutex<HashSet<Flight>>);

/// One that is under way until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay {
    single_flight: Arc<SingleFlight>,
    flight: Flight,
}

// === impl SingleFlight ===

impl SingleFlight {
    /// Begins an flight, if it is not under way.
    pub(super) fn begin(self: &Arc<Self>, flight: Flight) -> Option<UnderWay> {
        self.lock().insert(flight.clone()).then(|| UnderWay {
            single_flight: Arc::clone(self),
            flight,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Flight>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl UnderWay ===

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.single_flight.lock().remove(&self.flight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageReference;

    #[test]
    fn an_errand_is_begun_again_when_it_has_ended() {
        let single_flight = Arc::new(SingleFlight::default());
        let to = |digest: &str| {
            single_flight.begin(Flight::Config(Pinned {
                repository: ImageReference::parse("nginx").unwrap().repository,
                digest: digest.to_owned(),
            }))
        };
        let first = to("sha256:1");
        assert!(first.is_some() && to("sha256:1").is_none());
        assert!(to("sha256:2").is_some());
        drop(first);
        assert!(to("sha256:1").is_some());
    }
}
