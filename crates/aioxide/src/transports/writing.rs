//! Writing: bytes leave at once if the socket takes them; the rest waits in the write buffer.

use std::cell::Cell;
use std::io::{self, IoSlice};

use cpython::build::Builder;
use cpython::{Args, Obj, Raised, Ref, Slot, context};
use engine::buffer::IOV_MAX;
use engine::sys;

use super::holding::{self, Holding};
use super::outgoing::{
    self, Chunk, OutgoingBytes, WriteOutcome, WritePlan, gathered, is_changeable, pause_if_full,
    resume_if_drained,
};
use super::reports::os_exception;
use super::socket::{self, unwatch_write, watch_write};
use super::transport::{self, Transport};
use super::{StreamTransport, imports};
use crate::futures::create_future;
use crate::handles::reports::method_failed;
use crate::interop::EndsProgram;
use crate::tasks::any_future::AnyFuture;

/// The writing half of a transport.
pub(super) struct Writing {
    pub(super) outgoing: OutgoingBytes,
    pub(super) holding: Holding,
    /// `write_eof()` was called.
    eof: Cell<bool>,
    /// The context in which `resume_writing` and a late `connection_lost` are called.
    context: Slot,
    /// The future on which loop.sendfile() waits for the buffer to be empty.
    empty_waiter: Slot,
}

cpython::holds!(Writing: context, empty_waiter);

impl Writing {
    pub(super) fn new() -> Writing {
        Writing {
            outgoing: OutgoingBytes::new(),
            holding: Holding::new(),
            eof: Cell::new(false),
            context: Slot::default(),
            empty_waiter: Slot::default(),
        }
    }
}

const WRITELINES: &str = if cfg!(Py_3_12) {
    "_SelectorSocketTransport.writelines"
} else {
    "WriteTransport.writelines"
};

pub(super) fn build(builder: &mut Builder<StreamTransport>) {
    outgoing::build(builder);
    builder
        .method(
            c"write",
            c"write($self, /, data)\n--\n\nWrite some data bytes to the transport.",
            |this, args: &Args<'_>| {
                write(this, args.one("_SelectorSocketTransport.write", "data")?)
            },
        )
        .method(
            c"writelines",
            c"writelines($self, /, list_of_data)\n--\n\nWrite a list of data to the transport.",
            |this, args: &Args<'_>| writelines(this, args.one(WRITELINES, "list_of_data")?),
        )
        .method0(
            c"write_eof",
            c"write_eof($self, /)\n--\n\nClose the write end after flushing buffered data.",
            write_eof,
        )
        .method0(
            c"can_write_eof",
            c"can_write_eof($self, /)\n--\n\nReturn True: write_eof() is supported.",
            |_| true,
        )
        .method0(
            c"_make_empty_waiter",
            c"_make_empty_waiter($self, /)\n--\n\nReturn a future: the write buffer is empty.",
            make_empty_waiter,
        )
        .method0(
            c"_reset_empty_waiter",
            c"_reset_empty_waiter($self, /)\n--\n\nAllow writing again.",
            |this| this.writing.empty_waiter.set(None),
        )
        .get(c"_eof", c"Whether write_eof() was called.", |this| {
            this.writing.eof.get()
        })
        .get(
            c"_empty_waiter",
            c"The future that loop.sendfile() waits on.",
            |this| this.writing.empty_waiter.get(),
        )
        .get(c"_buffer", c"A copy of the write buffer.", buffer_copy);
}

/// The number of bytes that wait; held bytes do not count.
pub(super) fn size(this: &StreamTransport) -> usize {
    match this.writing.holding.is_held() {
        true => 0,
        false => this.writing.outgoing.size(),
    }
}

/// Whether no bytes wait and none are held.
pub(super) fn is_empty(this: &StreamTransport) -> bool {
    this.writing.outgoing.is_empty()
}

/// `write(data)`.
#[inline]
pub(crate) fn write(this: &Ref<StreamTransport>, data: &Obj) -> Result<(), Raised> {
    let Some(bytes) = data.as_bytes() else {
        return write_changeable(this, data);
    };
    if this.writing.holding.is_held() && holding::hold_more(this, data, bytes) {
        return Ok(());
    }
    let plan = plan(this)?;
    if matches!(plan, WritePlan::Send) && holding::hold(this, data, bytes) {
        return Ok(());
    }
    let fd = this.core().fd;
    match plan.send(bytes, |bytes| sys::send(fd, bytes)) {
        WriteOutcome::All => Ok(()),
        WriteOutcome::Part(sent) => {
            let (chunk, sent) = Chunk::of_bytes(data, bytes, sent);
            keep(this, chunk, sent)
        }
        WriteOutcome::Failed(error) => write_failed(this, error).map(drop),
        WriteOutcome::Lost => count_lost_write(this),
    }
}

