//! The part that all transports share, whatever their channel: their loop and protocol, how their
//! callbacks are scheduled, and their end.
//!
//! asyncio schedules three callbacks for a new transport (`connection_made`, start reading, wake
//! the waiter) and one for a lost one. Here the three are one entry, because they run one after
//! another anyway. If the program has replaced `call_soon`, or in debug mode, they are scheduled as
//! asyncio does, so that the program sees them.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::{GcFields, Hot, Obj, Python, Raised, Ref, Slot, Visit, context};

use super::imports;
use super::reports::{log, warn_unclosed};
use crate::event_loop::EventLoop;
use crate::handles::Entry;
use crate::handles::reports::{callback_failed, method_failed};
use crate::interop::EndsProgram;

/// A transport of any kind. Its type has the methods `_start_reading` and `_call_connection_lost`.
pub(crate) trait Transport: Hot {
    /// The descriptor under the transport, with its owner.
    type Channel: TransportChannel;

    /// The descriptor under the transport, with its owner.
    fn channel(&self) -> &Self::Channel;

    /// The part that all transports share.
    #[inline]
    fn core(&self) -> &Core {
        self.channel().core()
    }

    /// The context in which all callbacks run, if the caller has given one.
    fn given_context(&self) -> Option<Obj> {
        None
    }

    /// Sets the context in which readiness to read is handled from now on.
    fn set_reading_context(&self, context: Obj);

    /// Starts to receive, in the context that was set.
    fn start_reading_in_context(this: &Ref<Self>) -> Result<(), Raised>;

    /// Whether the protocol's `connection_lost` is to be called.
    fn is_connected(&self) -> bool {
        true
    }

    /// Drops the bound methods of the protocol and the contexts in which they run.
    fn release(&self);

    /// Runs after the descriptor was closed; hands the outcomes of its calls to `then`.
    fn after_close(_this: &Ref<Self>, _then: &mut dyn FnMut(Result<(), Raised>)) {}

    /// Handles that the transport is released without having been closed.
    fn after_release(_this: &Ref<Self>) -> Result<(), Raised> {
        Ok(())
    }
}

/// A descriptor with its owner.
pub(crate) trait TransportChannel {
    /// The part of the transport that all transports share.
    fn core(&self) -> &Core;

    /// Whether the descriptor still has its owner.
    fn is_open(&self) -> bool;

    /// Closes the descriptor, if it is open. Raises what the owner's `close()` raises.
    fn close(&self, py: Python<'_>) -> Result<(), Raised>;

    /// Stops watching the descriptor for reading on behalf of this transport.
    fn stop_reading(&self, transport: &Obj) -> Result<(), Raised>;
}

/// The context for callbacks to come: the one given, or a copy of the current one.
pub(crate) fn callback_context<T: Transport>(this: &Ref<T>) -> Result<Obj, Raised> {
    match this.given_context() {
        Some(context) => Ok(context),
        None => cpython::context::copy_current(this.py()),
    }
}

/// The next step in setting up a new transport.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SetupStep {
    CallConnectionMade,
    StartReading,
    WakeWaiter,
}

/// The steps in setting up a new transport that are left.
struct Setup {
    step: SetupStep,
    /// The protocol's bound `connection_made`.
    made: Obj,
    /// The context in which `connection_made` is called and the waiter is woken.
    context: Obj,
    waiter: Option<Obj>,
}

/// A call of `connection_lost` that is scheduled.
struct Lost {
    context: Obj,
    exception: Option<Obj>,
}

