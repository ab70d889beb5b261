//! The event loop: calls, timers, readiness, signals and the ends of child processes feed one ready
//! queue; each iteration runs what was in it.
//!
//! - [`schedule`]: `call_soon` and its family, which fill the queue and the heap.
//! - [`run`]: one iteration, and `run_forever`.
//! - [`manual_clock`]: loops on another clock than the system's.
//! - [`held`]: writes that leave at the end of the iteration.
//! - [`watch`]: descriptors: readers, writers and native transports.
//!
//! All state belongs to the loop, and only threads that hold the GIL touch it. No borrow of it is
//! held across a call into Python, which may call the loop again.

mod clock;
mod held;
mod listing;
mod manual_clock;
mod own_select;
mod run;
mod schedule;
mod watch;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use cpython::{Obj, Python, Raised, Ref, Slot, Visit};
use engine::{Clock, Interest, Nanos, Pacing, Readiness, Ready, Selector, Timers, Waker};

use crate::handles::{Entry, Spares, TimerEntry};
use crate::interop::python_side;
use crate::interop::replaced::is_replaced_in_class;
pub(crate) use clock::watch_clock;
use held::Held;
pub(crate) use manual_clock::{clock_of_new_loop, on_manual_clock};
use run::Stepper;
use watch::FdWatchTable;
pub(crate) use watch::Side;

/// The token of the loop's own descriptor. The token of any other is its number.
const WAKER: u64 = u64::MAX;

/// Public methods that a program may replace, in a subclass or on the loop itself, and that
/// native code would otherwise not call.
const REPLACEABLE: [&str; 8] = [
    "call_soon",
    "call_soon_threadsafe",
    "call_later",
    "call_at",
    "create_future",
    "create_task",
    "time",
    EXECUTOR,
];

/// The method whose replacement leaves the short ways open: only `to_thread()` calls it.
const EXECUTOR: &str = "run_in_executor";

/// The value of a loop.
pub(crate) struct EventLoop {
    ready: RefCell<Ready<Entry>>,
    timers: RefCell<Timers<TimerEntry>>,
    watches: RefCell<FdWatchTable>,
    selector: RefCell<Option<Arc<Selector>>>,
    /// None once the loop is closed, like the selector.
    waker: RefCell<Option<Arc<Waker>>>,
    /// The numbers of signals that have come and were not handed on yet, in order.
    signalled: RefCell<Vec<u8>>,
    /// The clock also decides how the loop waits: see `engine::wait`.
    clock: Clock,
    /// Decides when to look at clock and selector. No entries may run without a look while the next
    /// iteration must look: when the loop stops, is in debug mode, or has replaced methods.
    pacing: Pacing,
    /// Runs a step or a wake-up of a task.
    step: Stepper,
    /// Handles and contexts to use again, while the loop runs.
    pub(crate) spares: Spares,
    /// Where events are collected, kept between iterations.
    events: RefCell<Vec<Readiness>>,
    /// Number of the next timer.
    sequence: Cell<u64>,
    /// Number of the iteration.
    iteration: Cell<u32>,
    held: Held,
    /// Whether the loop's thread waits in the selector (without the GIL).
    waiting: Cell<bool>,
    stopping: Cell<bool>,
    closed: AtomicBool,
    debug: AtomicBool,
    replaced: Cell<bool>,
    time_replaced: Cell<bool>,
    /// Whether a method of the loop is replaced, whatever the clock is.
    method_replaced: Cell<bool>,
    time_method_replaced: Cell<bool>,
    /// Whether the loop goes by a clock of the program's.
    clock_replaced: Cell<bool>,
    executor_replaced: Cell<bool>,
    /// Whether the class has been searched for replaced methods.
    class_checked: Cell<bool>,
    /// The function that the program has put in the place of the selector's `select`.
    select: Slot,
    /// The readiness that this function has found in this iteration, while it runs.
    found: RefCell<Option<Vec<Readiness>>>,
    /// How much earlier than its time a timer fires while the loop waits by that function, in
    /// nanoseconds.
    pub(crate) resolution: Cell<Nanos>,
    /// Whether native code takes the short ways: the loop is open and not in debug mode, and no
    /// method is replaced.
    fast: Cell<bool>,
    /// `threading.get_ident()` of the thread that runs the loop; empty while none does.
    thread_id: Slot,
    /// Whether there is one. All threads may read this, and whether the loop is closed or in debug
    /// mode, at any time.
    running: AtomicBool,
    pub(crate) slow_callback_duration: Slot,
    pub(crate) current_handle: Slot,
    pub(crate) task_factory: Slot,
    pub(crate) default_executor: Slot,
    /// The queue of the default executor, if that is of our own making.
    pub(crate) default_jobs: Slot,
    pub(crate) executor_shutdown_called: Cell<bool>,
    /// Outcomes of calls on other threads, to be delivered.
    pub(crate) outcomes: Slot,
}

