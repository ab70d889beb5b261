//! Flow control of writing: when a protocol must stop, and when it may go on.
//!
//! The decision is pure: it needs only the size of the write buffer, in bytes. Above the high-water
//! mark the protocol is paused, at or below the low-water mark it is resumed, in between nothing
//! changes. The caller calls the protocol; this says when, and says it once. It keeps no size of
//! its own, so it cannot disagree with the buffer.
//!
//! asyncio's TLS differs in two things: its buffers have higher marks unless the program sets
//! some, and it pauses at the high-water mark already ([`FlowControl::on_change`]).

use std::cell::Cell;
use std::fmt;

/// The high-water mark of a transport when none is given, in bytes.
const DEFAULT_HIGH: u32 = 64 * 1024;

/// How many times the low-water mark goes into the high one when only one of them is given.
const RATIO: usize = 4;

/// Flow control in one direction: `set_write_buffer_limits`, `pause_writing`, `resume_writing`.
#[derive(Debug, Clone)]
pub struct FlowControl {
    /// The high-water mark where the program asks for none, in bytes.
    default_high: u32,
    /// In bytes; never below `low`.
    high: Cell<usize>,
    low: Cell<usize>,
    /// Whether the protocol is paused: `pause_writing` was called, and `resume_writing` was not
    /// called since.
    paused: Cell<bool>,
}

/// The call that the protocol must get now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowChange {
    /// `pause_writing`, or `pause_reading`.
    Pause,
    /// `resume_writing`, or `resume_reading`.
    Resume,
}

/// The marks asked for contradict each other: `low` lies above `high`, or one is negative. Both in
/// bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsError {
    /// The high-water mark asked for, or what followed from the low one.
    pub high: i64,
    /// The low-water mark asked for, or what followed from the high one.
    pub low: i64,
}

impl FlowControl {
    /// High-water mark at 64 KiB, low-water mark at a quarter of that; not paused.
    pub const fn new() -> FlowControl {
        FlowControl::with_default(DEFAULT_HIGH)
    }

    /// High-water mark at `high` bytes, also later where the program asks for none, low-water mark
    /// at a quarter of that; not paused.
    pub const fn with_default(high: u32) -> FlowControl {
        FlowControl {
            default_high: high,
            high: Cell::new(high as usize),
            low: Cell::new(high as usize / RATIO),
            paused: Cell::new(false),
        }
    }

    /// Sets both marks, in bytes, as asyncio's `set_write_buffer_limits`: `low` alone puts
    /// `high` at four times that, `high` alone puts `low` at a quarter of it, neither restores
    /// the defaults. Ask [`on_grow`](FlowControl::on_grow) or
    /// [`on_change`](FlowControl::on_change) afterwards, as the buffer may lie above the new mark
    /// already.
    ///
    /// # Errors
    /// `low` above `high`, or a negative mark; the marks then stay as they were.
    pub fn set_limits(&self, high: Option<i64>, low: Option<i64>) -> Result<(), LimitsError> {
        let ratio = RATIO as i64;
        let high = match (high, low) {
            (Some(high), _) => high,
            (None, Some(low)) => low.saturating_mul(ratio),
            (None, None) => i64::from(self.default_high),
        };
        let low = low.unwrap_or(high.div_euclid(ratio));
        match (usize::try_from(high), usize::try_from(low)) {
            (Ok(high), Ok(low)) if high >= low => {
                self.high.set(high);
                self.low.set(low);
                Ok(())
            }
            _ => Err(LimitsError { high, low }),
        }
    }

    /// The high-water mark, in bytes.
    #[inline]
    pub fn high(&self) -> usize {
        self.high.get()
    }

    /// The low-water mark, in bytes.
    #[inline]
    pub fn low(&self) -> usize {
        self.low.get()
    }

