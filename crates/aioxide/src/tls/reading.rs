//! Reading: received bytes are decrypted and handed to the program's protocol.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::{Args, Obj, Raised, Ref, Slot, Visit};
use engine::{FlowChange, FlowControl};

use super::closing::{self, exception_of, fatal_error};
use super::handshake;
use super::imports;
use super::protocol::SslProtocol;
use super::session::{self, MAX_SIZE};
use super::state::{AppState, State, set_state};
use super::writing::{self, process_outgoing};
use crate::handles::served::{Taken, TakesBytes};
use crate::interop::EndsProgram;
use crate::transports::imports as common;
use crate::transports::reports::log;
use crate::transports::set_marks;

/// asyncio's FLOW_CONTROL_HIGH_WATER_SSL_READ, in bytes.
const HIGH_WATER: u32 = 256 * 1024;

/// The incoming half of a connection.
pub(super) struct TlsIncoming {
    /// The program has paused reading.
    pub(super) app_paused: Cell<bool>,
    /// The water marks at which the transport below is paused and resumed.
    pub(super) marks: FlowControl,
    /// The bytearray into which a transport that is not native puts its bytes, and `view`, a
    /// memoryview of it.
    buffer: Slot,
    view: Slot,
}

impl TlsIncoming {
    pub(super) fn new() -> TlsIncoming {
        TlsIncoming {
            app_paused: Cell::new(false),
            marks: FlowControl::with_default(HIGH_WATER),
            buffer: Slot::default(),
            view: Slot::default(),
        }
    }

    /// Whether the transport below needs neither pausing nor resuming while no bytes wait to be
    /// read.
    #[inline]
    fn needs_no_change_when_empty(&self) -> bool {
        !self.marks.is_paused() && self.marks.high() > 0
    }

    pub(super) fn traverse(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.buffer);
        visit.slot(&self.view);
    }

    pub(super) fn clear(&self) {
        self.view.set(None);
        self.buffer.set(None);
    }
}

pub(super) fn build(builder: &mut Builder<SslProtocol>) {
    builder
        .method(
            c"get_buffer",
            c"get_buffer($self, /, n)\n--\n\nA buffer for encrypted bytes.",
            |this, args: &Args<'_>| {
                let size = args.one("SSLProtocol.get_buffer", "n")?.to_i64()?;
                get_buffer(this, size)
            },
        )
        .method(
            c"buffer_updated",
            c"buffer_updated($self, /, nbytes)\n--\n\nSo many encrypted bytes are in it.",
            |this, args: &Args<'_>| {
                let size = args.one("SSLProtocol.buffer_updated", "nbytes")?;
                buffer_updated(this, size)
            },
        )
        .method1(
            c"_feed",
            c"_feed($self, data, /)\n--\n\nTake encrypted bytes that came another way.",
            |this, data| this.session.feed_object(data),
        )
        .method0(
            c"eof_received",
            c"eof_received($self, /)\n--\n\nThe peer sends nothing more.",
            eof_received,
        )
        .method1(
            c"_set_app_protocol",
            c"_set_app_protocol($self, app_protocol, /)\n--\n\nSet the program's protocol.",
            set_app_protocol,
        )
        .method0(
            c"_do_read",
            c"_do_read($self, /)\n--\n\nHand on what has come in.",
            read,
        )
        .method0(
            c"_resume_app",
            c"_resume_app($self, /)\n--\n\nGo on after the program has resumed reading.",
            |this| match this.state.get() {
                State::DoHandshake => Ok(()),
                _ => advance(this),
            },
        )
        .get(
            c"_app_reading_paused",
            c"Whether the program has paused reading.",
            |this| this.incoming.app_paused.get(),
        )
        .get(
            c"_ssl_reading_paused",
            c"Whether the transport below is paused.",
            |this| this.incoming.marks.is_paused(),
        )
        .get(
            c"_incoming_high_water",
            c"A water mark, in bytes.",
            |this| this.incoming.marks.high(),
        )
        .get(c"_incoming_low_water", c"A water mark, in bytes.", |this| {
            this.incoming.marks.low()
        });
}

