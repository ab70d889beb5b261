//! The value of a Future, and what happens when it is done.

use std::cell::Cell;
use std::sync::OnceLock;

use cpython::error::{set_cause, set_context, set_traceback, traceback};
use cpython::{Obj, Python, Raised, Ref, Slot, Visit};
use pyo3::types::{PyAnyMethods, PyTypeMethods};

use super::callbacks::{FirstWaiter, Waiter};
use super::flags::{Flag, Flags};
use super::mirror;
use super::rare::Rare;
use crate::event_loop::EventLoop;
use crate::interop::asyncio;

/// The states of a Future, numbered as the accelerator numbers them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// No result yet.
    Pending = 0,
    /// Cancelled.
    Cancelled = 1,
    /// It has a result or an exception.
    Finished = 2,
}

/// Where a Future is on its way, told apart by what `outcome` holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing, or (asleep) the result planned.
    Pending,
    Cancelled,
    /// The result.
    Returned,
    /// The exception.
    Failed,
}

/// The value of a Future, and of a Task's Future part.
pub(crate) struct Future {
    /// None until `__init__` has run.
    event_loop: Slot,
    /// The first who waits.
    pub(super) first: FirstWaiter,
    outcome: Slot,
    pub(crate) rare: Rare,
    phase: Cell<Phase>,
    pub(crate) flags: Flags,
    /// Of a Task: `cancelling()`. It lies here because here is room for it.
    pub(crate) cancel_requests: Cell<u32>,
}

/// Called when a Future that is not of exactly our type is done: it may be a Task.
static ENDED: OnceLock<fn(&Ref<Future>)> = OnceLock::new();

impl Future {
    /// Has the end of objects of subclasses told; called once, when the module starts.
    pub(crate) fn tell_ends(ended: fn(&Ref<Future>)) {
        let _ = ENDED.set(ended);
    }

    /// A value that `__init__` makes whole.
    pub(crate) fn empty() -> Future {
        Future::with_loop(None, Flags::default())
    }

    /// The value of a new Future of a native loop that is not in debug mode.
    #[inline]
    pub(crate) fn value(event_loop: &Ref<EventLoop>) -> Future {
        Future::with_loop(Some(event_loop.as_obj().clone()), Flags::default())
    }

    /// The same of a Task's, which is reported if it goes while pending.
    #[inline]
    pub(crate) fn value_of_task(event_loop: &Ref<EventLoop>) -> Future {
        let flags = Flags::of(Flag::LogDestroyPending);
        Future::with_loop(Some(event_loop.as_obj().clone()), flags)
    }

    #[inline(always)]
    fn with_loop(event_loop: Option<Obj>, flags: Flags) -> Future {
        Future {
            event_loop: Slot::new(event_loop),
            first: FirstWaiter::default(),
            outcome: Slot::default(),
            rare: Rare::default(),
            phase: Cell::new(Phase::Pending),
            flags,
            cancel_requests: Cell::new(0),
        }
    }

    /// A new Future of a native loop, as `loop.create_future()`.
    #[inline]
    pub(crate) fn create(event_loop: &Ref<EventLoop>) -> Result<Ref<Future>, Raised> {
        let py = event_loop.py();
        let future = Ref::make(py, || Future::value(event_loop))?;
        if event_loop.debug() {
            future.remember_source(py)?;
        }
        Ok(future)
    }

    /// What `__init__` does; the loop is the running or current one if none is given.
    pub(crate) fn init(this: &Ref<Future>, event_loop: Option<Obj>) -> Result<(), Raised> {
        let py = this.py();
        if !this.event_loop.is_none() && asyncio(py).habits.initializes_once {
            let class = this.as_obj().bound(py).get_type();
            let text = format!(
                "{} object is already initialized",
                class.fully_qualified_name()?
            );
            return Err(Raised::runtime_error(py, &text));
        }
        this.forget();
        if this.phase.replace(Phase::Pending) != Phase::Pending {
            if let Some(mirror) = mirror(py) {
                mirror.set_state(this, State::Pending as u32);
            }
        }
        this.flags.set(Flag::LogTraceback, false);
        this.flags.set(Flag::Blocking, false);
        let event_loop = match event_loop.and_then(Obj::not_none) {
            Some(event_loop) => event_loop,
            None => asyncio(py)
                .events
                .get(py)
                .method(pyo3::intern!(py, "get_event_loop"), &[])?,
        };
        this.event_loop.set(Some(event_loop.clone()));
        let debug = match Ref::<EventLoop>::of(&event_loop) {
            Some(native) if !EventLoop::is_overridden(native) => native.debug(),
            _ => event_loop
                .method(pyo3::intern!(py, "get_debug"), &[])?
                .truth()?,
        };
        if debug && !cpython::error::is_finalizing(py) {
            this.remember_source(py)?;
        }
        Ok(())
    }

