//! The value of a Future, and its end.

use std::cell::Cell;

use cpython::error::{set_cause, set_context, set_traceback, traceback};
use cpython::{Obj, Python, Raised, Ref, Slot, Visit};
use pyo3::types::{PyAnyMethods, PyTypeMethods};

use super::flags::{Flag, Flags};
use super::mirror;
use super::waiters::{Waiter, Waiters};
use crate::event_loop::EventLoop;
use crate::handles::{reports, served};
use crate::interop::asyncio;

/// The states of a Future, numbered as the accelerator numbers them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FutureState {
    /// No result yet.
    Pending = 0,
    /// Cancelled.
    Cancelled = 1,
    /// It has a result or an exception.
    Finished = 2,
}

/// The phase of a Future, which tells what `outcome` holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It is pending: `outcome` is empty, or holds the planned result of a sleep.
    Pending,
    Cancelled,
    /// `outcome` holds the result.
    Returned,
    /// `outcome` holds the exception.
    Failed,
}

/// The value of a Future, and of a Task's Future part.
pub(crate) struct Future {
    /// Empty until `__init__` has run.
    event_loop: Slot,
    /// The first waiter, or the box with it and the rare fields.
    pub(crate) waiters: Waiters,
    outcome: Slot,
    phase: Cell<Phase>,
    pub(crate) flags: Flags,
    /// Of a Task: `cancelling()`. The field lies here because there is room for it.
    pub(crate) cancel_requests: Cell<u32>,
}

impl Future {
    /// A value that `__init__` makes whole.
    pub(crate) fn empty() -> Future {
        Future::with_loop(None, Flags::default())
    }

    /// The value of a new Future of a native loop that is not in debug mode.
    #[inline]
    pub(crate) fn value(event_loop: &Ref<EventLoop>) -> Future {
        Future::with_loop(Some(event_loop.as_obj().clone()), Flags::default())
    }

    /// As [`Future::value`], for the Future part of a Task: the Task is reported if it is destroyed
    /// while pending.
    #[inline]
    pub(crate) fn value_of_task(event_loop: &Ref<EventLoop>) -> Future {
        let flags = Flags::of(Flag::LogDestroyPending);
        Future::with_loop(Some(event_loop.as_obj().clone()), flags)
    }

