//! Entries: what the ready queue and the timer heap hold, in eight bytes each.
//!
//! A task in the ready queue is the task itself, not a handle around a bound method: no
//! allocation, no attribute look-up. A step and a wake-up are the same entry: the task knows
//! which future it waited on.

use std::sync::OnceLock;

use cpython::tagged::Tagged;
use cpython::{Hot, Obj, Raised, Ref, Slot, Visit};
use engine::Timer;

use super::handle::Handle;
use super::spares::Spares;
use super::thread_safe_handle::ThreadSafeHandle;
use super::timer_handle::{Alarm, TimerHandle};

const HANDLE: u8 = 0;
const TASK: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 3;
const CALL: u8 = 4;
const ALARM: u8 = 5;
const TELL: u8 = 6;

/// Cache lines that a handle or a task takes.
const OBJECT_LINES: usize = 4;

/// Something that is ready to run.
pub(crate) struct Entry(Tagged);

/// How entries run that belong to rooms further right: functions that those rooms register when
/// the module starts. An error ends `run_forever`: KeyboardInterrupt and SystemExit only.
pub(crate) struct Runners {
    /// A descriptor of the object can be read.
    pub(crate) read: fn(&Obj) -> Result<(), Raised>,
    /// A descriptor of the object can be written.
    pub(crate) write: fn(&Obj) -> Result<(), Raised>,
    /// What a transport has put off.
    pub(crate) call: fn(&Obj) -> Result<(), Raised>,
    /// The Future is done: the next of its watchers is told.
    pub(crate) tell: fn(&Obj) -> Result<(), Raised>,
    /// The time of an alarm's target has come.
    pub(crate) alarm: fn(&Obj) -> Result<(), Raised>,
    /// A timer of the loop was cancelled, one that is scheduled if it says so; false if the loop
    /// is not native or in debug mode: then it has done nothing.
    pub(crate) timer_cancelled: fn(&Obj, bool) -> bool,
    /// Takes a context that a handle of the loop leaves behind, if it is as good as new.
    pub(crate) reclaim: fn(&Obj, &Slot),
    /// Whether the loop is in debug mode, if it is a native one.
    pub(crate) debug: fn(&Obj) -> Option<bool>,
}

static RUNNERS: OnceLock<Runners> = OnceLock::new();

impl Runners {
    /// The functions, once registered.
    #[inline]
    pub(crate) fn get() -> Option<&'static Runners> {
        RUNNERS.get()
    }

    /// Registers the functions, once.
    pub(crate) fn register(self) {
        let _ = RUNNERS.set(self);
    }
}

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
    pub(crate) fn tell(future: Obj) -> Entry {
        Entry(Tagged::new(future, TELL))
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
        self.0.with(|object| Ref::of(object).cloned())
    }

    /// It will run soon: has the processor fetch the object ahead of its use.
    #[inline]
    pub(crate) fn prefetch(&self) {
        self.0.with(|object| object.prefetch(OBJECT_LINES));
    }

    /// It will run next but one, and was fetched: fetches what it refers to.
    #[inline]
    pub(crate) fn prefetch_context(&self) {
        if self.0.tag() == HANDLE {
            self.0.with(|object| {
                if let Some(timer) = Ref::<TimerHandle>::of_exact(object) {
                    timer.parent().prefetch_context();
                } else if let Some(handle) = Ref::<Handle>::of_exact(object) {
                    handle.prefetch_context();
                }
            });
        }
    }

    /// Shows what it holds to the garbage collector.
    pub(crate) fn visit(&self, visit: &mut Visit<'_>) {
        self.0.with(|object| visit_waiting(object, visit));
    }

    /// Drops it unrun. Who else holds the handle, or the alarm, may be part of a cycle through it,
    /// which the loop no longer shows to the garbage collector.
    pub(crate) fn let_go(self) {
        if let Some(handle) = self.as_handle() {
            handle.track();
        } else if self.0.tag() == ALARM {
            end_alarm(&self.0.into_obj());
        }
    }

    /// The task to step, if it is one; else the entry as it was.
    #[inline]
    pub(crate) fn into_task(self) -> Result<Obj, Entry> {
        if self.0.tag() == TASK {
            Ok(self.0.into_obj())
        } else {
            Err(self)
        }
    }

    /// Runs it, unless it is a task, which its loop steps; what can be used again afterwards goes
    /// to the spares. Fails only with what ends the program.
    #[inline]
    pub(crate) fn run(self, spares: &Spares) -> Result<(), Raised> {
        let tag = self.0.tag();
        let object = self.0.into_obj();
        if tag == HANDLE {
            return match Ref::<Handle>::into_exact(object) {
                Ok(handle) => {
                    let left = Handle::run(&handle, &spares.contexts)?;
                    spares.keep_handle(handle, left);
                    Ok(())
                }
                Err(object) => run_other_handle(object, spares),
            };
        }
        let Some(runners) = RUNNERS.get() else {
            return Ok(());
        };
        match tag {
            TELL => (runners.tell)(&object),
            READ => (runners.read)(&object),
            WRITE => (runners.write)(&object),
            ALARM => match Ref::<Alarm>::of_exact(&object).and_then(|alarm| alarm.take_target()) {
                Some(target) => (runners.alarm)(&target),
                None => Ok(()),
            },
            _ => (runners.call)(&object),
        }
    }
}