impl EventLoop {
    /// The value of a new loop that steps tasks by `step` and goes by `clock`. Raises OSError where
    /// the system has no descriptor left.
    pub(crate) fn value(py: Python<'_>, step: Stepper, clock: Clock) -> Result<EventLoop, Raised> {
        python_side(py)?;
        let value = EventLoop::open(step, clock).map_err(|error| Raised::os_error(py, error))?;
        value.look_for_clock(py)?;
        Ok(value)
    }

    fn open(step: Stepper, clock: Clock) -> std::io::Result<EventLoop> {
        let selector = Selector::new()?;
        let waker = Waker::new()?;
        selector.register(waker.fd(), WAKER, Interest::READ)?;
        Ok(EventLoop {
            ready: RefCell::new(Ready::new()),
            timers: RefCell::new(Timers::new()),
            watches: RefCell::new(FdWatchTable::default()),
            selector: RefCell::new(Some(Arc::new(selector))),
            waker: RefCell::new(Some(Arc::new(waker))),
            signalled: RefCell::default(),
            clock,
            pacing: Pacing::new(),
            step,
            spares: Spares::default(),
            events: RefCell::new(Vec::new()),
            sequence: Cell::new(0),
            iteration: Cell::new(0),
            held: Held::default(),
            waiting: Cell::new(false),
            stopping: Cell::new(false),
            closed: AtomicBool::new(false),
            debug: AtomicBool::new(false),
            replaced: Cell::new(false),
            time_replaced: Cell::new(false),
            method_replaced: Cell::new(false),
            time_method_replaced: Cell::new(false),
            clock_replaced: Cell::new(false),
            executor_replaced: Cell::new(false),
            class_checked: Cell::new(false),
            select: Slot::default(),
            found: RefCell::new(None),
            resolution: Cell::new(1),
            fast: Cell::new(false),
            thread_id: Slot::default(),
            running: AtomicBool::new(false),
            slow_callback_duration: Slot::default(),
            current_handle: Slot::default(),
            task_factory: Slot::default(),
            default_executor: Slot::default(),
            default_jobs: Slot::default(),
            executor_shutdown_called: Cell::new(false),
            outcomes: Slot::default(),
        })
    }

