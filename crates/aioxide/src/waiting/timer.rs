//! The timer of an object that waits: an alarm of a native loop, or a handle of any other.

use std::cell::Cell;

use cpython::{GcFields, Obj, Raised, Ref, Slot, Visit};

use crate::event_loop::EventLoop;
use crate::handles::{Alarm, served};

/// At most one timer that is running.
#[derive(Default)]
pub(super) struct WaitTimer {
    alarm: Slot<Ref<Alarm>>,
    /// Whether the alarm is in the heap; if not, it is in the ready queue.
    in_heap: Cell<bool>,
    event_loop: Slot,
    handle: Slot,
}

/// A time of `loop.time()`.
#[derive(Clone)]
pub(super) enum TimeoutWhen {
    /// In seconds.
    Seconds(f64),
    /// The object that the program gave.
    Given(Obj),
}

impl TimeoutWhen {
    /// `loop.time() + delay`.
    #[inline]
    pub(super) fn after(event_loop: &Obj, delay: &Obj) -> Result<TimeoutWhen, Raised> {
        if let (Some(native), Some(seconds)) = (fast(event_loop), seconds(delay)) {
            return Ok(TimeoutWhen::Seconds(
                EventLoop::now_seconds(native) + seconds,
            ));
        }
        let now = event_loop.method(pyo3::intern!(delay.py(), "time"), &[])?;
        now.plus(delay).map(TimeoutWhen::Given)
    }

    /// The time as a Python object.
    pub(super) fn to_object(&self, py: cpython::Python<'_>) -> Result<Obj, Raised> {
        match self {
            TimeoutWhen::Seconds(seconds) => Obj::float(py, *seconds),
            TimeoutWhen::Given(given) => Ok(given.clone()),
        }
    }
}

/// The seconds, if the object is a float or a small int, of no subclass.
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

impl WaitTimer {
    /// As `loop.call_later()`: the watcher's `due` is called after the delay.
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

    /// As `loop.call_at()`, or `call_soon` if the time is past. With `by_name` it calls these
    /// methods.
    pub(super) fn start_at(
        &self,
        event_loop: &Obj,
        when: &TimeoutWhen,
        watcher: &Obj,
        by_name: bool,
    ) -> Result<(), Raised> {
        if let Some(native) = fast(event_loop).filter(|_| !by_name) {
            let seconds = match when {
                TimeoutWhen::Seconds(seconds) => Some(*seconds),
                TimeoutWhen::Given(given) => seconds(given),
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
        if given.is_at_most(&now)? {
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

    /// Starts the timer through the loop's own methods.
    fn start_through(
        &self,
        event_loop: &Obj,
        method: &str,
        time: Option<&Obj>,
        watcher: &Obj,
    ) -> Result<(), Raised> {
        let py = watcher.py();
        let name = pyo3::types::PyString::intern(py, method);
        let (callback, args) = served::due_call_of(watcher)?;
        let mut call: Vec<&Obj> = time.into_iter().collect();
        call.push(&callback);
        call.extend(&args);
        self.handle.set(Some(event_loop.method(&name, &call)?));
        Ok(())
    }

    /// The handle of the timer that is running, or its alarm.
    pub(super) fn running(&self) -> Option<Obj> {
        let alarm = || self.alarm.get().map(Ref::into_obj);
        self.handle.get().or_else(alarm)
    }

    /// Notes that the timer has run.
    pub(super) fn ran(&self) {
        self.alarm.set(None);
        self.event_loop.set(None);
        self.handle.set(None);
    }

    /// Stops the timer, if it is running.
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

impl GcFields for WaitTimer {
    fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.alarm);
        visit.slot(&self.event_loop);
        visit.slot(&self.handle);
    }
    fn let_go(&self) {
        self.ran();
    }
}