    /// Whether `pause_writing` must be called now that the buffer has grown to `size` bytes: it
    /// lies above the high-water mark, and the protocol is not paused.
    #[inline]
    pub fn on_grow(&self, size: usize) -> bool {
        let pause = size > self.high.get() && !self.paused.get();
        if pause {
            self.paused.set(true);
        }
        pause
    }

    /// Whether `resume_writing` must be called now that the buffer has shrunk to `size` bytes.
    #[inline]
    pub fn on_shrink(&self, size: usize) -> bool {
        let resume = self.paused.get() && size <= self.low.get();
        if resume {
            self.paused.set(false);
        }
        resume
    }

    /// The call that the protocol must get now that the buffer has `size` bytes, as asyncio's
    /// `SSLProtocol` decides it: that pauses at the high-water mark itself. With both marks at 0 an
    /// empty buffer pauses and resumes by turns, as in asyncio. The size may be the same as at the
    /// last call.
    #[inline]
    pub fn on_change(&self, size: usize) -> Option<FlowChange> {
        let paused = self.paused.get();
        if size >= self.high.get() && !paused {
            self.paused.set(true);
            Some(FlowChange::Pause)
        } else if size <= self.low.get() && paused {
            self.paused.set(false);
            Some(FlowChange::Resume)
        } else {
            None
        }
    }

    /// Whether the protocol is paused.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.paused.get()
    }
}

impl Default for FlowControl {
    fn default() -> Self {
        FlowControl::new()
    }
}

impl fmt::Display for LimitsError {
    /// asyncio's text.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "high ({}) must be >= low ({}) must be >= 0",
            self.high, self.low
        )
    }
}

