//! `wait_for(fut, timeout)`.
//!
//! Since 3.12 the awaitable runs in the caller's task under a timeout; on 3.11 it gets a task of
//! its own, which `wait_for()` waits for and cancels.

use std::cell::Cell;

use cpython::callable::callable;
use cpython::error::{handling, set_context};
use cpython::{Args, Hot, Obj, Python, Raised, Ref, Slot, stack};

use super::awaited_by;
use super::callables::{CallableName, callable_of};
use super::codes::{Code, codes};
use super::ensure_future::{ensure_future, get_running_loop};
use super::expiry::{Expiry, timeout_error};
use super::timer::{TimeoutWhen, WaitTimer};
use crate::coroutines::class::coroutine_class;
use crate::coroutines::coroutine::{Coroutine, CoroutineState, Turn};
use crate::coroutines::describe;
use crate::futures::create_future;
use crate::handles::served::{DueCall, Watcher};
use crate::interop::asyncio;
use crate::interop::current::current_task;
use crate::tasks::any_future::{AnyFuture, cancel};

/// The progress of a call.
#[derive(Clone, Copy, PartialEq)]
enum WaitForStage {
    /// Awaits the awaitable, under a timeout since 3.12.
    Awaiting,
    /// Waits until the future is done or the time has come (3.11).
    Waiting,
    /// The future was cancelled: waits until it is done.
    Cancelling,
}

/// The value of the coroutine object that `wait_for()` returns.
pub(crate) struct WaitFor {
    future: Slot,
    timeout: Slot,
    stage: Cell<WaitForStage>,
    waiter: Slot,
    task: Slot,
    /// The caller's cancellation, raised once the future is done (3.11).
    cancellation: Slot,
    expiry: Expiry,
    timer: WaitTimer,
    state: CoroutineState,
}

impl WaitFor {
    fn python_wait_for(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
        let [future, timeout] = args.bind_function("wait_for", &["fut", "timeout"], 2)?;
        if cfg!(Py_3_12) && stack::is_low() {
            return WaitFor::in_python(py, future, timeout);
        }
        WaitFor::create(py, future, timeout).map(Ref::into_obj)
    }

    /// asyncio's own coroutine, for a recursion through `wait_for()`: since 3.12 the interpreter
    /// takes none of the C stack when such a coroutine awaits another.
    #[cold]
    fn in_python(py: Python<'_>, future: Option<Obj>, timeout: Option<Obj>) -> Result<Obj, Raised> {
        let none = Obj::none(py);
        let future = future.unwrap_or_else(|| none.clone());
        let original = asyncio(py).wait_for.get(py);
        original.call(&[&future, &timeout.unwrap_or(none)])
    }

    fn create(
        py: Python<'_>,
        future: Option<Obj>,
        timeout: Option<Obj>,
    ) -> Result<Ref<WaitFor>, Raised> {
        Ref::new(
            py,
            WaitFor {
                future: Slot::new(future),
                timeout: Slot::new(timeout.and_then(Obj::not_none)),
                stage: Cell::new(WaitForStage::Awaiting),
                waiter: Slot::default(),
                task: Slot::default(),
                cancellation: Slot::default(),
                expiry: Expiry::new(None),
                timer: WaitTimer::default(),
                state: CoroutineState::default(),
            },
        )
    }

    fn begin_to_wait(
        this: &Ref<WaitFor>,
        event_loop: &Obj,
        future: &Obj,
        timeout: &Obj,
    ) -> Result<Turn, Raised> {
        let waiter = create_future(event_loop)?;
        this.waiter.set(Some(waiter.clone()));
        this.timer.start_after(event_loop, timeout, this.as_obj())?;
        let future = ensure_future(future, Some(event_loop))?;
        AnyFuture::of(&future).watch(this.as_obj())?;
        this.future.set(Some(future));
        this.stage.set(WaitForStage::Waiting);
        Ok(Turn::Await(waiter))
    }