/// Sends several bytes objects by one system call, and keeps the bytes that the socket does not
/// take.
pub(crate) fn write_all(this: &Ref<StreamTransport>, pieces: &[Obj]) -> Result<(), Raised> {
    let slices: Vec<IoSlice<'_>> = pieces
        .iter()
        .filter_map(Obj::as_bytes)
        .map(IoSlice::new)
        .collect();
    let mut sent = match plan(this)? {
        WritePlan::Send => {
            match sys::send_vectored(this.core().fd, &slices[..slices.len().min(IOV_MAX)]) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return write_failed(this, error).map(drop),
            }
        }
        WritePlan::Queue => 0,
        WritePlan::Count => return count_lost_write(this),
    };
    let mut left = Vec::new();
    for piece in pieces {
        let bytes = piece.as_bytes().unwrap_or_default();
        if sent < bytes.len() {
            left.push(Chunk::of_bytes(piece, bytes, sent));
        }
        sent = sent.saturating_sub(bytes.len());
    }
    if left.is_empty() {
        return Ok(());
    }
    start_writing(this)?;
    for (chunk, sent) in left {
        this.writing.outgoing.push(chunk, sent);
    }
    pause_if_full(this)
}

fn write_changeable(this: &Ref<StreamTransport>, data: &Obj) -> Result<(), Raised> {
    if !is_changeable(data) {
        return Err(not_bytes_like(data));
    }
    let (plan, fd) = (plan(this)?, this.core().fd);
    // The bytes that were not sent are copied here, where no code can change them yet.
    let outcome = data.with_buffer(|bytes| plan.send_or_copy(bytes, |bytes| sys::send(fd, bytes)));
    match outcome {
        Ok(Ok(WriteOutcome::Failed(error))) => write_failed(this, error).map(drop),
        Ok(Ok(WriteOutcome::Lost)) => count_lost_write(this),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(rest)) => keep(this, Chunk::Copy(rest), 0),
        Err(raised) => write(this, &gathered(data, raised)?),
    }
}

#[cold]
fn not_bytes_like(data: &Obj) -> Raised {
    let py = data.py();
    let name = data
        .class()
        .attr(pyo3::intern!(py, "__name__"))
        .and_then(|name| name.repr());
    let wanted = if cfg!(Py_3_14) {
        "bytes, bytearray, or memoryview object"
    } else {
        "bytes-like object"
    };
    match name {
        Ok(name) => {
            let name = name.as_str().unwrap_or_default();
            Raised::type_error(py, &format!("data argument must be a {wanted}, not {name}"))
        }
        Err(raised) => raised,
    }
}

/// The plan for bytes to be written. Raises RuntimeError if writing is not allowed.
#[inline]
fn plan(this: &Ref<StreamTransport>) -> Result<WritePlan, Raised> {
    let writing = &this.writing;
    if writing.holding.is_held() {
        settle(this)?;
    }
    if writing.eof.get() || writing.empty_waiter.is_some() {
        return Err(refusal(this, "write()", "write"));
    }
    Ok(if this.socket.lost.get() > 0 {
        WritePlan::Count
    } else if is_empty(this) {
        this.core().poll_next();
        WritePlan::Send
    } else {
        WritePlan::Queue
    })
}

/// Sends held bytes now. Those that the socket does not take wait, as after any write.
pub(super) fn settle(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    if !this.writing.holding.give_up() || is_empty(this) {
        return Ok(());
    }
    this.core().poll_next();
    let failed = this.writing.holding.take_error();
    if let Err(error) = failed.map_or_else(|| this.writing.outgoing.send_to(this.core().fd), Err) {
        if error.kind() != io::ErrorKind::WouldBlock {
            discard(this)?;
            return write_failed(this, error).map(drop);
        }
    }
    if is_empty(this) {
        return Ok(());
    }
    start_writing(this)?;
    pause_if_full(this)
}

