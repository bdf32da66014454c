//! What goes on behind an answer, when nobody waits for it: each of it once at a time.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Asked;
use super::content::Pinned;

/// Something that is found out for the next review.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Errand {
    /// Whether an image is still there.
    Image(Asked),
    /// The configuration of an image.
    Config(Pinned),
}

/// All that is under way.
#[derive(Debug, Default)]
pub(super) struct Errands(Mutex<HashSet<Errand>>);

/// One that is under way until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay {
    errands: Arc<Errands>,
    errand: Errand,
}

// === impl Errands ===

impl Errands {
    /// Begins an errand, if it is not under way.
    pub(super) fn begin(self: &Arc<Self>, errand: Errand) -> Option<UnderWay> {
        self.lock().insert(errand.clone()).then(|| UnderWay {
            errands: Arc::clone(self),
            errand,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Errand>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl UnderWay ===

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.errands.lock().remove(&self.errand);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageReference;

    #[test]
    fn an_errand_is_begun_again_when_it_has_ended() {
        let errands = Arc::new(Errands::default());
        let to = |digest: &str| {
            errands.begin(Errand::Config(Pinned {
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