/// The loop and protocol of a transport, its state, and the callbacks that wait for their turn.
pub(crate) struct Core {
    /// The loop, until the connection is lost.
    pub(super) event_loop: Slot<Ref<EventLoop>>,
    /// The descriptor's number; still shown after it is closed.
    pub(super) fd: i32,
    /// The protocol, until the connection is lost.
    pub(super) protocol: Slot,
    /// `pause_reading()` was called.
    paused: Cell<bool>,
    /// `close()` was called, or an error has closed it.
    pub(super) closing: Cell<bool>,
    /// The steps for an entry in the loop's queue, as the next field. They lie in boxes, because
    /// they are there for one iteration of a connection's life.
    setup: Cell<Option<Box<Setup>>>,
    lost: Cell<Option<Box<Lost>>>,
}

impl GcFields for Core {
    fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.event_loop);
        visit.slot(&self.protocol);
        if let Some(setup) = self.setup.take() {
            visit.object(&setup.made);
            visit.object(&setup.context);
            setup.waiter.iter().for_each(|waiter| visit.object(waiter));
            self.setup.set(Some(setup));
        }
        if let Some(lost) = self.lost.take() {
            visit.object(&lost.context);
            let exception = lost.exception.iter();
            exception.for_each(|exception| visit.object(exception));
            self.lost.set(Some(lost));
        }
    }
    fn let_go(&self) {
        self.event_loop.set(None);
        self.protocol.set(None);
        self.setup.set(None);
        self.lost.set(None);
    }
}

impl Core {
    pub(super) fn new(event_loop: &Ref<EventLoop>, fd: i32) -> Core {
        Core {
            event_loop: Slot::new(Some(event_loop.clone())),
            fd,
            protocol: Slot::default(),
            paused: Cell::new(false),
            closing: Cell::new(false),
            setup: Cell::new(None),
            lost: Cell::new(None),
        }
    }

    /// Whether the program wants to receive.
    #[inline]
    pub(super) fn is_reading(&self) -> bool {
        !self.closing.get() && !self.paused.get()
    }

    /// The protocol, or None once the connection is lost.
    pub(super) fn protocol_or_none(&self, py: Python<'_>) -> Obj {
        self.protocol.get().unwrap_or_else(|| Obj::none(py))
    }

    /// Has the loop poll next, because bytes leave this end of a connection and the program may
    /// hold its other end.
    #[inline]
    pub(super) fn poll_next(&self) {
        if let Some(event_loop) = self.event_loop.get() {
            event_loop.poll_next();
        }
    }
}

/// Adds the methods and properties of all transports.
pub(super) fn build<T: Transport>(builder: &mut Builder<T>) {
    builder
        .instance_dict()
        .method0(
            c"get_protocol",
            c"get_protocol($self, /)\n--\n\nReturn the current protocol.",
            |this| this.core().protocol.get(),
        )
        .method0(
            c"is_closing",
            c"is_closing($self, /)\n--\n\nReturn True if the transport is closing or closed.",
            |this| this.core().closing.get(),
        )
        .get(
            c"_closing",
            c"Whether the transport is closing or closed.",
            |this| this.core().closing.get(),
        )
        .get(
            c"_loop",
            c"The loop, until the connection is lost.",
            |this| this.core().event_loop.get(),
        )
        .get(
            c"_protocol",
            c"The protocol, until the connection is lost.",
            |this| this.core().protocol.get(),
        );
}

/// Adds `close()` and `abort()`.
pub(crate) fn build_closing<T, C, A>(builder: &mut Builder<T>, close: C, abort: A)
where
    T: Hot,
    C: Fn(&Ref<T>) -> Result<(), Raised> + Copy + 'static,
    A: Fn(&Ref<T>) -> Result<(), Raised> + Copy + 'static,
{
    builder
        .method0(
            c"close",
            c"close($self, /)\n--\n\nClose the transport. Buffered data will be flushed.",
            close,
        )
        .method0(
            c"abort",
            c"abort($self, /)\n--\n\nClose the transport immediately. Buffered data is lost.",
            abort,
        );
}

