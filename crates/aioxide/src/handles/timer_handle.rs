//! `TimerHandle`: a handle that is scheduled for a time; and [`Alarm`], which wakes a Future.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::context::BoundContext;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot, Visit};

use super::handle::{Callback, Handle, KEPT_IN_BURSTS};
use super::served;

/// The value of a TimerHandle, behind that of its Handle. Its first fields are the slots of
/// `asyncio.TimerHandle`, in their order.
#[repr(C)]
#[derive(Default)]
pub(crate) struct TimerHandle {
    /// True while the handle waits in the heap or, being due, in the ready queue.
    scheduled: Slot,
    /// The time as the program gave it, if that was no float.
    given: Slot,
    /// The time in seconds of `loop.time()`.
    seconds: Cell<f64>,
    sequence: Cell<u64>,
}

/// The time at which a timer is due.
pub(crate) struct When {
    /// The time in seconds of `loop.time()`.
    pub(crate) seconds: f64,
    /// The time as the program gave it, if that was no float.
    pub(crate) given: Option<Obj>,
}

impl TimerHandle {
    /// Makes a handle that the loop is about to schedule.
    #[inline]
    pub(crate) fn create(
        py: Python<'_>,
        event_loop: &Obj,
        callback: Callback,
        context: BoundContext,
        when: When,
        sequence: u64,
    ) -> Result<Ref<TimerHandle>, Raised> {
        let handle = Handle::value(event_loop, callback, context);
        let timer = || TimerHandle {
            scheduled: Slot::new(Some(Obj::bool(py, true))),
            given: Slot::new(when.given),
            seconds: Cell::new(when.seconds),
            sequence: Cell::new(sequence),
        };
        Ref::with_parent(py, || handle, timer)
    }

    /// Schedules a spare handle for another time.
    #[inline]
    pub(crate) fn refill(&self, py: Python<'_>, when: When, sequence: u64) {
        self.seconds.set(when.seconds);
        self.given.set(when.given);
        self.sequence.set(sequence);
        self.note_schedule(py);
    }

    fn when(this: &Ref<TimerHandle>) -> Result<Obj, Raised> {
        match this.given.get() {
            Some(given) => Ok(given),
            None => Obj::float(this.py(), this.seconds.get()),
        }
    }

    /// The time in seconds of `loop.time()`. Raises TypeError if the program gave no number.
    pub(crate) fn seconds(&self) -> Result<f64, Raised> {
        match self.given.get() {
            Some(given) => given.to_f64(),
            None => Ok(self.seconds.get()),
        }
    }

    /// The handle's rank among those of the same time.
    #[inline]
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence.get()
    }

    /// Whether the handle waits in the heap or, being due, in the ready queue.
    #[inline]
    pub(crate) fn is_scheduled(&self) -> bool {
        self.scheduled.is_true_object()
    }

    /// Notes that the handle waits in the heap.
    #[inline]
    pub(crate) fn note_schedule(&self, py: Python<'_>) {
        self.scheduled.set(Some(Obj::bool(py, true)));
    }

    /// Notes that the handle no longer waits.
    #[inline]
    pub(crate) fn forget_schedule(&self) {
        self.scheduled.set(None);
    }

    fn init(this: &Ref<TimerHandle>, args: &Args<'_>) -> Result<(), Raised> {
        let names = &["when", "callback", "args", "loop", "context"];
        let [when, callback, args, event_loop, context] = args.bind("TimerHandle", names, 5, 4)?;
        Handle::fill(this.parent(), callback, args, event_loop, context)?;
        this.given.set(when);
        this.forget_schedule();
        Ok(())
    }

    fn cancel(this: &Ref<TimerHandle>) -> Result<(), Raised> {
        let handle: &Handle = this.parent();
        if handle.is_cancelled() {
            return Ok(());
        }
        let Some(event_loop) = Handle::event_loop(this.parent()) else {
            return Handle::cancel(this.parent());
        };
        let scheduled = this.is_scheduled();
        // The mark comes first, so that a sweep of the heap drops the handle.
        let noted = handle.cancel_and(this.py(), || {
            served::kinds().is_some_and(|kinds| (kinds.timer_cancelled)(&event_loop, scheduled))
        });
        if noted {
            return Ok(());
        }
        Handle::cancel(this.parent())?;
        if scheduled {
            let name = pyo3::intern!(this.py(), "_timer_handle_cancelled");
            event_loop.method(name, &[this.as_obj()])?;
        }
        Ok(())
    }
}

