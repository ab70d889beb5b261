//! Water marks: when the one who fills a buffer is asked to pause, and when to go on.

use std::cell::Cell;

use cpython::{Obj, Python, Raised};

use crate::transports::outgoing::marks;

/// The marks of one direction, in bytes, and what was asked last.
pub(super) struct WaterMarks {
    default: usize,
    high: Cell<usize>,
    low: Cell<usize>,
    paused: Cell<bool>,
}

/// What is to be asked.
pub(super) enum Ask {
    Pause,
    Resume,
    Nothing,
}

impl WaterMarks {
    /// With a high mark that counts where a program asks for none; the low one is a quarter of it.
    pub(super) fn new(high: usize) -> WaterMarks {
        WaterMarks {
            default: high,
            high: Cell::new(high),
            low: Cell::new(high / 4),
            paused: Cell::new(false),
        }
    }

    pub(super) fn high(&self) -> usize {
        self.high.get()
    }

    pub(super) fn low(&self) -> usize {
        self.low.get()
    }

    /// Sets both. Raises ValueError if they contradict each other.
    pub(super) fn set(
        &self,
        py: Python<'_>,
        high: Option<Obj>,
        low: Option<Obj>,
    ) -> Result<(), Raised> {
        let (high, low) = marks(py, high, low, self.default as i64)?;
        self.high.set(high);
        self.low.set(low);
        Ok(())
    }

    /// Whether a pause was asked for and not ended yet.
    #[inline]
    pub(super) fn is_paused(&self) -> bool {
        self.paused.get()
    }

    /// So many bytes wait; what is answered counts as asked.
    #[inline]
    pub(super) fn ask(&self, size: usize) -> Ask {
        let paused = self.paused.get();
        if size >= self.high.get() && !paused {
            self.paused.set(true);
            Ask::Pause
        } else if size <= self.low.get() && paused {
            self.paused.set(false);
            Ask::Resume
        } else {
            Ask::Nothing
        }
    }
}
