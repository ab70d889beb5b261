//! What all transports share, whatever their channel: how their callbacks are scheduled.
//!
//! asyncio schedules three callbacks for a new transport (`connection_made`, start reading, wake
//! the waiter) and one for a lost one. Here the three are one entry: they would run one after
//! another anyway. Where the program has its own `call_soon`, or debugs, they are scheduled as
//! asyncio does, so that it sees them.

use std::cell::Cell;

use cpython::{Hot, Obj, Raised, Ref, Slot, Visit};

use super::imports;
use super::reports::{callback_failed, caught, in_context};
use crate::event_loop::EventLoop;
use crate::handles::Entry;

/// A transport, as its core sees it. Its type has the methods `_start_reading` and
/// `_call_connection_lost`.
pub(crate) trait Transport: Hot {
    /// The loop, until the connection is lost.
    fn event_loop(&self) -> Option<Ref<EventLoop>>;

    /// The protocol, until the connection is lost.
    fn protocol(&self) -> Option<Obj>;

    /// Its part of the core.
    fn core(&self) -> &Core;

    /// The context in which all callbacks run, if the caller has given one.
    fn given_context(&self) -> Option<Obj> {
        None
    }

    /// The protocol's `data_received` is called in this context from now on.
    fn set_reading_context(&self, context: Obj);

    /// Starts to receive, in the context that was set.
    fn start_reading_in_context(this: &Ref<Self>) -> Result<(), Raised>;

    /// Tells the protocol that the connection is lost and lets go of everything.
    fn call_connection_lost(this: &Ref<Self>, exception: &Obj) -> Result<(), Raised>;
}

/// The context for callbacks to come: the one given, or a copy of the current one.
pub(crate) fn callback_context<T: Transport>(this: &Ref<T>) -> Result<Obj, Raised> {
    match this.given_context() {
        Some(context) => Ok(context),
        None => cpython::context::copy_current(this.py()),
    }
}

/// What is still to be done for a new transport.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Setup {
    CallConnectionMade,
    StartReading,
    WakeWaiter,
    Done,
}

/// The callbacks that wait for their turn.
pub(crate) struct Core {
    setup: Cell<Setup>,
    /// The protocol's bound `connection_made`.
    made: Slot,
    /// In which `connection_made` and the waiter are called.
    setup_context: Slot,
    waiter: Slot,
    /// An entry of ours will call `connection_lost`, in this context, with this exception.
    lost_scheduled: Cell<bool>,
    lost_context: Slot,
    lost_exception: Slot,
}

impl Core {
    pub(crate) fn new() -> Core {
        Core {
            setup: Cell::new(Setup::Done),
            made: Slot::default(),
            setup_context: Slot::default(),
            waiter: Slot::default(),
            lost_scheduled: Cell::new(false),
            lost_context: Slot::default(),
            lost_exception: Slot::default(),
        }
    }

    pub(crate) fn traverse(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.made);
        visit.slot(&self.setup_context);
        visit.slot(&self.waiter);
        visit.slot(&self.lost_context);
        visit.slot(&self.lost_exception);
    }

    pub(crate) fn clear(&self) {
        self.made.set(None);
        self.setup_context.set(None);
        self.waiter.set(None);
        self.lost_context.set(None);
        self.lost_exception.set(None);
    }
}

