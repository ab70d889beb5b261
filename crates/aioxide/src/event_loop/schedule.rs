//! Filling the ready queue and the timer heap.

use std::sync::Arc;

use cpython::{Args, Obj, Python, Raised, Ref};
use engine::{Nanos, Waker};

use super::EventLoop;
use super::clock::is_clock_replaced;
use crate::handles::{
    Alarm, Callback, Entry, Handle, ThreadSafeHandle, TimerEntry, TimerHandle, When,
};

impl EventLoop {
    /// Puts an entry into the ready queue.
    #[inline(always)]
    pub(crate) fn schedule(this: &Ref<EventLoop>, entry: Entry) {
        this.ready.borrow_mut().push(entry);
        if this.waiting.get() {
            this.wake();
        }
    }

    /// Puts an entry before all others of the ready queue.
    pub(crate) fn schedule_first(this: &Ref<EventLoop>, entry: Entry) {
        this.ready.borrow_mut().insert(0, entry);
    }

    /// Takes the first entry out of the ready queue, if it is one of this object.
    pub(crate) fn unschedule_first(this: &Ref<EventLoop>, object: &Obj) {
        let mut ready = this.ready.borrow_mut();
        let first = match ready.get(0) {
            Some(first) if first.is_of(object) => ready.remove(0),
            _ => None,
        };
        drop(ready);
        drop(first);
    }

    /// As `schedule`, from another thread, which wakes the loop itself once it no longer has the
    /// GIL. Returns the waker if the loop waits.
    pub(crate) fn schedule_unnoticed(this: &Ref<EventLoop>, entry: Entry) -> Option<Arc<Waker>> {
        this.ready.borrow_mut().push(entry);
        if this.waiting.get() {
            this.waker.borrow().clone()
        } else {
            None
        }
    }

    /// `call_soon(callback, *args, context=None)`.
    #[inline]
    pub(crate) fn call_soon(this: &Ref<EventLoop>, args: &Args<'_>) -> Result<Obj, Raised> {
        let py = this.py();
        let (callback, rest, context) = call_of(py, args, "call_soon")?;
        this.check_closed(py)?;
        if this.debug() {
            EventLoop::check_thread_and_callback(this, callback, "call_soon", true)?;
        }
        let handle = EventLoop::push_call(this, Callback::new(callback, rest)?, context)?;
        if this.debug() {
            handle.remember_source(py, 0)?;
        }
        Ok(handle.into_obj())
    }

    /// `call_soon_threadsafe(callback, *args, context=None)`.
    pub(crate) fn call_soon_threadsafe(
        this: &Ref<EventLoop>,
        args: &Args<'_>,
    ) -> Result<Obj, Raised> {
        let py = this.py();
        let (callback, rest, context) = call_of(py, args, "call_soon_threadsafe")?;
        this.check_closed(py)?;
        if this.debug() {
            EventLoop::check_thread_and_callback(this, callback, "call_soon_threadsafe", false)?;
        }
        let callback = Callback::new(callback, rest)?;
        if cfg!(not(Py_3_14)) {
            let handle = EventLoop::push_call(this, callback, context)?;
            if this.debug() {
                handle.remember_source(py, 0)?;
            }
            return Ok(handle.into_obj());
        }
        let handle = match this.spares.take_thread_safe() {
            Some(spare) => {
                this.spares.give_context(py, spare.parent(), context)?;
                spare.parent().refill(callback);
                spare
            }
            None => {
                let context = this.spares.bind(py, context)?;
                ThreadSafeHandle::create(py, this.as_obj(), callback, context)?
            }
        };
        if this.debug() {
            handle.parent().remember_source(py, 0)?;
        }
        EventLoop::schedule(this, Entry::handle(handle.parent().clone()));
        Ok(handle.into_obj())
    }

