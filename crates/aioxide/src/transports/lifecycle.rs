//! From `connection_made` to `connection_lost`.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::{Args, Obj, Raised, Ref, Visit};

use super::core::{self, Core};
use super::reports::{log_debug, log_exception, report, warn_unclosed};
use super::{StreamTransport, holding, reading, writing};

/// Where a transport is between its making and its end.
pub(super) struct Lifecycle {
    pub(super) core: Core,
    /// A protocol was set: it hears of the end.
    pub(super) connected: Cell<bool>,
    /// `close()` was called, or an error has closed it.
    pub(super) closing: Cell<bool>,
    /// asyncio's `_conn_lost`: not 0 once `connection_lost` is scheduled; counts writes after.
    pub(super) lost: Cell<u32>,
}

impl Lifecycle {
    pub(super) fn new() -> Lifecycle {
        Lifecycle {
            core: Core::new(),
            connected: Cell::new(false),
            closing: Cell::new(false),
            lost: Cell::new(0),
        }
    }

    pub(super) fn traverse(&self, visit: &mut Visit<'_>) {
        self.core.traverse(visit);
    }

    pub(super) fn clear(&self) {
        self.core.clear();
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

/// `close()`: flush, then lose.
pub(super) fn close(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    if this.lifecycle.closing.replace(true) {
        return Ok(());
    }
    reading::stop_reading(this)?;
    holding::settle(this)?;
    if writing::is_empty(this) {
        this.lifecycle.lost.set(this.lifecycle.lost.get() + 1);
        writing::stop_writing(this)?;
        core::schedule_lost(this, None)?;
    }
    Ok(())
}

/// `_force_close(exc)` and `abort()`: lose now.
pub(super) fn force_close(
    this: &Ref<StreamTransport>,
    exception: Option<Obj>,
) -> Result<(), Raised> {
    holding::settle(this)?;
    if this.lifecycle.lost.get() > 0 {
        return Ok(());
    }
    writing::discard(this)?;
    this.lifecycle.closing.set(true);
    reading::stop_reading(this)?;
    this.lifecycle.lost.set(1);
    core::schedule_lost(this, exception)
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
            log_exception(this.as_obj(), message, exception)?;
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
    then(warn_unclosed(this.as_obj()));
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
