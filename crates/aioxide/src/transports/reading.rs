//! Readiness to read: one bounded read, then the protocol.

use std::cell::{Cell, RefCell};
use std::io;

use cpython::build::Builder;
use cpython::{Args, Obj, Python, Raised, Ref, Slot, SpareBytes, context};
use engine::sys;

use super::reports::os_exception;
use super::socket::{self, watch_read};
use super::transport::{self, Transport, TransportChannel};
use super::{StreamTransport, imports};
use crate::handles::reports::method_failed;
use crate::handles::served::{self, Taken, Taking};
use crate::interop::EndsProgram;

/// The most that one readiness reads, in bytes; asyncio's `max_size`. The bytes go through a buffer
/// of the thread and are copied to a bytes object of the right size. Allocating the most and
/// shrinking costs a mapping and its page faults for each read, several times the copy.
pub(crate) const SCRATCH: usize = 256 * 1024;

/// The buffer starts at a line of the processor's cache: the system copies 4 KiB to another place
/// 6 % slower.
const ALIGNMENT: usize = 64;

/// From this many bytes on, shrinking a bytes object that was too large costs less than a copy.
const LARGE_READ: usize = 16 * 1024;

/// Size in bytes of the object that is shrunk: malloc maps a larger one by itself, at the price of
/// page faults.
const ROOM: usize = 120 * 1024;

/// The bytes object of the last `data_received`, to be used again.
static SPARE: SpareBytes = SpareBytes::new();

thread_local! {
    static SCRATCH_BUFFER: RefCell<Box<[u8]>> = RefCell::default();
}

/// Calls `body` with the thread's buffer of [`SCRATCH`] bytes. The buffer is taken out meanwhile,
/// because `body` may call code that comes back here.
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
    /// How the protocol takes bytes where they lie, if it is a native one that can.
    taker: Cell<Option<&'static Taking>>,
    /// The last read brought at least [`LARGE_READ`] bytes, but less than [`ROOM`].
    last_read_was_large: Cell<bool>,
    /// The context in which the protocol is called.
    context: Slot,
    /// Bound methods of the protocol, looked up at their first use. `receive` is `data_received`
    /// or `buffer_updated`.
    receive: Slot,
    get_buffer: Slot,
}

cpython::holds!(Reading: context, receive, get_buffer);

impl Reading {
    pub(super) fn new() -> Reading {
        Reading {
            buffered: Cell::new(false),
            taker: Cell::new(None),
            last_read_was_large: Cell::new(false),
            context: Slot::default(),
            receive: Slot::default(),
            get_buffer: Slot::default(),
        }
    }

    /// Sets the context in which the protocol is called from now on.
    pub(super) fn set_context(&self, context: Obj) {
        self.context.set(Some(context));
    }

