//! The value of a Future, and what happens when it is done.

use std::cell::Cell;

use cpython::error::{set_cause, set_context, set_traceback, traceback};
use cpython::{Known, Obj, Python, Raised, Ref, Slot, Visit};
use pyo3::types::{PyAnyMethods, PyTypeMethods};

use super::callbacks::{Callbacks, Waiter};
use crate::event_loop::EventLoop;
use crate::interop::asyncio;
use super::mirror;

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

/// The value of a Future, and of a Task's Future part.
pub(crate) struct Future {
    /// None until `__init__` has run.
    event_loop: Slot<Known<EventLoop>>,
    pub(super) callbacks: Callbacks,
    /// The result, or the exception, or (pending, asleep) the result planned.
    outcome: Slot,
    /// The exception's traceback when it was set.
    outcome_traceback: Slot,
    pub(super) source_traceback: Slot,
    pub(super) cancel_message: Slot,
    /// The CancelledError that ended the coroutine, raised again by `result()`.
    cancelled_exception: Slot,
    state: Cell<State>,
    failed: Cell<bool>,
    pub(super) log_traceback: Cell<bool>,
    /// `_asyncio_future_blocking`: set by `await`, taken back by the Task.
    pub(super) blocking: Cell<bool>,
}

impl Future {
    /// A value that `__init__` makes whole.
    pub(crate) fn empty() -> Future {
        Future {
            event_loop: Slot::default(),
            callbacks: Callbacks::default(),
            outcome: Slot::default(),
            outcome_traceback: Slot::default(),
            source_traceback: Slot::default(),
            cancel_message: Slot::default(),
            cancelled_exception: Slot::default(),
            state: Cell::new(State::Pending),
            failed: Cell::new(false),
            log_traceback: Cell::new(false),
            blocking: Cell::new(false),
        }
    }

    /// The value of a new Future of a native loop that is not in debug mode.
    #[inline]
    pub(crate) fn value(event_loop: Known<EventLoop>) -> Future {
        let future = Future::empty();
        drop(future.event_loop.replace(Some(event_loop)));
        future
    }

    /// A new Future of a native loop, as `loop.create_future()`.
    #[inline]
    pub(crate) fn create(event_loop: &Ref<EventLoop>) -> Result<Ref<Future>, Raised> {
        let py = event_loop.py();
        let future = Ref::new(py, Future::value(Known::from(event_loop.clone())))?;
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
        if this.state.replace(State::Pending) != State::Pending {
            if let Some(mirror) = mirror(py) {
                mirror.set_state(this, State::Pending as u32);
            }
        }
        this.failed.set(false);
        this.log_traceback.set(false);
        this.blocking.set(false);
        let event_loop = match event_loop.and_then(Obj::not_none) {
            Some(event_loop) => event_loop,
            None => asyncio(py)
                .events
                .get(py)
                .method(pyo3::intern!(py, "get_event_loop"), &[])?,
        };
        let event_loop = Known::<EventLoop>::new(event_loop);
        this.event_loop.set(Some(event_loop.clone()));
        let debug = match event_loop.of() {
            Some(native) if !EventLoop::is_overridden(native) => native.debug(),
            _ => event_loop
                .as_obj()
                .method(pyo3::intern!(py, "get_debug"), &[])?
                .truth()?,
        };
        if debug && !cpython::error::is_finalizing(py) {
            this.remember_source(py)?;
        }
        Ok(())
    }

    /// Remembers where the program made it, in debug mode.
    #[cold]
    pub(crate) fn remember_source(&self, py: Python<'_>) -> Result<(), Raised> {
        self.source_traceback
            .set(Some(asyncio(py).extract_stack.get(py).call0()?));
        Ok(())
    }

    /// The loop; none until `__init__` has run.
    #[inline]
    pub(crate) fn event_loop(&self) -> Option<Known<EventLoop>> {
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
        self.state.get()
    }

