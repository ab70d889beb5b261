//! From the transport's `connection_made` to the program's own.

use cpython::build::Builder;
use cpython::{Args, Obj, Raised, Ref};

use super::closing::{exception_of, fatal_error};
use super::imports::imports;
use super::protocol::SslProtocol;
use super::reading;
use super::state::{AppState, State, set_state};
use super::writing::process_outgoing;
use crate::transports::imports as common;
use crate::transports::reports::log;

pub(super) fn build(builder: &mut Builder<SslProtocol>) {
    builder
        .method(
            c"connection_made",
            c"connection_made($self, /, transport)\n--\n\nStart the handshake.",
            |this, args: &Args<'_>| {
                let transport = args.one("SSLProtocol.connection_made", "transport")?;
                this.channel.set(Some(transport.clone()));
                start(this)
            },
        )
        .method0(
            c"_check_handshake_timeout",
            c"_check_handshake_timeout($self, /)\n--\n\nThe time for the handshake is over.",
            check_timeout,
        )
        .method(
            c"_wakeup_waiter",
            c"_wakeup_waiter($self, /, exc=None)\n--\n\nTell who waits for the handshake.",
            |this, args: &Args<'_>| {
                let [exception] = args.bind_as_python("SSLProtocol._wakeup_waiter", &["exc"], 0)?;
                wake_waiter(this, exception.and_then(Obj::not_none).as_ref())
            },
        );
}

fn start(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    let py = this.py();
    let event_loop = SslProtocol::event_loop(this)?;
    let start = if event_loop.debug() {
        log(this.as_obj(), "debug", "%r starts SSL handshake")?;
        let time = pyo3::intern!(py, "time");
        Some(event_loop.as_obj().method(time, &[])?)
    } else {
        None
    };
    this.handshake_start.set(start);
    set_state(this, State::DoHandshake)?;
    let timer = SslProtocol::call_later(this, &this.handshake_timeout, "_check_handshake_timeout")?;
    this.handshake_timer.set(Some(timer));
    step(this)
}

/// Goes on with the handshake, as far as the received bytes allow.
pub(super) fn step(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    let py = this.py();
    match this.session.do_handshake(py) {
        Ok(true) => complete(this, None),
        Ok(false) => process_outgoing(this),
        Err(raised) if raised.matches(imports(py)?.ssl_error.get(py)) => {
            complete(this, Some(raised.take(py)))
        }
        Err(raised) => Err(raised),
    }
}

fn check_timeout(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    if this.state.get() != State::DoHandshake {
        return Ok(());
    }
    let py = this.py();
    let seconds = this.handshake_timeout.get();
    let seconds = seconds.unwrap_or_else(|| Obj::none(py)).str_of()?;
    let text = format!(
        "SSL handshake is taking longer than {} seconds: aborting the connection",
        seconds.as_str()?
    );
    let class = Obj::class_of::<pyo3::exceptions::PyConnectionAbortedError>(py);
    let exception = class.call1(&Obj::str(py, &text)?)?;
    fatal_error(this, &exception, "Fatal error on transport")
}

/// Cancels a timer, if it runs.
pub(super) fn cancel(timer: &cpython::Slot) -> Result<(), Raised> {
    match timer.take() {
        Some(timer) => timer
            .method(pyo3::intern!(timer.py(), "cancel"), &[])
            .map(drop),
        None => Ok(()),
    }
}

/// Ends the handshake; `failure` is its exception if it failed.
pub(super) fn complete(this: &Ref<SslProtocol>, failure: Option<Obj>) -> Result<(), Raised> {
    let py = this.py();
    cancel(&this.handshake_timer)?;
    let certificate = match failure {
        Some(exception) => Err(Raised::raise(exception)),
        None => set_state(this, State::Wrapped).and_then(|()| {
            let object = session_object(this);
            object.method(pyo3::intern!(py, "getpeercert"), &[])
        }),
    };
    let certificate = match certificate {
        Ok(certificate) => certificate,
        Err(raised) => return fail(this, &exception_of(py, raised)?),
    };
    let event_loop = SslProtocol::event_loop(this)?;
    if let Some(start) = this.handshake_start.get() {
        if event_loop.debug() {
            let now = event_loop.as_obj().method(pyo3::intern!(py, "time"), &[])?;
            let took = Obj::float(py, (now.to_f64()? - start.to_f64()?) * 1e3)?;
            let format = Obj::str(py, "%r: SSL handshake took %.1f ms")?;
            let logger = common(py).logger.get(py);
            let debug = pyo3::intern!(py, "debug");
            logger.method(debug, &[&format, this.as_obj(), &took])?;
        }
    }
    add_extra_info(this, &certificate)?;
    if this.app_state.get() == AppState::Init {
        this.app_state.set(AppState::ConnectionMade);
        let protocol = this.app.protocol.get().unwrap_or_else(|| Obj::none(py));
        let Some(transport) = this.app_transport.get() else {
            let text = "Creating _SSLProtocolTransport twice";
            return Err(Raised::runtime_error(py, text));
        };
        let made = pyo3::intern!(py, "connection_made");
        protocol.method(made, &[transport.as_obj()])?;
    }
    wake_waiter(this, None)?;
    reading::read(this)?;
    // The last bytes of the handshake leave even if the program does not read yet: the peer waits
    // for them.
    if this.incoming.app_paused.get() && this.state.get() == State::Wrapped {
        process_outgoing(this)?;
    }
    Ok(())
}

#[cold]
fn fail(this: &Ref<SslProtocol>, exception: &Obj) -> Result<(), Raised> {
    let py = this.py();
    set_state(this, State::Unwrapped)?;
    let certificate = imports(py)?.certificate_error.get(py);
    let message = if exception.is_instance(certificate)? {
        "SSL handshake failed on verifying the certificate"
    } else {
        "SSL handshake failed"
    };
    fatal_error(this, exception, message)?;
    wake_waiter(this, Some(exception))
}

fn session_object(this: &Ref<SslProtocol>) -> Obj {
    let object = this.session.object();
    object.unwrap_or_else(|| Obj::none(this.py()))
}

/// Adds the extra information that is known after the handshake.
fn add_extra_info(this: &Ref<SslProtocol>, certificate: &Obj) -> Result<(), Raised> {
    let py = this.py();
    let object = session_object(this);
    let cipher = object.method(pyo3::intern!(py, "cipher"), &[])?;
    let compression = object.method(pyo3::intern!(py, "compression"), &[])?;
    let Some(extra) = this.extra.get() else {
        return Ok(());
    };
    for (name, value) in [
        (pyo3::intern!(py, "peercert"), certificate),
        (pyo3::intern!(py, "cipher"), &cipher),
        (pyo3::intern!(py, "compression"), &compression),
        (pyo3::intern!(py, "ssl_object"), &object),
    ] {
        extra.dict_set(Obj::name(name), value)?;
    }
    Ok(())
}

/// `_wakeup_waiter(exc=None)`.
pub(super) fn wake_waiter(this: &Ref<SslProtocol>, exception: Option<&Obj>) -> Result<(), Raised> {
    let py = this.py();
    let Some(waiter) = this.waiter.get() else {
        return Ok(());
    };
    if !waiter
        .method(pyo3::intern!(py, "cancelled"), &[])?
        .truth()?
    {
        match exception {
            Some(exception) => {
                waiter.method(pyo3::intern!(py, "set_exception"), &[exception])?;
            }
            None => {
                waiter.method(pyo3::intern!(py, "set_result"), &[&Obj::none(py)])?;
            }
        }
    }
    this.waiter.set(None);
    Ok(())
}