impl TakesBytes for SslProtocol {
    const BUFFERED: bool = true;

    /// Whether the methods of the object's class are native.
    fn takes(this: &Ref<Self>) -> bool {
        let py = this.py();
        imports::get(py)
            .is_some_and(|imports| this.as_obj().is_exact(imports.protocol_class.get(py)))
    }

    /// Whether bytes may be taken without a call of Python methods.
    #[inline]
    fn is_open(this: &Ref<Self>) -> bool {
        !this.replaced.get()
    }

    /// Decrypts bytes, or keeps them for later.
    #[inline]
    fn take(this: &Ref<Self>, bytes: &[u8]) -> Result<Taken, Raised> {
        let py = this.py();
        let at_once = this.session.is_drained()
            && this.state.get() == State::Wrapped
            && !this.app.buffered.get()
            && !this.incoming.app_paused.get();
        if !at_once {
            this.session.feed(py, bytes)?;
            return Ok(Taken::Stored);
        }
        Ok(match this.session.decrypt(py, bytes) {
            Ok(incoming) => Taken::In(incoming.data, incoming.closed),
            Err(raised) => Taken::Failed(raised),
        })
    }

    /// Goes on as `buffer_updated` does, and fails as that does.
    #[inline]
    fn proceed(this: &Ref<Self>, taken: Taken) -> Result<(), Raised> {
        let handed = match taken {
            Taken::Stored => return advance(this),
            Taken::In(data, closed) => hand_on(this, &session::Decrypted { data, closed }),
            Taken::Failed(raised) => Err(raised),
            Taken::Refused | Taken::Dropped => return Ok(()),
        };
        unless_fatal(this, handed.and_then(|()| answer(this)))
    }
}

/// `get_buffer(n)`, for transports that are not native.
fn get_buffer(this: &Ref<SslProtocol>, size: i64) -> Result<Obj, Raised> {
    if let Some(view) = this.incoming.view.get() {
        return Ok(view);
    }
    let py = this.py();
    let most = MAX_SIZE as i64;
    let size = if size <= 0 || size > most { most } else { size };
    // The buffer is made once, so it has the largest size that can be asked for.
    let size = Obj::int(py, size.max(most))?;
    let buffer = Obj::class_of::<pyo3::types::PyByteArray>(py).call1(&size)?;
    let view = Obj::class_of::<pyo3::types::PyMemoryView>(py).call1(&buffer)?;
    this.incoming.buffer.set(Some(buffer));
    this.incoming.view.set(Some(view.clone()));
    Ok(view)
}

fn buffer_updated(this: &Ref<SslProtocol>, size: &Obj) -> Result<(), Raised> {
    let py = this.py();
    if let Some(view) = this.incoming.view.get() {
        let filled = view.slice(&Obj::none(py), size)?;
        this.session.feed_object(&filled)?;
    }
    advance(this)
}

/// Goes on with received bytes, as far as they allow.
#[inline]
pub(super) fn advance(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    match this.state.get() {
        State::Wrapped => read(this),
        State::DoHandshake => handshake::step(this),
        State::Flushing => closing::flush(this),
        State::Shutdown => closing::shut_down(this),
        State::Unwrapped => Ok(()),
    }
}

/// `eof_received()`: True keeps the transport below open.
fn eof_received(this: &Ref<SslProtocol>) -> Result<Option<bool>, Raised> {
    this.eof_received.set(true);
    match end(this) {
        Ok(keep_open) => Ok(keep_open),
        Err(raised) => {
            let py = this.py();
            let exception = exception_of(py, raised)?;
            this.channel.close()?;
            Err(Raised::raise(exception))
        }
    }
}