    /// Plans the result that an alarm will set (a pending Future has no other use for the field).
    pub(crate) fn plan(&self, result: Obj) {
        self.outcome.set(Some(result));
    }

    /// The planned result.
    pub(super) fn take_planned(&self) -> Option<Obj> {
        self.outcome.take()
    }

    /// The result, if it is finished with one.
    pub(super) fn stored_result(&self) -> Option<Obj> {
        (self.state() == State::Finished && !self.failed.get()).then(|| self.outcome.get())?
    }

    /// The exception, if it is finished with one.
    pub(crate) fn stored_exception(&self) -> Option<Obj> {
        (self.state() == State::Finished && self.failed.get()).then(|| self.outcome.get())?
    }

    fn finish(this: &Ref<Future>, state: State) {
        this.state.set(state);
        if let Some(mirror) = mirror(this.py()) {
            mirror.set_state(this, state as u32);
            // A task that is done is no longer among the thread's, even where a program has ended
            // it through the methods of Future. A plain Future has the same room, empty.
            mirror.unlink(this);
        }
    }

    /// `set_result(result)`.
    #[inline]
    pub(crate) fn set_result(this: &Ref<Future>, result: Obj) -> Result<(), Raised> {
        this.ensure_alive(this.py())?;
        if this.state() != State::Pending {
            return Err(invalid_state(this.py(), "invalid state"));
        }
        let planned = this.outcome.replace(Some(result));
        Future::finish(this, State::Finished);
        drop(planned);
        Future::schedule_callbacks(this)
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
        this.outcome_traceback.set(traceback(&exception));
        this.failed.set(true);
        let planned = this.outcome.replace(Some(exception));
        Future::finish(this, State::Finished);
        drop(planned);
        Future::schedule_callbacks(this)?;
        this.log_traceback.set(true);
        Ok(())
    }

    /// `cancel(msg)`: whether it was still pending.
    pub(crate) fn cancel(this: &Ref<Future>, message: Option<Obj>) -> Result<bool, Raised> {
        this.log_traceback.set(false);
        if this.state() != State::Pending {
            return Ok(false);
        }
        Future::finish(this, State::Cancelled);
        this.outcome.set(None);
        this.cancel_message.set(message);
        Future::schedule_callbacks(this)?;
        Ok(true)
    }

    /// As `cancel`, keeping the exception that a coroutine ended with.
    pub(crate) fn cancel_with(this: &Ref<Future>, exception: Obj) -> Result<bool, Raised> {
        this.cancelled_exception.set(Some(exception));
        Future::cancel(this, None)
    }

    /// Tells all who wait, in order. If scheduling one fails, the others are forgotten.
    #[inline]
    fn schedule_callbacks(this: &Ref<Future>) -> Result<(), Raised> {
        let (first, more) = this.callbacks.take();
        if let Some(first) = first {
            first.schedule(this)?;
        }
        if let Some(more) = more {
            for waiter in *more {
                waiter.schedule(this)?;
            }
        }
        Ok(())
    }

    /// Tells the waiter when it is done; at once if it is.
    #[inline]
    pub(crate) fn add_waiter(this: &Ref<Future>, waiter: Waiter) -> Result<(), Raised> {
        if this.state() == State::Pending {
            this.callbacks.add(waiter);
            return Ok(());
        }
        waiter.schedule(this)
    }

    /// `result()`: the result, or raises.
    pub(crate) fn result(this: &Ref<Future>) -> Result<Obj, Raised> {
        let py = this.py();
        match this.state() {
            State::Pending => Err(this.not_yet(py, "Result is not set.")),
            State::Cancelled => Err(Future::raise_cancelled(this)),
            State::Finished => {
                this.log_traceback.set(false);
                let outcome = this.outcome.get().unwrap_or_else(|| Obj::none(py));
                if !this.failed.get() {
                    return Ok(outcome);
                }
                let kept = this
                    .outcome_traceback
                    .take()
                    .unwrap_or_else(|| Obj::none(py));
                set_traceback(&outcome, &kept);
                Err(Raised::raise(outcome))
            }
        }
    }

