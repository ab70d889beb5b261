//! `sleep(delay, result=None)`.
//!
//! A coroutine object without a frame: it keeps the Future that it waits on and the alarm that
//! wakes it. `sleep(0)` yields once and needs neither.

use std::cell::Cell;

use cpython::build::{Builder, Next};
use cpython::callable::callable;
use cpython::{Args, Hot, Kept, NoParent, Obj, Python, Raised, Ref, Slot, Visit};

use crate::event_loop::EventLoop;
use crate::futures::{Future, thrown};
use crate::handles::Alarm;
use crate::interop::asyncio;
use crate::interop::current::running_loop;

#[derive(Clone, Copy, PartialEq)]
enum Progress {
    /// Not awaited yet.
    New,
    /// Not awaited yet; of no delay and no result, so that it only yields.
    Immediate,
    /// Has yielded; waits.
    Waiting,
    /// Of no delay and no result: has yielded.
    Yielded,
    /// Has ended.
    Done,
}

/// The value of the coroutine object that `sleep()` returns.
pub(crate) struct Sleep {
    delay: Slot,
    result: Slot,
    future: Slot<Ref<Future>>,
    alarm: Slot<Ref<Alarm>>,
    /// The handle of a loop whose `call_later` the program has replaced, or a foreign loop's.
    handle: Slot,
    event_loop: Slot<Ref<EventLoop>>,
    progress: Cell<Progress>,
}

/// What `sleep(0)` has returned and a coroutine awaits: done with in the next iteration, and then
/// used again. One that nobody awaits is not among them, and warns when it goes.
static AWAITED: Kept<Sleep> = Kept::new();

impl Sleep {
    fn create(py: Python<'_>, delay: Obj, result: Option<Obj>) -> Result<Ref<Sleep>, Raised> {
        let value = Sleep {
            delay: Slot::new(Some(delay)),
            result: Slot::new(result),
            ..Sleep::immediate_value()
        };
        value.progress.set(Progress::New);
        let sleep = Ref::new(py, value)?;
        // Only what refers to other objects can be part of a cycle.
        sleep.track();
        Ok(sleep)
    }

    /// Of no delay and no result.
    #[inline]
    fn immediate(py: Python<'_>) -> Result<Ref<Sleep>, Raised> {
        if let Some(sleep) = AWAITED.take(py) {
            sleep.progress.set(Progress::Immediate);
            return Ok(sleep);
        }
        Ref::new(py, Sleep::immediate_value())
    }

    #[inline]
    fn immediate_value() -> Sleep {
        Sleep {
            delay: Slot::default(),
            result: Slot::default(),
            future: Slot::default(),
            alarm: Slot::default(),
            handle: Slot::default(),
            event_loop: Slot::default(),
            progress: Cell::new(Progress::Immediate),
        }
    }

    /// `__await__()`.
    #[inline]
    fn awaited(this: &Ref<Sleep>) -> Ref<Sleep> {
        if this.progress.get() == Progress::Immediate {
            AWAITED.keep(this);
        }
        this.clone()
    }

    #[inline]
    fn step(this: &Ref<Sleep>, _value: &Obj) -> Result<Next, Raised> {
        let value: &Sleep = this;
        match value.progress.get() {
            Progress::Immediate => {
                value.progress.set(Progress::Yielded);
                Ok(Next::Yield(Obj::none(this.py())))
            }
            Progress::Yielded => {
                value.progress.set(Progress::Done);
                Ok(Next::Return(Obj::none(this.py())))
            }
            _ => Sleep::step_of_any(this),
        }
    }

    #[inline(never)]
    fn step_of_any(this: &Ref<Sleep>) -> Result<Next, Raised> {
        let py = this.py();
        match this.progress.get() {
            Progress::New => Sleep::begin(this),
            Progress::Waiting => match this.future.get() {
                None => {
                    this.progress.set(Progress::Done);
                    Ok(Next::Return(this.take_result(py)))
                }
                Some(future) if future.is_pending() => {
                    Err(Raised::runtime_error(py, "await wasn't used with future"))
                }
                Some(future) => {
                    Sleep::end(this)?;
                    Future::result(&future).map(Next::Return)
                }
            },
            _ => Err(Raised::runtime_error(
                py,
                "cannot reuse already awaited coroutine",
            )),
        }
    }

    fn is_new(&self) -> bool {
        matches!(self.progress.get(), Progress::New | Progress::Immediate)
    }

    fn take_result(&self, py: Python<'_>) -> Obj {
        self.result.take().unwrap_or_else(|| Obj::none(py))
    }

