//! The event loop: five sources feed one ready queue; each iteration drains what was there.
//!
//! - [`schedule`]: `call_soon` and its family; what goes into the queue and the heap.
//! - [`run`]: one iteration, and `run_forever`.
//! - [`held`]: writes that leave at the end of the iteration.
//! - [`watch`]: descriptors: readers, writers and native transports.
//!
//! All state belongs to the loop and is only touched by threads that hold the GIL. Nothing
//! borrowed from it is held across a call into Python, which may come back at any time.

mod held;
mod run;
mod schedule;
mod watch;

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use cpython::{Obj, Python, Raised, Ref, Slot, Visit};
use engine::{Clock, Event, Interest, Nanos, Ready, Selector, SignalPipe, Timers, Waker};

use crate::handles::{Entry, Spares, TimerEntry};
use held::Held;
pub(crate) use held::Sending;
pub(crate) use watch::Side;
use watch::WatchTable;

/// Tokens of the loop's own descriptors; those of others are their numbers.
const WAKER: u64 = u64::MAX;
const SIGNALS: u64 = u64::MAX - 1;

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

/// The one of them that keeps nobody from the short ways: only `to_thread()` calls it.
const EXECUTOR: &str = "run_in_executor";

/// The value of a loop.
pub(crate) struct EventLoop {
    ready: RefCell<Ready<Entry>>,
    timers: RefCell<Timers<TimerEntry>>,
    watches: RefCell<WatchTable>,
    selector: RefCell<Option<Arc<Selector>>>,
    /// Nothing once the loop is closed, as with the selector.
    waker: RefCell<Option<Arc<Waker>>>,
    signals: RefCell<Option<SignalPipe>>,
    clock: Clock,
    /// Handles and contexts to use again, while the loop runs.
    pub(crate) spares: Spares,
    /// Where events are collected, kept between iterations.
    events: RefCell<Vec<Event>>,
    /// Number of the next timer.
    sequence: Cell<u64>,
    /// Number of the last look at the selector.
    looks: Cell<u32>,
    /// Looks in a row that found nothing before the loop had to wait, and then one event.
    vain_looks: Cell<u32>,
    /// Time of the last look.
    polled: Cell<Nanos>,
    /// Entries that may run before the next look …
    budget: Cell<usize>,
    /// … once these have, before which not even the clock is looked at. None of them, where the next
    /// iteration must look around: the loop stops, is in debug mode, or has replaced methods.
    unlooked: Cell<usize>,
    /// Number of the iteration.
    iteration: Cell<u32>,
    held: Held,
    /// Whether the loop's thread waits in the selector (without the GIL).
    waiting: Cell<bool>,
    stopping: Cell<bool>,
    closed: Cell<bool>,
    debug: Cell<bool>,
    overridden: Cell<bool>,
    time_overridden: Cell<bool>,
    executor_overridden: Cell<bool>,
    /// Whether the class has been searched for replaced methods.
    class_checked: Cell<bool>,
    /// Neither closed nor in debug mode nor overridden: native code takes the short ways.
    fast: Cell<bool>,
    /// `threading.get_ident()` of the thread that runs the loop, or nothing.
    pub(crate) thread_id: Slot,
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
    /// The value of a new loop. Raises OSError where the system has no descriptor left.
    pub(crate) fn value(py: Python<'_>) -> Result<EventLoop, Raised> {
        EventLoop::open().map_err(|error| Raised::os_error(py, error))
    }