/// Adds the methods and properties of transports that receive.
pub(super) fn build_reading<T: Transport>(builder: &mut Builder<T>) {
    builder
        .method0(
            c"is_reading",
            c"is_reading($self, /)\n--\n\nReturn True if the transport is receiving.",
            |this| this.core().is_reading(),
        )
        .method0(
            c"pause_reading",
            c"pause_reading($self, /)\n--\n\nPause the receiving end.",
            pause_reading,
        )
        .method0(
            c"resume_reading",
            c"resume_reading($self, /)\n--\n\nResume the receiving end.",
            resume_reading,
        )
        .method0(
            c"_start_reading",
            c"_start_reading($self, /)\n--\n\nStart to receive, unless paused or closing.",
            |this| match this.core().is_reading() {
                true => start_reading(this),
                false => Ok(()),
            },
        )
        .get(c"_paused", c"Whether reading is paused.", |this| {
            this.core().paused.get()
        });
}

/// `pause_reading()`.
pub(crate) fn pause_reading<T: Transport>(this: &Ref<T>) -> Result<(), Raised> {
    if !this.core().is_reading() {
        return Ok(());
    }
    this.core().paused.set(true);
    this.channel().stop_reading(this.as_obj())?;
    log_if_debug(this, "debug", "%r pauses reading")
}

/// `resume_reading()`.
pub(crate) fn resume_reading<T: Transport>(this: &Ref<T>) -> Result<(), Raised> {
    if this.core().closing.get() || !this.core().paused.replace(false) {
        return Ok(());
    }
    start_reading(this)?;
    log_if_debug(this, "debug", "%r resumes reading")
}

/// Starts to receive, in a context for the callbacks to come.
pub(super) fn start_reading<T: Transport>(this: &Ref<T>) -> Result<(), Raised> {
    this.set_reading_context(callback_context(this)?);
    T::start_reading_in_context(this)
}

/// Logs a message about the transport in asyncio's log, in debug mode.
pub(super) fn log_if_debug<T: Transport>(
    this: &Ref<T>,
    level: &str,
    message: &str,
) -> Result<(), Raised> {
    match this.core().event_loop.get() {
        Some(event_loop) if event_loop.debug() => log(this.as_obj(), level, message),
        _ => Ok(()),
    }
}

/// The beginning of every `repr()`: the class, whether the transport is closed, and the descriptor.
pub(super) fn describe<T: Transport>(this: &Ref<T>) -> Result<String, Raised> {
    let name = pyo3::intern!(this.py(), "__name__");
    let class = this.as_obj().class().attr(name)?;
    let state = if !this.channel().is_open() {
        " closed"
    } else if this.core().closing.get() {
        " closing"
    } else {
        ""
    };
    Ok(format!("<{}{state} fd={}", class.as_str()?, this.core().fd))
}

/// Schedules the first steps of a new transport: `connection_made`, reading, and a result for the
/// waiter.
pub(crate) fn start<T: Transport>(
    this: &Ref<T>,
    protocol: &Obj,
    waiter: Option<Obj>,
) -> Result<(), Raised> {
    let py = this.py();
    let Some(event_loop) = this.core().event_loop.get() else {
        return Ok(());
    };
    let made = protocol.attr(pyo3::intern!(py, "connection_made"))?;
    if !EventLoop::is_fast(&event_loop) {
        let start_reading = this.as_obj().attr(pyo3::intern!(py, "_start_reading"))?;
        call_soon(this, &event_loop, &[&made, this.as_obj()])?;
        call_soon(this, &event_loop, &[&start_reading])?;
        if let Some(waiter) = waiter {
            let set_result = imports(py).set_result_unless_cancelled.get(py);
            call_soon(this, &event_loop, &[set_result, &waiter, &Obj::none(py)])?;
        }
        return Ok(());
    }
    // Each of asyncio's callbacks has a copy of the context: `data_received` does not see what
    // `connection_made` sets.
    let context = callback_context(this)?;
    this.set_reading_context(callback_context(this)?);
    this.core().setup.set(Some(Box::new(Setup {
        step: SetupStep::CallConnectionMade,
        made,
        context,
        waiter,
    })));
    EventLoop::schedule(&event_loop, Entry::call(this.as_obj().clone()));
    Ok(())
}