    /// Makes a handle and puts it into the ready queue.
    #[inline]
    pub(crate) fn push_call(
        this: &Ref<EventLoop>,
        callback: Callback,
        context: Option<Obj>,
    ) -> Result<Ref<Handle>, Raised> {
        let py = this.py();
        let handle = match this.spares.take_handle() {
            Some(spare) => {
                this.spares.give_context(py, &spare, context)?;
                spare.refill(callback);
                spare
            }
            None => {
                let context = this.spares.bind(py, context)?;
                Ref::new(py, Handle::value(this.as_obj(), callback, context))?
            }
        };
        EventLoop::schedule(this, Entry::handle(handle.clone()));
        Ok(handle)
    }

    /// `call_later(delay, callback, *args, context=None)`.
    pub(crate) fn call_later(this: &Ref<EventLoop>, args: &Args<'_>) -> Result<Obj, Raised> {
        if let Some([delay, callback, rest @ ..]) = args.only_positional() {
            if delay.is_float_exact() && !EventLoop::is_time_asked(this) {
                let when = Moment::Seconds(EventLoop::now_seconds(this) + delay.to_f64()?);
                return EventLoop::push_timer(this, when, callback, rest, None);
            }
        }
        EventLoop::call_later_of_any(this, args)
    }

    /// Whether `call_later` must call the loop's methods for the time and the timer.
    #[inline]
    fn is_time_asked(this: &Ref<EventLoop>) -> bool {
        EventLoop::is_replaced(this) || is_clock_replaced()
    }

    #[inline(never)]
    fn call_later_of_any(this: &Ref<EventLoop>, args: &Args<'_>) -> Result<Obj, Raised> {
        let py = this.py();
        let (delay, callback, rest) = timed_callback_of(py, args, "call_later", "delay")?;
        if delay.is_none() {
            return Err(Raised::type_error(py, "delay must not be None"));
        }
        if EventLoop::is_time_asked(this) {
            let now = this.as_obj().method(pyo3::intern!(py, "time"), &[])?;
            let when = now.plus(delay)?;
            let mut call = vec![&when, callback];
            call.extend(rest);
            let context = context_of(args, "call_later", &["delay", "callback"])?;
            let context = context.unwrap_or_else(|| Obj::none(py));
            call.push(&context);
            let names = crate::interop::asyncio(py).context_name.get(py);
            let name = pyo3::intern!(py, "call_at");
            let timer = this.as_obj().method_named(name, &call, Some(names))?;
            EventLoop::hide_ourselves(&timer)?;
            return Ok(timer);
        }
        let now = Obj::float(py, EventLoop::now_seconds(this))?;
        let when = Moment::Given(now.plus(delay)?);
        let context = context_of(args, "call_later", &["delay", "callback"])?;
        EventLoop::push_timer(this, when, callback, rest, context)
    }

    /// Removes the call of `call_at()` from the traceback of a handle that the program's own
    /// `call_at()` has made, as asyncio does. A native handle's traceback does not have it.
    fn hide_ourselves(timer: &Obj) -> Result<(), Raised> {
        let py = timer.py();
        if Ref::<TimerHandle>::of_any(timer).is_some() {
            return Ok(());
        }
        let traceback = timer.attr(pyo3::intern!(py, "_source_traceback"))?;
        if traceback.truth()? {
            traceback.method(pyo3::intern!(py, "pop"), &[])?;
        }
        Ok(())
    }

    /// `call_at(when, callback, *args, context=None)`.
    pub(crate) fn call_at(this: &Ref<EventLoop>, args: &Args<'_>) -> Result<Obj, Raised> {
        let py = this.py();
        if let Some([when, callback, rest @ ..]) = args.only_positional() {
            if when.is_float_exact() {
                let when = Moment::Seconds(when.to_f64()?);
                return EventLoop::push_timer(this, when, callback, rest, None);
            }
        }
        let (when, callback, rest) = timed_callback_of(py, args, "call_at", "when")?;
        if when.is_none() {
            return Err(Raised::type_error(py, "when cannot be None"));
        }
        let when = Moment::Given(when.clone());
        let context = context_of(args, "call_at", &["when", "callback"])?;
        EventLoop::push_timer(this, when, callback, rest, context)
    }

