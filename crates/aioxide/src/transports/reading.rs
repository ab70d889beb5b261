//! Readiness to read: one bounded read, then the protocol.

use std::cell::{Cell, RefCell};
use std::io;

use cpython::build::Builder;
use cpython::{Args, Obj, Python, Raised, Ref, Slot, SpareBytes, Visit};
use engine::sys;

use super::core::{self, Channel, Transport};
use super::feeding::{self, Fed, feeder};
use super::reports::{caught, in_context, method_failed, os_exception};
use super::socket::{self, watch_read};
use super::{StreamTransport, imports, tls};

/// The most that one readiness reads, in bytes; asyncio's `max_size`. It goes through a buffer of
/// the thread and is copied to a bytes object of the right size: to allocate for the most and cut
/// costs a mapping and its page faults for each read, several times the copy.
pub(crate) const SCRATCH: usize = 256 * 1024;

/// The buffer starts at a line of the processor's cache: the system copies 4 KiB to another place
/// 6 % slower.
const ALIGNMENT: usize = 64;

/// From so many bytes on, to cut a bytes object that was too large costs less than a copy.
const PLENTY: usize = 16 * 1024;

/// Room in such an object, in bytes: more would be mapped by itself, at the price of page faults.
const ROOM: usize = 120 * 1024;

/// What the last protocol was handed.
static SPARE: SpareBytes = SpareBytes::new();

thread_local! {
    static SCRATCH_BUFFER: RefCell<Box<[u8]>> = RefCell::default();
}

/// Calls `body` with the thread's buffer of [`SCRATCH`] bytes. It is taken out for that time, as what `body` calls
/// might come back here.
#[inline]
pub(crate) fn with_scratch<R>(body: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut scratch = SCRATCH_BUFFER.take();
    if scratch.is_empty() {
        scratch = vec![0; SCRATCH + ALIGNMENT].into();
    }
    let start = scratch.as_ptr().align_offset(ALIGNMENT);
    let result = body(&mut scratch[start..start + SCRATCH]);
    SCRATCH_BUFFER.set(scratch);
    result
}

/// The reading half of a transport.
pub(super) struct Reading {
    /// The protocol is a BufferedProtocol.
    buffered: Cell<bool>,
    /// The protocol is one of a stream, whose reader takes bytes as they come.
    fed: Cell<bool>,
    /// The last read brought plenty, but not more than has room in a bytes object.
    plenty: Cell<bool>,
    /// The protocol, if it is our own for TLS.
    tls: Slot<Ref<tls::SslProtocol>>,
    /// In which the protocol is called.
    context: Slot,
    /// Bound methods of the protocol, looked up at their first use. `receive` is `data_received`
    /// or `buffer_updated`.
    receive: Slot,
    get_buffer: Slot,
}

impl Reading {
    pub(super) fn new() -> Reading {
        Reading {
            buffered: Cell::new(false),
            fed: Cell::new(false),
            plenty: Cell::new(false),
            tls: Slot::default(),
            context: Slot::default(),
            receive: Slot::default(),
            get_buffer: Slot::default(),
        }
    }

    /// The protocol is called in this context from now on.
    pub(super) fn set_context(&self, context: Obj) {
        self.context.set(Some(context));
    }

    /// The context in which the protocol is called.
    pub(super) fn context(&self) -> Option<Obj> {
        self.context.get()
    }

    pub(super) fn traverse(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.tls);
        visit.slot(&self.context);
        visit.slot(&self.receive);
        visit.slot(&self.get_buffer);
    }

    /// Releases everything; nothing is read any more.
    pub(super) fn clear(&self) {
        self.tls.set(None);
        self.context.set(None);
        self.receive.set(None);
        self.get_buffer.set(None);
    }
}

