//! How long a thread runs calls before it lets other threads have their turn.
//!
//! A thread that takes one call after the other keeps the interpreter's lock from call to call: the
//! code in between is native and would not see that other threads want the lock. Reading the clock
//! before each call would cost as much as a short call does, so it is read before every sixteenth.

use crate::clock::Nanos;

/// The longest time, in nanoseconds, that a thread keeps the lock across calls; the default of
/// `sys.getswitchinterval()`.
const LONGEST: Nanos = 5_000_000;

/// Calls between two looks at the clock.
const CALLS_BETWEEN_LOOKS: u32 = 16;

/// The turn of one thread.
#[derive(Debug, Clone, Copy)]
pub struct ThreadTurn {
    began: Nanos,
    calls: u32,
}

impl ThreadTurn {
    /// A turn that begins at the time `now`.
    pub const fn begin(now: Nanos) -> ThreadTurn {
        ThreadTurn {
            began: now,
            calls: 0,
        }
    }

    /// Whether the turn is over before the next call, so that other threads run first. `now` is
    /// asked every sixteenth time. The caller begins a new turn afterwards.
    #[inline]
    pub fn is_over(&mut self, now: impl FnOnce() -> Nanos) -> bool {
        self.calls = self.calls.wrapping_add(1);
        self.calls % CALLS_BETWEEN_LOOKS == 0 && now().saturating_sub(self.began) > LONGEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::testing::{config, up_to};
    use proptest::prelude::*;

    #[test]
    fn clock_is_read_every_sixteenth_call() {
        let mut turn = ThreadTurn::begin(0);
        let mut looks = 0;
        for _ in 0..160 {
            assert!(!turn.is_over(|| {
                looks += 1;
                LONGEST
            }));
        }
        assert_eq!(looks, 10);
    }

    #[test]
    fn a_turn_ends_after_five_milliseconds() {
        let clock = Clock::manual(1_000);
        let mut turn = ThreadTurn::begin(clock.now());
        clock.advance(LONGEST + 1);
        let calls = (1..).find(|_| turn.is_over(|| clock.now()));
        assert_eq!(calls, Some(16));
    }

    proptest! {
        #![proptest_config(config(300))]

        /// With calls of any length: no sixteen calls run past the end of a turn, and no turn ends
        /// early.
        #[test]
        fn turns_end_in_time(calls in prop::collection::vec(0u64..2_000_000, 1..up_to(300))) {
            let clock = Clock::manual(7);
            let mut turn = ThreadTurn::begin(clock.now());
            let (mut began, mut past) = (clock.now(), 0);
            for took in calls {
                let is_past = clock.now() - began > LONGEST;
                if turn.is_over(|| clock.now()) {
                    prop_assert!(is_past);
                    turn = ThreadTurn::begin(clock.now());
                    (began, past) = (clock.now(), 0);
                } else {
                    past += u32::from(is_past);
                    prop_assert!(past < CALLS_BETWEEN_LOOKS);
                }
                clock.advance(took);
            }
        }
    }
}