    #[inline]
    fn push_timer(
        this: &Ref<EventLoop>,
        when: Moment,
        callback: &Obj,
        rest: &[Obj],
        context: Option<Obj>,
    ) -> Result<Obj, Raised> {
        let py = this.py();
        this.check_closed(py)?;
        if this.debug() {
            EventLoop::check_thread_and_callback(this, callback, "call_at", true)?;
        }
        let when = when.check()?;
        let deadline = engine::nanos_from_seconds(when.seconds);
        let sequence = EventLoop::next_sequence(this);
        let callback = Callback::new(callback, rest)?;
        let timer = match this.spares.take_timer() {
            Some(spare) => {
                this.spares.give_context(py, spare.parent(), context)?;
                spare.parent().refill(callback);
                spare.refill(py, when, sequence);
                spare
            }
            None => {
                let context = this.spares.bind(py, context)?;
                TimerHandle::create(py, this.as_obj(), callback, context, when, sequence)?
            }
        };
        if this.debug() {
            timer.parent().remember_source(py, 0)?;
        }
        this.timers
            .borrow_mut()
            .push(deadline, TimerEntry::handle(timer.clone()));
        if this.waiting.get() {
            this.wake();
        }
        Ok(timer.into_obj())
    }

    /// Wakes a Future after a delay in seconds, which is not negative.
    pub(crate) fn push_alarm(
        this: &Ref<EventLoop>,
        delay: f64,
        target: Obj,
    ) -> Result<Ref<Alarm>, Raised> {
        let py = this.py();
        let deadline = this
            .clock
            .now()
            .saturating_add(engine::nanos_from_seconds(delay));
        let alarm = Alarm::create(py, target, EventLoop::next_sequence(this))?;
        this.timers
            .borrow_mut()
            .push(deadline, TimerEntry::alarm(alarm.clone()));
        Ok(alarm)
    }

    /// As `push_alarm`, at a time of `loop.time()`, for any object that is served for alarms.
    pub(crate) fn push_alarm_at(
        this: &Ref<EventLoop>,
        when: f64,
        target: Obj,
    ) -> Result<Ref<Alarm>, Raised> {
        let alarm = Alarm::create(this.py(), target, EventLoop::next_sequence(this))?;
        this.timers.borrow_mut().push(
            engine::nanos_from_seconds(when),
            TimerEntry::alarm(alarm.clone()),
        );
        Ok(alarm)
    }

    /// As `push_alarm_at`, for the next iteration: adds an entry to the ready queue that can be
    /// cancelled.
    pub(crate) fn push_alarm_now(this: &Ref<EventLoop>, target: Obj) -> Result<Ref<Alarm>, Raised> {
        let alarm = Alarm::create(this.py(), target, EventLoop::next_sequence(this))?;
        let entry = TimerEntry::alarm(alarm.clone()).into_entry();
        EventLoop::schedule(this, entry);
        Ok(alarm)
    }

    /// Notes that a timer in the heap was cancelled, and sweeps the heap if most of it is.
    #[inline]
    pub(crate) fn timer_cancelled(this: &Ref<EventLoop>) {
        let is_sweep_due = {
            let mut timers = this.timers.borrow_mut();
            timers.note_cancelled();
            timers.is_sweep_due()
        };
        if is_sweep_due {
            EventLoop::sweep_timers(this);
        }
    }

    #[cold]
    fn sweep_timers(this: &Ref<EventLoop>) {
        let mut dropped = Vec::new();
        this.timers.borrow_mut().sweep_if_due(&mut dropped);
        EventLoop::forget(dropped);
    }

    fn next_sequence(this: &Ref<EventLoop>) -> u64 {
        let sequence = this.sequence.get();
        this.sequence.set(sequence + 1);
        sequence
    }

    /// The loop's clock, in seconds.
    #[inline]
    pub(crate) fn now_seconds(this: &Ref<EventLoop>) -> f64 {
        engine::seconds(this.clock.now())
    }

    /// The loop's time as its timers see it: that of the program's `time()`, if it has one.
    #[inline]
    pub(super) fn now(this: &Ref<EventLoop>) -> Result<Nanos, Raised> {
        if !this.time_replaced.get() {
            return Ok(this.clock.now());
        }
        let py = this.py();
        let time = this.as_obj().method(pyo3::intern!(py, "time"), &[])?;
        Ok(engine::nanos_from_seconds(time.to_f64()?))
    }

