//! A clock that the program has put in the place of `time.monotonic`, as freezegun does. asyncio's
//! loop asks it, since it looks the name up each time. CPython reports changes of the name to
//! native code, which treats a loop with such a clock as one whose `time()` is replaced.
//!
//! The running loop of the thread follows the change at once, other loops when they next look at
//! their timers or get one. CPython before 3.12 reports no changes: there a loop looks when it is
//! made and when it begins to run.

use std::sync::atomic::{AtomicBool, Ordering};

use cpython::watch::on_change;
use cpython::{Global, Obj, Python, Raised, Ref};
use pyo3::sync::PyOnceLock;

use super::EventLoop;
use crate::interop::asyncio;

static IS_REPLACED: AtomicBool = AtomicBool::new(false);

/// Whether the last look found a clock of the program's.
#[inline]
pub(super) fn is_clock_replaced() -> bool {
    IS_REPLACED.load(Ordering::Relaxed)
}

struct TimeModule {
    namespace: Global,
    /// `time.monotonic` as it was when aioxide was imported.
    monotonic: Global,
    /// Whether CPython reports changes of the name.
    is_watched: bool,
}

static TIME: PyOnceLock<TimeModule> = PyOnceLock::new();

/// Begins to watch the clock, when the module starts.
pub(crate) fn watch_clock(py: Python<'_>) -> Result<(), Raised> {
    let module = Obj::import(py, c"time")?;
    // This is what the module has now: another package may have replaced the name before, for good.
    let monotonic = Global::new(module.attr(pyo3::intern!(py, "monotonic"))?);
    let namespace = module.attr(pyo3::intern!(py, "__dict__"))?;
    let is_watched = on_change(&namespace, c"monotonic", changed);
    let namespace = Global::new(namespace);
    let _ = TIME.set(
        py,
        TimeModule {
            namespace,
            monotonic,
            is_watched,
        },
    );
    Ok(())
}

fn changed(value: Option<&Obj>) {
    let Some(value) = value else { return };
    let py = value.py();
    let Some(time) = TIME.get(py) else { return };
    IS_REPLACED.store(!value.is(time.monotonic.get(py)), Ordering::Relaxed);
    match asyncio(py).get_running_loop.get(py).call0() {
        Ok(running) => {
            if let Some(native) = Ref::<EventLoop>::of(&running) {
                native.follow_clock();
            }
        }
        Err(raised) => drop(raised.take(py)),
    }
}

impl EventLoop {
    /// Whether the clock was replaced or restored since the loop last looked.
    #[inline]
    pub(super) fn is_clock_changed(&self) -> bool {
        is_clock_replaced() != self.clock_replaced.get()
    }

    /// Makes the loop go by the clock that there is now.
    #[cold]
    pub(super) fn follow_clock(&self) {
        self.clock_replaced.set(is_clock_replaced());
        self.update_replaced();
    }

    /// Looks which clock there is, on versions that report no changes.
    pub(super) fn look_for_clock(&self, py: Python<'_>) -> Result<(), Raised> {
        if let Some(time) = TIME.get(py).filter(|time| !time.is_watched) {
            let name = pyo3::intern!(py, "monotonic");
            let found = time.namespace.get(py).dict_get(Obj::name(name))?;
            let is_own = found.is_none_or(|found| found.is(time.monotonic.get(py)));
            IS_REPLACED.store(!is_own, Ordering::Relaxed);
        }
        if self.is_clock_changed() {
            self.follow_clock();
        }
        Ok(())
    }

    /// `time()`. Asks the program's clock if there is one.
    #[inline]
    pub(crate) fn time(this: &Ref<EventLoop>) -> Result<Obj, Raised> {
        let py = this.py();
        if is_clock_replaced() {
            if let Some(time) = TIME.get(py) {
                let name = pyo3::intern!(py, "monotonic");
                if let Some(clock) = time.namespace.get(py).dict_get(Obj::name(name))? {
                    return clock.call0();
                }
            }
        }
        Obj::float(py, EventLoop::now_seconds(this))
    }
}
