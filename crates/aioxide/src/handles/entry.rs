//! Entries: the items of the ready queue and the timer heap, in eight bytes each.
//!
//! A task in the ready queue is the task itself, not a handle around a bound method. That needs no
//! allocation and no attribute look-up. A step and a wake-up are the same entry, because the task
//! knows the future on which it waited.

use cpython::tagged::Tagged;
use cpython::{Hot, Obj, Ref, Visit};
use engine::Timer;

use super::handle::Handle;
use super::served;
use super::spares::Spares;
use super::thread_safe_handle::ThreadSafeHandle;
use super::timer_handle::{Alarm, TimerHandle};
use crate::interop::EndsProgram;

const HANDLE: u8 = 0;
const TASK: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 3;
const CALL: u8 = 4;
const ALARM: u8 = 5;
const NOTIFY: u8 = 6;

/// The number of cache lines that a handle or a task takes.
const OBJECT_LINES: usize = 4;

/// Something that is ready to run.
pub(crate) struct Entry(Tagged);

impl Entry {
    /// A handle.
    #[inline]
    pub(crate) fn handle(handle: Ref<Handle>) -> Entry {
        Entry(Tagged::new(handle.into_obj(), HANDLE))
    }

    /// A step or a wake-up of a native Task.
    #[inline]
    pub(crate) fn task(task: Obj) -> Entry {
        Entry(Tagged::new(task, TASK))
    }

    /// The object's descriptor can be read.
    #[inline]
    pub(crate) fn read(io: Obj) -> Entry {
        Entry(Tagged::new(io, READ))
    }

    /// The object's descriptor can be written.
    #[inline]
    pub(crate) fn write(io: Obj) -> Entry {
        Entry(Tagged::new(io, WRITE))
    }

    /// The next watcher of a native Future is told that it is done.
    #[inline]
    pub(crate) fn notify(future: Obj) -> Entry {
        Entry(Tagged::new(future, NOTIFY))
    }

    /// What the object has put off.
    #[inline]
    pub(crate) fn call(object: Obj) -> Entry {
        Entry(Tagged::new(object, CALL))
    }

    /// The handle, if it is one.
    pub(crate) fn as_handle(&self) -> Option<Ref<Handle>> {
        if self.0.tag() != HANDLE {
            return None;
        }
        self.0.with(|object| Ref::of_any(object).cloned())
    }

    /// Notes that a timer is no longer scheduled, because the entry is about to run.
    pub(crate) fn forget_schedule(&self) {
        if self.0.tag() == HANDLE {
            self.0.with(forget_schedule);
        }
    }

    /// Has the processor fetch the object ahead of its use. The entry will run soon.
    #[inline]
    pub(crate) fn prefetch(&self) {
        self.0.with(|object| object.prefetch(OBJECT_LINES));
    }

    /// Has the processor fetch the objects to which the entry's own refers. The entry will run
    /// after the next one, and its object was fetched.
    #[inline]
    pub(crate) fn prefetch_context(&self) {
        if self.0.tag() == HANDLE {
            self.0.with(|object| {
                if let Some(timer) = Ref::<TimerHandle>::of_exact_any(object) {
                    timer.parent().prefetch_context();
                } else if let Some(handle) = Ref::<Handle>::of_exact_any(object) {
                    handle.prefetch_context();
                }
            });
        }
    }

    /// The object of the entry, for code that lists the queue.
    pub(crate) fn shown(&self) -> Shown {
        let object = self.0.with(Obj::clone);
        let what = match self.0.tag() {
            HANDLE => return Shown::Handle(object),
            TASK => "step",
            READ => "read",
            WRITE => "write",
            NOTIFY => "done",
            ALARM => return Shown::alarm(object),
            _ => "deferred",
        };
        Shown::Other { object, what }
    }

    /// Whether the entry is for this very object.
    pub(crate) fn is_of(&self, object: &Obj) -> bool {
        self.0.with(|own| own.is(object))
    }

    /// Shows the objects that the entry holds to the garbage collector.
    pub(crate) fn visit(&self, visit: &mut Visit<'_>) {
        self.0.with(|object| visit_waiting(object, visit));
    }

    /// Drops the entry without running it. Other holders of the handle, or of the alarm, may be
    /// part of a cycle through it, which the loop no longer shows to the garbage collector.
    pub(crate) fn let_go(self) {
        if let Some(handle) = self.as_handle() {
            handle.track();
        } else if self.0.tag() == ALARM {
            end_alarm(&self.0.into_obj());
        }
    }

    /// The task to step, if the entry is one; otherwise the entry as it was.
    #[inline]
    pub(crate) fn into_task(self) -> Result<Obj, Entry> {
        if self.0.tag() == TASK {
            Ok(self.0.into_obj())
        } else {
            Err(self)
        }
    }

    /// Runs the entry, unless it is a task, which its loop steps. A handle that can be used again
    /// afterwards goes to the spares.
    #[inline]
    pub(crate) fn run(self, spares: &Spares) -> Result<(), EndsProgram> {
        let tag = self.0.tag();
        let object = self.0.into_obj();
        if tag == HANDLE {
            return match Ref::<Handle>::into_exact_any(object) {
                Ok(handle) => {
                    let left = Handle::run(&handle, &spares.contexts)?;
                    spares.keep_handle(handle, left);
                    Ok(())
                }
                Err(object) => run_other_handle(object, spares),
            };
        }
        match tag {
            NOTIFY => served::notify(&object),
            READ => served::read(&object),
            WRITE => served::write(&object),
            ALARM => {
                match Ref::<Alarm>::of_exact_any(&object).and_then(|alarm| alarm.take_target()) {
                    Some(target) => served::ring(&target),
                    None => Ok(()),
                }
            }
            _ => served::turn(&object),
        }
    }
}