    /// Cancels the future and waits until it is done.
    fn cancel_and_wait(this: &Ref<WaitFor>, future: &Obj) -> Result<Turn, Raised> {
        let event_loop = get_running_loop(this.py())?;
        let waiter = create_future(&event_loop)?;
        this.waiter.set(Some(waiter.clone()));
        this.future.set(Some(future.clone()));
        AnyFuture::of(future).watch(this.as_obj())?;
        if cfg!(Py_3_14) {
            if let Some(task) = current_task(this.py(), Some(&event_loop))? {
                awaited_by::add(future, &task)?;
                this.task.set(Some(task));
            }
        }
        this.stage.set(WaitForStage::Cancelling);
        if let Err(raised) = cancel(future) {
            return WaitFor::cancelled(this, future, Err(raised));
        }
        Ok(Turn::Await(waiter))
    }

    /// Goes on after the future that was cancelled is done, or after this wait was cancelled.
    fn cancelled(
        this: &Ref<WaitFor>,
        future: &Obj,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        let py = this.py();
        let outcome = outcome.map_err(|raised| raised.take(py));
        let stop = || -> Result<(), Raised> {
            AnyFuture::of(future).unwatch(this.as_obj())?;
            match this.task.take() {
                Some(task) => awaited_by::discard(future, &task),
                None => Ok(()),
            }
        };
        match &outcome {
            Ok(_) => stop()?,
            Err(exception) => handling(exception, stop)?,
        }
        let cancellation = this.cancellation.take();
        if let Err(exception) = outcome {
            if let Some(handled) = cancellation {
                set_context(&exception, handled);
            }
            return Err(Raised::raise(exception));
        }
        match cancellation {
            Some(cancellation) => Err(Raised::raise(cancellation)),
            None => WaitFor::result_in_time(future),
        }
    }

    /// The result of a future that was cancelled because the time had come.
    fn result_in_time(future: &Obj) -> Result<Turn, Raised> {
        let py = future.py();
        match AnyFuture::of(future).result() {
            Ok(result) => Ok(Turn::Return(result)),
            Err(raised) if raised.matches(asyncio(py).cancelled_error.get(py)) => {
                Err(timeout_error(py, Some(&raised.take(py)))?)
            }
            Err(raised) => Err(raised),
        }
    }

    /// Goes on after the wait, on 3.11.
    fn waited(
        this: &Ref<WaitFor>,
        future: &Obj,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        let py = this.py();
        let cancellation = match outcome {
            Ok(_) => None,
            Err(raised) if raised.matches(asyncio(py).cancelled_error.get(py)) => {
                Some(raised.take(py))
            }
            Err(raised) => return Err(raised),
        };
        let asked = AnyFuture::of(future);
        if asked.is_done()? {
            return match (asked.result(), cancellation) {
                (Ok(result), _) => Ok(Turn::Return(result)),
                (Err(raised), None) => Err(raised),
                (Err(raised), Some(cancellation)) => {
                    let exception = raised.take(py);
                    set_context(&exception, cancellation);
                    Err(Raised::raise(exception))
                }
            };
        }
        this.cancellation.set(cancellation);
        asked.unwatch(this.as_obj())?;
        WaitFor::cancel_and_wait(this, future)
    }
}

/// `timeout <= 0`.
fn is_not_positive(timeout: &Obj) -> Result<bool, Raised> {
    if timeout.is_float_exact() {
        return Ok(timeout.to_f64()? <= 0.0);
    }
    if let Some(number) = timeout.small_int() {
        return Ok(number <= 0);
    }
    timeout.is_at_most(&Obj::int(timeout.py(), 0)?)
}

impl Watcher for WaitFor {
    fn callable(this: &Ref<WaitFor>, _: &Obj) -> Result<Obj, Raised> {
        callable_of(CallableName::WaitForDone, this.as_obj())
    }

    fn due_call(this: &Ref<WaitFor>) -> Result<DueCall, Raised> {
        let due = callable_of(CallableName::WaitForDue, this.as_obj())?;
        // The timeout of 3.12 and later needs no call.
        let waiter = this.waiter.get().filter(|_| cfg!(not(Py_3_12)));
        Ok((due, waiter.into_iter().collect()))
    }

    fn on_done(this: &Ref<WaitFor>, _: &Obj) -> Result<(), Raised> {
        match this.waiter.get() {
            Some(waiter) => AnyFuture::of(&waiter).release(),
            None => Ok(()),
        }
    }

