//! From `connection_made` to `connection_lost`.
//!
//! asyncio schedules three callbacks for a new transport (`connection_made`, start reading, wake
//! the waiter) and one for a lost one. Here the three are one entry: they would run one after
//! another anyway. Where the program has its own `call_soon`, or debugs, they are scheduled as
//! asyncio does, so that it sees them.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::{Args, Obj, Raised, Ref, Slot, Visit};

use super::reports::{callback_failed, caught, in_context, log_debug, report};
use super::{StreamTransport, imports, reading, writing};
use crate::event_loop::EventLoop;
use crate::handles::Entry;

/// What is still to be done for a new transport.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Setup {
    CallConnectionMade,
    StartReading,
    WakeWaiter,
    Done,
}

/// Where a transport is between its making and its end.
pub(super) struct Lifecycle {
    setup: Cell<Setup>,
    /// The protocol's bound `connection_made`.
    made: Slot,
    /// In which `connection_made` and the waiter are called.
    setup_context: Slot,
    waiter: Slot,
    /// A protocol was set: it hears of the end.
    pub(super) connected: Cell<bool>,
    /// `close()` was called, or an error has closed it.
    pub(super) closing: Cell<bool>,
    /// asyncio's `_conn_lost`: not 0 once `connection_lost` is scheduled; counts writes after.
    pub(super) lost: Cell<u32>,
    /// An entry of ours will call `connection_lost`, in this context, with this exception.
    lost_scheduled: Cell<bool>,
    lost_context: Slot,
    lost_exception: Slot,
}

impl Lifecycle {
    pub(super) fn new() -> Lifecycle {
        Lifecycle {
            setup: Cell::new(Setup::Done),
            made: Slot::default(),
            setup_context: Slot::default(),
            waiter: Slot::default(),
            connected: Cell::new(false),
            closing: Cell::new(false),
            lost: Cell::new(0),
            lost_scheduled: Cell::new(false),
            lost_context: Slot::default(),
            lost_exception: Slot::default(),
        }
    }

    pub(super) fn traverse(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.made);
        visit.slot(&self.setup_context);
        visit.slot(&self.waiter);
        visit.slot(&self.lost_context);
        visit.slot(&self.lost_exception);
    }

    pub(super) fn clear(&self) {
        self.made.set(None);
        self.setup_context.set(None);
        self.waiter.set(None);
        self.lost_context.set(None);
        self.lost_exception.set(None);
    }
}

pub(super) fn build(builder: &mut Builder<StreamTransport>) {
    builder
        .repr(repr)
        .method0(
            c"is_closing",
            c"is_closing($self, /)\n--\n\nReturn True if the transport is closing or closed.",
            |this| this.is_closing(),
        )
        .method0(
            c"close",
            c"close($self, /)\n--\n\nClose the transport. Buffered data will be flushed.",
            close,
        )
        .method0(
            c"abort",
            c"abort($self, /)\n--\n\nClose the transport immediately. Buffered data is lost.",
            |this| force_close(this, None),
        )
        .method(
            c"_force_close",
            c"_force_close($self, /, exc)\n--\n\nClose the transport immediately.",
            |this, args: &Args<'_>| {
                let exception = args.one("_SelectorTransport._force_close", "exc")?;
                force_close(this, exception.clone().not_none())
            },
        )
        .method(
            c"_fatal_error",
            c"_fatal_error($self, /, exc, message='Fatal error on transport')\n--\n\n\
              Report an error and close the transport immediately.",
            |this, args: &Args<'_>| {
                let (name, names) = ("_SelectorTransport._fatal_error", &["exc", "message"]);
                let [exception, message] = args.bind_as_python(name, names, 1)?;
                let exception = exception.unwrap_or_else(|| Obj::none(this.py()));
                match message {
                    Some(message) => fatal_error(this, &exception, message.as_str()?),
                    None => fatal_error(this, &exception, "Fatal error on transport"),
                }
            },
        )
        .method(
            c"_call_connection_lost",
            c"_call_connection_lost($self, /, exc)\n--\n\nTell the protocol, close the socket.",
            |this, args: &Args<'_>| {
                let name = "_SelectorSocketTransport._call_connection_lost";
                call_connection_lost(this, args.one(name, "exc")?)
            },
        )
        .get(c"_closing", c"Whether it is closing or closed.", |this| {
            this.is_closing()
        })
        .get(
            c"_read_ready_cb",
            c"What reads, until the transport is closing.",
            |this| -> Result<Option<Obj>, Raised> {
                if this.is_closing() {
                    return Ok(None);
                }
                let name = pyo3::intern!(this.py(), "_start_reading");
                this.as_obj().attr(name).map(Some)
            },
        )
        .get(
            c"_conn_lost",
            c"Not 0 once connection_lost() is scheduled.",
            |this| i64::from(this.lifecycle.lost.get()),
        )
        .get(
            c"_protocol_connected",
            c"Whether a protocol was set.",
            |this| this.lifecycle.connected.get(),
        );
}

