//! Writing: plain bytes are encrypted and sent at once; those that cannot be are kept.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use cpython::build::Builder;
use cpython::{Obj, Raised, Ref};
use engine::{FlowChange, FlowControl};

use super::closing::{exception_of, fatal_error};
use super::protocol::SslProtocol;
use super::state::State;
use crate::interop::EndsProgram;
use crate::transports::imports as common;
use crate::transports::reports::report_failure;
use crate::transports::set_marks;

/// asyncio's FLOW_CONTROL_HIGH_WATER_SSL_WRITE, in bytes.
const HIGH_WATER: u32 = 512 * 1024;

/// Chunks that wait are joined up to one record's size: each record costs as much as encrypting a
/// kilobyte.
const RECORD: usize = 16 * 1024;

/// The bytes that are encrypted by one call: few calls are needed, and the bytes stay in the
/// processor's cache on their way. The MemoryBIO keeps about as much memory for as long as the
/// connection lives.
const PIECE: usize = 4 * RECORD;

/// The outgoing half of a connection.
pub(super) struct TlsOutgoing {
    /// Plain bytes that wait, in order; none is empty.
    pub(super) backlog: RefCell<VecDeque<Obj>>,
    /// The number of bytes in the backlog.
    size: Cell<usize>,
    /// The transport below has asked to pause writing.
    transport_paused: Cell<bool>,
    /// The water marks at which the program is asked to pause and to resume.
    pub(super) marks: FlowControl,
}

impl TlsOutgoing {
    pub(super) fn new() -> TlsOutgoing {
        TlsOutgoing {
            backlog: RefCell::new(VecDeque::new()),
            size: Cell::new(0),
            transport_paused: Cell::new(false),
            marks: FlowControl::with_default(HIGH_WATER),
        }
    }

    /// Drops the chunks that wait, but keeps their size, as asyncio does.
    pub(super) fn discard(&self) {
        let backlog = std::mem::take(&mut *self.backlog.borrow_mut());
        drop(backlog);
    }

    fn push(&self, chunk: Obj, size: usize) {
        self.backlog.borrow_mut().push_back(chunk);
        self.size.set(self.size.get() + size);
    }
}

pub(super) fn build(builder: &mut Builder<SslProtocol>) {
    builder
        .method0(
            c"pause_writing",
            c"pause_writing($self, /)\n--\n\nStop sending: the transport below takes no more for now.",
            |this| {
                if this.outgoing.transport_paused.replace(true) {
                    return Err(wrong_order(this));
                }
                Ok(())
            },
        )
        .method0(
            c"resume_writing",
            c"resume_writing($self, /)\n--\n\nSend again: the transport below takes more.",
            |this| {
                if !this.outgoing.transport_paused.replace(false) {
                    return Err(wrong_order(this));
                }
                process_outgoing(this)
            },
        )
        .method1(
            c"_append_write_backlog",
            c"_append_write_backlog($self, data, /)\n--\n\nKeep data for the next write.",
            |this, data| {
                let (chunk, size) = frozen(data)?;
                this.outgoing.push(chunk, size);
                Ok::<(), Raised>(())
            },
        )
        .get(
            c"_write_backlog",
            c"A copy of the chunks that wait.",
            |this| {
                let list = Obj::list(this.py())?;
                let backlog: Vec<Obj> = this.outgoing.backlog.borrow().iter().cloned().collect();
                for chunk in &backlog {
                    list.append(chunk)?;
                }
                Ok::<Obj, Raised>(list)
            },
        )
        .get(
            c"_write_buffer_size",
            c"The number of bytes that wait.",
            |this| this.outgoing.size.get(),
        )
        .get(
            c"_ssl_writing_paused",
            c"Whether the transport below takes no more.",
            |this| this.outgoing.transport_paused.get(),
        )
        .get(
            c"_app_writing_paused",
            c"Whether the program was asked to pause.",
            |this| this.outgoing.marks.is_paused(),
        )
        .get(
            c"_outgoing_high_water",
            c"A water mark, in bytes.",
            |this| this.outgoing.marks.high(),
        )
        .get(c"_outgoing_low_water", c"A water mark, in bytes.", |this| {
            this.outgoing.marks.low()
        });
}

/// The AssertionError of asyncio if `pause_writing` and `resume_writing` do not take turns.
#[cold]
fn wrong_order(this: &Ref<SslProtocol>) -> Raised {
    Raised::new::<pyo3::exceptions::PyAssertionError>(this.py(), "")
}

/// `write(data)` of the transport above, which has checked the type of the data.
#[inline]
pub(super) fn write(this: &Ref<SslProtocol>, data: &Obj) -> Result<(), Raised> {
    let state = this.state.get();
    if state.is_over() {
        return count_late_write(this);
    }
    if state == State::Wrapped && !has_backlog(this) {
        return match write_now(this, data) {
            Ok(()) => Ok(()),
            Err(raised) => write_failed(this, raised),
        };
    }
    append(this, data)?;
    write_appended(this)
}