    /// Looks at the object as a Future, if it is of a native subclass whose methods need not be
    /// called by name.
    pub(crate) fn of_plain_subclass(object: &Obj) -> Option<&Ref<Future>> {
        Ref::<Future>::of(object).filter(|future| future.flags.is(Flag::Plain))
    }

    /// Remembers where the program made it, in debug mode.
    #[cold]
    pub(crate) fn remember_source(&self, py: Python<'_>) -> Result<(), Raised> {
        let stack = asyncio(py).extract_stack.get(py).call0()?;
        self.rare.make().source_traceback.set(Some(stack));
        Ok(())
    }

    /// The loop; none until `__init__` has run.
    #[inline]
    pub(crate) fn event_loop(&self) -> Option<Obj> {
        self.event_loop.get()
    }

    /// Whether the loop is this very object.
    #[inline]
    pub(crate) fn has_loop(&self, event_loop: &Obj) -> bool {
        self.event_loop.holds(event_loop)
    }

    /// Raises RuntimeError if `__init__` has not run.
    #[inline]
    pub(crate) fn ensure_alive(&self, py: Python<'_>) -> Result<(), Raised> {
        if self.event_loop.is_none() {
            return Err(Raised::runtime_error(
                py,
                "Future object is not initialized.",
            ));
        }
        Ok(())
    }

    /// The state.
    #[inline]
    pub(crate) fn state(&self) -> State {
        match self.phase.get() {
            Phase::Pending => State::Pending,
            Phase::Cancelled => State::Cancelled,
            Phase::Returned | Phase::Failed => State::Finished,
        }
    }

    /// Whether it has no result yet.
    #[inline]
    pub(crate) fn is_pending(&self) -> bool {
        self.phase.get() == Phase::Pending
    }