pub(super) fn build(builder: &mut Builder<StreamTransport>) {
    builder.method(
        c"set_protocol",
        c"set_protocol($self, /, protocol)\n--\n\nSet a new protocol.",
        |this, args: &Args<'_>| {
            let name = "_SelectorSocketTransport.set_protocol";
            set_protocol(this, args.one(name, "protocol")?)
        },
    );
}

/// `set_protocol(protocol)`.
pub(super) fn set_protocol(this: &Ref<StreamTransport>, protocol: &Obj) -> Result<(), Raised> {
    let buffered = protocol.is_instance(imports(this.py()).buffered_protocol.get(this.py()))?;
    this.reading.buffered.set(buffered);
    this.reading.fed.set(!buffered && feeding::takes(protocol)?);
    let tls = buffered.then(|| tls::as_native(protocol)).flatten();
    this.reading.tls.set(tls.cloned());
    this.reading.receive.set(None);
    this.reading.get_buffer.set(None);
    this.connected.set(true);
    this.core().protocol.set(Some(protocol.clone()));
    Ok(())
}

/// Starts to receive, unless paused or closing, in the context that was set before.
pub(super) fn start_reading_in_context(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    let Some(event_loop) = this.core().event_loop.get() else {
        return Ok(());
    };
    if !this.core().is_reading() {
        return Ok(());
    }
    event_loop.check_closed(this.py())?;
    watch_read(this)
}

/// The descriptor can be read.
#[inline]
pub(super) fn on_readable(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    if !this.socket.watches_read.get() {
        return Ok(());
    }
    let Some(context) = this.reading.context.get() else {
        return Ok(());
    };
    let result = in_context(&context, || {
        if this.reading.buffered.get() {
            match this.reading.tls.get() {
                Some(tls) if !tls.is_overridden() => read_encrypted(this, &tls),
                _ => read_into_buffer(this),
            }
        } else if this.reading.fed.get() {
            read_for_stream(this)
        } else {
            read_data(this)
        }
    });
    match result {
        Ok(()) => Ok(()),
        Err(raised) => read_failed(this, raised),
    }
}

/// What asyncio leaves to the Handle: a context that cannot be entered, an `eof_received` whose
/// answer has no truth value, a failing exception handler.
#[cold]
fn read_failed(this: &Ref<StreamTransport>, raised: Raised) -> Result<(), Raised> {
    let event_loop = this.core().event_loop.get();
    method_failed(event_loop, this.as_obj(), "_start_reading", &[], raised)
}

/// Outcome of a read that is not an exception.
pub(super) enum Received {
    Data(Obj),
    Eof,
    /// Nothing is there, after all.
    Nothing,
    Failed(io::Error),
}

impl Received {
    #[cold]
    fn failed(error: io::Error) -> Received {
        match error.kind() {
            io::ErrorKind::WouldBlock => Received::Nothing,
            _ => Received::Failed(error),
        }
    }
}

/// One read of bounded size, by `read`, as a bytes object.
#[inline]
pub(super) fn receive_bytes(
    py: Python<'_>,
    read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
) -> Result<Received, Raised> {
    with_scratch(|scratch| {
        Ok(match read(scratch) {
            Ok(0) => Received::Eof,
            Ok(count) => Received::Data(SPARE.bytes(py, &scratch[..count])?),
            Err(error) => Received::failed(error),
        })
    })
}

/// One read directly into a bytes object, where about as much is to be expected.
fn receive_plenty(py: Python<'_>, fd: i32) -> Result<Received, Raised> {
    let filled = Obj::bytes_filled(py, ROOM, |room| sys::recv_uninit(fd, room));
    Ok(match filled? {
        Ok(data) if data.as_bytes().is_some_and(<[u8]>::is_empty) => Received::Eof,
        Ok(data) => Received::Data(data),
        Err(error) => Received::failed(error),
    })
}