/// `loop.call_soon(callback, *args)`, with the transport's context if it was given one.
fn call_soon<T: Transport>(
    this: &Ref<T>,
    event_loop: &Ref<EventLoop>,
    call: &[&Obj],
) -> Result<(), Raised> {
    let py = this.py();
    let name = pyo3::intern!(py, "call_soon");
    match this.given_context() {
        Some(context) => {
            let names = crate::interop::asyncio(py).context_name.get(py);
            let call = [call, &[&context]].concat();
            event_loop
                .as_obj()
                .method_named(name, &call, Some(names))
                .map(drop)
        }
        None => event_loop.as_obj().method(name, call).map(drop),
    }
}

/// Runs the transport's entry in the loop's queue.
pub(crate) fn run_deferred<T: Transport>(this: &Ref<T>) -> Result<(), EndsProgram> {
    if let Some(setup) = this.core().setup.take() {
        return run_setup(this, setup);
    }
    match this.core().lost.take() {
        Some(lost) => run_lost(this, *lost),
        None => Ok(()),
    }
}

fn run_setup<T: Transport>(this: &Ref<T>, mut setup: Box<Setup>) -> Result<(), EndsProgram> {
    let Some(event_loop) = this.core().event_loop.get() else {
        return Ok(());
    };
    let is_whole = setup.step == SetupStep::CallConnectionMade;
    loop {
        let context = setup.context.clone();
        let rest = match setup.step {
            SetupStep::CallConnectionMade => {
                setup.step = SetupStep::StartReading;
                let made = setup.made.clone();
                before_the_rest(this, &event_loop, setup, || {
                    let transport = std::slice::from_ref(this.as_obj());
                    run_callback(&event_loop, &context, &made, transport)
                })
            }
            SetupStep::StartReading => {
                setup.step = SetupStep::WakeWaiter;
                before_the_rest(this, &event_loop, setup, || {
                    T::start_reading_in_context(this).or_else(|raised| {
                        let event_loop = Some(event_loop.clone());
                        method_failed(event_loop, this.as_obj(), "_start_reading", &[], raised)
                    })
                })
            }
            SetupStep::WakeWaiter => {
                let Some(waiter) = setup.waiter.take() else {
                    return Ok(());
                };
                // If `connection_made` has run the loop again, it is still in the context.
                let context = if is_whole {
                    Ok(context)
                } else {
                    context::copy(&context)
                };
                return wake_waiter(&event_loop, context, waiter);
            }
        };
        match rest? {
            Some(rest) => setup = rest,
            None => return Ok(()),
        }
    }
}

/// Sets the result of the waiter, in this context.
fn wake_waiter(
    event_loop: &Ref<EventLoop>,
    context: Result<Obj, Raised>,
    waiter: Obj,
) -> Result<(), EndsProgram> {
    let py = event_loop.py();
    let set_result = imports(py).set_result_unless_cancelled.get(py);
    let args = [waiter, Obj::none(py)];
    match context {
        Ok(context) => run_callback(event_loop, &context, set_result, &args),
        Err(raised) => callback_failed(event_loop.as_obj(), set_result, &args, raised),
    }
}

/// Runs a step while those that are left stand first in the ready queue, as in asyncio. If the step
/// runs the loop again, that run takes them; if the step ends the program, they stay there.
/// Otherwise it returns them.
fn before_the_rest<T: Transport>(
    this: &Ref<T>,
    event_loop: &Ref<EventLoop>,
    rest: Box<Setup>,
    step: impl FnOnce() -> Result<(), EndsProgram>,
) -> Result<Option<Box<Setup>>, EndsProgram> {
    let setup = &this.core().setup;
    setup.set(Some(rest));
    EventLoop::schedule_first(event_loop, Entry::call(this.as_obj().clone()));
    step()?;
    let rest = setup.take();
    if rest.is_some() {
        EventLoop::unschedule_first(event_loop, this.as_obj());
    }
    Ok(rest)
}