    fn begin(this: &Ref<Sleep>) -> Result<Next, Raised> {
        let py = this.py();
        this.progress.set(Progress::Done);
        let delay = this.delay.take().unwrap_or_else(|| Obj::none(py));
        let seconds = delay_seconds(&delay)?;
        if seconds <= 0.0 {
            this.progress.set(Progress::Waiting);
            return Ok(Next::Yield(Obj::none(py)));
        }
        let Some(running) = running_loop(py)? else {
            return Err(Raised::runtime_error(py, "no running event loop"));
        };
        let result = this.take_result(py);
        if let Some(native) = Ref::<EventLoop>::of(&running) {
            if EventLoop::is_fast(native) {
                let future = Future::create(native)?;
                future.plan(result);
                let alarm = EventLoop::push_alarm(native, seconds, future.as_obj().clone())?;
                this.alarm.set(Some(alarm));
                this.event_loop.set(Some(native.clone()));
                return Ok(Sleep::wait(this, future));
            }
        }
        Sleep::begin_through(this, &running, &delay, result)
    }

    fn wait(this: &Ref<Sleep>, future: Ref<Future>) -> Next {
        future.set_blocking_on();
        this.future.set(Some(future.clone()));
        this.progress.set(Progress::Waiting);
        Next::Yield(future.into_obj())
    }

    /// Through the loop's own methods, as asyncio does it.
    fn begin_through(
        this: &Ref<Sleep>,
        running: &Obj,
        delay: &Obj,
        result: Obj,
    ) -> Result<Next, Raised> {
        let py = this.py();
        let future = running.method(pyo3::intern!(py, "create_future"), &[])?;
        let futures = Obj::import(py, c"asyncio.futures")?;
        let set = futures.attr(pyo3::intern!(py, "_set_result_unless_cancelled"))?;
        let later = pyo3::intern!(py, "call_later");
        let handle = running.method(later, &[delay, &set, &future, &result])?;
        this.handle.set(Some(handle));
        match Ref::<Future>::of(&future) {
            Some(native) => Ok(Sleep::wait(this, native.clone())),
            None => {
                let text = "create_future() of a replaced loop must return an aioxide.Future here";
                Err(Raised::type_error(py, text))
            }
        }
    }

    /// The sleep is over: the timer with it.
    fn end(this: &Ref<Sleep>) -> Result<(), Raised> {
        this.progress.set(Progress::Done);
        this.future.set(None);
        let event_loop = this.event_loop.take();
        if let Some(alarm) = this.alarm.take() {
            if alarm.cancel() {
                if let Some(event_loop) = event_loop {
                    EventLoop::timer_cancelled(&event_loop);
                }
            }
        }
        if let Some(handle) = this.handle.take() {
            handle.method(pyo3::intern!(this.py(), "cancel"), &[])?;
        }
        Ok(())
    }

    fn send(this: &Ref<Sleep>, value: &Obj) -> Result<Obj, Raised> {
        if this.is_new() && !value.is_none() {
            let text = "can't send non-None value to a just-started coroutine";
            return Err(Raised::type_error(this.py(), text));
        }
        match Sleep::step(this, value)? {
            Next::Yield(object) => Ok(object),
            Next::Return(value) => Err(cpython::coro::raise_stop_iteration(&value)),
        }
    }

    fn throw(this: &Ref<Sleep>, args: &Args<'_>) -> Result<Obj, Raised> {
        let names = &["type", "value", "traceback"];
        let [class, value, traceback] = args.bind("throw", names, 3, 1)?;
        if this.progress.get() == Progress::Done {
            let text = "cannot reuse already awaited coroutine";
            return Err(Raised::runtime_error(this.py(), text));
        }
        Sleep::end(this)?;
        Err(thrown(this.py(), class, value, traceback))
    }

    fn python_sleep(py: Python<'_>, args: &Args<'_>) -> Result<Ref<Sleep>, Raised> {
        if let ([delay], false) = (args.positional, args.has_keywords()) {
            if delay.is_zero() {
                return Sleep::immediate(py);
            }
        }
        let [delay, result] = args.bind("sleep", &["delay", "result"], 2, 1)?;
        Sleep::create(py, delay.unwrap_or_else(|| Obj::none(py)), result)
    }
}