/// `writelines(list_of_data)` of the transport above.
pub(super) fn write_lines(this: &Ref<SslProtocol>, lines: &Obj) -> Result<(), Raised> {
    if this.state.get().is_over() {
        return count_late_write(this);
    }
    let iterator = lines.iter()?;
    while let Some(line) = iterator.next()? {
        append(this, &line)?;
    }
    write_appended(this)
}

fn write_appended(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    if this.state.get() != State::Wrapped {
        return Ok(());
    }
    match write_backlog(this) {
        Ok(()) => Ok(()),
        Err(raised) => write_failed(this, raised),
    }
}

/// Encrypts and sends data; no other bytes wait.
#[inline]
fn write_now(this: &Ref<SslProtocol>, data: &Obj) -> Result<(), Raised> {
    if let Some(bytes) = data.as_bytes() {
        if bytes.len() > PIECE && this.session.is_plain() {
            return write_pieces(this, bytes);
        }
    }
    let written = match this.session.write(data) {
        Ok(written) => written.unwrap_or(0),
        Err(raised) => {
            // The data may be a memoryview with gaps.
            let (chunk, size) = without_gaps(data, raised)?;
            this.outgoing.push(chunk, size);
            return write_backlog(this);
        }
    };
    let size = match data.as_bytes() {
        Some(bytes) => bytes.len(),
        None => data.with_buffer(<[u8]>::len)?,
    };
    if written < size {
        let rest = data.with_buffer(|bytes| bytes[written..].to_vec())?;
        let rest = Obj::bytes(this.py(), &rest)?;
        this.outgoing.push(rest, size - written);
        if written > 0 {
            return write_backlog(this);
        }
    }
    process_outgoing(this)
}

/// Encrypts many bytes piece by piece, and sends them at once.
fn write_pieces(this: &Ref<SslProtocol>, bytes: &[u8]) -> Result<(), Raised> {
    let py = this.py();
    let mut encrypted = Vec::with_capacity(bytes.len() / PIECE + 1);
    let mut rest = bytes;
    while !rest.is_empty() {
        let piece = &rest[..rest.len().min(PIECE)];
        let Some(written) = Obj::lend(py, piece, |lent| this.session.write(lent))?? else {
            this.outgoing.push(Obj::bytes(py, rest)?, rest.len());
            break;
        };
        rest = &rest[written.min(piece.len())..];
        if !this.outgoing.transport_paused.get() {
            encrypted.extend(this.session.drain()?);
        }
    }
    this.channel.write_all(&encrypted)?;
    process_outgoing(this)
}

/// The bytes of a memoryview with gaps, joined, and their number. Raises the exception again for
/// any other object.
#[cold]
fn without_gaps(data: &Obj, raised: Raised) -> Result<(Obj, usize), Raised> {
    let py = data.py();
    if !data.is_subtype_of(&Obj::class_of::<pyo3::types::PyMemoryView>(py)) {
        return Err(raised);
    }
    raised.ignore::<pyo3::exceptions::PyBufferError>(py)?;
    let joined = data.method(pyo3::intern!(py, "tobytes"), &[])?;
    let size = joined.length()?;
    Ok((joined, size))
}

#[cold]
fn write_failed(this: &Ref<SslProtocol>, raised: Raised) -> Result<(), Raised> {
    let exception = exception_of(this.py(), raised)?;
    fatal_error(this, &exception, "Fatal error on SSL protocol")
}

/// Counts a write after the end. It sends nothing, and logs a warning from asyncio's threshold on.
#[cold]
fn count_late_write(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    let py = this.py();
    let count = this.lost.get();
    let name = pyo3::intern!(py, "LOG_THRESHOLD_FOR_CONNLOST_WRITES");
    let threshold = common(py).constants.get(py).attr(name)?.to_i64()?;
    if i64::from(count) >= threshold {
        let text = Obj::str(py, "SSL connection is closed")?;
        let logger = common(py).logger.get(py);
        logger.method(pyo3::intern!(py, "warning"), &[&text])?;
    }
    this.lost.set(count.saturating_add(1));
    Ok(())
}

/// Whether plain bytes wait.
#[inline]
pub(super) fn has_backlog(this: &Ref<SslProtocol>) -> bool {
    !this.outgoing.backlog.borrow().is_empty()
}

/// Keeps data that is to be written.
fn append(this: &Ref<SslProtocol>, data: &Obj) -> Result<(), Raised> {
    let (chunk, size) = frozen(data)?;
    // An object without a buffer is kept as well: the SSLObject raises the exception for it.
    if size > 0 || chunk.as_bytes().is_none() {
        this.outgoing.push(chunk, size);
    }
    Ok(())
}

