//! From `close()`, `abort()` or an error to `connection_lost`.

use cpython::build::Builder;
use cpython::{Args, Obj, Python, Raised, Ref};

use super::handshake::{cancel, wake_waiter};
use super::imports::imports;
use super::protocol::SslProtocol;
use super::reading::{self, call_eof_received};
use super::state::{AppState, State, set_state};
use super::writing::process_outgoing;
use crate::transports::reports::{log_exception, report_failure};

pub(super) fn build(builder: &mut Builder<SslProtocol>) {
    builder
        .method(
            c"connection_lost",
            c"connection_lost($self, /, exc)\n--\n\nThe transport below has lost its connection.",
            |this, args: &Args<'_>| {
                connection_lost(this, args.one("SSLProtocol.connection_lost", "exc")?)
            },
        )
        .method0(
            c"_start_shutdown",
            c"_start_shutdown($self, /)\n--\n\nSend what waits, then close.",
            start_shutdown,
        )
        .method0(
            c"_check_shutdown_timeout",
            c"_check_shutdown_timeout($self, /)\n--\n\nThe time for closing is over.",
            check_timeout,
        )
        .method(
            c"_abort",
            c"_abort($self, /, exc=None)\n--\n\nClose now.",
            |this, args: &Args<'_>| {
                let [exception] = args.bind_as_python("SSLProtocol._abort", &["exc"], 0)?;
                abort(this, exception.and_then(Obj::not_none))
            },
        )
        .method(
            c"_fatal_error",
            c"_fatal_error($self, /, exc, message='Fatal error on transport')\n--\n\n\
              Report an error and close now.",
            |this, args: &Args<'_>| {
                let names = &["exc", "message"];
                let [exception, message] =
                    args.bind_as_python("SSLProtocol._fatal_error", names, 1)?;
                let exception = exception.unwrap_or_else(|| Obj::none(this.py()));
                match message {
                    Some(message) => fatal_error(this, &exception, message.as_str()?),
                    None => fatal_error(this, &exception, "Fatal error on transport"),
                }
            },
        );
}

/// Catches an Exception. Raises any other BaseException again.
#[cold]
pub(super) fn exception_of(py: Python<'_>, raised: Raised) -> Result<Obj, Raised> {
    if raised.matches(&Obj::class_of::<pyo3::exceptions::PyException>(py)) {
        Ok(raised.take(py))
    } else {
        Err(raised)
    }
}

/// `_start_shutdown()`: sends the bytes that wait and close_notify, and waits for the peer's
/// close_notify.
pub(super) fn start_shutdown(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    if this.state.get().is_over() {
        return Ok(());
    }
    if let Some(transport) = this.app_transport.get() {
        transport.set_closed();
    }
    if this.state.get() == State::DoHandshake {
        return abort(this, None);
    }
    set_state(this, State::Flushing)?;
    start_timer(this)?;
    flush(this)
}

fn start_timer(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    let timeout = &this.shutdown_timeout;
    let timer = SslProtocol::call_later(this, timeout, "_check_shutdown_timeout")?;
    this.shutdown_timer.set(Some(timer));
    Ok(())
}

fn check_timeout(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    if !matches!(this.state.get(), State::Flushing | State::Shutdown) {
        return Ok(());
    }
    let class = Obj::class_of::<pyo3::exceptions::PyTimeoutError>(this.py());
    let exception = class.call1(&Obj::str(this.py(), "SSL shutdown timed out")?)?;
    this.channel.force_close(Some(exception))
}

/// `_do_flush()`: hands received bytes on and sends the bytes that wait, then starts the closing
/// handshake.
pub(super) fn flush(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    reading::read(this)?;
    set_state(this, State::Shutdown)?;
    shut_down(this)
}