    #[inline(always)]
    fn with_loop(event_loop: Option<Obj>, flags: Flags) -> Future {
        Future {
            event_loop: Slot::new(event_loop),
            waiters: Waiters::default(),
            outcome: Slot::default(),
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

    /// Runs the body, which fills a Future. One that is new goes over to the domain of its loop.
    pub(crate) fn begin_beside<R>(
        this: &Ref<Future>,
        event_loop: Option<Obj>,
        body: impl FnOnce(Option<Obj>) -> R,
    ) -> R {
        let native = event_loop.as_ref().and_then(Ref::<EventLoop>::of_any);
        match native
            .filter(|native| !native.is_here() && this.event_loop.is_none())
            .cloned()
        {
            Some(native) => {
                this.follow(&native);
                native.within(|_| body(event_loop))
            }
            None => body(event_loop),
        }
    }

    /// The work of `__init__`. Without a loop it takes the running or current one.
    pub(crate) fn init(this: &Ref<Future>, event_loop: Option<Obj>) -> Result<(), Raised> {
        let py = this.py();
        if !this.event_loop.is_none() && asyncio(py).behaviour.initializes_once {
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
                mirror.set_state(this, FutureState::Pending as u32);
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
            Some(native) if !EventLoop::is_replaced(native) => native.debug(),
            _ => event_loop
                .method(pyo3::intern!(py, "get_debug"), &[])?
                .truth()?,
        };
        if debug && !cpython::error::is_finalizing(py) {
            this.remember_source(py)?;
        }
        Ok(())
    }

    /// The object as a Future, if it is of a native subclass whose methods need not be called by
    /// name.
    pub(crate) fn of_subclass_as_it_is(object: &Obj) -> Option<&Ref<Future>> {
        Ref::<Future>::of(object)
            .filter(|future| future.flags.is(Flag::NothingReplaced) && !future.has_attributes())
    }

    /// Keeps the place where the program made the Future, in debug mode.
    #[cold]
    pub(crate) fn remember_source(&self, py: Python<'_>) -> Result<(), Raised> {
        let stack = asyncio(py).extract_stack.get(py).call0()?;
        self.waiters.make_rare().source_traceback.set(Some(stack));
        Ok(())
    }

    /// The loop; nothing until `__init__` has run.
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
    pub(crate) fn state(&self) -> FutureState {
        match self.phase.get() {
            Phase::Pending => FutureState::Pending,
            Phase::Cancelled => FutureState::Cancelled,
            Phase::Returned | Phase::Failed => FutureState::Finished,
        }
    }

    /// Whether the Future has no result yet.
    #[inline]
    pub(crate) fn is_pending(&self) -> bool {
        self.phase.get() == Phase::Pending
    }

    /// Whether the Future was cancelled.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.phase.get() == Phase::Cancelled
    }

    /// Keeps the result that an alarm will set. A pending Future has no other use for the field.
    pub(crate) fn plan(&self, result: Obj) {
        self.outcome.set(Some(result));
    }

    /// The planned result.
    pub(super) fn take_planned(&self) -> Option<Obj> {
        self.outcome.take()
    }

    /// Whether the Future is finished with a result.
    #[inline]
    pub(crate) fn has_returned(&self) -> bool {
        self.phase.get() == Phase::Returned
    }

    /// The result, if the Future is finished with one.
    pub(crate) fn stored_result(&self) -> Option<Obj> {
        (self.phase.get() == Phase::Returned).then(|| self.outcome.get())?
    }

    /// The exception, if the Future is finished with one.
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
            if let Some(kinds) = served::kinds() {
                (kinds.ended)(this.as_obj());
            }
        }
    }

    /// `set_result(result)`.
    #[inline]
    pub(crate) fn set_result(this: &Ref<Future>, result: Obj) -> Result<(), Raised> {
        Future::set_result_in(this, result, None)
    }

    /// As [`Future::set_result`]. `native` is the Future's loop, if that is known.
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

    /// `set_exception(exception)`. A class is called first.
    pub(crate) fn set_exception(this: &Ref<Future>, exception: &Obj) -> Result<(), Raised> {
        let py = this.py();
        this.ensure_alive(py)?;
        if this.state() != FutureState::Pending {
            return Err(invalid_state(py, "invalid state"));
        }
        let mut exception = if exception.is_exception_class() {
            let made = exception.call0()?;
            if this.state() != FutureState::Pending {
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
        let stops = if asyncio(py).behaviour.turns_stop_iteration {
            exception.is_subtype_of(&stop)
        } else {
            exception.is_exact(&stop)
        };
        if stops {
            let text = "StopIteration interacts badly with generators and cannot be raised into \
                        a Future";
            if !asyncio(py).behaviour.turns_stop_iteration {
                return Err(Raised::type_error(py, text));
            }
            let replacement = Raised::runtime_error(py, text).take(py);
            set_cause(&replacement, exception.clone());
            set_context(&replacement, exception);
            exception = replacement;
        }
        if let Some(traceback) = traceback(&exception) {
            this.waiters
                .make_rare()
                .outcome_traceback
                .set(Some(traceback));
        }
        let planned = this.outcome.replace(Some(exception));
        Future::finish(this, this, Phase::Failed);
        drop(planned);
        Future::schedule_callbacks(this, this, None)?;
        this.flags.set(Flag::LogTraceback, true);
        Ok(())
    }

    /// `cancel(msg)`. Returns whether the Future was still pending.
    pub(crate) fn cancel(this: &Ref<Future>, message: Option<Obj>) -> Result<bool, Raised> {
        this.flags.set(Flag::LogTraceback, false);
        if this.state() != FutureState::Pending {
            return Ok(false);
        }
        Future::finish(this, this, Phase::Cancelled);
        this.outcome.set(None);
        this.set_cancel_message(message);
        Future::schedule_callbacks(this, this, None)?;
        Ok(true)
    }

    /// As [`Future::cancel`], and keeps the exception with which a coroutine ended.
    pub(crate) fn cancel_with(this: &Ref<Future>, exception: Obj) -> Result<bool, Raised> {
        this.waiters
            .make_rare()
            .cancelled_exception
            .set(Some(exception));
        Future::cancel(this, None)
    }

    /// Schedules the calls of all waiters, in order. If scheduling one fails, the others are
    /// forgotten.
    #[inline(always)]
    fn schedule_callbacks(
        this: &Ref<Future>,
        value: &Future,
        native: Option<&Ref<EventLoop>>,
    ) -> Result<(), Raised> {
        if value.waiters.is_empty() {
            return Ok(());
        }
        if let Some(task) = value.waiters.take_task() {
            return Future::wake(this, value, task, native);
        }
        if value.waiters.rare().is_none() && Future::notify_only_watcher(this, value, native) {
            return Ok(());
        }
        Future::schedule_all(this, value)
    }

    #[inline(never)]
    fn schedule_all(this: &Ref<Future>, value: &Future) -> Result<(), Raised> {
        let more = value.take_other_waiters();
        if let Some(first) = value.waiters.take() {
            first.schedule(this, value)?;
        }
        for waiter in more.into_iter().flatten() {
            waiter.schedule(this, value)?;
        }
        Ok(())
    }

    /// Wakes the task when the Future is done; at once if it is. `value` is the Future's.
    #[inline(always)]
    pub(crate) fn add_task(this: &Ref<Future>, value: &Future, task: Obj) -> Result<(), Raised> {
        if value.is_pending() && value.waiters.is_free() {
            value.waiters.set_task(task);
            return Ok(());
        }
        Future::add_waiter(this, Waiter::task(task))
    }

    /// Calls the waiter when the Future is done; at once if it is.
    #[inline]
    pub(crate) fn add_waiter(this: &Ref<Future>, waiter: Waiter) -> Result<(), Raised> {
        let value: &Future = this;
        if value.is_pending() {
            value.keep_waiter(waiter);
            return Ok(());
        }
        waiter.schedule(this, value)
    }

    /// Sets the result None if the Future is pending. For Futures that only serve to wait.
    pub(crate) fn release(this: &Ref<Future>) -> Result<(), Raised> {
        if this.is_pending() {
            return Future::set_result(this, Obj::none(this.py()));
        }
        Ok(())
    }

    /// `result()`: returns the result, or raises.
    #[inline]
    pub(crate) fn result(this: &Ref<Future>) -> Result<Obj, Raised> {
        Future::result_of(this, this)
    }

    /// As [`Future::result`]. `value` is the Future's.
    #[inline(always)]
    pub(crate) fn result_of(this: &Ref<Future>, value: &Future) -> Result<Obj, Raised> {
        if value.phase.get() == Phase::Returned {
            value.flags.set(Flag::LogTraceback, false);
            return Ok(value.outcome.get().unwrap_or_else(|| Obj::none(this.py())));
        }
        Err(Future::raise(this))
    }

    /// Raises the exception of a Future that has no result.
    #[inline(never)]
    fn raise(this: &Ref<Future>) -> Raised {
        match Future::failure(this) {
            Ok(exception) => Raised::raise_in_context(exception),
            Err(raised) => raised,
        }
    }

    /// The exception of a Future that has no result.
    #[inline(never)]
    fn failure(this: &Ref<Future>) -> Result<Obj, Raised> {
        let py = this.py();
        match this.state() {
            FutureState::Pending => Err(this.not_yet(py, "Result is not set.")),
            FutureState::Cancelled => Future::make_cancelled_error(this),
            FutureState::Finished => {
                this.flags.set(Flag::LogTraceback, false);
                let exception = this.outcome.get().unwrap_or_else(|| Obj::none(py));
                let kept = this
                    .waiters
                    .rare()
                    .and_then(|rare| rare.outcome_traceback.take())
                    .unwrap_or_else(|| Obj::none(py));
                set_traceback(&exception, &kept);
                Ok(exception)
            }
        }
    }

    /// The exception to throw into a Task that the Future wakes; nothing if there is a result.
    #[inline]
    pub(crate) fn error(this: &Ref<Future>) -> Option<Obj> {
        let value: &Future = this;
        if value.phase.get() == Phase::Returned {
            value.flags.set(Flag::LogTraceback, false);
            return None;
        }
        Some(Future::failure(this).unwrap_or_else(|raised| raised.take(this.py())))
    }

    /// As [`Future::error`]; nothing while the Future is pending.
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

    /// `exception()`: returns the exception or None, or raises.
    pub(crate) fn exception(this: &Ref<Future>) -> Result<Option<Obj>, Raised> {
        let py = this.py();
        match this.state() {
            FutureState::Pending => Err(this.not_yet(py, "Exception is not set.")),
            FutureState::Cancelled => Err(Future::raise_cancelled(this)),
            FutureState::Finished => {
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
            .waiters
            .rare()
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

    /// Tells the loop's exception handler that no code has retrieved the exception.
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
            let message = format!("{name} exception was never retrieved");
            let message = Obj::str(py, &message)?;
            let stack = this.source_traceback();
            let mut parts = vec![
                ("message", &message),
                ("exception", &exception),
                ("future", this.as_obj()),
            ];
            parts.extend(stack.as_ref().map(|stack| ("source_traceback", stack)));
            reports::send_when_going(&event_loop, &parts)
        })();
        if let Err(raised) = reported {
            raised.report_unraisable(Some(&event_loop));
        }
    }

    /// Whether there is an exception that no code has retrieved.
    #[inline]
    pub(crate) fn has_unseen_exception(&self) -> bool {
        self.flags.is(Flag::LogTraceback)
    }

    /// Lets the Future go without a report of an exception that no code has retrieved.
    pub(crate) fn log_traceback_off(&self) {
        self.flags.set(Flag::LogTraceback, false);
    }

    /// The message that `cancel()` was given.
    pub(crate) fn cancel_message(&self) -> Option<Obj> {
        self.waiters
            .rare()
            .and_then(|rare| rare.cancel_message.get())
    }

    /// Keeps the message that `cancel()` was given.
    pub(crate) fn set_cancel_message(&self, message: Option<Obj>) {
        if message.is_some() || self.waiters.rare().is_some() {
            self.waiters.make_rare().cancel_message.set(message);
        }
    }

    /// Clears `_asyncio_future_blocking`. Returns whether it was set.
    #[inline]
    pub(crate) fn take_blocking(&self) -> bool {
        self.flags.take(Flag::Blocking)
    }

    /// Sets `_asyncio_future_blocking`, for a native coroutine that yields the Future.
    #[inline]
    pub(crate) fn set_blocking_on(&self) {
        self.flags.set(Flag::Blocking, true);
    }

    /// The place where the Future was made, in debug mode.
    pub(crate) fn source_traceback(&self) -> Option<Obj> {
        self.waiters
            .rare()
            .and_then(|rare| rare.source_traceback.get())
    }

    pub(super) fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.event_loop);
        visit.slot(&self.outcome);
        self.waiters.visit(visit);
    }

    /// Releases everything that the Future holds.
    pub(super) fn forget(&self) {
        drop(self.waiters.take());
        self.event_loop.set(None);
        self.outcome.set(None);
        if let Some(rare) = self.waiters.rare() {
            rare.forget();
        }
    }
}

/// Raises asyncio's InvalidStateError.
#[cold]
pub(crate) fn invalid_state(py: Python<'_>, text: &str) -> Raised {
    Raised::with_class(asyncio(py).invalid_state_error.get(py), text)
}