/// The delay as a number. NaN and what is no number get asyncio's exceptions.
fn delay_seconds(delay: &Obj) -> Result<f64, Raised> {
    let py = delay.py();
    if !delay.is_float_exact() && !delay.is_int() {
        // asyncio compares with 0 first, whose TypeError names both types.
        let zero = Obj::int(py, 0)?;
        let operator = Obj::import(py, c"operator")?;
        operator.method(pyo3::intern!(py, "le"), &[delay, &zero])?;
    }
    let seconds = delay.to_f64()?;
    if cfg!(Py_3_13) && seconds.is_nan() {
        return Err(Raised::value_error(py, "Invalid delay: NaN (not a number)"));
    }
    Ok(seconds)
}

impl Hot for Sleep {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide._aioxide.sleep_coroutine";
    const DOC: &'static std::ffi::CStr = c"The coroutine object that sleep() returns.";
    const FREELIST: usize = 2048;
    const TRACKED: bool = false;
    const SUBCLASSABLE: bool = false;
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        builder
            .iter(|this| this.clone())
            .awaits(Sleep::awaited)
            .step(Sleep::step)
            .method1(c"send", c"send($self, value, /)\n--\n\nOne step.", Sleep::send)
            .method(
                c"throw",
                c"throw($self, type, value=None, traceback=None, /)\n--\n\nRaise an exception where it waits.",
                Sleep::throw,
            )
            .method0(c"close", c"close($self, /)\n--\n\nEnd it.", Sleep::end)
            .repr(|this| format!("<coroutine object sleep at {:p}>", this.as_obj().as_ptr()))
            .get(c"__name__", c"Name of the function.", |_| String::from("sleep"))
            .get(c"__qualname__", c"Qualified name of the function.", |_| String::from("sleep"))
            .get(c"cr_running", c"Never while it can be asked.", |_| false)
            .get(c"cr_frame", c"It has no frame.", |this| Obj::none(this.py()))
            .get(c"cr_code", c"It has no code.", |this| Obj::none(this.py()))
            .get(c"cr_await", c"The Future it waits on.", |this| this.future.get())
            .get(c"cr_origin", c"Not kept.", |this| Obj::none(this.py()))
            .get(c"cr_suspended", c"Whether it waits.", |this| {
                matches!(this.progress.get(), Progress::Waiting | Progress::Yielded)
            });
    }

    fn traverse(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.delay);
        visit.slot(&self.result);
        visit.slot(&self.future);
        visit.slot(&self.alarm);
        visit.slot(&self.handle);
        visit.slot(&self.event_loop);
    }

    fn clear(&self) {
        self.delay.set(None);
        self.result.set(None);
        self.future.set(None);
        self.alarm.set(None);
        self.handle.set(None);
        self.event_loop.set(None);
    }

    fn needs_finalizer(&self, _parent: &NoParent) -> bool {
        self.progress.get() != Progress::Done
    }

    fn finalize(this: &Ref<Self>) {
        let py = this.py();
        if this.is_new() {
            this.progress.set(Progress::Done);
            let category = Obj::class_of::<pyo3::exceptions::PyRuntimeWarning>(py);
            let text = c"coroutine 'sleep' was never awaited";
            if let Err(raised) = cpython::error::warn(&category, text, 1) {
                raised.report_unraisable(Some(this.as_obj()));
            }
        } else if let Err(raised) = Sleep::end(this) {
            raised.report_unraisable(Some(this.as_obj()));
        }
    }
}

/// Adds the function to the module: a coroutine function to all who ask.
pub(crate) fn add_functions(py: Python<'_>, module: &Obj) -> Result<(), Raised> {
    let doc = "Coroutine that completes after delay seconds, with result.";
    let sleep = callable(py, "sleep", doc, Sleep::python_sleep)?;
    let set =
        |name: &str, value: &Obj| sleep.set_attr(&pyo3::types::PyString::intern(py, name), value);
    set("__module__", &Obj::str(py, "aioxide")?)?;
    let coroutines = Obj::import(py, c"asyncio.coroutines")?;
    set(
        "_is_coroutine",
        &coroutines.attr(pyo3::intern!(py, "_is_coroutine"))?,
    )?;
    let inspect = Obj::import(py, c"inspect")?;
    if let Some(mark) = inspect.attr_opt(pyo3::intern!(py, "markcoroutinefunction"))? {
        mark.call1(&sleep)?;
    }
    // Parameters and defaults are those of asyncio's function.
    let signature = inspect.method(pyo3::intern!(py, "signature"), &[asyncio(py).sleep.get(py)])?;
    set("__signature__", &signature)?;
    module.set_attr(pyo3::intern!(py, "sleep"), &sleep)
}