fn end(this: &Ref<SslProtocol>) -> Result<Option<bool>, Raised> {
    let py = this.py();
    if SslProtocol::event_loop(this)?.debug() {
        log(this.as_obj(), "debug", "%r received EOF")?;
    }
    match this.state.get() {
        State::DoHandshake => {
            let class = Obj::class_of::<pyo3::exceptions::PyConnectionResetError>(py);
            handshake::complete(this, Some(class.call0()?))?;
        }
        State::Wrapped => {
            set_state(this, State::Flushing)?;
            if this.incoming.app_paused.get() {
                return Ok(Some(true));
            }
            closing::flush(this)?;
        }
        State::Flushing => {
            writing::write_backlog(this)?;
            set_state(this, State::Shutdown)?;
            closing::shut_down(this)?;
        }
        State::Shutdown => closing::shut_down(this)?,
        State::Unwrapped => {}
    }
    Ok(None)
}

/// `_set_app_protocol(app_protocol)`.
pub(super) fn set_app_protocol(this: &Ref<SslProtocol>, protocol: &Obj) -> Result<(), Raised> {
    let py = this.py();
    this.app.protocol.set(Some(protocol.clone()));
    let buffered = match protocol.attr_opt(pyo3::intern!(py, "get_buffer"))? {
        Some(get_buffer) if protocol.is_instance(common(py).buffered_protocol.get(py))? => {
            let updated = protocol.attr(pyo3::intern!(py, "buffer_updated"))?;
            this.app.get_buffer.set(Some(get_buffer));
            this.app.receive.set(Some(updated));
            true
        }
        _ => {
            this.app.get_buffer.set(None);
            this.app.receive.set(None);
            false
        }
    };
    this.app.buffered.set(buffered);
    Ok(())
}

/// `_do_read()`: decrypts received bytes and hands them on.
#[inline]
pub(super) fn read(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    if !matches!(this.state.get(), State::Wrapped | State::Flushing) {
        return Ok(());
    }
    let done = if this.incoming.app_paused.get() {
        pause_or_resume_transport(this)
    } else if this.app.buffered.get() {
        read_into_buffer(this).and_then(|()| answer(this))
    } else {
        // A Protocol gets everything at once.
        let incoming = this.session.read_all(this.py());
        incoming
            .and_then(|incoming| hand_on(this, &incoming))
            .and_then(|()| answer(this))
    };
    unless_fatal(this, done)
}

/// Ends the connection if handling received bytes has raised an Exception.
#[inline]
fn unless_fatal(this: &Ref<SslProtocol>, done: Result<(), Raised>) -> Result<(), Raised> {
    match done {
        Ok(()) => Ok(()),
        Err(raised) => {
            let exception = exception_of(this.py(), raised)?;
            fatal_error(this, &exception, "Fatal error on SSL protocol")
        }
    }
}

/// Sends after a read: TLS itself may have to answer, and the backlog may have waited for the
/// peer's bytes.
#[inline]
fn answer(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    if writing::has_backlog(this) {
        writing::write_backlog(this)?;
    } else {
        process_outgoing(this)?;
    }
    if this.session.is_drained() && this.incoming.needs_no_change_when_empty() {
        return Ok(());
    }
    pause_or_resume_transport(this)
}

/// Calls the program's `data_received`.
#[inline]
fn hand_on(this: &Ref<SslProtocol>, incoming: &session::Decrypted) -> Result<(), Raised> {
    if let Some(data) = &incoming.data {
        let receive = match this.app.receive.get() {
            Some(receive) => receive,
            None => look_up_receiver(this)?,
        };
        receive.call1(data)?;
    }
    if incoming.closed {
        peer_closed(this)?;
    }
    Ok(())
}

