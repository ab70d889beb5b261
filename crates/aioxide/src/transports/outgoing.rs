//! Bytes that wait to be written, and the flow control that they drive: the part that every
//! transport that writes has, whatever its channel.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::vec_deque;
use std::io::{self, IoSlice};

use cpython::build::Builder;
use cpython::{Args, GcFields, Obj, Python, Raised, Ref, Slot, Visit};
use engine::buffer::IOV_MAX;
use engine::{FlowControl, WriteBuffer, sys};

use super::imports;
use super::reports::report_failure;
use super::transport::Transport;
use crate::interop::EndsProgram;

/// A piece of memory that waits to be written.
#[derive(Clone)]
pub(crate) enum Chunk {
    /// A `bytes` object, which never changes: kept, not copied.
    Bytes(Obj),
    /// A copy of memory that its owner may change.
    Copy(Box<[u8]>),
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        match self {
            Chunk::Bytes(object) => object.as_bytes().unwrap_or_default(),
            Chunk::Copy(bytes) => bytes,
        }
    }
}

impl Chunk {
    /// Makes a chunk of a bytes object of which `sent` bytes were sent. Returns it with the number
    /// of its own bytes that were sent. An object of a subclass may run any code when it is
    /// released, so the rest of its bytes is copied.
    pub(super) fn of_bytes(data: &Obj, bytes: &[u8], sent: usize) -> (Chunk, usize) {
        if data.is_exact(&Obj::class_of::<pyo3::types::PyBytes>(data.py())) {
            (Chunk::Bytes(data.clone()), sent)
        } else {
            (Chunk::Copy(bytes[sent..].into()), 0)
        }
    }
}

/// The write buffer of one transport and its water marks.
pub(crate) struct OutgoingBytes {
    /// A box that is made when bytes wait for the first time: most connections send at once.
    buffer: OnceCell<Box<RefCell<WriteBuffer<Chunk>>>>,
    /// An exact bytes object of which nothing was sent, if that is all that waits: held writes
    /// come and go at each request, and the buffer takes hundreds of instructions for that.
    lone: Slot,
    pub(super) flow: FlowControl,
}

impl GcFields for OutgoingBytes {
    /// Chunks are bytes objects or native memory, which are part of no cycle.
    fn visit(&self, _: &mut Visit<'_>) {}
    fn let_go(&self) {
        self.clear();
    }
}

impl OutgoingBytes {
    pub(crate) fn new() -> OutgoingBytes {
        OutgoingBytes {
            buffer: OnceCell::new(),
            lone: Slot::default(),
            flow: FlowControl::new(),
        }
    }

    /// The number of bytes that wait.
    pub(crate) fn size(&self) -> usize {
        match self.lone.get() {
            Some(lone) => lone.as_bytes().map_or(0, <[u8]>::len),
            None => self.buffer.get().map_or(0, |buffer| buffer.borrow().len()),
        }
    }

    /// Whether no bytes wait.
    pub(crate) fn is_empty(&self) -> bool {
        let buffer = self.buffer.get();
        self.lone.is_none() && buffer.is_none_or(|buffer| buffer.borrow().is_empty())
    }

    /// Keeps an exact bytes object that is not empty, while nothing else waits.
    #[inline]
    pub(super) fn put(&self, data: &Obj) {
        debug_assert!(self.is_empty(), "other bytes wait");
        self.lone.set(Some(data.clone()));
    }

    /// Moves the lone bytes object into the buffer.
    fn unpack(&self) {
        if let Some(lone) = self.lone.take() {
            self.push(Chunk::Bytes(lone), 0);
        }
    }

    /// Keeps a chunk of which `sent` bytes were sent.
    pub(crate) fn push(&self, chunk: Chunk, sent: usize) {
        if self.lone.is_some() {
            self.unpack();
        }
        let make = || Box::new(RefCell::new(WriteBuffer::new()));
        let mut buffer = self.buffer.get_or_init(make).borrow_mut();
        // An empty chunk comes back; releasing it runs no Python code.
        drop(buffer.push_from(chunk, sent));
    }

    /// Drops the bytes that wait.
    pub(crate) fn clear(&self) {
        self.lone.set(None);
        let chunks = self.buffer.get().map(|buffer| buffer.borrow_mut().clear());
        drop(chunks);
    }

    /// Sends as much as the system takes in one call, by `one` for a single chunk and by `many` for
    /// several, and drops the bytes that it took.
    pub(crate) fn send(
        &self,
        one: impl FnOnce(&[u8]) -> io::Result<usize>,
        many: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        if let Some(lone) = self.lone.get() {
            let bytes = lone.as_bytes().unwrap_or_default();
            let count = one(bytes)?;
            self.lone.set(None);
            if count < bytes.len() {
                self.push(Chunk::Bytes(lone), count);
            }
            return Ok(());
        }
        let Some(cell) = self.buffer.get() else {
            return Ok(());
        };
        let count = {
            let buffer = cell.borrow();
            match buffer.first() {
                Some(first) if buffer.chunks() == 1 => one(first)?,
                _ => many(&buffer.slices(IOV_MAX))?,
            }
        };
        // This releases bytes objects and native memory only, which runs no Python code.
        cell.borrow_mut().consume(count, &mut drop);
        Ok(())
    }