/// The server counts the transport.
pub(super) fn attach(this: &Ref<StreamTransport>, server: &Obj) -> Result<(), Raised> {
    let name = pyo3::intern!(this.py(), "_attach");
    let attached = if cfg!(Py_3_13) {
        server.method(name, &[this.as_obj()])
    } else {
        server.method(name, &[])
    };
    attached.map(drop)
}

fn detach(this: &Ref<StreamTransport>, server: &Obj) -> Result<(), Raised> {
    let name = pyo3::intern!(this.py(), "_detach");
    let detached = if cfg!(Py_3_13) {
        server.method(name, &[this.as_obj()])
    } else {
        server.method(name, &[])
    };
    detached.map(drop)
}

/// Schedules what a new transport does first.
pub(super) fn start(
    this: &Ref<StreamTransport>,
    protocol: &Obj,
    waiter: Option<Obj>,
) -> Result<(), Raised> {
    let py = this.py();
    let Some(event_loop) = this.event_loop.get() else {
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
    this.lifecycle.made.set(Some(made));
    this.lifecycle.waiter.set(waiter);
    // Each of asyncio's callbacks has a copy of its own: what `connection_made` sets is not seen
    // by `data_received`.
    this.lifecycle
        .setup_context
        .set(Some(StreamTransport::callback_context(this)?));
    this.reading
        .set_context(StreamTransport::callback_context(this)?);
    this.lifecycle.setup.set(Setup::CallConnectionMade);
    EventLoop::schedule(&event_loop, Entry::call(this.as_obj().clone()));
    Ok(())
}

/// `loop.call_soon(callback, *args)`, with the transport's context if it was given one.
fn call_soon(
    this: &Ref<StreamTransport>,
    event_loop: &Ref<EventLoop>,
    call: &[&Obj],
) -> Result<(), Raised> {
    let py = this.py();
    let name = pyo3::intern!(py, "call_soon");
    match this.context.get() {
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
pub(super) fn run_deferred(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    if this.lifecycle.setup.get() != Setup::Done {
        return run_setup(this);
    }
    if this.lifecycle.lost_scheduled.replace(false) {
        return run_lost(this);
    }
    Ok(())
}

fn run_setup(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    let py = this.py();
    let Some(event_loop) = this.event_loop.get() else {
        return Ok(());
    };
    let result = loop {
        let result = match this.lifecycle.setup.get() {
            Setup::CallConnectionMade => {
                this.lifecycle.setup.set(Setup::StartReading);
                let made = this.lifecycle.made.take();
                let context = this.lifecycle.setup_context.get();
                let transport = std::slice::from_ref(this.as_obj());
                run_callback(&event_loop, context, made, transport)
            }
            Setup::StartReading => {
                this.lifecycle.setup.set(Setup::WakeWaiter);
                reading::start_reading_in_context(this)
            }
            Setup::WakeWaiter => {
                this.lifecycle.setup.set(Setup::Done);
                let context = this.lifecycle.setup_context.take();
                match this.lifecycle.waiter.take() {
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
    if result.is_err() && this.lifecycle.setup.get() != Setup::Done {
        // The program ends, or goes on by running the loop again; nothing is forgotten.
        EventLoop::schedule(&event_loop, Entry::call(this.as_obj().clone()));
    }
    result
}

/// Calls a function as a Handle does: in its context, with failures reported. Fails only with
/// what ends the program.
fn run_callback(
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

/// `close()`: flush, then lose.
pub(super) fn close(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    if this.lifecycle.closing.replace(true) {
        return Ok(());
    }
    reading::stop_reading(this)?;
    if writing::is_empty(this) {
        this.lifecycle.lost.set(this.lifecycle.lost.get() + 1);
        writing::stop_writing(this)?;
        schedule_lost(this, None)?;
    }
    Ok(())
}

/// `_force_close(exc)` and `abort()`: lose now.
pub(super) fn force_close(
    this: &Ref<StreamTransport>,
    exception: Option<Obj>,
) -> Result<(), Raised> {
    if this.lifecycle.lost.get() > 0 {
        return Ok(());
    }
    writing::discard(this)?;
    this.lifecycle.closing.set(true);
    reading::stop_reading(this)?;
    this.lifecycle.lost.set(1);
    schedule_lost(this, exception)
}

/// `_fatal_error(exc, message)`: errors of the system are only worth a debug message.
#[cold]
pub(super) fn fatal_error(
    this: &Ref<StreamTransport>,
    exception: &Obj,
    message: &str,
) -> Result<(), Raised> {
    let py = this.py();
    if let Some(event_loop) = this.event_loop.get() {
        if !exception.is_instance(&Obj::class_of::<pyo3::exceptions::PyOSError>(py))? {
            let protocol = this.protocol.get().unwrap_or_else(|| Obj::none(py));
            let parts = [
                ("exception", exception),
                ("transport", this.as_obj()),
                ("protocol", &protocol),
            ];
            report(&event_loop, message, &parts)?;
        } else if event_loop.debug() {
            let names = imports(py).exc_info_name.get(py);
            let logger = imports(py).logger.get(py);
            let (format, message) = (Obj::str(py, "%r: %s")?, Obj::str(py, message)?);
            let call = [&format, this.as_obj(), &message, exception];
            logger.method_named(pyo3::intern!(py, "debug"), &call, Some(names))?;
        }
    }
    force_close(this, Some(exception.clone()))
}

/// A debug message about the transport, in debug mode.
#[inline]
pub(super) fn log_if_debug(this: &Ref<StreamTransport>, message: &str) -> Result<(), Raised> {
    match this.event_loop.get() {
        Some(event_loop) if event_loop.debug() => log_debug(this.as_obj(), message),
        _ => Ok(()),
    }
}

fn schedule_lost(this: &Ref<StreamTransport>, exception: Option<Obj>) -> Result<(), Raised> {
    let py = this.py();
    let Some(event_loop) = this.event_loop.get() else {
        return Ok(());
    };
    if !EventLoop::is_fast(&event_loop) {
        let lost = this
            .as_obj()
            .attr(pyo3::intern!(py, "_call_connection_lost"))?;
        let exception = exception.unwrap_or_else(|| Obj::none(py));
        return call_soon(this, &event_loop, &[&lost, &exception]);
    }
    let context = StreamTransport::callback_context(this)?;
    this.lifecycle.lost_context.set(Some(context));
    this.lifecycle.lost_exception.set(exception);
    this.lifecycle.lost_scheduled.set(true);
    EventLoop::schedule(&event_loop, Entry::call(this.as_obj().clone()));
    Ok(())
}

fn run_lost(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    let py = this.py();
    let Some(event_loop) = this.event_loop.get() else {
        return Ok(());
    };
    let exception = this
        .lifecycle
        .lost_exception
        .take()
        .unwrap_or_else(|| Obj::none(py));
    let Some(context) = this.lifecycle.lost_context.take() else {
        return Ok(());
    };
    match in_context(&context, || call_connection_lost(this, &exception)) {
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

/// Something leaves this end of the connection: the program may hold the other.
#[inline]
pub(super) fn look_next(this: &Ref<StreamTransport>) {
    if let Some(event_loop) = this.event_loop.get() {
        event_loop.look_next();
    }
}

/// `_call_connection_lost(exc)`: tells the protocol, closes the socket and lets go of everything.
/// Raises what the protocol raises, after that.
pub(super) fn call_connection_lost(
    this: &Ref<StreamTransport>,
    exception: &Obj,
) -> Result<(), Raised> {
    let py = this.py();
    let told = match this.protocol.get() {
        Some(protocol) if this.lifecycle.connected.get() => protocol
            .method(pyo3::intern!(py, "connection_lost"), &[exception])
            .map(drop),
        _ => Ok(()),
    };
    // The first exception is the one that counts, and none must be set while Python runs.
    let mut first = told.err().map(|raised| raised.take(py));
    let mut then = |result: Result<(), Raised>| {
        if let Err(raised) = result {
            let exception = raised.take(py);
            first.get_or_insert(exception);
        }
    };
    look_next(this);
    if let Some(sock) = this.sock.take() {
        then(sock.method(pyo3::intern!(py, "close"), &[]).map(drop));
    }
    this.reading.clear();
    this.protocol.set(None);
    this.event_loop.set(None);
    if let Some(server) = this.server.take() {
        then(detach(this, &server));
    }
    then(writing::connection_lost(this));
    this.context.set(None);
    match first {
        Some(exception) => Err(Raised::raise(exception)),
        None => Ok(()),
    }
}

/// The transport is released without having been closed.
pub(super) fn finalize(this: &Ref<StreamTransport>) {
    let py = this.py();
    let Some(sock) = this.sock.get() else { return };
    let then = |result: Result<(), Raised>| {
        if let Err(raised) = result {
            raised.report_unraisable(Some(this.as_obj()));
        }
    };
    then((|| {
        let text = format!("unclosed transport {}", this.as_obj().repr()?.as_str()?);
        let class = Obj::class_of::<pyo3::exceptions::PyResourceWarning>(py);
        let names = imports(py).source_name.get(py);
        let call = [&Obj::str(py, &text)?, &class, this.as_obj()];
        imports(py)
            .warn
            .get(py)
            .call_named(&call, Some(names))
            .map(drop)
    })());
    this.sock.set(None);
    then(sock.method(pyo3::intern!(py, "close"), &[]).map(drop));
    if cfg!(Py_3_13) {
        if let Some(server) = this.server.take() {
            then(detach(this, &server));
        }
    }
}

fn repr(this: &Ref<StreamTransport>) -> Result<String, Raised> {
    let py = this.py();
    let class = this.as_obj().class().attr(pyo3::intern!(py, "__name__"))?;
    let mut text = format!("<{}", class.as_str()?);
    if this.sock.is_none() {
        text.push_str(" closed");
    } else if this.is_closing() {
        text.push_str(" closing");
    }
    text.push_str(&format!(" fd={}", this.fd.get()));
    if this
        .event_loop
        .get()
        .is_some_and(|event_loop| !event_loop.is_closed())
    {
        let state = |watching: bool| if watching { "polling" } else { "idle" };
        text.push_str(&format!(
            " read={} write=<{}, bufsize={}>",
            state(this.reading.watching.get()),
            state(this.writing.watching.get()),
            writing::size(this)
        ));
    }
    text.push('>');
    Ok(text)
}