#[cold]
fn look_up_receiver(this: &Ref<SslProtocol>) -> Result<Obj, Raised> {
    let py = this.py();
    let protocol = this.app.protocol.get().unwrap_or_else(|| Obj::none(py));
    let receive = protocol.attr(pyo3::intern!(py, "data_received"))?;
    this.app.receive.set(Some(receive.clone()));
    Ok(receive)
}

/// Decrypts into the own buffer of a BufferedProtocol, until that is full.
fn read_into_buffer(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    let py = this.py();
    let (Some(get_buffer), Some(updated)) = (this.app.get_buffer.get(), this.app.receive.get())
    else {
        return Ok(());
    };
    let hint = Obj::int(py, this.session.incoming_size()? as i64)?;
    let room = get_buffer.call1(&hint)?;
    let wanted = room.length()?;
    let mut filled = 0;
    // A buffer without room counts as the end.
    let mut closed = wanted == 0;
    let mut piece = room.clone();
    while !closed && this.session.most_to_read()? > 0 {
        match this.session.read_into(wanted - filled, &piece)? {
            None => break,
            Some(0) => {
                closed = true;
                break;
            }
            Some(count) => filled += count,
        }
        if filled >= wanted {
            let read = this.as_obj().attr(pyo3::intern!(py, "_do_read"))?;
            SslProtocol::call_soon(this, &[&read])?;
            break;
        }
        // The slice is of a memoryview, because slices of a bytearray are copies.
        let view = Obj::class_of::<pyo3::types::PyMemoryView>(py).call1(&room)?;
        piece = view.slice(&Obj::int(py, filled as i64)?, &Obj::none(py))?;
    }
    drop(piece);
    drop(room);
    if filled > 0 {
        updated.call1(&Obj::int(py, filled as i64)?)?;
    }
    if closed {
        peer_closed(this)?;
    }
    Ok(())
}

/// Handles the peer's close_notify.
#[cold]
fn peer_closed(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    call_eof_received(this)?;
    closing::start_shutdown(this)
}

/// Calls the protocol's `eof_received`, once.
pub(super) fn call_eof_received(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    if this.app_state.get() != AppState::ConnectionMade {
        return Ok(());
    }
    let py = this.py();
    this.app_state.set(AppState::Eof);
    let protocol = this.app.protocol.get().unwrap_or_else(|| Obj::none(py));
    let result = protocol
        .method(pyo3::intern!(py, "eof_received"), &[])
        .and_then(|keep_open| keep_open.truth());
    match result {
        Ok(false) => Ok(()),
        Ok(true) => {
            let text = "returning true from eof_received() has no effect when using ssl";
            let logger = common(py).logger.get(py);
            let warning = pyo3::intern!(py, "warning");
            logger.method(warning, &[&Obj::str(py, text)?]).map(drop)
        }
        Err(raised) => {
            let exception = EndsProgram::or_caught(py, raised)?;
            fatal_error(this, &exception, "Error calling eof_received()")
        }
    }
}

/// `resume_reading()` of the transport above.
pub(super) fn resume_app(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    if !this.incoming.app_paused.replace(false) {
        return Ok(());
    }
    let name = pyo3::intern!(this.py(), "_resume_app");
    let resume = this.as_obj().attr(name)?;
    SslProtocol::call_soon(this, &[&resume])
}

/// Pauses the transport below if too much waits to be read, or resumes it.
#[inline]
pub(super) fn pause_or_resume_transport(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    let size = this.session.incoming_size()?;
    match this.incoming.marks.on_change(size) {
        Some(FlowChange::Pause) => this.channel.pause_reading(),
        Some(FlowChange::Resume) => this.channel.resume_reading(),
        None => Ok(()),
    }
}

/// `set_read_buffer_limits(high, low)` of the transport above.
pub(super) fn set_limits(
    this: &Ref<SslProtocol>,
    high: Option<Obj>,
    low: Option<Obj>,
) -> Result<(), Raised> {
    set_marks(this.py(), &this.incoming.marks, high, low)?;
    pause_or_resume_transport(this)
}