/// One read for a Protocol.
#[inline]
fn read_data(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    let fd = this.core().fd;
    let received = if this.reading.plenty.get() {
        receive_plenty(this.py(), fd)?
    } else {
        receive_bytes(this.py(), |room| sys::recv(fd, room))?
    };
    match received {
        Received::Data(data) => {
            let size = data.as_bytes().map_or(0, <[u8]>::len);
            this.reading.plenty.set((PLENTY..ROOM).contains(&size));
            let handed = hand_on(this, &data);
            SPARE.keep(data);
            handed
        }
        Received::Eof => on_eof(this),
        Received::Nothing => Ok(()),
        Received::Failed(error) => on_read_error(this, os_exception(this.py(), error)),
    }
}

/// One read for the reader of a stream, which takes the bytes from where they are.
#[inline]
fn read_for_stream(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    let (Some(feeder), Some(protocol)) = (feeder(), this.core().protocol.get()) else {
        return read_data(this);
    };
    let (py, fd) = (this.py(), this.core().fd);
    let received = with_scratch(|scratch| {
        let count = sys::recv(fd, scratch)?;
        let bytes = &scratch[..count];
        Ok(match count {
            0 => None,
            _ => Some(match (feeder.store)(&protocol, bytes) {
                Ok(Fed::Refused) => Err(Obj::bytes(py, bytes)),
                fed => Ok(fed),
            }),
        })
    });
    let fed = match received {
        Ok(Some(Ok(fed))) => fed,
        Ok(Some(Err(data))) => return hand_on(this, &data?),
        Ok(None) => return on_eof(this),
        Err(error) => return on_failed_read(this, error),
    };
    let told = fed.and_then(|fed| match fed {
        Fed::Stored(reader) => (feeder.stored)(&reader),
        Fed::Dropped | Fed::Refused => Ok(()),
    });
    match told {
        Ok(()) => Ok(()),
        Err(raised) => on_protocol_error(this, raised, "data_received"),
    }
}

/// Calls the protocol's `data_received`.
#[inline]
fn hand_on(this: &Ref<StreamTransport>, data: &Obj) -> Result<(), Raised> {
    match receiver(this, "data_received").and_then(|receive| receive.call1(data)) {
        Ok(_) => Ok(()),
        Err(raised) => on_protocol_error(this, raised, "data_received"),
    }
}

/// The protocol's bound `data_received` or `buffer_updated`.
#[inline]
fn receiver(this: &Ref<StreamTransport>, name: &str) -> Result<Obj, Raised> {
    match this.reading.receive.get() {
        Some(receive) => Ok(receive),
        None => look_up(this, name, &this.reading.receive),
    }
}

/// Looks a method of the protocol up and keeps it.
#[cold]
fn look_up(this: &Ref<StreamTransport>, name: &str, place: &Slot) -> Result<Obj, Raised> {
    let py = this.py();
    let protocol = this.core().protocol_or_none(py);
    let method = protocol.attr(&pyo3::types::PyString::intern(py, name))?;
    place.set(Some(method.clone()));
    Ok(method)
}

/// One read for a BufferedProtocol, into its own buffer.
fn read_into_buffer(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    let py = this.py();
    let room = match ask_for_buffer(this, py) {
        Ok(room) => room,
        Err(raised) => return on_protocol_error(this, raised, "get_buffer"),
    };
    let fd = this.core().fd;
    let received = room.with_buffer_mut(|bytes| match bytes {
        [] => None,
        bytes => Some(sys::recv(fd, bytes)),
    });
    let result = match received {
        Ok(Some(result)) => result,
        Ok(None) => {
            let raised = Raised::runtime_error(py, "get_buffer() returned an empty buffer");
            return on_protocol_error(this, raised, "get_buffer");
        }
        Err(raised) => {
            drop(raised.take(py));
            return on_useless_buffer(this, &room);
        }
    };
    // What the buffer lies in may go before the protocol is called, as in asyncio.
    drop(room);
    let count = match result {
        Ok(0) => return on_eof(this),
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        Err(error) => return on_read_error(this, os_exception(py, error)),
    };
    let updated = receiver(this, "buffer_updated")
        .and_then(|updated| updated.call1(&Obj::int(py, count as i64)?));
    match updated {
        Ok(_) => Ok(()),
        Err(raised) => on_protocol_error(this, raised, "buffer_updated"),
    }
}