/// Sends held bytes at the end of the iteration, in the context of the protocol's callbacks.
#[cold]
pub(super) fn settle_at_end(this: &Ref<StreamTransport>) -> Result<(), EndsProgram> {
    let (Some(context), Some(event_loop)) = (this.reading.context(), this.core().event_loop.get())
    else {
        return Ok(());
    };
    match context::run(&context, || settle(this)) {
        Ok(()) => Ok(()),
        Err(raised) => method_failed(Some(event_loop), this.as_obj(), "write", &[], raised),
    }
}

/// Keeps a chunk, of which `sent` bytes were sent, until the descriptor can be written.
fn keep(this: &Ref<StreamTransport>, chunk: Chunk, sent: usize) -> Result<(), Raised> {
    start_writing(this)?;
    this.writing.outgoing.push(chunk, sent);
    pause_if_full(this)
}

#[cold]
fn refusal(this: &Ref<StreamTransport>, call: &str, name: &str) -> Raised {
    let py = this.py();
    if this.writing.eof.get() {
        return Raised::runtime_error(py, &format!("Cannot call {call} after write_eof()"));
    }
    Raised::runtime_error(py, &format!("unable to {name}; sendfile is in progress"))
}

/// Counts a write after the connection was lost.
#[cold]
fn count_lost_write(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    let text = "socket.send() raised exception.";
    outgoing::count_lost_write(this.py(), &this.socket.lost, text)
}

/// `writelines(list_of_data)`. Before 3.12 it joins the list and calls `write`.
fn writelines(this: &Ref<StreamTransport>, lines: &Obj) -> Result<(), Raised> {
    let py = this.py();
    if !cfg!(Py_3_12) {
        let joined = Obj::bytes(py, b"")?.method(pyo3::intern!(py, "join"), &[lines])?;
        return write(this, &joined);
    }
    if this.writing.eof.get() || this.writing.empty_waiter.is_some() {
        return Err(refusal(this, "writelines()", "writelines"));
    }
    if !lines.truth()? {
        return Ok(());
    }
    if this.socket.lost.get() > 0 {
        return count_lost_write(this);
    }
    let mut chunks = Vec::new();
    let iterator = lines.iter()?;
    while let Some(line) = iterator.next()? {
        chunks.extend(line_chunk(&line)?);
    }
    // Held bytes leave with them.
    this.writing.holding.give_up();
    for chunk in chunks {
        this.writing.outgoing.push(chunk, 0);
    }
    if is_empty(this) {
        return Ok(());
    }
    flush(this)?;
    if is_empty(this) {
        return Ok(());
    }
    start_writing(this)?;
    pause_if_full(this)
}

/// One item of `writelines`: an object that memoryview() takes. Since 3.14 an object that is false
/// is left out.
fn line_chunk(line: &Obj) -> Result<Option<Chunk>, Raised> {
    if let Some(bytes) = line.as_bytes() {
        return Ok(Some(Chunk::of_bytes(line, bytes, 0).0));
    }
    match line.with_buffer(|bytes| Chunk::Copy(bytes.into())) {
        Ok(chunk) => Ok(Some(chunk)),
        Err(raised) => {
            let py = line.py();
            let exception = raised.take(py);
            if cfg!(Py_3_14) && !line.truth()? {
                return Ok(None);
            }
            // memoryview() raises the exception for a wrong object, and joins memory with gaps.
            let view = Obj::class_of::<pyo3::types::PyMemoryView>(py).call1(line)?;
            let bytes = gathered(&view, Raised::raise(exception))?;
            Ok(Some(Chunk::Copy(
                bytes.as_bytes().unwrap_or_default().into(),
            )))
        }
    }
}

/// `write_eof()`.
fn write_eof(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    if this.is_closing() || this.writing.eof.replace(true) {
        return Ok(());
    }
    settle(this)?;
    if is_empty(this) {
        return shut_down(this);
    }
    Ok(())
}

fn shut_down(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    this.core().poll_next();
    sys::shutdown(this.core().fd, sys::Shutdown::Write)
        .map_err(|error| Raised::raise(os_exception(this.py(), error)))
}

/// Has the loop watch the descriptor for writing, so that the rest leaves then.
fn start_writing(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    watch_write(this, &this.writing.context)
}

/// Drops the bytes that wait.
pub(super) fn discard(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    this.writing.outgoing.clear();
    unwatch_write(this)
}

