//! The queue and the heap as lists, for programs that look into them: asyncio's `_ready` and
//! `_scheduled`. Nothing here runs in other programs.
//!
//! A handle stands for itself. An entry without one is a tuple `(object, kind, ...)`, of which the
//! Python side makes an object that looks like a handle.

use cpython::{Obj, Python, Raised, Ref};

use super::EventLoop;
use crate::handles::{Alarm, Entry, Handle, Shown, TimerEntry, TimerHandle, served};
use crate::interop::EndsProgram;

impl EventLoop {
    /// The entries of the ready queue, in order.
    pub(crate) fn list_ready(this: &Ref<EventLoop>) -> Result<Obj, Raised> {
        let shown: Vec<Shown> = this.ready.borrow().iter().map(Entry::shown).collect();
        let items = shown.into_iter().map(|shown| (shown, 0.0));
        list(this.py(), items)
    }

    /// The waiting timers, the next one first.
    pub(crate) fn list_scheduled(this: &Ref<EventLoop>) -> Result<Obj, Raised> {
        let mut shown: Vec<_> = {
            let timers = this.timers.borrow();
            let each = |(when, item): (_, &TimerEntry)| {
                (when, engine::Timer::sequence(item), item.shown())
            };
            timers.iter().map(each).collect()
        };
        shown.sort_by_key(|(when, sequence, _)| (*when, *sequence));
        let items = shown
            .into_iter()
            .map(|(when, _, shown)| (shown, engine::seconds(when)));
        list(this.py(), items)
    }

    /// The descriptors that the loop watches, each as `(descriptor, file, reader, writer)`.
    pub(crate) fn list_watches(this: &Ref<EventLoop>) -> Result<Obj, Raised> {
        let py = this.py();
        let shown = this.watches.borrow().shown();
        let list = Obj::list(py)?;
        for watch in shown {
            let fd = Obj::int(py, i64::from(watch.fd))?;
            let file = watch.file.unwrap_or_else(|| fd.clone());
            let reader = watch.reader.unwrap_or_else(|| Obj::none(py));
            let writer = watch.writer.unwrap_or_else(|| Obj::none(py));
            list.append(&Obj::tuple(py, &[fd, file, reader, writer])?)?;
        }
        Ok(list)
    }

    /// Puts a handle of this loop into the queue, behind `after` others. Returns false for any
    /// other object.
    pub(crate) fn insert_ready(this: &Ref<EventLoop>, after: usize, handle: &Obj) -> bool {
        let Some(handle) = Ref::<Handle>::of(handle).filter(|handle| is_of(handle, this)) else {
            return false;
        };
        this.ready
            .borrow_mut()
            .insert(after, Entry::handle(handle.clone()));
        if this.waiting.get() {
            this.wake();
        }
        true
    }

    /// Puts a timer handle of this loop into the heap. Returns false for any other object, and for
    /// a handle that is there already.
    pub(crate) fn insert_scheduled(this: &Ref<EventLoop>, handle: &Obj) -> Result<bool, Raised> {
        let Some(timer) = Ref::<TimerHandle>::of(handle)
            .filter(|timer| is_of(timer.parent(), this) && !timer.is_scheduled())
        else {
            return Ok(false);
        };
        let deadline = engine::nanos_from_seconds(timer.seconds()?);
        timer.note_schedule(timer.py());
        this.timers
            .borrow_mut()
            .push(deadline, TimerEntry::handle(timer.clone()));
        if this.waiting.get() {
            this.wake();
        }
        Ok(true)
    }

    /// Takes out of the queue the entry that runs after `after` others.
    pub(crate) fn remove_ready(this: &Ref<EventLoop>, after: usize) {
        let entry = this.ready.borrow_mut().remove(after);
        if let Some(entry) = entry {
            entry.let_go();
        }
    }

    /// Takes a timer out of the heap: the handle, or the alarm.
    pub(crate) fn remove_scheduled(this: &Ref<EventLoop>, object: &Obj) {
        let mut dropped = Vec::new();
        this.timers
            .borrow_mut()
            .remove(|item| item.is_of(object), &mut dropped);
        dropped.into_iter().for_each(TimerEntry::let_go);
    }

    /// Runs the entry about this object at once, instead of at its time. Returns whether there was
    /// one.
    pub(crate) fn run_waiting(this: &Ref<EventLoop>, object: &Obj) -> Result<bool, EndsProgram> {
        if let Some(alarm) = Ref::<Alarm>::of_exact(object) {
            return match alarm.take_target() {
                Some(target) => served::ring(&target).map(|()| true),
                None => Ok(false),
            };
        }
        let entry = {
            let mut ready = this.ready.borrow_mut();
            let place = ready.iter().position(|entry| entry.is_of(object));
            place.and_then(|place| ready.remove(place))
        };
        match entry {
            Some(entry) => EventLoop::run_entry(this, entry).map(|()| true),
            None => Ok(false),
        }
    }

    /// Runs a step of a native task whose entry the program has taken out of the queue.
    pub(crate) fn run_step(this: &Ref<EventLoop>, task: &Obj) -> Result<(), EndsProgram> {
        EventLoop::run_entry(this, Entry::task(task.clone()))
    }

    /// Cancels an alarm of this loop.
    pub(crate) fn cancel_alarm(this: &Ref<EventLoop>, object: &Obj) {
        if Ref::<Alarm>::of_exact(object).is_some_and(|alarm| alarm.cancel()) {
            EventLoop::timer_cancelled(this);
        }
    }
}

fn is_of(handle: &Ref<Handle>, event_loop: &Ref<EventLoop>) -> bool {
    Handle::event_loop(handle).is_some_and(|own| own.is(event_loop.as_obj()))
}

fn list(py: Python<'_>, items: impl Iterator<Item = (Shown, f64)>) -> Result<Obj, Raised> {
    let list = Obj::list(py)?;
    for (shown, when) in items {
        let item = match shown {
            Shown::Handle(handle) => handle,
            Shown::Other { object, what } => Obj::tuple(py, &[object, Obj::str(py, what)?])?,
            Shown::Alarm {
                alarm,
                target,
                cancelled,
            } => {
                let target = target.unwrap_or_else(|| Obj::none(py));
                let (when, cancelled) = (Obj::float(py, when)?, Obj::bool(py, cancelled));
                Obj::tuple(
                    py,
                    &[alarm, Obj::str(py, "alarm")?, target, when, cancelled],
                )?
            }
        };
        list.append(&item)?;
    }
    Ok(list)
}