/// Runs a handle of another class than Handle itself.
#[inline(never)]
fn run_other_handle(object: Obj, spares: &Spares) -> Result<(), Raised> {
    let object = match Ref::<TimerHandle>::into_exact(object) {
        Ok(timer) => {
            timer.set_scheduled(false);
            let left = Handle::run(timer.parent(), &spares.contexts)?;
            spares.keep_timer(timer, left);
            return Ok(());
        }
        Err(object) => object,
    };
    if let Some(shared) = Ref::<ThreadSafeHandle>::of_exact(&object) {
        let left = ThreadSafeHandle::run(shared, &spares.contexts)?;
        spares.let_go(shared.parent(), left);
    } else if let Some(handle) = Ref::<Handle>::of(&object) {
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

    /// Shows what it holds to the garbage collector.
    pub(crate) fn visit(&self, visit: &mut Visit<'_>) {
        self.0.with(|object| visit_waiting(object, visit));
    }

    /// Drops it unrun, as [`Entry::let_go`]; the handle is no longer scheduled.
    pub(crate) fn let_go(self) {
        if let Some(handle) = self.as_handle() {
            handle.set_scheduled(false);
            handle.track();
        } else {
            end_alarm(&self.0.into_obj());
        }
    }

    /// It is no longer scheduled, if it is a handle.
    #[inline]
    pub(crate) fn forget(&self) {
        if self.0.tag() == HANDLE {
            self.0.with(|object| {
                if let Some(timer) = Ref::<TimerHandle>::of(object) {
                    timer.set_scheduled(false);
                }
            });
        }
    }

    /// The timer handle, if it is one.
    fn as_handle(&self) -> Option<Ref<TimerHandle>> {
        if self.0.tag() != HANDLE {
            return None;
        }
        self.0.with(|object| Ref::of(object).cloned())
    }

    /// What runs now that the time has come.
    #[inline]
    pub(crate) fn into_entry(self) -> Entry {
        Entry(self.0)
    }
}

/// Handles are unknown to the collector while they wait: what they hold is the loop's.
fn visit_waiting(object: &Obj, visit: &mut Visit<'_>) {
    visit.object(object);
    if let Some(timer) = Ref::<TimerHandle>::of_exact(object) {
        visit.inside(timer);
    } else if let Some(handle) = Ref::<Handle>::of_exact(object) {
        visit.inside(handle);
    } else if let Some(handle) = Ref::<ThreadSafeHandle>::of_exact(object) {
        visit.inside(handle);
    } else if let Some(alarm) = Ref::<Alarm>::of_exact(object) {
        // Whoever else holds it holds the loop too, and shows that.
        alarm.traverse(visit);
    }
}

/// An alarm that never rings lets go of what it was for.
fn end_alarm(object: &Obj) {
    if let Some(alarm) = Ref::<Alarm>::of_exact(object) {
        alarm.cancel();
    }
}

impl Timer for TimerEntry {
    fn sequence(&self) -> u64 {
        self.0.with(|object| {
            if self.0.tag() == ALARM {
                Ref::<Alarm>::of_exact(object).map_or(0, |alarm| alarm.sequence())
            } else {
                Ref::<TimerHandle>::of(object).map_or(0, |timer| timer.sequence())
            }
        })
    }

    fn is_cancelled(&self) -> bool {
        self.0.with(|object| {
            if self.0.tag() == ALARM {
                Ref::<Alarm>::of_exact(object).is_none_or(|alarm| alarm.is_cancelled())
            } else {
                Ref::<TimerHandle>::of(object).is_none_or(|timer| timer.parent().is_cancelled())
            }
        })
    }
}
