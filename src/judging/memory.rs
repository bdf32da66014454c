//! The memory that reviews in flight may take, and who has how much of it.
//!
//! Nobody waits for memory: what does not fit is turned away at once, because to wait would cost
//! every caller its timeout.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A review that takes more than this, in bytes, is a large one. The usual ones take a tenth of it.
const USUAL: usize = 1 << 20;

/// What all reviews in flight may take, in bytes.
#[derive(Debug)]
pub(crate) struct Budget {
    most: usize,
    taken: AtomicUsize,
    /// The part of `taken` that large reviews have.
    taken_by_large: AtomicUsize,
}

/// What one review has taken; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
    is_large: bool,
}

/// Why there is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Others have it now.
    Now,
    /// It is more than any review may take.
    Ever,
}

// === impl Budget ===

impl Budget {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            most: bytes,
            taken: AtomicUsize::new(0),
            taken_by_large: AtomicUsize::new(0),
        })
    }

    /// What large reviews may take together, so also what one may take at most. A quarter is left,
    /// so that they never keep the usual ones out.
    pub(crate) fn most_for_large(&self) -> usize {
        large_part(self.most)
    }

    /// A first share.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Result<Share, Denied> {
        let mut share = Share {
            budget: Arc::clone(self),
            bytes: 0,
            is_large: false,
        };
        share.grow(bytes).map(|()| share)
    }
}

/// The part of so many bytes that large reviews may take.
pub(crate) fn large_part(bytes: usize) -> usize {
    bytes / 4 * 3
}

// === impl Share ===

impl Share {
    /// Takes more.
    pub(crate) fn grow(&mut self, more: usize) -> Result<(), Denied> {
        let bytes = self.bytes.saturating_add(more);
        let (budget, most_for_large) = (&*self.budget, self.budget.most_for_large());
        if bytes > most_for_large {
            return Err(Denied::Ever);
        }
        let is_large = self.is_large || bytes > USUAL;
        let more_of_large = match (is_large, self.is_large) {
            (true, true) => more,
            (true, false) => bytes,
            _ => 0,
        };
        add(&budget.taken_by_large, more_of_large, most_for_large)?;
        if let Err(denied) = add(&budget.taken, more, budget.most) {
            budget.taken_by_large.fetch_sub(more_of_large, Relaxed);
            return Err(denied);
        }
        (self.bytes, self.is_large) = (bytes, is_large);
        Ok(())
    }

    /// Gives some of it back.
    pub(crate) fn shrink(&mut self, less: usize) {
        let less = less.min(self.bytes);
        self.bytes -= less;
        self.budget.taken.fetch_sub(less, Relaxed);
        if self.is_large {
            self.budget.taken_by_large.fetch_sub(less, Relaxed);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

fn add(taken: &AtomicUsize, more: usize, most: usize) -> Result<(), Denied> {
    if more == 0 {
        return Ok(());
    }
    let added = |taken: usize| taken.checked_add(more).filter(|sum| *sum <= most);
    match taken.fetch_update(Relaxed, Relaxed, added) {
        Ok(_) => Ok(()),
        Err(_) => Err(Denied::Now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: usize = 1 << 20;

    #[test]
    fn what_is_taken_is_given_back() {
        let budget = Budget::new(8 * MEBIBYTE);
        let mut share = budget.take(4 * MEBIBYTE).unwrap();
        share.grow(MEBIBYTE).unwrap();
        share.shrink(2 * MEBIBYTE);
        assert_eq!(budget.taken.load(Relaxed), 3 * MEBIBYTE);
        drop(share);
        assert_eq!(budget.taken.load(Relaxed), 0);
        assert_eq!(budget.taken_by_large.load(Relaxed), 0);
    }

    #[test]
    fn large_reviews_leave_a_quarter_to_usual_ones() {
        let budget = Budget::new(8 * MEBIBYTE);
        let _large = budget.take(6 * MEBIBYTE).unwrap();
        assert_eq!(budget.take(2 * MEBIBYTE).unwrap_err(), Denied::Now);
        let usual: Vec<_> = (0..4).map(|_| budget.take(MEBIBYTE / 2).unwrap()).collect();
        assert_eq!(budget.take(1).unwrap_err(), Denied::Now);
        drop(usual);
        budget.take(MEBIBYTE / 2).unwrap();
    }

    #[test]
    fn a_usual_review_that_becomes_large_counts_as_a_whole() {
        let budget = Budget::new(8 * MEBIBYTE);
        let mut share = budget.take(MEBIBYTE).unwrap();
        share.grow(4 * MEBIBYTE).unwrap();
        assert_eq!(budget.taken_by_large.load(Relaxed), 5 * MEBIBYTE);
        assert_eq!(share.grow(2 * MEBIBYTE).unwrap_err(), Denied::Ever);
        let _other = budget.take(MEBIBYTE).unwrap();
        let _another = budget.take(MEBIBYTE).unwrap();
        let _last = budget.take(MEBIBYTE).unwrap();
        assert_eq!(share.grow(1).unwrap_err(), Denied::Now);
        assert_eq!(budget.taken_by_large.load(Relaxed), 5 * MEBIBYTE);
    }
}