    /// Whether `close()` was called.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// Whether a thread runs the loop.
    #[inline]
    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Relaxed)
    }

    /// Sets the thread that runs the loop, by its `threading.get_ident()`; nothing for none.
    pub(crate) fn set_thread_id(&self, thread_id: Option<Obj>) {
        self.running.store(thread_id.is_some(), Relaxed);
        self.thread_id.set(thread_id);
    }

    /// The thread that runs the loop.
    pub(crate) fn thread_id(&self) -> Option<Obj> {
        self.thread_id.get()
    }

    /// Whether the loop is in debug mode.
    #[inline]
    pub(crate) fn debug(&self) -> bool {
        self.debug.load(Relaxed)
    }

    /// Enters or leaves debug mode.
    pub(crate) fn set_debug(&self, debug: bool) {
        self.debug.store(debug, Relaxed);
        self.update_fast();
    }

    /// Makes the running iteration the last one.
    pub(crate) fn stop(&self) {
        self.set_stopping(true);
    }

    /// Whether the running iteration is the last one.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Sets whether the running iteration is the last one.
    pub(crate) fn set_stopping(&self, stopping: bool) {
        self.stopping.set(stopping);
        self.pacing.look_next();
    }

    /// Raises RuntimeError if the loop is closed.
    #[inline]
    pub(crate) fn check_closed(&self, py: Python<'_>) -> Result<(), Raised> {
        if self.closed.load(Relaxed) {
            return Err(Raised::runtime_error(py, "Event loop is closed"));
        }
        Ok(())
    }

    /// Whether native code may take the short ways: the loop is open, not in debug mode, and
    /// none of its public methods was replaced.
    #[inline]
    pub(crate) fn is_fast(this: &Ref<EventLoop>) -> bool {
        this.fast.get() || (!this.class_checked.get() && EventLoop::check_class(this))
    }

    /// Whether the program has replaced a public method.
    pub(crate) fn is_replaced(this: &Ref<EventLoop>) -> bool {
        if !this.class_checked.get() {
            EventLoop::check_class(this);
        }
        this.replaced.get()
    }

    /// Looks for replaced methods in the loop's class.
    #[cold]
    fn check_class(this: &Ref<EventLoop>) -> bool {
        let py = this.py();
        Ref::remember_class(this);
        this.class_checked.set(true);
        let class = this.as_obj().class();
        let own = Ref::<EventLoop>::class(py);
        for name in REPLACEABLE {
            if is_replaced_in_class(&class, &own, &[name]) {
                this.note_replaced(name);
            }
        }
        this.update_fast();
        this.fast.get()
    }

    /// Notes that an attribute of the loop is being set, which may be a public method.
    pub(crate) fn attribute_set(this: &Ref<EventLoop>, name: &Obj) {
        if let Ok(name) = name.as_str() {
            if REPLACEABLE.contains(&name) {
                this.note_replaced(name);
                this.update_fast();
            } else if name == "__class__" {
                this.class_checked.set(false);
                this.update_fast();
            }
        }
    }

    /// Whether the program has replaced `run_in_executor`.
    pub(crate) fn is_executor_replaced(&self) -> bool {
        self.executor_replaced.get()
    }

    fn note_replaced(&self, name: &str) {
        if name == EXECUTOR {
            self.executor_replaced.set(true);
            return;
        }
        self.method_replaced.set(true);
        if name == "time" {
            self.time_method_replaced.set(true);
        }
        self.update_replaced();
    }

    fn update_replaced(&self) {
        let clock = self.clock_replaced.get();
        let own_select = self.select.is_some();
        self.replaced
            .set(clock || own_select || self.method_replaced.get());
        self.time_replaced
            .set(clock || self.time_method_replaced.get());
        self.update_fast();
    }

    fn update_fast(&self) {
        let fast = self.class_checked.get()
            && !self.debug.load(Relaxed)
            && !self.replaced.get()
            && !self.closed.load(Relaxed);
        self.fast.set(fast);
        self.pacing.look_next();
    }

    /// Notes that a timer of the loop was cancelled. Returns false if the loop is not native.
    pub(crate) fn note_timer_cancelled(event_loop: &Obj, scheduled: bool) -> bool {
        match Ref::<EventLoop>::of(event_loop) {
            Some(native) if !native.debug() => {
                if scheduled {
                    EventLoop::timer_cancelled(native);
                }
                true
            }
            _ => false,
        }
    }

    /// Takes a context that a handle of the loop leaves behind, if it can be used again.
    pub(crate) fn reclaim_context(event_loop: &Obj, context: &Slot) {
        if let Some(native) = Ref::<EventLoop>::of(event_loop) {
            native.spares.contexts.reclaim(context);
        }
    }

    /// Whether the loop is in debug mode, if it is a native one.
    pub(crate) fn debug_of(event_loop: &Obj) -> Option<bool> {
        Ref::<EventLoop>::of(event_loop).map(|native| native.debug())
    }

    /// Closes the loop: releases everything that waits, and the descriptors.
    pub(crate) fn close(this: &Ref<EventLoop>) {
        this.closed.store(true, Relaxed);
        this.update_fast();
        let ready = this.ready.borrow_mut().drain();
        let timers = this.timers.borrow_mut().drain();
        let watches = std::mem::take(&mut *this.watches.borrow_mut());
        let selector = this.selector.borrow_mut().take();
        // Dropping runs foreign code; nothing is borrowed any more.
        ready.for_each(Entry::let_go);
        timers.for_each(TimerEntry::let_go);
        drop(watches);
        drop(selector);
        this.held.close();
        Spares::trim_all(this.py());
        drop(this.waker.borrow_mut().take());
    }

    /// The descriptor that `signal.set_wakeup_fd` gets, or -1 if the loop is closed. The first call
    /// makes it, and the loop's waker goes through it from then on. Raises OSError where the system
    /// has no descriptor left.
    pub(crate) fn signal_fd(this: &Ref<EventLoop>) -> Result<i32, Raised> {
        let (waker, selector) = (this.waker.borrow().clone(), this.selector.borrow().clone());
        let (Some(before), Some(selector)) = (waker, selector) else {
            return Ok(-1);
        };
        if let Some(fd) = before.signal_fd() {
            return Ok(fd);
        }
        let waker = Waker::with_signals()
            .and_then(|waker| {
                selector
                    .register(waker.fd(), WAKER, Interest::READ)
                    .map(|()| waker)
            })
            .map_err(|error| Raised::os_error(this.py(), error))?;
        // A thread that still notifies the previous waker has put its entry into the queue by now,
        // so the loop sees that before it waits.
        if this.waiting.get() {
            before.notify();
        }
        let _ = selector.unregister(before.fd());
        let fd = waker.signal_fd().unwrap_or(-1);
        this.waker.replace(Some(Arc::new(waker)));
        Ok(fd)
    }

    /// The number of the last poll.
    #[inline]
    pub(crate) fn polls(&self) -> u32 {
        self.pacing.polls()
    }

    /// Makes the next iteration poll: what was just sent or closed may have made another descriptor
    /// of the program ready, and asyncio would see that in its next iteration.
    #[inline]
    pub(crate) fn poll_next(&self) {
        self.pacing.poll_next();
    }

    /// Ends the selector's wait, from any thread.
    pub(crate) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.notify();
        }
    }

    /// Shows the garbage collector what the loop holds.
    pub(crate) fn visit(&self, visit: &mut Visit<'_>) {
        if let Ok(ready) = self.ready.try_borrow() {
            ready.iter().for_each(|entry| entry.visit(visit));
        }
        if let Ok(timers) = self.timers.try_borrow() {
            timers.iter().for_each(|(_, timer)| timer.visit(visit));
        }
        if let Ok(watches) = self.watches.try_borrow() {
            watches.visit(visit);
        }
        self.held.visit(visit);
        self.spares.visit(visit);
        visit.slot(&self.select);
        visit.slot(&self.thread_id);
        visit.slot(&self.slow_callback_duration);
        visit.slot(&self.current_handle);
        visit.slot(&self.task_factory);
        visit.slot(&self.default_executor);
        visit.slot(&self.default_jobs);
        visit.slot(&self.outcomes);
    }

    /// Releases what can be part of a cycle.
    pub(crate) fn release(&self) {
        let ready = self.ready.try_borrow_mut().map(|mut ready| ready.drain());
        let timers = self
            .timers
            .try_borrow_mut()
            .map(|mut timers| timers.drain());
        let watches = self
            .watches
            .try_borrow_mut()
            .map(|mut table| std::mem::take(&mut *table));
        if let Ok(ready) = ready {
            ready.for_each(Entry::let_go);
        }
        if let Ok(timers) = timers {
            timers.for_each(TimerEntry::let_go);
        }
        drop(watches);
        self.spares.end();
        self.select.set(None);
        self.current_handle.set(None);
        self.task_factory.set(None);
        self.default_executor.set(None);
        self.default_jobs.set(None);
        self.outcomes.set(None);
    }
}
