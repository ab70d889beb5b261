//! Time as the loop counts it: whole nanoseconds of the monotonic clock.
//!
//! Times are integers because a float of seconds cannot hold single nanoseconds after a hundred
//! days of uptime, and because equal deadlines must compare equal. Python's floats become [`Nanos`]
//! once, at the edge, and always upwards: a timer that fires one nanosecond early breaks programs
//! that check the clock, and nobody notices one that fires a nanosecond late.
//!
//! A manual clock is moved by the code that made it, or by a [`Jump`](crate::wait::Jump) of its
//! loop. It cannot go backwards.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys;

/// A point in time or a span of it, in nanoseconds of `CLOCK_MONOTONIC`.
pub type Nanos = u64;

const NANOS_PER_SECOND: f64 = 1e9;

/// Where the loop reads the time: the base of asyncio's `loop.time()`.
#[derive(Debug)]
pub struct Clock {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Monotonic,
    /// Atomic only so that a clock can be shared between threads; it orders nothing.
    Manual(AtomicU64),
}

impl Clock {
    /// The system's monotonic clock, the one Python's `time.monotonic()` reads.
    pub const fn monotonic() -> Clock {
        Clock {
            source: Source::Monotonic,
        }
    }

    /// A clock that stands at `start` nanoseconds until [`advance`](Clock::advance) moves it.
    pub const fn manual(start: Nanos) -> Clock {
        Clock {
            source: Source::Manual(AtomicU64::new(start)),
        }
    }

    /// Whether the clock stands still unless it is moved.
    #[inline]
    pub const fn is_manual(&self) -> bool {
        matches!(self.source, Source::Manual(_))
    }

    /// The time now, in nanoseconds; never smaller than what an earlier call gave.
    #[inline]
    pub fn now(&self) -> Nanos {
        match &self.source {
            Source::Monotonic => sys::monotonic(),
            Source::Manual(time) => time.load(Ordering::Relaxed),
        }
    }

    /// Moves a manual clock `by` nanoseconds forwards, and stops it at the end of time. The
    /// system's clock cannot be moved: there it has no effect.
    pub fn advance(&self, by: Nanos) {
        if let Source::Manual(time) = &self.source {
            let now = time.load(Ordering::Relaxed);
            time.store(now.saturating_add(by), Ordering::Relaxed);
        }
    }
}

/// The first nanosecond that is not before `value` seconds, as Python counts them: for every
/// number that fits, `seconds(nanos_from_seconds(value)) >= value`.
///
/// Negative numbers give 0, numbers too large the end of time. NaN gives 0 too: asyncio runs a
/// timer whose time is NaN at once, since no comparison with NaN says that it lies ahead.
#[inline]
pub fn nanos_from_seconds(value: f64) -> Nanos {
    // Signed numbers cost the processor less than unsigned ones, dividing more than all else here.
    let nanos = value * NANOS_PER_SECOND;
    if !(nanos >= 0.0 && nanos < i64::MAX as f64) {
        return at_the_edges(value);
    }
    let whole = nanos as i64;
    let rest = nanos - whole as f64;
    // Twice the largest rounding error.
    let doubt = nanos * f64::EPSILON * 2.0;
    if rest > doubt && rest < 1.0 - doubt {
        return whole as Nanos + 1;
    }
    first_from(whole as Nanos, value)
}

/// The conversion saturates, and NaN becomes 0.
#[cold]
fn at_the_edges(value: f64) -> Nanos {
    first_from((value * NANOS_PER_SECOND) as Nanos, value)
}

/// `nanos`, or the next nanosecond that is not before the value.
#[inline(never)]
fn first_from(nanos: Nanos, value: f64) -> Nanos {
    if seconds(nanos) < value {
        round_up(nanos, value)
    } else {
        nanos
    }
}

fn round_up(nanos: Nanos, value: f64) -> Nanos {
    let next = nanos.saturating_add(1);
    if seconds(next) >= value {
        return next;
    }
    // Above 2**53 nanoseconds neighbouring floats lie further apart than one nanosecond.
    f64::from_bits((next as f64).to_bits() + 1) as Nanos
}

/// `nanos` as a float of seconds, rounded to the nearest as `time.monotonic()` does it.
#[inline]
pub fn seconds(nanos: Nanos) -> f64 {
    match i64::try_from(nanos) {
        Ok(nanos) => nanos as f64 / NANOS_PER_SECOND,
        Err(_) => nanos as f64 / NANOS_PER_SECOND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;
    use proptest::prelude::*;

    #[test]
    fn manual_clock_moves_only_when_told() {
        let clock = Clock::manual(5);
        assert!(clock.is_manual());
        assert!(!Clock::monotonic().is_manual());
        assert_eq!(clock.now(), 5);
        assert_eq!(clock.now(), 5);
        clock.advance(7);
        assert_eq!(clock.now(), 12);
        clock.advance(Nanos::MAX);
        assert_eq!(clock.now(), Nanos::MAX);
    }

    #[test]
    fn monotonic_clock_runs_forwards_and_cannot_be_moved() {
        let clock = Clock::monotonic();
        let before = clock.now();
        assert!(before > 0);
        clock.advance(u64::MAX / 2);
        let after = clock.now();
        assert!(after >= before);
        assert!(after < before + u64::MAX / 4);
    }

    #[test]
    fn seconds_at_the_edges() {
        assert_eq!(nanos_from_seconds(0.0), 0);
        assert_eq!(nanos_from_seconds(-0.0), 0);
        assert_eq!(nanos_from_seconds(-1.0), 0);
        assert_eq!(nanos_from_seconds(f64::NEG_INFINITY), 0);
        assert_eq!(nanos_from_seconds(f64::NAN), 0);
        assert_eq!(nanos_from_seconds(f64::INFINITY), Nanos::MAX);
        assert_eq!(nanos_from_seconds(1e300), Nanos::MAX);
        assert_eq!(nanos_from_seconds(f64::MIN_POSITIVE), 1);
        assert_eq!(nanos_from_seconds(1.0), 1_000_000_000);
        assert_eq!(nanos_from_seconds(0.1), 100_000_000);
        assert_eq!(nanos_from_seconds(1.5e-9), 2);
        assert_eq!(seconds(1_500_000_000), 1.5);
    }

    proptest! {
        #![proptest_config(config(2000))]

        #[test]
        fn conversion_is_never_early_and_hardly_late(value in 0.0..1e9f64) {
            let nanos = nanos_from_seconds(value);
            prop_assert!(seconds(nanos) >= value);
            // Late by one nanosecond, or by two neighbouring floats where those lie further apart.
            let allowed = 1e-9f64.max(value * 2.0 * f64::EPSILON);
            prop_assert!(seconds(nanos) - value <= allowed * 1.01, "{value} gave {nanos}");
        }

        /// The nanosecond before would be too early.
        #[test]
        fn conversion_gives_the_first(value in 0.0..1e5f64) {
            let nanos = nanos_from_seconds(value);
            prop_assert!(nanos == 0 || seconds(nanos - 1) < value, "{value} gave {nanos}");
        }

        #[test]
        fn times_of_the_clock_survive_a_round_trip(nanos in 0u64..(1 << 53)) {
            prop_assert_eq!(seconds(nanos_from_seconds(seconds(nanos))), seconds(nanos));
        }

        #[test]
        fn conversion_is_never_early_near_the_end_of_time(value in 9e6..1.8e10f64) {
            prop_assert!(seconds(nanos_from_seconds(value)) >= value);
        }
    }
}