/// One read for our own TLS, which takes the bytes from where they are.
fn read_encrypted(this: &Ref<StreamTransport>, tls: &Ref<tls::SslProtocol>) -> Result<(), Raised> {
    let fd = this.core().fd;
    let received = with_scratch(|scratch| {
        let count = sys::recv(fd, scratch)?;
        Ok(match count {
            0 => None,
            count => Some(tls::receive(tls, &scratch[..count])),
        })
    });
    let received = match received {
        Ok(Some(received)) => received,
        Ok(None) => return on_eof(this),
        Err(error) => return on_failed_read(this, error),
    };
    match tls::proceed(tls, received) {
        Ok(()) => Ok(()),
        Err(raised) => on_protocol_error(this, raised, "buffer_updated"),
    }
}

#[cold]
fn on_failed_read(this: &Ref<StreamTransport>, error: io::Error) -> Result<(), Raised> {
    if error.kind() == io::ErrorKind::WouldBlock {
        return Ok(());
    }
    on_read_error(this, os_exception(this.py(), error))
}

#[inline]
fn ask_for_buffer(this: &Ref<StreamTransport>, py: Python<'_>) -> Result<Obj, Raised> {
    let get_buffer = match this.reading.get_buffer.get() {
        Some(get_buffer) => get_buffer,
        None => look_up(this, "get_buffer", &this.reading.get_buffer)?,
    };
    get_buffer.call1(&Obj::int(py, -1)?)
}

/// `get_buffer()` returned something that cannot be written to. What has no length, or none to
/// speak of, is the protocol's error; what the rest is, the Python socket says.
#[cold]
fn on_useless_buffer(this: &Ref<StreamTransport>, room: &Obj) -> Result<(), Raised> {
    let py = this.py();
    let len = Obj::import(py, c"builtins")?.attr(pyo3::intern!(py, "len"))?;
    let sock = this.socket.descriptor.socket(py)?;
    let sock = sock.unwrap_or_else(|| Obj::none(py));
    match len.call1(room).and_then(|len| len.to_i64()) {
        Ok(0) => {
            let raised = Raised::runtime_error(py, "get_buffer() returned an empty buffer");
            on_protocol_error(this, raised, "get_buffer")
        }
        Ok(_) => match sock.method(pyo3::intern!(py, "recv_into"), &[room]) {
            Ok(_) => Ok(()),
            Err(raised) => on_read_error(this, caught(py, raised)?),
        },
        Err(raised) => on_protocol_error(this, raised, "get_buffer"),
    }
}

/// The peer has sent all it will.
#[cold]
fn on_eof(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    let py = this.py();
    core::log_if_debug(this, "debug", "%r received EOF")?;
    let Some(protocol) = this.core().protocol.get() else {
        return Ok(());
    };
    match protocol.method(pyo3::intern!(py, "eof_received"), &[]) {
        // The protocol goes on writing; there is nothing more to read.
        Ok(keep_open) if keep_open.truth()? => this.socket.stop_reading(this.as_obj()),
        Ok(_) => socket::close(this),
        Err(raised) => on_protocol_error(this, raised, "eof_received"),
    }
}

#[cold]
fn on_read_error(this: &Ref<StreamTransport>, exception: Obj) -> Result<(), Raised> {
    socket::fatal_error(this, &exception, "Fatal read error on socket transport")
}

#[cold]
fn on_protocol_error(
    this: &Ref<StreamTransport>,
    raised: Raised,
    method: &str,
) -> Result<(), Raised> {
    let exception = caught(this.py(), raised)?;
    let message = format!("Fatal error: protocol.{method}() call failed.");
    socket::fatal_error(this, &exception, &message)
}