/// The data in a form that its owner cannot change any more, and its size in bytes.
fn frozen(data: &Obj) -> Result<(Obj, usize), Raised> {
    let py = data.py();
    if let Some(bytes) = data.as_bytes() {
        if data.is_exact(&Obj::class_of::<pyo3::types::PyBytes>(py)) {
            return Ok((data.clone(), bytes.len()));
        }
    }
    match data.with_buffer(<[u8]>::to_vec) {
        Ok(copy) => Ok((Obj::bytes(py, &copy)?, copy.len())),
        Err(raised) => {
            let exception = raised.take(py);
            if data.is_subtype_of(&Obj::class_of::<pyo3::types::PyMemoryView>(py)) {
                return without_gaps(data, Raised::raise(exception));
            }
            let size = data.length()?;
            Ok((data.clone(), size))
        }
    }
}

/// `_do_write()`: encrypts and sends the bytes that wait.
pub(super) fn write_backlog(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    let outgoing = &this.outgoing;
    while let Some(chunk) = take_chunk(this)? {
        let size = chunk.length()?;
        let put_back = |chunk| outgoing.backlog.borrow_mut().push_front(chunk);
        let written = match this.session.write(&chunk) {
            Ok(written) => written,
            Err(raised) => {
                put_back(chunk);
                return Err(raised);
            }
        };
        let Some(written) = written else {
            put_back(chunk);
            break;
        };
        let written = written.min(size);
        if written < size {
            let bytes = chunk.as_bytes().unwrap_or_default();
            put_back(Obj::bytes(this.py(), &bytes[written..])?);
        }
        outgoing
            .size
            .set(outgoing.size.get().saturating_sub(written));
    }
    process_outgoing(this)
}

/// Takes the first chunk, joined with as many of the next ones as fit into one record.
fn take_chunk(this: &Ref<SslProtocol>) -> Result<Option<Obj>, Raised> {
    let mut backlog = this.outgoing.backlog.borrow_mut();
    let size = |chunk: &Obj| chunk.as_bytes().map_or(RECORD + 1, <[u8]>::len);
    let mut total = 0;
    let mut count = 0;
    for chunk in backlog.iter() {
        total += size(chunk);
        if total > RECORD {
            break;
        }
        count += 1;
    }
    if count < 2 {
        return Ok(backlog.pop_front());
    }
    let mut joined = Vec::with_capacity(RECORD);
    let chunks: Vec<Obj> = backlog.drain(..count).collect();
    drop(backlog);
    for chunk in &chunks {
        joined.extend_from_slice(chunk.as_bytes().unwrap_or_default());
    }
    Obj::bytes(this.py(), &joined).map(Some)
}

/// `_process_outgoing()`: sends all encrypted bytes, in one write.
#[inline]
pub(super) fn process_outgoing(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    if !this.outgoing.transport_paused.get() {
        if let Some(data) = this.session.drain()? {
            this.channel.write(&data)?;
        }
    }
    pause_or_resume_app(this)
}

/// The number of bytes that wait, plain or encrypted.
pub(super) fn size(this: &Ref<SslProtocol>) -> Result<usize, Raised> {
    Ok(this.session.outgoing_size()? + this.outgoing.size.get())
}

/// `_control_app_writing()`: asks the program to pause if too much waits, or to resume.
#[inline]
pub(super) fn pause_or_resume_app(this: &Ref<SslProtocol>) -> Result<(), Raised> {
    let outgoing = &this.outgoing;
    // Encrypted bytes wait only while the transport below is paused.
    let size = if outgoing.transport_paused.get() {
        size(this)?
    } else {
        outgoing.size.get()
    };
    match outgoing.marks.on_change(size) {
        Some(FlowChange::Pause) => call_app(this, "pause_writing"),
        Some(FlowChange::Resume) => call_app(this, "resume_writing"),
        None => Ok(()),
    }
}

fn call_app(this: &Ref<SslProtocol>, method: &str) -> Result<(), Raised> {
    let py = this.py();
    let none = Obj::none(py);
    let protocol = this.app.protocol.get().unwrap_or_else(|| none.clone());
    match protocol.method(&pyo3::types::PyString::intern(py, method), &[]) {
        Ok(_) => Ok(()),
        Err(raised) => {
            let exception = EndsProgram::or_caught(py, raised)?;
            let transport = this.app_transport.get();
            let transport = transport.map_or(none, Ref::into_obj);
            let event_loop = SslProtocol::event_loop(this)?;
            let message = format!("protocol.{method}() failed");
            report_failure(&event_loop, &message, &exception, &transport, this.as_obj())
        }
    }
}

/// `set_write_buffer_limits(high, low)` of the transport above.
pub(super) fn set_limits(
    this: &Ref<SslProtocol>,
    high: Option<Obj>,
    low: Option<Obj>,
) -> Result<(), Raised> {
    set_marks(this.py(), &this.outgoing.marks, high, low)?;
    pause_or_resume_app(this)
}