    fn due(this: &Ref<WaitFor>) -> Result<(), Raised> {
        if cfg!(Py_3_12) {
            return this.expiry.expire();
        }
        this.timer.ran();
        // Once the caller was cancelled, only the future's end counts.
        match this.waiter.get() {
            Some(waiter) if this.stage.get() == WaitForStage::Waiting => {
                AnyFuture::of(&waiter).release()
            }
            _ => Ok(()),
        }
    }
}

impl Coroutine for WaitFor {
    fn names(&self) -> (&'static str, &'static str) {
        ("wait_for", "wait_for")
    }

    fn codes(&self, py: Python<'_>) -> Vec<Obj> {
        match self.stage.get() {
            WaitForStage::Cancelling => codes(py, &[Code::WaitFor, Code::CancelAndWait]),
            _ => codes(py, &[Code::WaitFor]),
        }
    }

    fn begin(this: &Ref<WaitFor>) -> Result<Turn, Raised> {
        let py = this.py();
        let future = this.future.take().unwrap_or_else(|| Obj::none(py));
        let event_loop = get_running_loop(py)?;
        let timeout = this.timeout.take();
        if let (None, false) = (&timeout, cfg!(Py_3_12)) {
            return Ok(Turn::Await(future));
        }
        if let Some(timeout) = &timeout {
            if is_not_positive(timeout)? {
                let its_loop = Some(&event_loop).filter(|_| cfg!(not(Py_3_12)));
                let future = ensure_future(&future, its_loop)?;
                let asked = AnyFuture::of(&future);
                if asked.is_done()? {
                    return asked.result().map(Turn::Return);
                }
                return WaitFor::cancel_and_wait(this, &future);
            }
            if cfg!(not(Py_3_12)) {
                return WaitFor::begin_to_wait(this, &event_loop, &future, timeout);
            }
            let when = TimeoutWhen::after(&event_loop, timeout)?;
            this.expiry.set_when(Some(when.clone()));
            this.expiry.enter(py)?;
            this.expiry
                .start_at(&event_loop, &when, this.as_obj(), false)?;
            return Ok(Turn::Await(future));
        }
        this.expiry.enter(py)?;
        Ok(Turn::Await(future))
    }

    fn resume(this: &Ref<WaitFor>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised> {
        let py = this.py();
        let future = this.future.get();
        match (this.stage.get(), future) {
            (WaitForStage::Waiting, Some(future)) => WaitFor::waited(this, &future, outcome),
            (WaitForStage::Cancelling, Some(future)) => WaitFor::cancelled(this, &future, outcome),
            _ if cfg!(not(Py_3_12)) => outcome.map(Turn::Return),
            _ => match outcome {
                Ok(value) => {
                    this.expiry.exit(py, None, None)?;
                    Ok(Turn::Return(value))
                }
                Err(raised) => {
                    let exception = raised.take(py);
                    let class = exception.class();
                    let exit = || this.expiry.exit(py, Some(&class), Some(&exception));
                    handling(&exception, exit)?;
                    Err(Raised::raise(exception))
                }
            },
        }
    }

    fn end(this: &Ref<WaitFor>) {
        for cancelled in [this.timer.cancel(), this.expiry.end()] {
            if let Err(raised) = cancelled {
                raised.report_unraisable(Some(this.as_obj()));
            }
        }
        this.clear();
    }
}

coroutine_class! {
    WaitFor: c"aioxide._aioxide.wait_for_coroutine", c"The coroutine object that wait_for() returns.";
    const FREELIST: usize = 1024;
    const MOVES: bool = true;
    holds future, timeout, waiter, task, cancellation, expiry, timer;
}

/// Builds the type.
pub(super) fn build(py: Python<'_>) -> Result<(), Raised> {
    cpython::build::build::<WaitFor>(py, None, 0).map(drop)
}

/// Adds the function to the module; `tasks` is asyncio's.
pub(super) fn add_functions(py: Python<'_>, module: &Obj, tasks: &Obj) -> Result<(), Raised> {
    let doc = "The result of an awaitable; TimeoutError after the seconds of the timeout.";
    let wait_for = callable(py, "wait_for", doc, WaitFor::python_wait_for)?;
    describe(py, &wait_for, &tasks.attr(pyo3::intern!(py, "wait_for"))?)?;
    module.set_attr(pyo3::intern!(py, "wait_for"), &wait_for)
}
