//! The timer of something that waits: an alarm of a native loop, a handle of any other.

use std::cell::Cell;

use cpython::{Held, Obj, Raised, Ref, Slot, Visit};

use super::watching;
use crate::event_loop::EventLoop;
use crate::handles::Alarm;

/// At most one timer that is running.
#[derive(Default)]
pub(super) struct Timer {
    alarm: Slot<Ref<Alarm>>,
    /// Whether the alarm is in the heap, not in the ready queue.
    in_heap: Cell<bool>,
    event_loop: Slot,
    handle: Slot,
}

/// A time of `loop.time()`.
#[derive(Clone)]
pub(super) enum When {
    /// In seconds.
    Seconds(f64),
    /// As the program gave it.
    Given(Obj),
}

impl When {
    /// `loop.time() + delay`.
    #[inline]
    pub(super) fn after(event_loop: &Obj, delay: &Obj) -> Result<When, Raised> {
        if let (Some(native), Some(seconds)) = (fast(event_loop), seconds(delay)) {
            return Ok(When::Seconds(EventLoop::now_seconds(native) + seconds));
        }
        let now = event_loop.method(pyo3::intern!(delay.py(), "time"), &[])?;
        now.plus(delay).map(When::Given)
    }

    /// As Python sees it.
    pub(super) fn to_object(&self, py: cpython::Python<'_>) -> Result<Obj, Raised> {
        match self {
            When::Seconds(seconds) => Obj::float(py, *seconds),
            When::Given(given) => Ok(given.clone()),
        }
    }
}

/// The number, if it is one that needs no care.
#[inline]
fn seconds(object: &Obj) -> Option<f64> {
    if object.is_float_exact() {
        return object.to_f64().ok();
    }
    object.small_int().map(|number| number as f64)
}

#[inline]
fn fast(event_loop: &Obj) -> Option<&Ref<EventLoop>> {
    Ref::<EventLoop>::of(event_loop).filter(|native| EventLoop::is_fast(native))
}

impl Timer {
    /// As `loop.call_later(delay, …)`: the watcher's `due` is called then.
    pub(super) fn start_after(
        &self,
        event_loop: &Obj,
        delay: &Obj,
        watcher: &Obj,
    ) -> Result<(), Raised> {
        if let (Some(native), Some(seconds)) = (fast(event_loop), seconds(delay)) {
            let when = EventLoop::now_seconds(native) + seconds;
            let alarm = EventLoop::push_alarm_at(native, when, watcher.clone())?;
            self.keep(event_loop, alarm, true);
            return Ok(());
        }
        self.start_through(event_loop, "call_later", Some(delay), watcher)
    }

    /// As `loop.call_at(when, …)`, or `call_soon` if that is past.
    pub(super) fn start_at(
        &self,
        event_loop: &Obj,
        when: &When,
        watcher: &Obj,
    ) -> Result<(), Raised> {
        if let Some(native) = fast(event_loop) {
            let seconds = match when {
                When::Seconds(seconds) => Some(*seconds),
                When::Given(given) => seconds(given),
            };
            if let Some(seconds) = seconds {
                let past = seconds <= EventLoop::now_seconds(native);
                let alarm = if past {
                    EventLoop::push_alarm_now(native, watcher.clone())?
                } else {
                    EventLoop::push_alarm_at(native, seconds, watcher.clone())?
                };
                self.keep(event_loop, alarm, !past);
                return Ok(());
            }
        }
        let py = watcher.py();
        let given = when.to_object(py)?;
        let now = event_loop.method(pyo3::intern!(py, "time"), &[])?;
        let operator = Obj::import(py, c"operator")?;
        let past = operator.method(pyo3::intern!(py, "le"), &[&given, &now])?;
        if past.truth()? {
            self.start_through(event_loop, "call_soon", None, watcher)
        } else {
            self.start_through(event_loop, "call_at", Some(&given), watcher)
        }
    }

    fn keep(&self, event_loop: &Obj, alarm: Ref<Alarm>, in_heap: bool) {
        self.in_heap.set(in_heap);
        self.event_loop.set(Some(event_loop.clone()));
        self.alarm.set(Some(alarm));
    }

    /// Through the loop's own methods.
    fn start_through(
        &self,
        event_loop: &Obj,
        method: &str,
        time: Option<&Obj>,
        watcher: &Obj,
    ) -> Result<(), Raised> {
        let py = watcher.py();
        let name = pyo3::types::PyString::intern(py, method);
        let callback = watching::due_callable(watcher)?;
        let none = Obj::none(py);
        let handle = match time {
            Some(time) => event_loop.method(&name, &[time, &callback, &none])?,
            None => event_loop.method(&name, &[&callback, &none])?,
        };
        self.handle.set(Some(handle));
        Ok(())
    }

    /// Whether one is running.
    pub(super) fn is_running(&self) -> bool {
        self.alarm.is_some() || self.handle.is_some()
    }

    /// It has run.
    pub(super) fn ran(&self) {
        self.alarm.set(None);
        self.event_loop.set(None);
        self.handle.set(None);
    }

    /// Stops it, if it is running.
    #[inline]
    pub(super) fn cancel(&self) -> Result<(), Raised> {
        if let Some(alarm) = self.alarm.take() {
            let event_loop = self.event_loop.take();
            if alarm.cancel() && self.in_heap.get() {
                if let Some(native) = event_loop.as_ref().and_then(Ref::<EventLoop>::of) {
                    EventLoop::timer_cancelled(native);
                }
            }
        }
        match self.handle.take() {
            Some(handle) => handle
                .method(pyo3::intern!(handle.py(), "cancel"), &[])
                .map(drop),
            None => Ok(()),
        }
    }
}

impl Held for Timer {
    fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.alarm);
        visit.slot(&self.event_loop);
        visit.slot(&self.handle);
    }
    fn let_go(&self) {
        self.ran();
    }
}
