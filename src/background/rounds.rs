//! When what is judged again.

use std::time::Duration;

use tokio::time::Instant;

use super::Pace;

/// When what is judged again. A round may take several lists, where one is cut off.
#[derive(Debug)]
pub(super) struct Rounds {
    /// The number of the round.
    now: u32,
    /// The round in which everything was last to be judged.
    of_everything: u32,
    everything_at: Instant,
    open_at: Option<Instant>,
    pause: Duration,
    look_at: Instant,
}

// === impl Rounds ===

impl Rounds {
    /// The number of the round, from 1.
    pub(super) fn now(&self) -> u32 {
        self.now
    }

    pub(super) fn new(pace: Pace, now: Instant) -> Self {
        Self {
            now: 1,
            of_everything: 1,
            everything_at: now + pace.everything,
            open_at: None,
            pause: pace.unknown,
            look_at: now + pace.look,
        }
    }

    /// Whether something is due that was judged in that round, and left open or not.
    pub(super) fn is_due(&self, judged: u32, is_open: bool) -> bool {
        judged < self.of_everything || is_open && judged < self.now
    }

    /// Something was unknown that may be known later.
    pub(super) fn open(&mut self) {
        self.open_at.get_or_insert(Instant::now() + self.pause);
    }

    /// A round has ended. What is still open waits for longer and longer.
    pub(super) fn end(&mut self, pace: Pace, is_open: bool, now: Instant) {
        if is_open {
            self.open_at = Some(now + self.pause);
            self.pause = (self.pause * 2).min(pace.everything);
        } else {
            self.open_at = None;
            self.pause = pace.unknown;
        }
        if self.now == self.of_everything {
            self.everything_at = now + pace.everything;
        }
    }

    /// When to look what is due.
    pub(super) fn next(&self) -> Instant {
        let at = self.everything_at.min(self.look_at);
        self.open_at.map_or(at, |open_at| open_at.min(at))
    }

    /// Begins a round, where one is due.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        if self.everything_at <= now {
            self.begin_everything();
            return true;
        }
        let is_open = self.open_at.is_some_and(|at| at <= now);
        self.now += u32::from(is_open);
        is_open
    }

    /// Begins a round for everything.
    pub(super) fn begin_everything(&mut self) {
        self.now += 1;
        self.of_everything = self.now;
    }

    /// Whether it is time to look at the labels.
    pub(super) fn look(&mut self, pace: Pace, now: Instant) -> bool {
        let is_time = self.look_at <= now;
        if is_time {
            self.look_at = now + pace.look;
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_open_waits_longer_each_time() {
        let pace = Pace::default();
        let start = Instant::now();
        let mut rounds = Rounds::new(pace, start);
        let mut now = start + SECOND;
        rounds.end(pace, true, now);
        let mut pauses = Vec::new();
        for _ in 0..5 {
            let next = rounds.open_at.unwrap();
            assert!(rounds.begin(next) && !rounds.is_due(1, false));
            pauses.push((next - now).as_secs() / 60);
            now = next;
            rounds.end(pace, true, now);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16]);
        // Whatever is known then waits a minute again, should it be unknown once more.
        rounds.end(pace, false, now);
        assert_eq!((rounds.open_at, rounds.pause), (None, pace.unknown));
    }

    #[test]
    fn a_round_that_is_cut_off_goes_on_where_it_was() {
        let pace = Pace::default();
        let start = Instant::now();
        let mut rounds = Rounds::new(pace, start);
        rounds.end(pace, true, start);
        // Only what is open is due after a minute, and each of it once.
        assert!(!rounds.begin(start + SECOND));
        assert!(rounds.begin(start + pace.unknown));
        assert!(rounds.is_due(1, true) && !rounds.is_due(1, false));
        assert!(!rounds.is_due(2, true), "judged in this round already");
        rounds.end(pace, false, start + pace.unknown);
        // Everything is due after an hour.
        assert!(!rounds.begin(start + pace.unknown + SECOND));
        assert!(rounds.begin(start + pace.everything));
        assert!(rounds.is_due(2, false) && !rounds.is_due(3, false));
        rounds.end(pace, false, start + pace.everything + SECOND);
        assert!(!rounds.begin(start + pace.everything + 2 * SECOND));
    }
}