    fn open() -> std::io::Result<EventLoop> {
        let selector = Selector::new()?;
        let waker = Waker::new()?;
        let signals = SignalPipe::new()?;
        selector.register(waker.fd(), WAKER, Interest::READ)?;
        selector.register(signals.read_fd(), SIGNALS, Interest::READ)?;
        Ok(EventLoop {
            ready: RefCell::new(Ready::new()),
            timers: RefCell::new(Timers::new()),
            watches: RefCell::new(WatchTable::default()),
            selector: RefCell::new(Some(Arc::new(selector))),
            waker: RefCell::new(Some(Arc::new(waker))),
            signals: RefCell::new(Some(signals)),
            clock: Clock::monotonic(),
            spares: Spares::default(),
            events: RefCell::new(Vec::new()),
            sequence: Cell::new(0),
            looks: Cell::new(0),
            vain_looks: Cell::new(0),
            polled: Cell::new(0),
            budget: Cell::new(0),
            unlooked: Cell::new(0),
            iteration: Cell::new(0),
            held: Held::default(),
            waiting: Cell::new(false),
            stopping: Cell::new(false),
            closed: Cell::new(false),
            debug: Cell::new(false),
            overridden: Cell::new(false),
            time_overridden: Cell::new(false),
            executor_overridden: Cell::new(false),
            class_checked: Cell::new(false),
            fast: Cell::new(false),
            thread_id: Slot::default(),
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
        self.closed.get()
    }

    /// Whether a thread runs the loop.
    #[inline]
    pub(crate) fn is_running(&self) -> bool {
        self.thread_id.is_some()
    }

    /// Whether the loop is in debug mode.
    #[inline]
    pub(crate) fn debug(&self) -> bool {
        self.debug.get()
    }

    /// Enters or leaves debug mode.
    pub(crate) fn set_debug(&self, debug: bool) {
        self.debug.set(debug);
        self.update_fast();
    }

    /// The running iteration is the last one.
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
        self.unlooked.set(0);
    }

    /// Raises RuntimeError if the loop is closed.
    #[inline]
    pub(crate) fn check_closed(&self, py: Python<'_>) -> Result<(), Raised> {
        if self.closed.get() {
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
    pub(crate) fn is_overridden(this: &Ref<EventLoop>) -> bool {
        if !this.class_checked.get() {
            EventLoop::check_class(this);
        }
        this.overridden.get()
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
            let interned = pyo3::types::PyString::intern(py, name);
            match (class.attr(&interned), own.attr(&interned)) {
                (Ok(found), Ok(native)) if found.is(&native) => {}
                (found, _) => {
                    if let Err(raised) = found {
                        drop(raised.take(py));
                    }
                    this.replaced(name);
                }
            }
        }
        this.update_fast();
        this.fast.get()
    }

    /// An attribute of the loop is being set: it may be a public method.
    pub(crate) fn attribute_set(this: &Ref<EventLoop>, name: &Obj) {
        if let Ok(name) = name.as_str() {
            if REPLACEABLE.contains(&name) {
                this.replaced(name);
                this.update_fast();
            }
        }
    }

    /// Whether the program has replaced `run_in_executor`.
    pub(crate) fn is_executor_overridden(&self) -> bool {
        self.executor_overridden.get()
    }

    fn replaced(&self, name: &str) {
        if name == EXECUTOR {
            self.executor_overridden.set(true);
            return;
        }
        self.overridden.set(true);
        if name == "time" {
            self.time_overridden.set(true);
        }
    }

    fn update_fast(&self) {
        let fast = self.class_checked.get()
            && !self.debug.get()
            && !self.overridden.get()
            && !self.closed.get();
        self.fast.set(fast);
        self.unlooked.set(0);
    }

    /// A timer of the loop was cancelled; false if the loop is not native.
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

    /// Takes a context that a handle of the loop leaves behind, if it is as good as new.
    pub(crate) fn reclaim_context(event_loop: &Obj, context: &Slot) {
        if let Some(native) = Ref::<EventLoop>::of(event_loop) {
            native.spares.contexts.reclaim(context);
        }
    }

    /// Whether the loop is in debug mode, if it is a native one.
    pub(crate) fn debug_of(event_loop: &Obj) -> Option<bool> {
        Ref::<EventLoop>::of(event_loop).map(|native| native.debug())
    }

    /// Releases everything that waits and the descriptors; says what is left to drop.
    pub(crate) fn close(this: &Ref<EventLoop>) {
        this.closed.set(true);
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
        drop(this.waker.borrow_mut().take());
        drop(this.signals.borrow_mut().take());
    }

    /// The descriptor that `signal.set_wakeup_fd` gets.
    pub(crate) fn signal_fd(&self) -> i32 {
        self.signals
            .borrow()
            .as_ref()
            .map_or(-1, SignalPipe::write_fd)
    }

    /// Number of the last look at the selector.
    #[inline]
    pub(crate) fn looks(&self) -> u32 {
        self.looks.get()
    }

    /// The next iteration looks at the selector: what was just sent or closed may have made
    /// another descriptor of the program ready, and asyncio would see it then.
    #[inline]
    pub(crate) fn look_next(&self) {
        self.budget.set(0);
        self.unlooked.set(0);
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
        self.current_handle.set(None);
        self.task_factory.set(None);
        self.default_executor.set(None);
        self.default_jobs.set(None);
        self.outcomes.set(None);
    }
}