/// Calls a function as a Handle does: in its context, with failures reported.
pub(crate) fn run_callback(
    event_loop: &Ref<EventLoop>,
    context: &Obj,
    callback: &Obj,
    args: &[Obj],
) -> Result<(), EndsProgram> {
    let result = context::run(context, || match args {
        [one] => callback.call1(one),
        args => callback.call(&args.iter().collect::<Vec<_>>()),
    });
    match result {
        Ok(_) => Ok(()),
        Err(raised) => callback_failed(event_loop.as_obj(), callback, args, raised),
    }
}

/// Schedules `connection_lost` for the next iteration.
pub(crate) fn schedule_lost<T: Transport>(
    this: &Ref<T>,
    exception: Option<Obj>,
) -> Result<(), Raised> {
    let py = this.py();
    let core = this.core();
    let Some(event_loop) = core.event_loop.get() else {
        return Ok(());
    };
    if !EventLoop::is_fast(&event_loop) {
        let lost = this
            .as_obj()
            .attr(pyo3::intern!(py, "_call_connection_lost"))?;
        let exception = exception.unwrap_or_else(|| Obj::none(py));
        return call_soon(this, &event_loop, &[&lost, &exception]);
    }
    let context = callback_context(this)?;
    core.lost.set(Some(Box::new(Lost { context, exception })));
    EventLoop::schedule(&event_loop, Entry::call(this.as_obj().clone()));
    Ok(())
}

fn run_lost<T: Transport>(this: &Ref<T>, lost: Lost) -> Result<(), EndsProgram> {
    let Some(event_loop) = this.core().event_loop.get() else {
        return Ok(());
    };
    let exception = lost.exception.unwrap_or_else(|| Obj::none(this.py()));
    match context::run(&lost.context, || call_connection_lost(this, &exception)) {
        Ok(()) => Ok(()),
        Err(raised) => {
            let method = "_call_connection_lost";
            method_failed(
                Some(event_loop),
                this.as_obj(),
                method,
                &[exception],
                raised,
            )
        }
    }
}

/// `_call_connection_lost(exc)`: calls the protocol's `connection_lost`, closes the descriptor and
/// drops all references. Raises what the protocol raises, after that.
pub(super) fn call_connection_lost<T: Transport>(
    this: &Ref<T>,
    exception: &Obj,
) -> Result<(), Raised> {
    let py = this.py();
    let core = this.core();
    let result = match core.protocol.get() {
        Some(protocol) if this.is_connected() => protocol
            .method(pyo3::intern!(py, "connection_lost"), &[exception])
            .map(drop),
        _ => Ok(()),
    };
    // The first exception is raised at the end: none may be set while Python code runs.
    let mut first = result.err().map(|raised| raised.take(py));
    let mut then = |result: Result<(), Raised>| {
        if let Err(raised) = result {
            let exception = raised.take(py);
            first.get_or_insert(exception);
        }
    };
    core.poll_next();
    then(this.channel().close(py));
    this.release();
    core.protocol.set(None);
    core.event_loop.set(None);
    T::after_close(this, &mut then);
    match first {
        Some(exception) => Err(Raised::raise(exception)),
        None => Ok(()),
    }
}

/// Handles that the transport is released without having been closed.
pub(super) fn finalize<T: Transport>(this: &Ref<T>) {
    if !this.channel().is_open() {
        return;
    }
    let then = |result: Result<(), Raised>| {
        if let Err(raised) = result {
            raised.report_unraisable(Some(this.as_obj()));
        }
    };
    then(warn_unclosed(this.as_obj()));
    then(this.channel().close(this.py()));
    then(T::after_release(this));
}
