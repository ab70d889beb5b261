//! `sleep(delay, result=None)`.
//!
//! A coroutine object without a frame. It keeps the Future that it waits on and the alarm that
//! wakes it. `sleep(0)` yields once and needs neither.

use cpython::build::Next;
use cpython::callable::callable;
use cpython::{Args, Obj, Python, Raised, Ref, Slot, SpareQueue};

use super::class::coroutine_class;
use super::coroutine::{Coroutine, CoroutineState, Turn};
use super::function::describe;
use crate::event_loop::EventLoop;
use crate::futures::{Future, create_future, with_native_futures};
use crate::handles::Alarm;
use crate::interop::asyncio;
use crate::interop::current::running_loop;

/// The value of the coroutine object that `sleep()` returns.
pub(crate) struct Sleep {
    delay: Slot,
    /// Without delay and result: the coroutine only yields once.
    immediate: bool,
    result: Slot,
    alarm: Slot<Ref<Alarm>>,
    /// The handle, where the loop is foreign or the program has replaced its `call_later`.
    handle: Slot,
    event_loop: Slot<Ref<EventLoop>>,
    state: CoroutineState,
}

/// Coroutines that `sleep(0)` has returned and other coroutines await. They end in the next
/// iteration, and are used again. One that nothing awaits is not among them, and warns when it
/// goes.
static AWAITED: SpareQueue<Sleep> = SpareQueue::new();

impl Sleep {
    fn create(py: Python<'_>, delay: Obj, result: Option<Obj>) -> Result<Ref<Sleep>, Raised> {
        let value = Sleep {
            delay: Slot::new(Some(delay)),
            immediate: false,
            result: Slot::new(result),
            ..Sleep::immediate_value()
        };
        let sleep = Ref::new(py, value)?;
        // Only an object that refers to others can be part of a cycle.
        sleep.track();
        Ok(sleep)
    }

    /// A coroutine without delay and result.
    #[inline]
    fn immediate(py: Python<'_>) -> Result<Ref<Sleep>, Raised> {
        if let Some(sleep) = AWAITED.take(py) {
            sleep.state.renew();
            return Ok(sleep);
        }
        Ref::make(py, Sleep::immediate_value)
    }

    #[inline]
    fn immediate_value() -> Sleep {
        Sleep {
            delay: Slot::default(),
            immediate: true,
            result: Slot::default(),
            alarm: Slot::default(),
            handle: Slot::default(),
            event_loop: Slot::default(),
            state: CoroutineState::default(),
        }
    }

    #[inline(never)]
    fn begin_with(this: &Ref<Sleep>, delay: &Obj) -> Result<Turn, Raised> {
        let py = this.py();
        let seconds = delay_seconds(delay)?;
        if seconds <= 0.0 {
            return Ok(Turn::Pause);
        }
        let Some(running) = running_loop(py)? else {
            return Err(Raised::runtime_error(py, "no running event loop"));
        };
        let result = this.result.take().unwrap_or_else(|| Obj::none(py));
        if let Some(native) = with_native_futures(&running) {
            let future = Future::create(native)?;
            future.plan(result);
            let alarm = EventLoop::push_alarm(native, seconds, future.as_obj().clone())?;
            this.alarm.set(Some(alarm));
            this.event_loop.set(Some(native.clone()));
            return Ok(Turn::Await(future.into_obj()));
        }
        Sleep::begin_through(this, &running, delay, result)
    }

    /// Begins through the loop's own methods, as asyncio does.
    fn begin_through(
        this: &Ref<Sleep>,
        running: &Obj,
        delay: &Obj,
        result: Obj,
    ) -> Result<Turn, Raised> {
        let py = this.py();
        let future = create_future(running)?;
        let futures = Obj::import(py, c"asyncio.futures")?;
        let set = futures.attr(pyo3::intern!(py, "_set_result_unless_cancelled"))?;
        let later = pyo3::intern!(py, "call_later");
        let handle = running.method(later, &[delay, &set, &future, &result])?;
        this.handle.set(Some(handle));
        Ok(Turn::Await(future))
    }