    /// Whether it was cancelled.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.phase.get() == Phase::Cancelled
    }

    /// Plans the result that an alarm will set (a pending Future has no other use for the field).
    pub(crate) fn plan(&self, result: Obj) {
        self.outcome.set(Some(result));
    }

    /// The planned result.
    pub(super) fn take_planned(&self) -> Option<Obj> {
        self.outcome.take()
    }

    /// Whether it is finished with a result.
    #[inline]
    pub(crate) fn has_returned(&self) -> bool {
        self.phase.get() == Phase::Returned
    }

    /// The result, if it is finished with one.
    pub(crate) fn stored_result(&self) -> Option<Obj> {
        (self.phase.get() == Phase::Returned).then(|| self.outcome.get())?
    }

    /// The exception, if it is finished with one.
    pub(crate) fn stored_exception(&self) -> Option<Obj> {
        (self.phase.get() == Phase::Failed).then(|| self.outcome.get())?
    }

    #[inline]
    fn finish(this: &Ref<Future>, value: &Future, phase: Phase) {
        value.phase.set(phase);
        if let Some(mirror) = mirror(this.py()) {
            mirror.set_state(this, value.state() as u32);
        }
        if !Ref::<Future>::is_exact(this.as_obj()) {
            if let Some(ended) = ENDED.get() {
                ended(this);
            }
        }
    }

    /// `set_result(result)`.
    #[inline]
    pub(crate) fn set_result(this: &Ref<Future>, result: Obj) -> Result<(), Raised> {
        Future::set_result_in(this, result, None)
    }

    /// The same of a Future whose loop is `native`, if that is known.
    #[inline]
    pub(crate) fn set_result_in(
        this: &Ref<Future>,
        result: Obj,
        native: Option<&Ref<EventLoop>>,
    ) -> Result<(), Raised> {
        let value: &Future = this;
        value.ensure_alive(this.py())?;
        if !value.is_pending() {
            return Err(invalid_state(this.py(), "invalid state"));
        }
        let planned = value.outcome.replace(Some(result));
        Future::finish(this, value, Phase::Returned);
        drop(planned);
        Future::schedule_callbacks(this, value, native)
    }

    /// `set_exception(exception)`; a class is called first.
    pub(crate) fn set_exception(this: &Ref<Future>, exception: &Obj) -> Result<(), Raised> {
        let py = this.py();
        this.ensure_alive(py)?;
        if this.state() != State::Pending {
            return Err(invalid_state(py, "invalid state"));
        }
        let mut exception = if exception.is_exception_class() {
            let made = exception.call0()?;
            if this.state() != State::Pending {
                return Err(invalid_state(py, "invalid state"));
            }
            made
        } else {
            exception.clone()
        };
        if !exception.is_exception() {
            return Err(Raised::type_error(py, "invalid exception object"));
        }
        let stop = Obj::class_of::<pyo3::exceptions::PyStopIteration>(py);
        let stops = if asyncio(py).habits.turns_stop_iteration {
            exception.is_subtype_of(&stop)
        } else {
            exception.is_exact(&stop)
        };
        if stops {
            let text = "StopIteration interacts badly with generators and cannot be raised into \
                        a Future";
            if !asyncio(py).habits.turns_stop_iteration {
                return Err(Raised::type_error(py, text));
            }
            let replacement = Raised::runtime_error(py, text).take(py);
            set_cause(&replacement, exception.clone());
            set_context(&replacement, exception);
            exception = replacement;
        }
        if let Some(traceback) = traceback(&exception) {
            this.rare.make().outcome_traceback.set(Some(traceback));
        }
        let planned = this.outcome.replace(Some(exception));
        Future::finish(this, this, Phase::Failed);
        drop(planned);
        Future::schedule_callbacks(this, this, None)?;
        this.flags.set(Flag::LogTraceback, true);
        Ok(())
    }

    /// `cancel(msg)`: whether it was still pending.
    pub(crate) fn cancel(this: &Ref<Future>, message: Option<Obj>) -> Result<bool, Raised> {
        this.flags.set(Flag::LogTraceback, false);
        if this.state() != State::Pending {
            return Ok(false);
        }
        Future::finish(this, this, Phase::Cancelled);
        this.outcome.set(None);
        this.set_cancel_message(message);
        Future::schedule_callbacks(this, this, None)?;
        Ok(true)
    }

    /// As `cancel`, keeping the exception that a coroutine ended with.
    pub(crate) fn cancel_with(this: &Ref<Future>, exception: Obj) -> Result<bool, Raised> {
        this.rare.make().cancelled_exception.set(Some(exception));
        Future::cancel(this, None)
    }

    /// Tells all who wait, in order. If scheduling one fails, the others are forgotten.
    #[inline(always)]
    fn schedule_callbacks(
        this: &Ref<Future>,
        value: &Future,
        native: Option<&Ref<EventLoop>>,
    ) -> Result<(), Raised> {
        if value.rare.get().is_none() {
            if let Some(task) = value.first.take_task() {
                return Future::wake(this, value, task, native);
            }
            if Future::tell_only_watcher(this, value, native) {
                return Ok(());
            }
        }
        Future::schedule_all(this, value)
    }

    #[inline(never)]
    fn schedule_all(this: &Ref<Future>, value: &Future) -> Result<(), Raised> {
        let more = value.take_other_waiters();
        if let Some(first) = value.first.take() {
            first.schedule(this, value)?;
        }
        for waiter in more.into_iter().flatten() {
            waiter.schedule(this, value)?;
        }
        Ok(())
    }

    /// Wakes the task when it is done; at once if it is. `value` is the Future's.
    #[inline(always)]
    pub(crate) fn add_task(this: &Ref<Future>, value: &Future, task: Obj) -> Result<(), Raised> {
        if value.is_pending() && value.first.is_free() {
            value.first.set_task(task);
            return Ok(());
        }
        Future::add_waiter(this, Waiter::task(task))
    }

    /// Tells the waiter when it is done; at once if it is.
    #[inline]
    pub(crate) fn add_waiter(this: &Ref<Future>, waiter: Waiter) -> Result<(), Raised> {
        let value: &Future = this;
        if value.is_pending() {
            value.keep_waiter(waiter);
            return Ok(());
        }
        waiter.schedule(this, value)
    }

    /// Gives it the result None, if it is pending: it only serves to wait.
    pub(crate) fn release(this: &Ref<Future>) -> Result<(), Raised> {
        if this.is_pending() {
            return Future::set_result(this, Obj::none(this.py()));
        }
        Ok(())
    }

    /// `result()`: the result, or raises.
    #[inline]
    pub(crate) fn result(this: &Ref<Future>) -> Result<Obj, Raised> {
        Future::result_of(this, this)
    }

    /// As `result`; `value` is the Future's.
    #[inline(always)]
    pub(crate) fn result_of(this: &Ref<Future>, value: &Future) -> Result<Obj, Raised> {
        if value.phase.get() == Phase::Returned {
            value.flags.set(Flag::LogTraceback, false);
            return Ok(value.outcome.get().unwrap_or_else(|| Obj::none(this.py())));
        }
        Err(Future::raise(this))
    }

    /// Raises what stands in the place of a result.
    #[inline(never)]
    fn raise(this: &Ref<Future>) -> Raised {
        match Future::failure(this) {
            Ok(exception) => Raised::raise_in_context(exception),
            Err(raised) => raised,
        }
    }

    /// What stands in the place of a result.
    #[inline(never)]
    fn failure(this: &Ref<Future>) -> Result<Obj, Raised> {
        let py = this.py();
        match this.state() {
            State::Pending => Err(this.not_yet(py, "Result is not set.")),
            State::Cancelled => Future::make_cancelled_error(this),
            State::Finished => {
                this.flags.set(Flag::LogTraceback, false);
                let exception = this.outcome.get().unwrap_or_else(|| Obj::none(py));
                let kept = this
                    .rare
                    .get()
                    .and_then(|rare| rare.outcome_traceback.take())
                    .unwrap_or_else(|| Obj::none(py));
                set_traceback(&exception, &kept);
                Ok(exception)
            }
        }
    }

    /// What wakes a Task: nothing if there is a result, else the exception to throw.
    #[inline]
    pub(crate) fn error(this: &Ref<Future>) -> Option<Obj> {
        let value: &Future = this;
        if value.phase.get() == Phase::Returned {
            value.flags.set(Flag::LogTraceback, false);
            return None;
        }
        Some(Future::failure(this).unwrap_or_else(|raised| raised.take(this.py())))
    }

    /// As `error`; nothing as well while it is pending.
    #[inline]
    pub(crate) fn error_if_done(this: &Ref<Future>) -> Option<Obj> {
        let value: &Future = this;
        match value.phase.get() {
            Phase::Pending => None,
            Phase::Returned => {
                value.flags.set(Flag::LogTraceback, false);
                None
            }
            _ => Some(Future::failure(this).unwrap_or_else(|raised| raised.take(this.py()))),
        }
    }

    /// `exception()`: the exception, or None, or raises.
    pub(crate) fn exception(this: &Ref<Future>) -> Result<Option<Obj>, Raised> {
        let py = this.py();
        match this.state() {
            State::Pending => Err(this.not_yet(py, "Exception is not set.")),
            State::Cancelled => Err(Future::raise_cancelled(this)),
            State::Finished => {
                this.flags.set(Flag::LogTraceback, false);
                Ok(this.stored_exception())
            }
        }
    }

    #[cold]
    fn not_yet(&self, py: Python<'_>, text: &str) -> Raised {
        if self.event_loop.is_none() {
            return invalid_state(py, "Future object is not initialized.");
        }
        invalid_state(py, text)
    }

    fn raise_cancelled(this: &Ref<Future>) -> Raised {
        match Future::make_cancelled_error(this) {
            Ok(exception) => Raised::raise_in_context(exception),
            Err(raised) => raised,
        }
    }

    /// `_make_cancelled_error()`: the coroutine's own CancelledError the first time.
    pub(crate) fn make_cancelled_error(this: &Ref<Future>) -> Result<Obj, Raised> {
        if let Some(exception) = this
            .rare
            .get()
            .and_then(|rare| rare.cancelled_exception.take())
        {
            return Ok(exception);
        }
        let py = this.py();
        let class = asyncio(py).cancelled_error.get(py);
        match this.cancel_message().and_then(Obj::not_none) {
            None => class.call0(),
            Some(message) => class.call1(&message),
        }
    }

    /// The exception was never looked at: tells the loop's exception handler.
    pub(crate) fn report_unretrieved(this: &Ref<Future>) {
        if !this.flags.take(Flag::LogTraceback) {
            return;
        }
        let py = this.py();
        let (Some(event_loop), Some(exception)) = (this.event_loop(), this.stored_exception())
        else {
            return;
        };
        let reported = (|| -> Result<(), Raised> {
            let class = this.as_obj().class();
            let name = class.attr(pyo3::intern!(py, "__name__"))?.to_string()?;
            let report = Obj::dict(py)?;
            let set = |key: &str, value: &Obj| report.dict_set(&Obj::str(py, key)?, value);
            let message = format!("{name} exception was never retrieved");
            set("message", &Obj::str(py, &message)?)?;
            set("exception", &exception)?;
            set("future", this.as_obj())?;
            if let Some(stack) = this.source_traceback() {
                set("source_traceback", &stack)?;
            }
            call_exception_handler(&event_loop, &report)
        })();
        if let Err(raised) = reported {
            raised.report_unraisable(Some(&event_loop));
        }
    }

    /// Whether it has an exception that nobody has looked at.
    #[inline]
    pub(crate) fn has_unseen_exception(&self) -> bool {
        self.flags.is(Flag::LogTraceback)
    }

    /// An exception that it may have need not be looked at.
    pub(crate) fn log_traceback_off(&self) {
        self.flags.set(Flag::LogTraceback, false);
    }

    /// What `cancel()` was given.
    pub(crate) fn cancel_message(&self) -> Option<Obj> {
        self.rare.get().and_then(|rare| rare.cancel_message.get())
    }

    /// Keeps what `cancel()` was given.
    pub(crate) fn set_cancel_message(&self, message: Option<Obj>) {
        if message.is_some() || self.rare.get().is_some() {
            self.rare.make().cancel_message.set(message);
        }
    }

    /// Takes back `_asyncio_future_blocking`; whether it was set.
    #[inline]
    pub(crate) fn take_blocking(&self) -> bool {
        self.flags.take(Flag::Blocking)
    }

    /// Sets `_asyncio_future_blocking`: a native coroutine yields it.
    #[inline]
    pub(crate) fn set_blocking_on(&self) {
        self.flags.set(Flag::Blocking, true);
    }

    /// Where it was made, in debug mode.
    pub(crate) fn source_traceback(&self) -> Option<Obj> {
        self.rare.get().and_then(|rare| rare.source_traceback.get())
    }

    pub(super) fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.event_loop);
        self.first.visit(visit);
        visit.slot(&self.outcome);
        self.rare.visit(visit);
    }

    /// Releases everything that it holds.
    pub(super) fn forget(&self) {
        drop(self.first.take());
        self.event_loop.set(None);
        self.outcome.set(None);
        self.rare.forget();
    }
}

/// `loop.call_exception_handler(report)`.
pub(crate) fn call_exception_handler(event_loop: &Obj, report: &Obj) -> Result<(), Raised> {
    let name = pyo3::intern!(event_loop.py(), "call_exception_handler");
    event_loop.method(name, &[report]).map(drop)
}

/// Raises asyncio's InvalidStateError.
#[cold]
pub(crate) fn invalid_state(py: Python<'_>, text: &str) -> Raised {
    Raised::with_class(asyncio(py).invalid_state_error.get(py), text)
}
