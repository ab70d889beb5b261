//! How long a loop works for each event that it is told of.
//!
//! Measured from one look at the selector to the next, with the times that the loop knows in any
//! case. A look at which work is left over from the one before does not end a measurement, since
//! one event may take several iterations.

use std::cell::Cell;

use crate::clock::Nanos;

/// A measurement ends after this many events even if the loop always has work left.
const MOST_EVENTS: usize = 64;

/// The pace of one loop.
#[derive(Debug, Default)]
pub struct Pace {
    /// The time at which the measurement began.
    since: Cell<Nanos>,
    /// The number of events since then.
    events: Cell<usize>,
    each: Cell<Nanos>,
}

impl Pace {
    /// Nanoseconds for each event in the last measurement; 0 before the first one has ended.
    #[inline]
    pub fn each(&self) -> Nanos {
        self.each.get()
    }

    /// The loop has nothing left to do and is about to wait. `now` is asked only if there were
    /// several events: for one, reading the clock would cost too much.
    #[inline]
    pub fn pause(&self, now: impl FnOnce() -> Nanos) {
        if self.events.get() > 1 {
            self.note(now());
        }
        self.events.set(0);
    }

    /// The loop has looked at the selector at the time `now`, and `events` events are new.
    /// `has_work` says whether work was left from earlier events.
    #[inline]
    pub fn go_on(&self, now: Nanos, events: usize, has_work: bool) {
        if !has_work || self.events.get() >= MOST_EVENTS {
            self.note(now);
        }
        if self.events.get() == 0 {
            self.since.set(now);
        }
        self.events.set(self.events.get().saturating_add(events));
    }

    fn note(&self, now: Nanos) {
        let events = self.events.replace(0);
        if events > 0 {
            let took = now.saturating_sub(self.since.get());
            self.each.set(took / events as Nanos);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_shared_by_the_events_between_two_looks() {
        let pace = Pace::default();
        assert_eq!(pace.each(), 0);
        pace.go_on(1_000, 10, false);
        assert_eq!(pace.each(), 0);
        pace.go_on(31_000, 5, false);
        assert_eq!(pace.each(), 3_000);
        pace.go_on(41_000, 0, false);
        assert_eq!(pace.each(), 2_000);
        // No event has come, so nothing is known.
        pace.go_on(941_000, 3, false);
        assert_eq!(pace.each(), 2_000);
        pace.go_on(944_000, 0, false);
        assert_eq!(pace.each(), 1_000);
    }

    #[test]
    fn waiting_does_not_count() {
        let pace = Pace::default();
        pace.go_on(0, 4, false);
        pace.pause(|| 8_000);
        assert_eq!(pace.each(), 2_000);
        pace.go_on(1_000_000, 1, false);
        pace.pause(|| unreachable!("one event alone is not measured"));
        pace.go_on(2_000_000, 2, false);
        assert_eq!(pace.each(), 2_000);
        pace.pause(|| 2_002_000);
        assert_eq!(pace.each(), 1_000);
    }

    #[test]
    fn work_left_over_belongs_to_the_same_measurement() {
        let pace = Pace::default();
        pace.go_on(0, 10, false);
        pace.go_on(10_000, 10, true);
        assert_eq!(pace.each(), 0);
        pace.go_on(40_000, 0, false);
        assert_eq!(pace.each(), 2_000);
    }

    #[test]
    fn a_loop_that_is_never_done_has_a_pace() {
        let pace = Pace::default();
        for look in 0..=MOST_EVENTS as Nanos {
            pace.go_on(look * 500, 1, true);
        }
        assert_eq!(pace.each(), 500);
    }
}
