//! Whether a connection's writes may be held back until the end of the iteration.
//!
//! A connection that has written in sixteen iterations is trusted to go on: it may hold the first
//! of several writes back, or its only one while other work waits. A connection whose held write
//! was not sent in time has to earn that trust again, over twice as many iterations each time.

use std::cell::Cell;

/// A new connection is trusted after it has written in this many iterations.
pub const TRUSTED_AFTER: u8 = 16;

/// The maximum number of iterations in which a connection has to write before it is trusted again.
const TRUSTED_AFTER_LONG: u8 = 128;

/// How one connection writes.
#[derive(Debug)]
pub struct WritingHabit {
    state: Cell<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// The iteration of the connection's last write.
    iteration: u32,
    /// Writes in that iteration.
    writes: u8,
    /// Writes in the previous iteration in which the connection wrote.
    usual: u8,
    /// Iterations in which the connection wrote, counted up to `wanted`.
    seen: u8,
    /// Iterations in which the connection has to write to be trusted.
    wanted: u8,
}

impl WritingHabit {
    /// The habit of a connection that has not written yet.
    pub const fn new() -> WritingHabit {
        WritingHabit {
            state: Cell::new(State {
                iteration: 0,
                writes: 0,
                usual: 0,
                seen: 0,
                wanted: TRUSTED_AFTER,
            }),
        }
    }

    /// Notes that a write begins in this iteration, and returns whether the write may be held back.
    /// `gathers` says whether it is worth while to hold back the only write of a connection; it is
    /// asked only for a trusted connection from which no further write is expected.
    #[inline]
    pub fn note_write(&self, iteration: u32, gathers: impl FnOnce() -> bool) -> bool {
        let mut state = self.state.get();
        if state.iteration != iteration {
            state.iteration = iteration;
            (state.usual, state.writes) = (state.writes, 0);
            state.seen = state.wanted.min(state.seen + 1);
        }
        state.writes = state.writes.saturating_add(1);
        self.state.set(state);
        state.seen == state.wanted && (state.usual > state.writes || gathers())
    }

    /// Notes that a held write was not sent in time. The connection has to be trusted anew, after
    /// twice as many iterations as before.
    pub fn note_overdue(&self) {
        let state = self.state.get();
        self.state.set(State {
            seen: 0,
            wanted: state.wanted.saturating_mul(2).min(TRUSTED_AFTER_LONG),
            ..state
        });
    }
}

impl Default for WritingHabit {
    fn default() -> Self {
        WritingHabit::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{config, up_to};
    use proptest::prelude::*;

    /// The iterations, of these, in which a connection may hold its only write.
    fn held(habit: &WritingHabit, iterations: std::ops::Range<u32>) -> Vec<u32> {
        iterations
            .filter(|iteration| habit.note_write(*iteration, || true))
            .collect()
    }

    #[test]
    fn a_connection_is_trusted_after_sixteen_iterations() {
        let habit = WritingHabit::new();
        assert_eq!(held(&habit, 1..20), [16, 17, 18, 19]);
    }

    #[test]
    fn several_writes_of_one_iteration_count_once() {
        let habit = WritingHabit::new();
        assert!(!(0..100).any(|_| habit.note_write(1, || true)));
        assert_eq!(held(&habit, 2..18), [16, 17]);
    }

    #[test]
    fn the_last_of_several_writes_is_not_held_alone() {
        let habit = WritingHabit::new();
        for iteration in 1..=20 {
            let may_hold: Vec<bool> = (0..3)
                .map(|_| habit.note_write(iteration, || false))
                .collect();
            let trusted = iteration >= u32::from(TRUSTED_AFTER);
            assert_eq!(may_hold, [trusted, trusted, false], "iteration {iteration}");
        }
    }

    #[test]
    fn whether_to_gather_is_asked_only_where_it_decides() {
        let habit = WritingHabit::new();
        assert!(!habit.note_write(1, || unreachable!("not trusted yet")));
        for iteration in 2..=16 {
            habit.note_write(iteration, || false);
            habit.note_write(iteration, || false);
        }
        assert!(habit.note_write(17, || unreachable!("a second write is expected")));
    }

    #[test]
    fn each_time_it_blocks_it_is_trusted_later() {
        let habit = WritingHabit::new();
        let mut iteration = 0;
        for wanted in [16, 32, 64, 128, 128] {
            let first = iteration + wanted;
            assert_eq!(held(&habit, iteration + 1..first + 1), [first]);
            habit.note_overdue();
            iteration = first;
        }
    }

    proptest! {
        #![proptest_config(config(300))]

        /// With any writes: a connection holds nothing before it has written in as many iterations
        /// as it has to, since it was new or its held writes were last late.
        #[test]
        fn nothing_is_held_without_trust(
            steps in prop::collection::vec((0u32..3, any::<bool>(), 0u8..40), 1..up_to(600)),
        ) {
            let habit = WritingHabit::new();
            let (mut iteration, mut last) = (1, 0);
            let (mut wrote_in, mut wanted) = (0, u32::from(TRUSTED_AFTER));
            for (passing, gathers, blocks) in steps {
                iteration += passing;
                if iteration != last {
                    wrote_in += 1;
                    last = iteration;
                }
                let may_hold = habit.note_write(iteration, || gathers);
                prop_assert!(!may_hold || wrote_in >= wanted);
                if gathers {
                    prop_assert_eq!(may_hold, wrote_in >= wanted);
                }
                if blocks == 0 {
                    habit.note_overdue();
                    wrote_in = 0;
                    wanted = (wanted * 2).min(u32::from(TRUSTED_AFTER_LONG));
                }
            }
        }
    }
}
