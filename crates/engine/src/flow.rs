//! Flow control of writing: when a protocol must stop, and when it may go on.
//!
//! A pure decision over the size of the write buffer, in bytes: above the high-water mark the
//! protocol is paused, at or below the low-water mark it is resumed, in between nothing changes.
//! The caller makes the calls; this only says when, and says it once. It keeps no size of its
//! own, so that it cannot disagree with the buffer.

use std::fmt;

/// The high-water mark when none is given, in bytes.
const DEFAULT_HIGH: usize = 64 * 1024;

/// How many times the low-water mark goes into the high one when only one of them is given.
const RATIO: usize = 4;

/// Flow control of one transport: `set_write_buffer_limits`, `pause_writing`, `resume_writing`.
#[derive(Debug, Clone)]
pub struct FlowControl {
    /// In bytes; never below `low`.
    high: usize,
    low: usize,
    /// Whether the protocol was told to pause and not yet to resume.
    paused: bool,
}

/// The marks asked for contradict each other: `low` lies above `high`. Both in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsError {
    /// The high-water mark asked for, or what followed from the low one.
    pub high: usize,
    /// The low-water mark asked for.
    pub low: usize,
}

impl FlowControl {
    /// High-water mark at 64 KiB, low-water mark at a quarter of that; not paused.
    pub const fn new() -> FlowControl {
        FlowControl {
            high: DEFAULT_HIGH,
            low: DEFAULT_HIGH / RATIO,
            paused: false,
        }
    }

    /// Sets both marks, in bytes, as asyncio's `set_write_buffer_limits`: `low` alone puts
    /// `high` at four times that, `high` alone puts `low` at a quarter of it, neither restores
    /// the defaults. Call [`on_grow`](FlowControl::on_grow) afterwards, as the buffer may lie
    /// above the new mark already.
    ///
    /// # Errors
    /// `low` above `high`; the marks then stay as they were.
    pub fn set_limits(
        &mut self,
        high: Option<usize>,
        low: Option<usize>,
    ) -> Result<(), LimitsError> {
        let high = match (high, low) {
            (Some(high), _) => high,
            (None, Some(low)) => low.saturating_mul(RATIO),
            (None, None) => DEFAULT_HIGH,
        };
        let low = low.unwrap_or(high / RATIO);
        if low > high {
            return Err(LimitsError { high, low });
        }
        self.high = high;
        self.low = low;
        Ok(())
    }

    /// The high-water mark, in bytes.
    #[inline]
    pub const fn high(&self) -> usize {
        self.high
    }

    /// The low-water mark, in bytes.
    #[inline]
    pub const fn low(&self) -> usize {
        self.low
    }

    /// The buffer has grown to `size` bytes: true if `pause_writing` must be called now.
    #[inline]
    pub fn on_grow(&mut self, size: usize) -> bool {
        let pause = !self.paused && size > self.high;
        self.paused |= pause;
        pause
    }

    /// The buffer has shrunk to `size` bytes: true if `resume_writing` must be called now.
    #[inline]
    pub fn on_shrink(&mut self, size: usize) -> bool {
        let resume = self.paused && size <= self.low;
        self.paused &= !resume;
        resume
    }

    /// Whether the protocol is paused.
    #[inline]
    pub const fn is_paused(&self) -> bool {
        self.paused
    }
}

impl Default for FlowControl {
    fn default() -> Self {
        FlowControl::new()
    }
}

impl fmt::Display for LimitsError {
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

    fn limits(high: Option<usize>, low: Option<usize>) -> Result<(usize, usize), LimitsError> {
        let mut flow = FlowControl::new();
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
        assert_eq!(limits(None, Some(usize::MAX)), Ok((usize::MAX, usize::MAX)));
        let defaults = FlowControl::default();
        assert_eq!((defaults.high(), defaults.low()), (65536, 16384));
    }

    #[test]
    fn contradiction_changes_nothing() {
        let mut flow = FlowControl::new();
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
        let mut flow = FlowControl::new();
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
    fn zero_limits_pause_on_the_first_byte() {
        let mut flow = FlowControl::new();
        flow.set_limits(Some(0), None).unwrap();
        assert!(!flow.on_grow(0));
        assert!(flow.on_grow(1));
        assert!(flow.on_shrink(0));
    }

    proptest! {
        #![proptest_config(config(500))]

        /// Whatever the sizes: pauses and resumptions alternate, and the state follows the marks.
        #[test]
        fn pauses_and_resumptions_alternate(
            high in 0usize..100,
            low in 0usize..100,
            sizes in prop::collection::vec(0usize..150, 1..up_to(200)),
        ) {
            let mut flow = FlowControl::new();
            prop_assert_eq!(flow.set_limits(Some(high), Some(low)).is_ok(), low <= high);
            prop_assume!(low <= high);
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
    }
}