impl std::error::Error for LimitsError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{config, up_to};
    use proptest::prelude::*;

    fn limits(high: Option<i64>, low: Option<i64>) -> Result<(usize, usize), LimitsError> {
        let flow = FlowControl::new();
        flow.set_limits(high, low)?;
        Ok((flow.high(), flow.low()))
    }

    #[test]
    fn limits_follow_asyncio() {
        assert_eq!(limits(None, None), Ok((65536, 16384)));
        assert_eq!(limits(Some(1000), None), Ok((1000, 250)));
        assert_eq!(limits(None, Some(1000)), Ok((4000, 1000)));
        assert_eq!(limits(Some(0), None), Ok((0, 0)));
        assert_eq!(limits(None, Some(0)), Ok((0, 0)));
        assert_eq!(limits(Some(5), Some(5)), Ok((5, 5)));
        assert_eq!(limits(Some(3), None), Ok((3, 0)));
        assert_eq!(
            limits(None, Some(i64::MAX)),
            Ok((i64::MAX as usize, i64::MAX as usize))
        );
        let defaults = FlowControl::default();
        assert_eq!((defaults.high(), defaults.low()), (65536, 16384));
    }

    #[test]
    fn defaults_may_be_others() {
        let flow = FlowControl::with_default(1000);
        assert_eq!((flow.high(), flow.low()), (1000, 250));
        flow.set_limits(Some(8), None).unwrap();
        assert_eq!((flow.high(), flow.low()), (8, 2));
        flow.set_limits(None, None).unwrap();
        assert_eq!((flow.high(), flow.low()), (1000, 250));
    }

    #[test]
    fn negative_marks_are_refused_as_asyncio_does() {
        assert_eq!(
            limits(Some(-1), None),
            Err(LimitsError { high: -1, low: -1 })
        );
        assert_eq!(
            limits(None, Some(-2)),
            Err(LimitsError { high: -8, low: -2 })
        );
        assert_eq!(
            limits(Some(5), Some(-1)),
            Err(LimitsError { high: 5, low: -1 })
        );
    }

    #[test]
    fn contradiction_changes_nothing() {
        let flow = FlowControl::new();
        let error = flow.set_limits(Some(4), Some(5)).unwrap_err();
        assert_eq!(error, LimitsError { high: 4, low: 5 });
        assert_eq!(
            error.to_string(),
            "high (4) must be >= low (5) must be >= 0"
        );
        assert_eq!((flow.high(), flow.low()), (65536, 16384));
    }

    #[test]
    fn marks_themselves_belong_to_the_calm_side() {
        let flow = FlowControl::new();
        flow.set_limits(Some(8), Some(2)).unwrap();
        assert!(!flow.on_grow(8));
        assert!(flow.on_grow(9));
        assert!(!flow.on_grow(10), "paused once only");
        assert!(!flow.on_shrink(3));
        assert!(flow.is_paused());
        assert!(flow.on_shrink(2));
        assert!(!flow.on_shrink(0), "resumed once only");
        assert!(!flow.is_paused());
    }

    #[test]
    fn tls_pauses_at_the_high_mark() {
        let flow = FlowControl::with_default(8);
        assert_eq!(flow.on_change(7), None);
        assert_eq!(flow.on_change(8), Some(FlowChange::Pause));
        assert_eq!(flow.on_change(9), None, "paused once only");
        assert_eq!(flow.on_change(3), None);
        assert_eq!(flow.on_change(2), Some(FlowChange::Resume));
        assert_eq!(flow.on_change(2), None, "resumed once only");
    }

    #[test]
    fn tls_with_zero_limits_pauses_and_resumes_by_turns() {
        let flow = FlowControl::with_default(8);
        flow.set_limits(Some(0), None).unwrap();
        assert_eq!(flow.on_change(0), Some(FlowChange::Pause));
        assert_eq!(flow.on_change(0), Some(FlowChange::Resume));
        assert_eq!(flow.on_change(0), Some(FlowChange::Pause));
    }

    #[test]
    fn zero_limits_pause_on_the_first_byte() {
        let flow = FlowControl::new();
        flow.set_limits(Some(0), None).unwrap();
        assert!(!flow.on_grow(0));
        assert!(flow.on_grow(1));
        assert!(flow.on_shrink(0));
    }

    proptest! {
        #![proptest_config(config(500))]

        /// With any sizes: pauses and resumptions alternate, and the state follows the marks.
        #[test]
        fn pauses_and_resumptions_alternate(
            high in -5i64..100,
            low in -5i64..100,
            sizes in prop::collection::vec(0usize..150, 1..up_to(200)),
        ) {
            let flow = FlowControl::new();
            prop_assert_eq!(flow.set_limits(Some(high), Some(low)).is_ok(), 0 <= low && low <= high);
            prop_assume!(0 <= low && low <= high);
            let (high, low) = (high as usize, low as usize);
            let mut last = 0;
            for size in sizes {
                let before = flow.is_paused();
                let told = if size >= last { flow.on_grow(size) } else { flow.on_shrink(size) };
                prop_assert_eq!(flow.is_paused(), before != told);
                if size > high && size >= last {
                    prop_assert!(flow.is_paused());
                }
                if size <= low && size < last {
                    prop_assert!(!flow.is_paused());
                }
                last = size;
            }
        }

        /// The same with `on_change`, which TLS asks about each size: the protocol is paused from
        /// the high mark on, and not at the low mark or below it.
        #[test]
        fn each_change_follows_the_marks(
            low in 0usize..50,
            above in 1usize..50,
            sizes in prop::collection::vec(0usize..150, 1..up_to(200)),
        ) {
            let flow = FlowControl::with_default(8);
            let high = low + above;
            flow.set_limits(Some(high as i64), Some(low as i64)).unwrap();
            for size in sizes {
                let before = flow.is_paused();
                let told = flow.on_change(size);
                let expected = match size {
                    _ if size >= high => true,
                    _ if size <= low => false,
                    _ => before,
                };
                prop_assert_eq!(flow.is_paused(), expected);
                prop_assert_eq!(told, match (before, expected) {
                    (false, true) => Some(FlowChange::Pause),
                    (true, false) => Some(FlowChange::Resume),
                    _ => None,
                });
            }
        }
    }
}