    /// The context in which the protocol is called.
    pub(super) fn context(&self) -> Option<Obj> {
        self.context.get()
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
    this.reading.taker.set(served::taking(protocol, buffered));
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

/// Handles that the descriptor can be read.
#[inline]
pub(super) fn on_readable(this: &Ref<StreamTransport>) -> Result<(), EndsProgram> {
    if !this.socket.watches_read.get() {
        return Ok(());
    }
    let Some(context) = this.reading.context.get() else {
        return Ok(());
    };
    let read = || {
        if let Some(taker) = this.reading.taker.get() {
            if let Some(protocol) = this.core().protocol.get() {
                if (taker.is_open)(&protocol) {
                    return read_for_taker(this, taker, &protocol);
                }
            }
        }
        if this.reading.buffered.get() {
            read_into_buffer(this)
        } else {
            read_data(this)
        }
    };
    let holding = &this.writing.holding;
    match holding.while_handing_on(|| context::run(&context, read)) {
        Ok(()) => Ok(()),
        Err(raised) => read_failed(this, raised),
    }
}

/// Reports an exception that asyncio leaves to the Handle: of a context that cannot be entered, of
/// an `eof_received` whose answer has no truth value, of a failing exception handler.
#[cold]
fn read_failed(this: &Ref<StreamTransport>, raised: Raised) -> Result<(), EndsProgram> {
    let event_loop = this.core().event_loop.get();
    method_failed(event_loop, this.as_obj(), "_start_reading", &[], raised)
}

/// The outcome of a read that raised nothing.
pub(super) enum Received {
    Data(Obj),
    Eof,
    /// There is nothing to read, after all.
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

/// Makes one read of bounded size, by `read`, and returns a bytes object.
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

/// Makes one read directly into a bytes object of [`ROOM`] bytes, which pays where the last read
/// was large.
fn receive_plenty(py: Python<'_>, fd: i32) -> Result<Received, Raised> {
    let filled = Obj::bytes_filled(py, ROOM, |room| sys::recv_uninit(fd, room));
    Ok(match filled? {
        Ok(data) if data.as_bytes().is_some_and(<[u8]>::is_empty) => Received::Eof,
        Ok(data) => Received::Data(data),
        Err(error) => Received::failed(error),
    })
}

/// Makes one read for a Protocol.
#[inline]
fn read_data(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    let fd = this.core().fd;
    let received = if this.reading.last_read_was_large.get() {
        receive_plenty(this.py(), fd)?
    } else {
        receive_bytes(this.py(), |room| sys::recv(fd, room))?
    };
    match received {
        Received::Data(data) => {
            let size = data.as_bytes().map_or(0, <[u8]>::len);
            this.reading
                .last_read_was_large
                .set((LARGE_READ..ROOM).contains(&size));
            let handed = hand_on(this, &data);
            SPARE.keep(data);
            handed
        }
        Received::Eof => on_eof(this),
        Received::Nothing => Ok(()),
        Received::Failed(error) => on_read_error(this, os_exception(this.py(), error)),
    }
}

/// Makes one read for a native protocol, which takes the bytes where they lie.
#[inline]
fn read_for_taker(
    this: &Ref<StreamTransport>,
    taker: &Taking,
    protocol: &Obj,
) -> Result<(), Raised> {
    let (py, fd) = (this.py(), this.core().fd);
    let received = with_scratch(|scratch| {
        let count = sys::recv(fd, scratch)?;
        let bytes = &scratch[..count];
        Ok(match count {
            0 => None,
            _ => Some(match (taker.take)(protocol, bytes) {
                Ok(Taken::Refused) => Err(Obj::bytes(py, bytes)),
                taken => Ok(taken),
            }),
        })
    });
    let taken = match received {
        Ok(Some(Ok(taken))) => taken,
        Ok(Some(Err(data))) => return hand_on(this, &data?),
        Ok(None) => return on_eof(this),
        Err(error) => return on_failed_read(this, error),
    };
    match taken.and_then(|taken| (taker.proceed)(protocol, taken)) {
        Ok(()) => Ok(()),
        Err(raised) if this.reading.buffered.get() => {
            on_protocol_error(this, raised, "buffer_updated")
        }
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

/// Makes one read for a BufferedProtocol, into its own buffer.
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
    // Releases the buffer's owner before the protocol is called, as asyncio does.
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

/// Reports that `get_buffer()` returned an object that cannot be written to. An object without a
/// length, or with length 0, is the protocol's error. For all others the Python socket raises the
/// exception.
#[cold]
fn on_useless_buffer(this: &Ref<StreamTransport>, room: &Obj) -> Result<(), Raised> {
    let py = this.py();
    let sock = this.socket.descriptor.socket(py)?;
    let sock = sock.unwrap_or_else(|| Obj::none(py));
    match room.length() {
        Ok(0) => {
            let raised = Raised::runtime_error(py, "get_buffer() returned an empty buffer");
            on_protocol_error(this, raised, "get_buffer")
        }
        Ok(_) => match sock.method(pyo3::intern!(py, "recv_into"), &[room]) {
            Ok(_) => Ok(()),
            Err(raised) => on_read_error(this, EndsProgram::or_caught(py, raised)?),
        },
        Err(raised) => on_protocol_error(this, raised, "get_buffer"),
    }
}

/// Handles the end of the peer's bytes.
#[cold]
fn on_eof(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    let py = this.py();
    transport::log_if_debug(this, "debug", "%r received EOF")?;
    let Some(protocol) = this.core().protocol.get() else {
        return Ok(());
    };
    match protocol.method(pyo3::intern!(py, "eof_received"), &[]) {
        // The protocol goes on writing, but nothing more can be read.
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
    let exception = EndsProgram::or_caught(this.py(), raised)?;
    let message = format!("Fatal error: protocol.{method}() call failed.");
    socket::fatal_error(this, &exception, &message)
}