    /// What wakes a Task: nothing if there is a result, else the exception to throw.
    #[inline]
    pub(crate) fn error(this: &Ref<Future>) -> Option<Obj> {
        if this.state() == State::Finished && !this.failed.get() {
            this.log_traceback.set(false);
            return None;
        }
        match Future::result(this) {
            Ok(_) => None,
            Err(raised) => Some(raised.take(this.py())),
        }
    }

    /// `exception()`: the exception, or None, or raises.
    pub(crate) fn exception(this: &Ref<Future>) -> Result<Option<Obj>, Raised> {
        let py = this.py();
        match this.state() {
            State::Pending => Err(this.not_yet(py, "Exception is not set.")),
            State::Cancelled => Err(Future::raise_cancelled(this)),
            State::Finished => {
                this.log_traceback.set(false);
                if !this.failed.get() {
                    return Ok(None);
                }
                Ok(this.outcome.get())
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
            Ok(exception) => Raised::raise(exception),
            Err(raised) => raised,
        }
    }

    /// `_make_cancelled_error()`: the coroutine's own CancelledError the first time.
    pub(crate) fn make_cancelled_error(this: &Ref<Future>) -> Result<Obj, Raised> {
        if let Some(exception) = this.cancelled_exception.take() {
            return Ok(exception);
        }
        let py = this.py();
        let class = asyncio(py).cancelled_error.get(py);
        match this.cancel_message.get().and_then(Obj::not_none) {
            None => class.call0(),
            Some(message) => class.call1(&message),
        }
    }

    /// The exception was never looked at: tells the loop's exception handler.
    pub(crate) fn report_unretrieved(this: &Ref<Future>) {
        if !this.log_traceback.replace(false) {
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
            if let Some(stack) = this.source_traceback.get() {
                set("source_traceback", &stack)?;
            }
            call_exception_handler(event_loop.as_obj(), &report)
        })();
        if let Err(raised) = reported {
            raised.report_unraisable(Some(event_loop.as_obj()));
        }
    }

    /// Whether it has an exception that nobody has looked at.
    #[inline]
    pub(crate) fn has_unseen_exception(&self) -> bool {
        self.log_traceback.get()
    }

    /// An exception that it may have need not be looked at.
    pub(crate) fn log_traceback_off(&self) {
        self.log_traceback.set(false);
    }

    /// What `cancel()` was given.
    pub(crate) fn cancel_message(&self) -> Option<Obj> {
        self.cancel_message.get()
    }

    /// Keeps what `cancel()` was given.
    pub(crate) fn set_cancel_message(&self, message: Option<Obj>) {
        self.cancel_message.set(message);
    }

    /// Takes back `_asyncio_future_blocking`; whether it was set.
    #[inline]
    pub(crate) fn take_blocking(&self) -> bool {
        self.blocking.replace(false)
    }

    /// Sets `_asyncio_future_blocking`: a native coroutine yields it.
    #[inline]
    pub(crate) fn set_blocking_on(&self) {
        self.blocking.set(true);
    }

    /// Where it was made, in debug mode.
    pub(crate) fn source_traceback(&self) -> Option<Obj> {
        self.source_traceback.get()
    }

    pub(super) fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.event_loop);
        self.callbacks.visit(visit);
        for slot in [
            &self.outcome,
            &self.outcome_traceback,
            &self.source_traceback,
            &self.cancel_message,
            &self.cancelled_exception,
        ] {
            visit.slot(slot);
        }
    }

    /// Releases everything that it holds.
    pub(super) fn forget(&self) {
        drop(self.callbacks.take());
        self.event_loop.set(None);
        self.outcome.set(None);
        self.outcome_traceback.set(None);
        self.source_traceback.set(None);
        self.cancel_message.set(None);
        self.cancelled_exception.set(None);
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
