//! `wait_for(fut, timeout)`.
//!
//! Since 3.12 the awaitable runs in the caller's task under a timeout; on 3.11 it gets a task of
//! its own, which is waited for and cancelled.

use std::cell::Cell;

use cpython::build::MethodDef;
use cpython::callable::callable;
use cpython::error::set_context;
use cpython::{Args, Hot, Obj, Python, Raised, Ref, Slot};

use super::any_future::{cancel, create_future, is_done, release, result, unwatch, watch};
use super::awaited_by;
use super::codes::{Code, codes};
use super::ensure_future::{ensure_future, get_running_loop};
use super::expiry::{Expiry, timeout_error};
use super::timer::{Timer, When};
use super::watching::Watcher;
use crate::coroutines::class::coroutine_class;
use crate::coroutines::coroutine::{Coroutine, Course, Turn};
use crate::coroutines::describe;
use crate::interop::asyncio;
use crate::interop::current::current_task;

/// Where it stands.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
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
    stage: Cell<Stage>,
    waiter: Slot,
    task: Slot,
    /// The caller's cancellation, raised once the future is done (3.11).
    cancellation: Slot,
    expiry: Expiry,
    timer: Timer,
    course: Course,
}

impl WaitFor {
    fn create(py: Python<'_>, args: &Args<'_>) -> Result<Ref<WaitFor>, Raised> {
        let [future, timeout] = args.bind_function("wait_for", &["fut", "timeout"], 2)?;
        Ref::new(
            py,
            WaitFor {
                future: Slot::new(future),
                timeout: Slot::new(timeout.and_then(Obj::not_none)),
                stage: Cell::new(Stage::Awaiting),
                waiter: Slot::default(),
                task: Slot::default(),
                cancellation: Slot::default(),
                expiry: Expiry::new(None),
                timer: Timer::default(),
                course: Course::default(),
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
        watch(&future, this.as_obj())?;
        this.future.set(Some(future));
        this.stage.set(Stage::Waiting);
        Ok(Turn::Await(waiter))
    }

    /// Cancels the future and waits until it is done.
    fn cancel_and_wait(this: &Ref<WaitFor>, future: &Obj) -> Result<Turn, Raised> {
        let event_loop = get_running_loop(this.py())?;
        let waiter = create_future(&event_loop)?;
        this.waiter.set(Some(waiter.clone()));
        this.future.set(Some(future.clone()));
        watch(future, this.as_obj())?;
        if cfg!(Py_3_14) {
            if let Some(task) = current_task(this.py(), Some(&event_loop))? {
                awaited_by::add(future, &task)?;
                this.task.set(Some(task));
            }
        }
        this.stage.set(Stage::Cancelling);
        if let Err(raised) = cancel(future, None) {
            return WaitFor::cancelled(this, future, Err(raised));
        }
        Ok(Turn::Await(waiter))
    }

    /// The future that was cancelled is done, or its cancelling was cancelled.
    fn cancelled(
        this: &Ref<WaitFor>,
        future: &Obj,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        let py = this.py();
        let outcome = outcome.map_err(|raised| raised.take(py));
        unwatch(future, this.as_obj())?;
        if let Some(task) = this.task.take() {
            awaited_by::discard(future, &task)?;
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

    /// The result of a future that was cancelled because the time has come.
    fn result_in_time(future: &Obj) -> Result<Turn, Raised> {
        let py = future.py();
        match result(future) {
            Ok(result) => Ok(Turn::Return(result)),
            Err(raised) if raised.matches(asyncio(py).cancelled_error.get(py)) => {
                Err(timeout_error(py, Some(&raised.take(py)))?)
            }
            Err(raised) => Err(raised),
        }
    }

    /// The wait of 3.11 is over.
    fn waited(
        this: &Ref<WaitFor>,
        future: &Obj,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        let py = this.py();
        if let Err(raised) = outcome {
            if !raised.matches(asyncio(py).cancelled_error.get(py)) {
                return Err(raised);
            }
            let cancellation = raised.take(py);
            if is_done(future)? {
                return match result(future) {
                    Ok(result) => Ok(Turn::Return(result)),
                    Err(raised) => {
                        let exception = raised.take(py);
                        set_context(&exception, cancellation);
                        Err(Raised::raise(exception))
                    }
                };
            }
            this.cancellation.set(Some(cancellation));
        } else if is_done(future)? {
            return result(future).map(Turn::Return);
        }
        unwatch(future, this.as_obj())?;
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
    let py = timeout.py();
    let operator = Obj::import(py, c"operator")?;
    let zero = Obj::int(py, 0)?;
    operator
        .method(pyo3::intern!(py, "le"), &[timeout, &zero])?
        .truth()
}

impl Watcher for WaitFor {
    const CALLABLE: &'static MethodDef = {
        static CALLABLE: MethodDef = MethodDef::new(c"_release_waiter", c"The future is done.");
        &CALLABLE
    };
    const DUE: &'static MethodDef = {
        static DUE: MethodDef = MethodDef::new(c"_on_timeout", c"The time has come.");
        &DUE
    };

    fn told(this: &Ref<WaitFor>, _: &Obj) -> Result<(), Raised> {
        match this.waiter.get() {
            Some(waiter) => release(&waiter),
            None => Ok(()),
        }
    }

    fn due(this: &Ref<WaitFor>) -> Result<(), Raised> {
        if cfg!(Py_3_12) {
            return this.expiry.expire();
        }
        this.timer.ran();
        // Once the caller was cancelled, the future's end alone counts.
        match this.waiter.get() {
            Some(waiter) if this.stage.get() == Stage::Waiting => release(&waiter),
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
            Stage::Cancelling => codes(py, &[Code::WaitFor, Code::CancelAndWait]),
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
                let future = ensure_future(&future, Some(&event_loop))?;
                if is_done(&future)? {
                    return result(&future).map(Turn::Return);
                }
                return WaitFor::cancel_and_wait(this, &future);
            }
            if cfg!(not(Py_3_12)) {
                return WaitFor::begin_to_wait(this, &event_loop, &future, timeout);
            }
            this.expiry
                .set_when(Some(When::after(&event_loop, timeout)?));
        }
        this.expiry.enter(py)?;
        this.expiry.start(this.as_obj())?;
        Ok(Turn::Await(future))
    }

    fn resume(this: &Ref<WaitFor>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised> {
        let py = this.py();
        let future = this.future.get();
        match (this.stage.get(), future) {
            (Stage::Waiting, Some(future)) => WaitFor::waited(this, &future, outcome),
            (Stage::Cancelling, Some(future)) => WaitFor::cancelled(this, &future, outcome),
            _ if cfg!(not(Py_3_12)) => outcome.map(Turn::Return),
            _ => match outcome {
                Ok(value) => {
                    this.expiry.exit(py, None, None)?;
                    Ok(Turn::Return(value))
                }
                Err(raised) => {
                    let exception = raised.take(py);
                    let class = exception.class();
                    this.expiry.exit(py, Some(&class), Some(&exception))?;
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
    holds future, timeout, waiter, task, cancellation, expiry, timer;
}

/// Builds the type.
pub(super) fn build(py: Python<'_>) -> Result<(), Raised> {
    cpython::build::build::<WaitFor>(py, None, 0).map(drop)
}

/// Adds the function to the module; `tasks` is asyncio's.
pub(super) fn add_functions(py: Python<'_>, module: &Obj, tasks: &Obj) -> Result<(), Raised> {
    let doc = "The result of an awaitable; TimeoutError after so many seconds.";
    let wait_for = callable(py, "wait_for", doc, WaitFor::create)?;
    describe(py, &wait_for, &tasks.attr(pyo3::intern!(py, "wait_for"))?)?;
    module.set_attr(pyo3::intern!(py, "wait_for"), &wait_for)
}