    /// Drops the handle, whatever the outcome.
    #[cold]
    fn cancel_handle(handle: &Obj, outcome: Result<Obj, Raised>) -> Result<Obj, Raised> {
        let py = handle.py();
        let outcome = outcome.map_err(|raised| raised.take(py));
        handle.method(pyo3::intern!(py, "cancel"), &[])?;
        outcome.map_err(Raised::raise)
    }

    fn python_sleep(py: Python<'_>, args: &Args<'_>) -> Result<Ref<Sleep>, Raised> {
        if let ([delay], false) = (args.positional, args.has_keywords()) {
            if delay.is_zero() {
                return Sleep::immediate(py);
            }
        }
        let [delay, result] = args.bind_function("sleep", &["delay", "result"], 1)?;
        Sleep::create(py, delay.unwrap_or_else(|| Obj::none(py)), result)
    }
}

impl Coroutine for Sleep {
    fn names(&self) -> (&'static str, &'static str) {
        ("sleep", "sleep")
    }

    #[inline]
    fn awaited(this: &Ref<Sleep>) -> Ref<Sleep> {
        if this.immediate && this.state.is_new() {
            AWAITED.keep(this);
        }
        this.clone()
    }

    #[inline]
    fn shortcut(this: &Ref<Sleep>) -> Option<Next> {
        let value: &Sleep = this;
        value.immediate.then(|| value.state.pause_once(this.py()))?
    }

    fn begin(this: &Ref<Sleep>) -> Result<Turn, Raised> {
        match this.delay.take() {
            None => Ok(Turn::Pause),
            Some(delay) => Sleep::begin_with(this, &delay),
        }
    }

    fn resume(this: &Ref<Sleep>, mut outcome: Result<Obj, Raised>) -> Result<Turn, Raised> {
        if let Some(handle) = this.handle.take() {
            outcome = Sleep::cancel_handle(&handle, outcome);
        }
        let value = outcome?;
        Ok(Turn::Return(this.result.take().unwrap_or(value)))
    }

    /// Ends the timer with the sleep.
    fn end(this: &Ref<Sleep>) {
        if let Some(alarm) = this.alarm.take() {
            let event_loop = this.event_loop.take();
            if alarm.cancel() {
                if let Some(event_loop) = event_loop {
                    EventLoop::timer_cancelled(&event_loop);
                }
            }
        }
    }
}

/// The delay as a number. NaN and objects that are no number get asyncio's exceptions.
fn delay_seconds(delay: &Obj) -> Result<f64, Raised> {
    let py = delay.py();
    if !delay.is_float_exact() && !delay.is_int() {
        // asyncio compares with 0 first, and the TypeError of that names both types.
        delay.is_at_most(&Obj::int(py, 0)?)?;
    }
    let seconds = delay.to_f64()?;
    if cfg!(Py_3_13) && seconds.is_nan() {
        return Err(Raised::value_error(py, "Invalid delay: NaN (not a number)"));
    }
    Ok(seconds)
}

coroutine_class! {
    Sleep: c"aioxide._aioxide.sleep_coroutine", c"The coroutine object that sleep() returns.";
    const FREELIST: usize = 2048;
    const MOVES: bool = true;
    const TRACKED: bool = false;
    holds delay, result, alarm, handle, event_loop;
}

/// Adds the function to the module.
pub(crate) fn add_functions(py: Python<'_>, module: &Obj) -> Result<(), Raised> {
    let doc = "Coroutine that completes after delay seconds, with result.";
    let sleep = callable(py, "sleep", doc, Sleep::python_sleep)?;
    describe(py, &sleep, asyncio(py).sleep.get(py))?;
    module.set_attr(pyo3::intern!(py, "sleep"), &sleep)
}
