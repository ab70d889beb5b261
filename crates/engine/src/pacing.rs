//! When a loop looks at its clock and at its selector.
//!
//! An empty look at the selector costs as much as several short callbacks, and reading the clock
//! as much as a step. So with work queued the selector is looked at only after
//! [`ENTRIES_BETWEEN_POLLS`] entries or [`NANOS_BETWEEN_POLLS`] nanoseconds, and while entries are
//! short the clock is read only every [`ENTRIES_BETWEEN_LOOKS`] entries. With nothing queued, a
//! look that does not wait comes before the wait, since only the wait gives the interpreter's lock
//! up; where such looks have found nothing, most of them are left out.
//!
//! The decisions are pure: they need only counts and times that the loop has in any case. The loop
//! asks in this order:
//!
//! 1. [`may_run`](Pacing::may_run): may the next iteration run without looking at anything?
//! 2. If not, [`is_poll_due`](Pacing::is_poll_due), and with work queued
//!    [`may_go_on`](Pacing::may_go_on): is the clock enough, or must it be the selector?
//! 3. At the selector: [`begin_poll`](Pacing::begin_poll), then [`found`](Pacing::found) or
//!    [`waited`](Pacing::waited), then [`end_poll`](Pacing::end_poll).
//! 4. After either look, [`spend`](Pacing::spend).

use std::cell::Cell;

use crate::clock::Nanos;

/// With work queued, the selector is looked at after this many entries or earlier; those that may
/// run without a look at the clock may come on top.
pub const ENTRIES_BETWEEN_POLLS: usize = 256;

/// With work queued, the selector is looked at when a look at the clock shows that the last poll
/// is more than this many nanoseconds ago.
pub const NANOS_BETWEEN_POLLS: Nanos = 32_000;

/// While entries are short, this many may run between two looks at the clock.
pub const ENTRIES_BETWEEN_LOOKS: usize = 32;

/// Entries are short while one takes less than this many nanoseconds: 32 of them are then over
/// before a poll is due.
const SHORT: Nanos = NANOS_BETWEEN_POLLS / ENTRIES_BETWEEN_LOOKS as Nanos;

/// After this many fruitless polls in a row, the poll before a wait is left out.
const FRUITLESS: u32 = 8;

/// Every poll whose number is a multiple of this comes before its wait all the same, to notice when
/// such polls find something again.
const POLLS_BETWEEN_TRIES: u32 = 16;

/// The pacing of one loop.
#[derive(Debug, Default)]
pub struct Pacing {
    /// Number of the last poll.
    polls: Cell<u32>,
    /// Polls in a row that found nothing before the loop had to wait, and then at most one event.
    fruitless: Cell<u32>,
    /// Time of the last poll.
    polled: Cell<Nanos>,
    /// Entries that may run before the next poll, once those of `unlooked` have run.
    budget: Cell<usize>,
    /// Entries that may run before the next look at the clock.
    unlooked: Cell<usize>,
}

impl Pacing {
    /// The pacing of a new loop, whose first iteration polls.
    pub fn new() -> Pacing {
        Pacing::default()
    }

    /// Whether an iteration of `count` entries may run without a look at the clock or the
    /// selector. If so, the entries count as run. With nothing to run it may not: the loop has to
    /// wait.
    #[inline(always)]
    pub fn may_run(&self, count: usize) -> bool {
        let unlooked = self.unlooked.get();
        if count == 0 || count > unlooked {
            return false;
        }
        self.unlooked.set(unlooked - count);
        true
    }

    /// Whether an iteration of `count` entries that may not run without a look must poll, whatever
    /// the clock says.
    #[inline(always)]
    pub fn is_poll_due(&self, count: usize) -> bool {
        count == 0 || self.budget.get() == 0
    }

    /// Whether the iteration may run without a poll at the time `now`. If so, this also decides how
    /// many entries may run before the next look at the clock.
    #[inline(always)]
    pub fn may_go_on(&self, now: Nanos) -> bool {
        let since = now.wrapping_sub(self.polled.get());
        if since > NANOS_BETWEEN_POLLS {
            return false;
        }
        let budget = self.budget.get() + self.unlooked.get();
        let ran = ENTRIES_BETWEEN_POLLS.saturating_sub(budget) as Nanos;
        let is_short = since < ran.saturating_mul(SHORT);
        let unlooked = budget.min(if is_short { ENTRIES_BETWEEN_LOOKS } else { 0 });
        self.unlooked.set(unlooked);
        self.budget.set(budget - unlooked);
        true
    }

