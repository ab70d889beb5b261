//! Loops on a clock that stands still while they run, and jumps to the next deadline when they
//! wait.
//!
//! Which clock a loop goes by is decided when it is made. [`on_manual_clock`] decides it for the
//! loops that a function makes, whatever their class and arguments are.

use std::cell::Cell;

use cpython::{Args, Obj, Python, Raised};
use engine::{Clock, Nanos};

thread_local! {
    /// The time at which manual clocks of the thread's new loops start, if they get manual clocks.
    static START: Cell<Option<Nanos>> = const { Cell::new(None) };
}

/// The clock of a new loop of this thread.
pub(crate) fn clock_of_new_loop() -> Clock {
    match START.get() {
        Some(start) => Clock::manual(start),
        None => Clock::monotonic(),
    }
}

/// `_on_manual_clock(start, make)`. Returns what `make()` returns; loops made in it go by manual
/// clocks that stand at `start` seconds.
pub(crate) fn on_manual_clock(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    let [Some(start), Some(make)] = args.bind("_on_manual_clock", &["start", "make"], 2, 2)? else {
        return Ok(Obj::none(py));
    };
    let start = engine::nanos_from_seconds(start.to_f64()?);
    let before = START.replace(Some(start));
    let made = make.call0();
    START.set(before);
    made
}