/// Schedules what a new transport does first: `connection_made`, reading, and a result for the
/// waiter.
pub(crate) fn start<T: Transport>(
    this: &Ref<T>,
    protocol: &Obj,
    waiter: Option<Obj>,
) -> Result<(), Raised> {
    let py = this.py();
    let Some(event_loop) = this.event_loop() else {
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
    let core = this.core();
    core.made.set(Some(made));
    core.waiter.set(waiter);
    // Each of asyncio's callbacks has a copy of its own: what `connection_made` sets is not seen
    // by `data_received`.
    core.setup_context.set(Some(callback_context(this)?));
    this.set_reading_context(callback_context(this)?);
    core.setup.set(Setup::CallConnectionMade);
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

/// An entry of ours has come to its turn.
pub(crate) fn run_deferred<T: Transport>(this: &Ref<T>) -> Result<(), Raised> {
    if this.core().setup.get() != Setup::Done {
        return run_setup(this);
    }
    if this.core().lost_scheduled.replace(false) {
        return run_lost(this);
    }
    Ok(())
}

fn run_setup<T: Transport>(this: &Ref<T>) -> Result<(), Raised> {
    let py = this.py();
    let Some(event_loop) = this.event_loop() else {
        return Ok(());
    };
    let core = this.core();
    let result = loop {
        let result = match core.setup.get() {
            Setup::CallConnectionMade => {
                core.setup.set(Setup::StartReading);
                let made = core.made.take();
                let context = core.setup_context.get();
                let transport = std::slice::from_ref(this.as_obj());
                run_callback(&event_loop, context, made, transport)
            }
            Setup::StartReading => {
                core.setup.set(Setup::WakeWaiter);
                T::start_reading_in_context(this)
            }
            Setup::WakeWaiter => {
                core.setup.set(Setup::Done);
                let context = core.setup_context.take();
                match core.waiter.take() {
                    Some(waiter) => {
                        let set_result = imports(py).set_result_unless_cancelled.get(py);
                        let args = [waiter, Obj::none(py)];
                        run_callback(&event_loop, context, Some(set_result.clone()), &args)
                    }
                    None => Ok(()),
                }
            }
            Setup::Done => break Ok(()),
        };
        if result.is_err() {
            break result;
        }
    };
    if result.is_err() && core.setup.get() != Setup::Done {
        // The program ends, or goes on by running the loop again; nothing is forgotten.
        EventLoop::schedule(&event_loop, Entry::call(this.as_obj().clone()));
    }
    result
}

/// Calls a function as a Handle does: in its context, with failures reported. Fails only with
/// what ends the program.
pub(crate) fn run_callback(
    event_loop: &Ref<EventLoop>,
    context: Option<Obj>,
    callback: Option<Obj>,
    args: &[Obj],
) -> Result<(), Raised> {
    let (Some(context), Some(callback)) = (context, callback) else {
        return Ok(());
    };
    let result = in_context(&context, || match args {
        [one] => callback.call1(one),
        args => callback.call(&args.iter().collect::<Vec<_>>()),
    });
    match result {
        Ok(_) => Ok(()),
        Err(raised) => callback_failed(event_loop, &callback, args, raised),
    }
}

/// `connection_lost` is called in the next iteration.
pub(crate) fn schedule_lost<T: Transport>(
    this: &Ref<T>,
    exception: Option<Obj>,
) -> Result<(), Raised> {
    let py = this.py();
    let Some(event_loop) = this.event_loop() else {
        return Ok(());
    };
    if !EventLoop::is_fast(&event_loop) {
        let lost = this
            .as_obj()
            .attr(pyo3::intern!(py, "_call_connection_lost"))?;
        let exception = exception.unwrap_or_else(|| Obj::none(py));
        return call_soon(this, &event_loop, &[&lost, &exception]);
    }
    let core = this.core();
    core.lost_context.set(Some(callback_context(this)?));
    core.lost_exception.set(exception);
    core.lost_scheduled.set(true);
    EventLoop::schedule(&event_loop, Entry::call(this.as_obj().clone()));
    Ok(())
}

fn run_lost<T: Transport>(this: &Ref<T>) -> Result<(), Raised> {
    let py = this.py();
    let Some(event_loop) = this.event_loop() else {
        return Ok(());
    };
    let core = this.core();
    let exception = core.lost_exception.take().unwrap_or_else(|| Obj::none(py));
    let Some(context) = core.lost_context.take() else {
        return Ok(());
    };
    match in_context(&context, || T::call_connection_lost(this, &exception)) {
        Ok(()) => Ok(()),
        Err(raised) => {
            let error = caught(py, raised)?;
            let callback = this
                .as_obj()
                .attr(pyo3::intern!(py, "_call_connection_lost"))?;
            callback_failed(&event_loop, &callback, &[exception], Raised::raise(error))
        }
    }
}