impl Hot for TimerHandle {
    type Parent = Handle;
    const NAME: &'static std::ffi::CStr = c"aioxide.TimerHandle";
    const DOC: &'static std::ffi::CStr = c"Object returned by timed callback registration methods.";
    const FREELIST: usize = 2048;
    const FREELIST_IN_BURSTS: usize = KEPT_IN_BURSTS;
    /// Where the value lies behind the slots of the base, a program can make a cycle through these.
    const TRACKED: bool = cfg!(Py_GIL_DISABLED);
    const FINALIZES: bool = false;
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        builder
            .new_values(|_| Ok((Handle::default(), TimerHandle::default())))
            .init(TimerHandle::init)
            .method0(
                c"cancel",
                c"cancel($self, /)\n--\n\nDo not run the callback.",
                TimerHandle::cancel,
            )
            .method0(
                c"when",
                c"when($self, /)\n--\n\nThe time of the callback, in seconds of loop.time().",
                TimerHandle::when,
            )
            .get_set(
                c"_when",
                c"The time of the callback, in seconds of loop.time().",
                TimerHandle::when,
                |this, value| {
                    this.given.set(value.cloned());
                    Ok(())
                },
            )
            .get_set(
                c"_scheduled",
                c"Whether the handle is among the loop's timers.",
                |this| this.is_scheduled(),
                |this, value| {
                    let scheduled = value.filter(|value| value.is_true_object());
                    this.scheduled.set(scheduled.cloned());
                    Ok(())
                },
            );
    }

    fn leave(this: &Ref<Self>) {
        this.parent().give_back_context();
    }

    cpython::members! {
        c"_scheduled": scheduled,
        c"_when": given,
    }

    fn traverse(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.given);
    }

    fn clear(&self) {}
}

/// A timer without a handle: when its time comes, it wakes its target.
///
/// The garbage collector does not know alarms; the loop that has one shows the alarm's target. So
/// an object that holds an alarm must hold the loop as long, and show it. Otherwise the target
/// would pass for garbage.
pub(crate) struct Alarm {
    target: Slot,
    sequence: u64,
    cancelled: Cell<bool>,
}

impl Alarm {
    /// Makes an alarm for a target.
    #[inline]
    pub(crate) fn create(py: Python<'_>, target: Obj, sequence: u64) -> Result<Ref<Alarm>, Raised> {
        Ref::make(py, || Alarm {
            target: Slot::new(Some(target)),
            sequence,
            cancelled: Cell::new(false),
        })
    }

    /// The alarm's rank among those of the same time.
    #[inline]
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether the alarm was cancelled.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    /// Cancels the alarm. Returns whether it still waited.
    pub(crate) fn cancel(&self) -> bool {
        self.cancelled.set(true);
        self.target.take().is_some()
    }

    /// The object that the alarm will wake.
    pub(crate) fn target(&self) -> Option<Obj> {
        self.target.get()
    }

    /// Takes the target out.
    #[inline]
    pub(crate) fn take_target(&self) -> Option<Obj> {
        self.target.take()
    }
}

impl Hot for Alarm {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide._aioxide.Alarm";
    const DOC: &'static std::ffi::CStr = c"A timer of the loop's own.";
    const FREELIST: usize = 2048;
    const TRACKED: bool = false;
    const SUBCLASSABLE: bool = false;
    const FINALIZES: bool = false;
    cpython::hot_type!();

    fn build(_: &mut Builder<Self>) {}

    cpython::holds!(target);
}
