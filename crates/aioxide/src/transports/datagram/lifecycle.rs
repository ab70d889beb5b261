//! Closing, errors, `connection_lost`.

use cpython::build::Builder;
use cpython::{Args, Obj, Raised, Ref};

use super::{DatagramTransport, receiving, sending};
use crate::transports::core;
use crate::transports::reports::{caught, log_debug, log_exception, report, warn_unclosed};

pub(super) fn build(builder: &mut Builder<DatagramTransport>) {
    builder
        .repr(repr)
        .method0(
            c"is_closing",
            c"is_closing($self, /)\n--\n\nReturn True if the transport is closing or closed.",
            |this| this.closing.get(),
        )
        .method0(
            c"close",
            c"close($self, /)\n--\n\nClose the transport. Queued datagrams will be sent.",
            close,
        )
        .method0(
            c"abort",
            c"abort($self, /)\n--\n\nClose the transport immediately. Queued datagrams are lost.",
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
                let name = "_SelectorTransport._call_connection_lost";
                call_connection_lost(this, args.one(name, "exc")?)
            },
        )
        .get(c"_closing", c"Whether it is closing or closed.", |this| {
            this.closing.get()
        })
        .get(
            c"_conn_lost",
            c"Not 0 once connection_lost() is scheduled.",
            |this| i64::from(this.lost.get()),
        )
        .get(c"_protocol_connected", c"A protocol was set.", |_| true);
}

/// `close()`: send what waits, then lose.
fn close(this: &Ref<DatagramTransport>) -> Result<(), Raised> {
    if this.closing.replace(true) {
        return Ok(());
    }
    receiving::stop_reading(this)?;
    if this.sending.is_empty() {
        this.lost.set(this.lost.get().saturating_add(1));
        sending::stop_watching(this)?;
        core::schedule_lost(this, None)?;
    }
    Ok(())
}

/// `_force_close(exc)` and `abort()`: lose now.
fn force_close(this: &Ref<DatagramTransport>, exception: Option<Obj>) -> Result<(), Raised> {
    if this.lost.get() > 0 {
        return Ok(());
    }
    sending::discard(this)?;
    this.closing.set(true);
    receiving::stop_reading(this)?;
    this.lost.set(1);
    core::schedule_lost(this, exception)
}

/// An error of the system: the protocol is told, the transport lives on.
#[cold]
pub(super) fn error_received(this: &Ref<DatagramTransport>, error: &Obj) -> Result<(), Raised> {
    let py = this.py();
    let protocol = this.protocol.get().unwrap_or_else(|| Obj::none(py));
    protocol
        .method(pyo3::intern!(py, "error_received"), &[error])
        .map(drop)
}

/// What came of a failed method of the socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// It would block.
    Wait,
    /// The protocol or the exception handler was told.
    Told,
}

/// A method of the socket has raised.
#[cold]
pub(super) fn method_failed(
    this: &Ref<DatagramTransport>,
    raised: Raised,
    message: &str,
) -> Result<Failure, Raised> {
    let py = this.py();
    let exception = caught(py, raised)?;
    let is = |class: Obj| exception.is_subtype_of(&class);
    if is(Obj::class_of::<pyo3::exceptions::PyBlockingIOError>(py))
        || is(Obj::class_of::<pyo3::exceptions::PyInterruptedError>(py))
    {
        return Ok(Failure::Wait);
    }
    if is(Obj::class_of::<pyo3::exceptions::PyOSError>(py)) {
        error_received(this, &exception)?;
    } else {
        fatal_error(this, &exception, message)?;
    }
    Ok(Failure::Told)
}

/// `_fatal_error(exc, message)`: errors of the system are only worth a debug message.
#[cold]
fn fatal_error(
    this: &Ref<DatagramTransport>,
    exception: &Obj,
    message: &str,
) -> Result<(), Raised> {
    let py = this.py();
    let system = exception.is_instance(&Obj::class_of::<pyo3::exceptions::PyOSError>(py))?;
    let Some(event_loop) = this.event_loop.get() else {
        // asyncio's looks for a method of the loop that is gone.
        let method = if system {
            "get_debug"
        } else {
            "call_exception_handler"
        };
        let text = format!("'NoneType' object has no attribute '{method}'");
        return Err(Raised::new::<pyo3::exceptions::PyAttributeError>(py, &text));
    };
    if !system {
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
    force_close(this, Some(exception.clone()))
}

/// A debug message about the transport, in debug mode.
pub(super) fn log_if_debug(this: &Ref<DatagramTransport>, message: &str) -> Result<(), Raised> {
    match this.event_loop.get() {
        Some(event_loop) if event_loop.debug() => log_debug(this.as_obj(), message),
        _ => Ok(()),
    }
}

/// `_call_connection_lost(exc)`: tells the protocol, closes the socket and lets go of everything.
/// Raises what the protocol raises, after that.
pub(super) fn call_connection_lost(
    this: &Ref<DatagramTransport>,
    exception: &Obj,
) -> Result<(), Raised> {
    let py = this.py();
    let told = match this.protocol.get() {
        Some(protocol) => protocol
            .method(pyo3::intern!(py, "connection_lost"), &[exception])
            .map(drop),
        None => Ok(()),
    };
    // The first exception is the one that counts, and none must be set while Python runs.
    let first = told.err().map(|raised| raised.take(py));
    if let Some(event_loop) = this.event_loop.get() {
        event_loop.look_next();
    }
    let closed = match this.sock.take() {
        Some(sock) => sock.method(pyo3::intern!(py, "close"), &[]).map(drop),
        None => Ok(()),
    };
    let first = match (first, closed) {
        (None, Err(raised)) => Some(raised.take(py)),
        (Some(first), Err(raised)) => {
            drop(raised.take(py));
            Some(first)
        }
        (first, Ok(())) => first,
    };
    this.receiving.clear();
    this.sending.clear();
    this.protocol.set(None);
    this.event_loop.set(None);
    match first {
        Some(exception) => Err(Raised::raise(exception)),
        None => Ok(()),
    }
}

/// The transport is released without having been closed.
pub(super) fn finalize(this: &Ref<DatagramTransport>) {
    let Some(sock) = this.sock.get() else { return };
    let then = |result: Result<(), Raised>| {
        if let Err(raised) = result {
            raised.report_unraisable(Some(this.as_obj()));
        }
    };
    then(warn_unclosed(this.as_obj()));
    this.sock.set(None);
    then(
        sock.method(pyo3::intern!(this.py(), "close"), &[])
            .map(drop),
    );
}

fn repr(this: &Ref<DatagramTransport>) -> Result<String, Raised> {
    let py = this.py();
    let class = this.as_obj().class().attr(pyo3::intern!(py, "__name__"))?;
    let mut text = format!("<{}", class.as_str()?);
    if this.sock.is_none() {
        text.push_str(" closed");
    } else if this.closing.get() {
        text.push_str(" closing");
    }
    text.push_str(&format!(" fd={}", this.fd));
    if this
        .event_loop
        .get()
        .is_some_and(|event_loop| !event_loop.is_closed())
    {
        let state = |watching: bool| if watching { "polling" } else { "idle" };
        text.push_str(&format!(
            " read={} write=<{}, bufsize={}>",
            state(this.receiving.watching.get()),
            state(this.sending.watching.get()),
            this.sending.size()
        ));
    }
    text.push('>');
    Ok(text)
}