/// Runs a handle of a subclass of Handle.
#[inline(never)]
fn run_other_handle(object: Obj, spares: &Spares) -> Result<(), EndsProgram> {
    let object = match Ref::<TimerHandle>::into_exact_any(object) {
        Ok(timer) => {
            timer.forget_schedule();
            let left = Handle::run(timer.parent(), &spares.contexts)?;
            spares.keep_timer(timer, left);
            return Ok(());
        }
        Err(object) => object,
    };
    let object = match Ref::<ThreadSafeHandle>::into_exact_any(object) {
        Ok(shared) => {
            let left = ThreadSafeHandle::run(&shared, &spares.contexts)?;
            spares.keep_thread_safe(shared, left);
            return Ok(());
        }
        Err(object) => object,
    };
    if let Some(handle) = Ref::<Handle>::of(&object) {
        let left = Handle::run(handle, &spares.contexts)?;
        spares.let_go(handle, left);
    }
    Ok(())
}

/// Something that is scheduled for a time.
pub(crate) struct TimerEntry(Tagged);

impl TimerEntry {
    /// A timer handle.
    pub(crate) fn handle(handle: Ref<TimerHandle>) -> TimerEntry {
        TimerEntry(Tagged::new(handle.into_obj(), HANDLE))
    }

    /// A timer without a handle.
    pub(crate) fn alarm(alarm: Ref<Alarm>) -> TimerEntry {
        TimerEntry(Tagged::new(alarm.into_obj(), ALARM))
    }

    /// Shows the objects that the entry holds to the garbage collector.
    pub(crate) fn visit(&self, visit: &mut Visit<'_>) {
        self.0.with(|object| visit_waiting(object, visit));
    }

    /// Drops the entry without running it, as [`Entry::let_go`]. A handle is no longer scheduled
    /// then.
    pub(crate) fn let_go(self) {
        if let Some(handle) = self.as_handle() {
            // A loop that goes is in no domain, and others may have the handle.
            handle.within(|handle| handle.forget_schedule());
            handle.track();
        } else {
            end_alarm(&self.0.into_obj());
        }
    }

    /// Notes that a handle is no longer scheduled.
    #[inline]
    pub(crate) fn forget(&self) {
        if self.0.tag() == HANDLE {
            self.0.with(forget_schedule);
        }
    }

    /// The object of the entry, for code that lists the timers.
    pub(crate) fn shown(&self) -> Shown {
        let object = self.0.with(Obj::clone);
        if self.0.tag() == HANDLE {
            Shown::Handle(object)
        } else {
            Shown::alarm(object)
        }
    }

    /// Whether the entry is for this very object.
    pub(crate) fn is_of(&self, object: &Obj) -> bool {
        self.0.with(|own| own.is(object))
    }

    /// The timer handle, if the entry is one.
    fn as_handle(&self) -> Option<Ref<TimerHandle>> {
        if self.0.tag() != HANDLE {
            return None;
        }
        self.0.with(|object| Ref::of_any(object).cloned())
    }

    /// The entry to run at its time.
    #[inline]
    pub(crate) fn into_entry(self) -> Entry {
        Entry(self.0)
    }
}

fn forget_schedule(object: &Obj) {
    if let Some(timer) = Ref::<TimerHandle>::of(object) {
        timer.forget_schedule();
    }
}

/// The object of an entry, as code that lists the queue sees it.
pub(crate) enum Shown {
    /// A handle.
    Handle(Obj),
    /// A timer without a handle: the object that it wakes, and whether it was cancelled.
    Alarm {
        alarm: Obj,
        target: Option<Obj>,
        cancelled: bool,
    },
    /// A native object, and why it is its turn.
    Other { object: Obj, what: &'static str },
}

impl Shown {
    fn alarm(alarm: Obj) -> Shown {
        let value = Ref::<Alarm>::of_exact(&alarm);
        let target = value.and_then(|value| value.target());
        let cancelled = value.is_none_or(|value| value.is_cancelled());
        Shown::Alarm {
            alarm,
            target,
            cancelled,
        }
    }
}

/// Shows the references of a handle, which the collector does not know while it waits.
fn visit_waiting(object: &Obj, visit: &mut Visit<'_>) {
    visit.object(object);
    if let Some(timer) = Ref::<TimerHandle>::of_exact_any(object) {
        visit.inside(timer);
    } else if let Some(handle) = Ref::<Handle>::of_exact_any(object) {
        visit.inside(handle);
    } else if let Some(handle) = Ref::<ThreadSafeHandle>::of_exact_any(object) {
        visit.inside(handle);
    } else if let Some(alarm) = Ref::<Alarm>::of_exact_any(object) {
        // Every other holder of the alarm holds the loop too, and shows it.
        alarm.traverse(visit);
    }
}

/// Ends an alarm that never rings: it releases its target.
fn end_alarm(object: &Obj) {
    if let Some(alarm) = Ref::<Alarm>::of_exact(object) {
        alarm.cancel();
    }
}

impl Timer for TimerEntry {
    fn sequence(&self) -> u64 {
        self.0.with(|object| {
            if self.0.tag() == ALARM {
                Ref::<Alarm>::of_exact_any(object).map_or(0, |alarm| alarm.sequence())
            } else {
                Ref::<TimerHandle>::of_any(object).map_or(0, |timer| timer.sequence())
            }
        })
    }

    fn is_cancelled(&self) -> bool {
        self.0.with(|object| {
            if self.0.tag() == ALARM {
                Ref::<Alarm>::of_exact_any(object).is_none_or(|alarm| alarm.is_cancelled())
            } else {
                Ref::<TimerHandle>::of_any(object).is_none_or(|timer| timer.parent().is_cancelled())
            }
        })
    }
}