/// Handles that the descriptor can be written.
pub(super) fn on_writable(this: &Ref<StreamTransport>) -> Result<(), EndsProgram> {
    if !this.socket.watches_write.get() || this.socket.lost.get() > 0 {
        return Ok(());
    }
    let (Some(context), Some(event_loop)) =
        (this.writing.context.get(), this.core().event_loop.get())
    else {
        return Ok(());
    };
    match context::run(&context, || flush(this)) {
        Ok(()) => Ok(()),
        Err(raised) => method_failed(Some(event_loop), this.as_obj(), "writelines", &[], raised),
    }
}

/// Sends as much as the socket takes in one call. After the last byte it closes, or sends the end
/// of file, if the program has asked for that.
fn flush(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    let py = this.py();
    this.core().poll_next();
    let fd = this.core().fd;
    let sent = this.writing.outgoing.send(
        |piece| sys::send(fd, piece),
        |pieces| sys::send_vectored(fd, pieces),
    );
    match sent {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        Err(error) => {
            discard(this)?;
            let exception = write_failed(this, error)?;
            return wake_empty_waiter(this, Some(&exception));
        }
    }
    // The protocol may write again at once.
    resume_if_drained(this)?;
    if !is_empty(this) {
        return Ok(());
    }
    unwatch_write(this)?;
    wake_empty_waiter(this, None)?;
    if this.is_closing() && this.socket.lost.get() == 0 {
        this.socket.lost.set(1);
        transport::call_connection_lost(this, &Obj::none(py))
    } else if this.writing.eof.get() && this.socket.descriptor.is_open() {
        shut_down(this)
    } else {
        Ok(())
    }
}

#[cold]
fn write_failed(this: &Ref<StreamTransport>, error: io::Error) -> Result<Obj, Raised> {
    let exception = os_exception(this.py(), error);
    socket::fatal_error(this, &exception, "Fatal write error on socket transport")?;
    Ok(exception)
}

/// `_make_empty_waiter()`, for asyncio's sendfile.
fn make_empty_waiter(this: &Ref<StreamTransport>) -> Result<Obj, Raised> {
    let py = this.py();
    if this.writing.empty_waiter.is_some() {
        return Err(Raised::runtime_error(py, "Empty waiter is already set"));
    }
    let Some(event_loop) = this.core().event_loop.get() else {
        return Err(Raised::runtime_error(py, "the connection is lost"));
    };
    settle(this)?;
    let waiter = create_future(event_loop.as_obj())?;
    this.writing.empty_waiter.set(Some(waiter.clone()));
    if is_empty(this) {
        wake_empty_waiter(this, None)?;
    }
    Ok(waiter)
}

fn wake_empty_waiter(this: &Ref<StreamTransport>, exception: Option<&Obj>) -> Result<(), Raised> {
    let py = this.py();
    let Some(waiter) = this.writing.empty_waiter.get() else {
        return Ok(());
    };
    let outcome = match exception {
        Some(exception) => Err(exception.clone()),
        None => Ok(Obj::none(py)),
    };
    AnyFuture::of_waiter(&waiter)
        .set_unless_done(outcome)
        .map(drop)
}

/// Ends the future that waits for an empty buffer, because the connection is lost.
pub(super) fn connection_lost(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    let py = this.py();
    this.writing.context.set(None);
    if this.writing.empty_waiter.is_none() {
        return Ok(());
    }
    let class = Obj::class_of::<pyo3::exceptions::PyConnectionError>(py);
    let exception = class.call1(&Obj::str(py, "Connection is closed by peer")?)?;
    wake_empty_waiter(this, Some(&exception))
}

/// asyncio's `_buffer`, as a copy: a bytearray up to 3.11, a deque since.
fn buffer_copy(this: &Ref<StreamTransport>) -> Result<Obj, Raised> {
    let py = this.py();
    settle(this)?;
    let copies = this.writing.outgoing.copies();
    if !cfg!(Py_3_12) {
        let class = Obj::class_of::<pyo3::types::PyByteArray>(py);
        return class.call1(&Obj::bytes(py, &copies.concat())?);
    }
    let list = Obj::list(py)?;
    for copy in &copies {
        list.append(&Obj::bytes(py, copy)?)?;
    }
    imports(py).deque.get(py).call1(&list)
}