/// `_do_shutdown()`: sends close_notify, and ends the closing handshake if the peer's has come.
pub(super) fn shut_down(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    let py = this.py();
    let complete = if this.eof_received.get() {
        Ok(true)
    } else {
        this.session.unwrap(py)
    };
    match complete {
        Ok(false) => process_outgoing(this),
        Ok(true) => {
            process_outgoing(this)?;
            call_eof_received(this)?;
            shut_down_complete(this, None)
        }
        Err(raised) if raised.matches(imports(py)?.ssl_error.get(py)) => {
            shut_down_complete(this, Some(raised.take(py)))
        }
        Err(raised) => Err(raised),
    }
}

fn shut_down_complete(this: &Ref<SslProtocol>, failure: Option<Obj>) -> Result<(), Raised> {
    let py = this.py();
    let stays = imports(py)?.shutdown_timeout_stays;
    if !stays || failure.is_some() {
        cancel(&this.shutdown_timer)?;
    }
    if let Some(exception) = failure {
        return fatal_error(this, &exception, "Fatal error on transport");
    }
    // The transport below sends the bytes that wait before it closes. Without a timer a peer that
    // does not read could keep it open for ever.
    if stays && this.shutdown_timer.is_none() {
        start_timer(this)?;
    }
    let Some(transport) = this.channel.get() else {
        return Ok(());
    };
    let close = transport.attr(pyo3::intern!(py, "close"))?;
    SslProtocol::call_soon(this, &[&close])
}

/// `_abort(exc)`: ends the connection now.
pub(super) fn abort(this: &Ref<SslProtocol>, exception: Option<Obj>) -> Result<(), Raised> {
    set_state(this, State::Unwrapped)?;
    this.channel.force_close(exception)
}

/// `connection_lost(exc)`: calls that of the program's protocol, and drops all references.
fn connection_lost(this: &Ref<SslProtocol>, exception: &Obj) -> Result<(), Raised> {
    let py = this.py();
    this.outgoing.discard();
    this.session.drain()?;
    this.lost.set(this.lost.get().saturating_add(1));
    if let Some(transport) = this.app_transport.get() {
        transport.set_closed();
    }
    let is_connected = matches!(
        this.app_state.get(),
        AppState::ConnectionMade | AppState::Eof
    );
    // This holds during the handshake too: if an upgrade is given up, a connection ends that was
    // made before. asyncio does not call the protocol then.
    if is_connected {
        this.app_state.set(AppState::ConnectionLost);
        let protocol = this.app.protocol.get().unwrap_or_else(|| Obj::none(py));
        let lost = protocol.attr(pyo3::intern!(py, "connection_lost"))?;
        SslProtocol::call_soon(this, &[&lost, exception])?;
    }
    set_state(this, State::Unwrapped)?;
    this.channel.set(None);
    this.app_transport.set(None);
    this.app.protocol.set(None);
    this.app.receive.set(None);
    this.app.get_buffer.set(None);
    this.incoming.clear();
    wake_waiter(this, exception.clone().not_none().as_ref())?;
    cancel(&this.shutdown_timer)?;
    cancel(&this.handshake_timer)
}

/// `_fatal_error(exc, message)`: an error of the system gives a debug message only.
#[cold]
pub(super) fn fatal_error(
    this: &Ref<SslProtocol>,
    exception: &Obj,
    message: &str,
) -> Result<(), Raised> {
    let py = this.py();
    let transport = this.channel.get().unwrap_or_else(|| Obj::none(py));
    this.channel.force_close(Some(exception.clone()))?;
    let event_loop = SslProtocol::event_loop(this)?;
    if exception.is_instance(&Obj::class_of::<pyo3::exceptions::PyOSError>(py))? {
        if !event_loop.debug() {
            return Ok(());
        }
        return log_exception(this.as_obj(), message, exception);
    }
    if exception.is_instance(imports(py)?.cancelled_error.get(py))? {
        return Ok(());
    }
    report_failure(&event_loop, message, exception, &transport, this.as_obj())
}