    /// Counts the `count` entries of an iteration that has looked at the clock or the selector.
    #[inline(always)]
    pub fn spend(&self, count: usize) {
        self.budget.set(self.budget.get().saturating_sub(count));
    }

    /// Begins a poll that may wait for `timeout` nanoseconds, without end for `None`. Returns
    /// whether to look without waiting first; if not, the loop waits at once.
    #[inline(always)]
    pub fn begin_poll(&self, timeout: Option<Nanos>) -> bool {
        let polls = self.polls.get().wrapping_add(1);
        self.polls.set(polls);
        timeout == Some(0) || self.fruitless.get() < FRUITLESS || polls % POLLS_BETWEEN_TRIES == 0
    }

    /// The look without waiting has found `events` events, and the loop does not wait.
    #[inline(always)]
    pub fn found(&self, events: usize) {
        if events > 0 {
            self.fruitless.set(0);
        }
    }

    /// The loop has waited, and the wait has brought `events` events. At most one event means that
    /// the peers are slower than the loop: a poll before the wait would have been fruitless.
    #[inline(always)]
    pub fn waited(&self, events: usize) {
        self.fruitless.set(match events {
            0 | 1 => self.fruitless.get().saturating_add(1),
            _ => 0,
        });
    }

    /// The poll is over, at the time `now`.
    #[inline(always)]
    pub fn end_poll(&self, now: Nanos) {
        self.polled.set(now);
        self.budget.set(ENTRIES_BETWEEN_POLLS);
        self.unlooked.set(0);
    }

    /// Makes the next iteration poll.
    #[inline(always)]
    pub fn poll_next(&self) {
        self.budget.set(0);
        self.unlooked.set(0);
    }

    /// Makes the next iteration look at the clock or the selector.
    #[inline(always)]
    pub fn look_next(&self) {
        self.unlooked.set(0);
    }

    /// Number of the last poll. It wraps around.
    #[inline]
    pub fn polls(&self) -> u32 {
        self.polls.get()
    }

    /// Time of the last poll.
    #[inline]
    pub fn polled(&self) -> Nanos {
        self.polled.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::testing::{config, up_to};
    use proptest::prelude::*;

    /// No iteration begins without a poll once this many entries have run since the last one.
    const MOST_ENTRIES: usize = ENTRIES_BETWEEN_POLLS + ENTRIES_BETWEEN_LOOKS;

    /// What an iteration has looked at.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Look {
        Nothing,
        Clock,
        Poll,
    }

    /// Plays an iteration of `count` entries as the loop does, without the entries.
    fn iterate(pacing: &Pacing, clock: &Clock, count: usize) -> Look {
        if pacing.may_run(count) {
            return Look::Nothing;
        }
        let look = if pacing.is_poll_due(count) || !pacing.may_go_on(clock.now()) {
            let timeout = (count > 0).then_some(0);
            pacing.begin_poll(timeout);
            pacing.found(0);
            pacing.end_poll(clock.now());
            Look::Poll
        } else {
            Look::Clock
        };
        pacing.spend(count);
        look
    }

    #[test]
    fn first_iteration_and_those_with_nothing_to_run_poll() {
        let (pacing, clock) = (Pacing::new(), Clock::manual(5));
        assert_eq!(iterate(&pacing, &clock, 1), Look::Poll);
        assert_eq!(pacing.polled(), 5);
        assert_eq!(iterate(&pacing, &clock, 1), Look::Clock);
        assert_eq!(iterate(&pacing, &clock, 0), Look::Poll);
        assert_eq!(pacing.polls(), 2);
    }

    #[test]
    fn short_entries_read_the_clock_once_in_32() {
        let (pacing, clock) = (Pacing::new(), Clock::manual(0));
        let mut looks = Vec::new();
        for iteration in 0..260 {
            match iterate(&pacing, &clock, 1) {
                Look::Nothing => {}
                look => looks.push((iteration, look)),
            }
            clock.advance(100);
        }
        let mut expected = vec![(0, Look::Poll)];
        // The entry that runs after a look is not one of the 32.
        let clocks = [1, 34, 67, 100, 133, 166, 199, 232];
        expected.extend(clocks.map(|iteration| (iteration, Look::Clock)));
        expected.extend([(257, Look::Poll), (258, Look::Clock)]);
        assert_eq!(looks, expected);
    }