    #[cold]
    pub(crate) fn check_thread_and_callback(
        this: &Ref<EventLoop>,
        callback: &Obj,
        method: &str,
        thread: bool,
    ) -> Result<(), Raised> {
        let py = this.py();
        if thread {
            this.as_obj()
                .method(pyo3::intern!(py, "_check_thread"), &[])?;
        }
        let method = Obj::str(py, method)?;
        this.as_obj()
            .method(pyo3::intern!(py, "_check_callback"), &[callback, &method])
            .map(drop)
    }
}

/// The time of a timer, before it is checked.
enum Moment {
    /// Seconds of `loop.time()`.
    Seconds(f64),
    /// The object that the program gave.
    Given(Obj),
}

impl Moment {
    #[inline]
    fn check(self) -> Result<When, Raised> {
        match self {
            Moment::Seconds(seconds) => Ok(When {
                seconds,
                given: None,
            }),
            Moment::Given(given) => Ok(When {
                seconds: given.to_f64()?,
                given: (!given.is_float_exact()).then_some(given),
            }),
        }
    }
}

/// The callback, its arguments and the context of `call_soon` and `call_soon_threadsafe`.
#[inline]
fn call_of<'a>(
    py: Python<'_>,
    args: &Args<'a>,
    method: &str,
) -> Result<(&'a Obj, &'a [Obj], Option<Obj>), Raised> {
    if let Some([callback, rest @ ..]) = args.only_positional() {
        return Ok((callback, rest, None));
    }
    let (callback, rest) = callback_of(py, args, method)?;
    let context = context_of(args, method, &["callback"])?;
    Ok((callback, rest, context))
}

/// The callback and its arguments.
#[inline]
fn callback_of<'a>(
    py: Python<'_>,
    args: &Args<'a>,
    method: &str,
) -> Result<(&'a Obj, &'a [Obj]), Raised> {
    match args.positional.split_first() {
        Some(split) => Ok(split),
        None => match args.named("callback") {
            Some(callback) => Ok((callback, &[])),
            None => Err(missing(py, method, &["callback"])),
        },
    }
}

/// The time, the callback and its arguments.
#[inline]
fn timed_callback_of<'a>(
    py: Python<'_>,
    args: &Args<'a>,
    method: &str,
    first: &str,
) -> Result<(&'a Obj, &'a Obj, &'a [Obj]), Raised> {
    if let [time, callback, rest @ ..] = args.positional {
        return Ok((time, callback, rest));
    }
    match (
        args.positional.first().or_else(|| args.named(first)),
        args.named("callback"),
    ) {
        (Some(time), Some(callback)) => Ok((time, callback, &[])),
        (Some(_), None) => Err(missing(py, method, &["callback"])),
        (None, Some(_)) => Err(missing(py, method, &[first])),
        (None, None) => Err(missing(py, method, &[first, "callback"])),
    }
}

#[cold]
fn missing(py: Python<'_>, method: &str, names: &[&str]) -> Raised {
    let plural = if names.len() == 1 { "" } else { "s" };
    let list = names
        .iter()
        .map(|name| format!("'{name}'"))
        .collect::<Vec<_>>()
        .join(" and ");
    let count = names.len();
    let text = format!("{method}() missing {count} required positional argument{plural}: {list}");
    Raised::type_error(py, &text)
}

/// The keyword argument `context`. `parameters` are the arguments that can be given by position
/// too.
#[inline]
fn context_of(args: &Args<'_>, method: &str, parameters: &[&str]) -> Result<Option<Obj>, Raised> {
    if !args.has_keywords() {
        return Ok(None);
    }
    let by_position = args.positional.len().min(parameters.len());
    for name in &parameters[..by_position] {
        if let Some(value) = args.named(name) {
            let text = format!("{method}() got multiple values for argument '{name}'");
            return Err(Raised::type_error(value.py(), &text));
        }
    }
    Ok(args
        .keyword_besides(method, "context", parameters)?
        .and_then(Obj::not_none))
}