    /// Sends as much as the socket takes in one call, and drops the bytes that it took.
    pub(super) fn send_to(&self, fd: i32) -> io::Result<()> {
        self.send(
            |piece| sys::send(fd, piece),
            |pieces| sys::send_vectored(fd, pieces),
        )
    }

    /// Copies of the chunks that wait, of the first without the bytes that were sent.
    pub(crate) fn copies(&self) -> Vec<Vec<u8>> {
        self.unpack();
        let Some(buffer) = self.buffer.get() else {
            return Vec::new();
        };
        let buffer = buffer.borrow();
        let all: vec_deque::Iter<'_, Chunk> = buffer.iter();
        let mut copies: Vec<Vec<u8>> = all.map(|chunk| chunk.as_ref().to_vec()).collect();
        if let (Some(copy), Some(left)) = (copies.first_mut(), buffer.first().map(<[u8]>::len)) {
            copy.drain(..copy.len() - left);
        }
        copies
    }
}

/// The way in which a write has to handle its bytes.
#[derive(Clone, Copy)]
pub(super) enum WritePlan {
    Send,
    /// Other bytes wait already.
    Queue,
    /// The connection is lost.
    Count,
}

/// The outcome of a write.
pub(super) enum WriteOutcome {
    All,
    /// The number of bytes that were sent; the rest has to wait.
    Part(usize),
    Failed(io::Error),
    Lost,
}

impl WritePlan {
    /// Carries the plan out, sending by `send`.
    #[inline]
    pub(super) fn send(
        self,
        bytes: &[u8],
        send: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> WriteOutcome {
        match self {
            _ if bytes.is_empty() => WriteOutcome::All,
            WritePlan::Queue => WriteOutcome::Part(0),
            WritePlan::Count => WriteOutcome::Lost,
            WritePlan::Send => match send(bytes) {
                Ok(count) if count == bytes.len() => WriteOutcome::All,
                Ok(count) => WriteOutcome::Part(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => WriteOutcome::Part(0),
                Err(error) => WriteOutcome::Failed(error),
            },
        }
    }

    /// Carries the plan out for memory that its owner may change. The error is a copy of the bytes
    /// that were not sent.
    pub(super) fn send_or_copy(
        self,
        bytes: &[u8],
        send: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> Result<WriteOutcome, Box<[u8]>> {
        match self.send(bytes, send) {
            WriteOutcome::Part(sent) => Err(bytes[sent..].into()),
            sent => Ok(sent),
        }
    }
}

/// Whether an object is a bytearray or a memoryview, which may be written besides bytes.
pub(crate) fn is_changeable(data: &Obj) -> bool {
    data.is_subtype_of(&Obj::class_of::<pyo3::types::PyByteArray>(data.py()))
        || data.is_subtype_of(&Obj::class_of::<pyo3::types::PyMemoryView>(data.py()))
}

/// The bytes of a memoryview with gaps, joined.
#[cold]
pub(super) fn gathered(data: &Obj, raised: Raised) -> Result<Obj, Raised> {
    let py = data.py();
    raised.ignore::<pyo3::exceptions::PyBufferError>(py)?;
    data.method(pyo3::intern!(py, "tobytes"), &[])
}

/// Counts a write after the connection was lost. It sends nothing, and logs a warning from
/// asyncio's threshold on.
#[cold]
pub(super) fn count_lost_write(
    py: Python<'_>,
    lost: &Cell<u32>,
    warning: &str,
) -> Result<(), Raised> {
    let count = lost.get();
    let name = pyo3::intern!(py, "LOG_THRESHOLD_FOR_CONNLOST_WRITES");
    let threshold = imports(py).constants.get(py).attr(name)?.to_i64()?;
    if i64::from(count) >= threshold {
        imports(py)
            .logger
            .get(py)
            .method(pyo3::intern!(py, "warning"), &[&Obj::str(py, warning)?])?;
    }
    lost.set(count.saturating_add(1));
    Ok(())
}

/// A transport that writes.
pub(crate) trait Writes: Transport {
    /// Its flow control.
    fn flow(&self) -> &FlowControl;

    /// The number of bytes that wait to be written.
    fn waiting(&self) -> usize;
}

/// Calls `pause_writing` if the buffer has come above the high water mark.
#[inline]
pub(crate) fn pause_if_full<T: Writes>(this: &Ref<T>) -> Result<(), Raised> {
    let pause = this.flow().on_grow(this.waiting());
    if pause {
        tell_protocol(this, "pause_writing")
    } else {
        Ok(())
    }
}

/// Calls `resume_writing` if the buffer has come down to the low water mark.
#[inline]
pub(crate) fn resume_if_drained<T: Writes>(this: &Ref<T>) -> Result<(), Raised> {
    let resume = this.flow().on_shrink(this.waiting());
    if resume {
        tell_protocol(this, "resume_writing")
    } else {
        Ok(())
    }
}

fn tell_protocol<T: Writes>(this: &Ref<T>, method: &str) -> Result<(), Raised> {
    let py = this.py();
    let Some(protocol) = this.core().protocol.get() else {
        return Ok(());
    };
    match protocol.method(&pyo3::types::PyString::intern(py, method), &[]) {
        Ok(_) => Ok(()),
        Err(raised) => {
            let exception = EndsProgram::or_caught(py, raised)?;
            let Some(event_loop) = this.core().event_loop.get() else {
                return Ok(());
            };
            let message = format!("protocol.{method}() failed");
            report_failure(&event_loop, &message, &exception, this.as_obj(), &protocol)
        }
    }
}

/// Adds the methods about the write buffer's size and its water marks.
pub(super) fn build<T: Writes>(builder: &mut Builder<T>) {
    builder
        .method0(
            c"get_write_buffer_size",
            c"get_write_buffer_size($self, /)\n--\n\nReturn the size of the write buffer in bytes.",
            |this| this.waiting(),
        )
        .method0(
            c"get_write_buffer_limits",
            c"get_write_buffer_limits($self, /)\n--\n\nReturn the low and high water marks.",
            |this| {
                let flow = this.flow();
                let py = this.py();
                let marks = [
                    Obj::int(py, flow.low() as i64)?,
                    Obj::int(py, flow.high() as i64)?,
                ];
                Obj::tuple(py, &marks)
            },
        )
        .method(
            c"set_write_buffer_limits",
            c"set_write_buffer_limits($self, /, high=None, low=None)\n--\n\n\
              Set the high and low water marks, in bytes, for pausing the protocol.",
            |this, args: &Args<'_>| {
                set_limits(this, args, "_FlowControlMixin.set_write_buffer_limits")?;
                pause_if_full(this)
            },
        )
        .method(
            c"_set_write_buffer_limits",
            c"_set_write_buffer_limits($self, /, high=None, low=None)\n--\n\nSet the marks only.",
            |this, args: &Args<'_>| {
                set_limits(this, args, "_FlowControlMixin._set_write_buffer_limits")
            },
        )
        .method0(
            c"_maybe_pause_protocol",
            c"_maybe_pause_protocol($self, /)\n--\n\nPause the protocol above high water.",
            pause_if_full,
        )
        .method0(
            c"_maybe_resume_protocol",
            c"_maybe_resume_protocol($self, /)\n--\n\nResume the protocol at low water.",
            resume_if_drained,
        )
        .get(
            c"_protocol_paused",
            c"Whether the protocol is paused.",
            |this| this.flow().is_paused(),
        )
        .get(c"_high_water", c"The high water mark, in bytes.", |this| {
            this.flow().high()
        })
        .get(c"_low_water", c"The low water mark, in bytes.", |this| {
            this.flow().low()
        });
}

/// Sets the water marks. Raises ValueError if they contradict each other.
fn set_limits<T: Writes>(this: &Ref<T>, args: &Args<'_>, name: &str) -> Result<(), Raised> {
    let [high, low] = args.bind_as_python(name, &["high", "low"], 0)?;
    set_marks(this.py(), this.flow(), high, low)
}

/// Sets the high and the low water mark, in bytes, that a program asks for. Raises ValueError if
/// they contradict each other.
pub(crate) fn set_marks(
    py: Python<'_>,
    flow: &FlowControl,
    high: Option<Obj>,
    low: Option<Obj>,
) -> Result<(), Raised> {
    flow.set_limits(limit(high)?, limit(low)?)
        .map_err(|error| Raised::value_error(py, &error.to_string()))
}

/// A water mark from an int; one above `usize::MAX` counts as that.
fn limit(value: Option<Obj>) -> Result<Option<i64>, Raised> {
    match value.and_then(Obj::not_none) {
        Some(value) if value.is_int() => match value.to_i64() {
            Ok(limit) => Ok(Some(limit)),
            Err(raised) => {
                raised.ignore::<pyo3::exceptions::PyOverflowError>(value.py())?;
                Ok(Some(value.to_f64()? as i64))
            }
        },
        Some(value) => Ok(Some(value.to_f64()? as i64)),
        None => Ok(None),
    }
}