    #[test]
    fn long_entries_read_the_clock_each_time() {
        let (pacing, clock) = (Pacing::new(), Clock::manual(0));
        assert_eq!(iterate(&pacing, &clock, 1), Look::Poll);
        for _ in 0..6 {
            clock.advance(5_000);
            assert_eq!(iterate(&pacing, &clock, 1), Look::Clock);
        }
        clock.advance(5_000);
        assert_eq!(iterate(&pacing, &clock, 1), Look::Poll);
    }

    #[test]
    fn whoever_asks_for_a_look_gets_it() {
        let (pacing, clock) = (Pacing::new(), Clock::manual(0));
        iterate(&pacing, &clock, 1);
        iterate(&pacing, &clock, 1);
        assert_eq!(iterate(&pacing, &clock, 1), Look::Nothing);
        pacing.look_next();
        assert_eq!(iterate(&pacing, &clock, 1), Look::Clock);
        assert_eq!(iterate(&pacing, &clock, 1), Look::Nothing);
        pacing.poll_next();
        assert_eq!(iterate(&pacing, &clock, 1), Look::Poll);
    }

    #[test]
    fn fruitless_polls_are_left_out_but_for_one_in_sixteen() {
        let pacing = Pacing::new();
        for poll in 1..=64 {
            let is_tried = poll <= FRUITLESS || poll % POLLS_BETWEEN_TRIES == 0;
            assert_eq!(pacing.begin_poll(None), is_tried, "poll {poll}");
            pacing.waited(1);
        }
        assert!(
            pacing.begin_poll(Some(0)),
            "a look that must not wait is never left out"
        );
        assert!(!pacing.begin_poll(Some(7)));
        pacing.waited(2);
        assert!(pacing.begin_poll(None), "a wait that brought more ends it");
        (0..FRUITLESS).for_each(|_| pacing.waited(0));
        pacing.found(0);
        assert!(!pacing.begin_poll(None));
        pacing.found(3);
        assert!(
            pacing.begin_poll(None),
            "a look that found something ends it"
        );
    }

    proptest! {
        #![proptest_config(config(500))]

        /// With any entries of any length: an iteration polls if 256 and 32 entries have run since
        /// the last poll, or if the clock was seen to be 32 microseconds past it; and the clock is
        /// read at least once in 32 entries.
        #[test]
        fn no_poll_is_late(
            iterations in prop::collection::vec((0usize..80, 0u64..4_000), 1..up_to(400)),
        ) {
            let (pacing, clock) = (Pacing::new(), Clock::manual(1_000));
            let (mut since_poll, mut since_look) = (0, 0);
            let mut polled = None;
            for (count, each) in iterations {
                let look = iterate(&pacing, &clock, count);
                match look {
                    Look::Nothing => since_look += count,
                    Look::Clock => {
                        let late = clock.now() - polled.unwrap_or(0);
                        prop_assert!(late <= NANOS_BETWEEN_POLLS, "{late} ns after the poll");
                        since_look = 0;
                    }
                    Look::Poll => {
                        (since_poll, since_look) = (0, 0);
                        polled = Some(clock.now());
                        prop_assert_eq!(pacing.polled(), clock.now());
                    }
                }
                prop_assert!(look == Look::Poll || count > 0);
                prop_assert!(look == Look::Poll || since_poll < MOST_ENTRIES);
                prop_assert!(since_look <= ENTRIES_BETWEEN_LOOKS);
                since_poll += count;
                clock.advance(each * count as u64);
            }
        }

        /// Entries are counted once: those that may run without a look come from the budget, unless
        /// the iteration that has looked takes more than the rest of it.
        #[test]
        fn entries_are_counted_once(
            iterations in prop::collection::vec((1usize..20, 0u64..200), 1..up_to(300)),
        ) {
            let (pacing, clock) = (Pacing::new(), Clock::manual(0));
            let mut ran = 0;
            for (count, each) in iterations {
                match iterate(&pacing, &clock, count) {
                    Look::Poll => ran = count,
                    _ => ran += count,
                }
                let unlooked = pacing.unlooked.get();
                let (left, due) = (
                    pacing.budget.get() + unlooked,
                    ENTRIES_BETWEEN_POLLS.saturating_sub(ran),
                );
                prop_assert!(left == due || (left == unlooked && left > due));
                clock.advance(each * count as u64);
            }
        }
    }
}
