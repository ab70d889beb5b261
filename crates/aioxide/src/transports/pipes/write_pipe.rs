//! Sending to a pipe: bytes leave at once if the pipe takes them; the rest waits in the write
//! buffer.

use std::cell::Cell;
use std::io;

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Raised, Ref, Slot, context};
use engine::FlowControl;
use engine::sys::{self, FileKind};

use super::super::outgoing::{
    self, Chunk, OutgoingBytes, WriteOutcome, WritePlan, Writes, gathered, is_changeable,
    pause_if_full, resume_if_drained,
};
use super::super::reports::os_exception;
use super::super::transport::{self, Transport, TransportChannel, callback_context};
use super::channel::{self, OverPipe, PipeFile};
use crate::event_loop::Side;
use crate::handles::reports::method_failed;
use crate::interop::EndsProgram;

/// The value of a transport that sends to a pipe.
pub(crate) struct WritePipeTransport {
    /// The file object. The loop watches it for reading, too, because it becomes readable when the
    /// reader closes its end.
    file: PipeFile,
    outgoing: OutgoingBytes,
    /// The context in which the end of the reader is handled.
    peer_context: Slot,
    /// The context in which `resume_writing` and a late `connection_lost` are called.
    context: Slot,
    /// asyncio's `_conn_lost`: counts failed writes.
    lost_writes: Cell<u32>,
}

/// Handles that the descriptor can be read: the reader has closed its end. A socket's peer that
/// sends bytes is treated the same.
pub(super) fn on_readable(this: &Ref<WritePipeTransport>) -> Result<(), EndsProgram> {
    if !this.file.watches_read.get() {
        return Ok(());
    }
    let Some(context) = this.peer_context.get() else {
        return Ok(());
    };
    let noticed = context::run(&context, || {
        transport::log_if_debug(this, "info", "%r was closed by peer")?;
        let exception = if this.outgoing.is_empty() {
            None
        } else {
            let class = Obj::class_of::<pyo3::exceptions::PyBrokenPipeError>(this.py());
            Some(class.call0()?)
        };
        abandon(this, exception)
    });
    match noticed {
        Ok(()) => Ok(()),
        Err(raised) => {
            let event_loop = this.core().event_loop.get();
            method_failed(event_loop, this.as_obj(), "_start_reading", &[], raised)
        }
    }
}

/// `write(data)`.
fn write(this: &Ref<WritePipeTransport>, data: &Obj) -> Result<(), Raised> {
    let Some(bytes) = data.as_bytes() else {
        return write_changeable(this, data);
    };
    let (plan, fd) = (plan(this), this.core().fd);
    match plan.send(bytes, |bytes| sys::write(fd, bytes)) {
        WriteOutcome::Part(sent) => {
            let (chunk, sent) = Chunk::of_bytes(data, bytes, sent);
            keep(this, chunk, sent)
        }
        sent => finish(this, sent),
    }
}

fn write_changeable(this: &Ref<WritePipeTransport>, data: &Obj) -> Result<(), Raised> {
    if !is_changeable(data) {
        let class = Obj::class_of::<pyo3::exceptions::PyAssertionError>(this.py());
        return Err(Raised::raise_in_context(class.call1(&data.repr()?)?));
    }
    let (plan, fd) = (plan(this), this.core().fd);
    let outcome = data.with_buffer(|bytes| plan.send_or_copy(bytes, |bytes| sys::write(fd, bytes)));
    match outcome {
        Ok(Ok(sent)) => finish(this, sent),
        Ok(Err(rest)) => keep(this, Chunk::Copy(rest), 0),
        Err(raised) => write(this, &gathered(data, raised)?),
    }
}

fn plan(this: &Ref<WritePipeTransport>) -> WritePlan {
    if this.lost_writes.get() > 0 || this.core().closing.get() {
        WritePlan::Count
    } else if this.outgoing.is_empty() {
        this.core().poll_next();
        WritePlan::Send
    } else {
        WritePlan::Queue
    }
}

/// Handles the outcome of a write of which no bytes have to be kept.
fn finish(this: &Ref<WritePipeTransport>, sent: WriteOutcome) -> Result<(), Raised> {
    match sent {
        WriteOutcome::All | WriteOutcome::Part(_) => Ok(()),
        WriteOutcome::Failed(error) => write_failed(this, error),
        WriteOutcome::Lost => {
            let text = "pipe closed by peer or os.write(pipe, data) raised exception.";
            outgoing::count_lost_write(this.py(), &this.lost_writes, text)
        }
    }
}

/// Keeps a chunk, of which `sent` bytes were sent, until the descriptor can be written.
fn keep(this: &Ref<WritePipeTransport>, chunk: Chunk, sent: usize) -> Result<(), Raised> {
    if !this.file.watches_write.get() {
        this.context.set(Some(callback_context(this)?));
        this.file.watch(Side::Write, this.as_obj())?;
    }
    this.outgoing.push(chunk, sent);
    pause_if_full(this)
}

#[cold]
fn write_failed(this: &Ref<WritePipeTransport>, error: io::Error) -> Result<(), Raised> {
    let exception = os_exception(this.py(), error);
    this.lost_writes
        .set(this.lost_writes.get().saturating_add(1));
    channel::report_error(
        this,
        &exception,
        "Fatal write error on pipe transport",
        true,
    )?;
    abandon(this, Some(exception))
}

/// Handles that the descriptor can be written.
pub(super) fn on_writable(this: &Ref<WritePipeTransport>) -> Result<(), EndsProgram> {
    if !this.file.watches_write.get() {
        return Ok(());
    }
    let Some(context) = this.context.get() else {
        return Ok(());
    };
    match context::run(&context, || flush(this)) {
        Ok(()) => Ok(()),
        Err(raised) => {
            let event_loop = this.core().event_loop.get();
            method_failed(event_loop, this.as_obj(), "write", &[], raised)
        }
    }
}

/// Sends as much as the pipe takes in one call; after the last byte it resumes the protocol, and
/// closes if asked to.
fn flush(this: &Ref<WritePipeTransport>) -> Result<(), Raised> {
    let fd = this.core().fd;
    this.core().poll_next();
    let sent = this.outgoing.send(
        |piece| sys::write(fd, piece),
        |pieces| sys::write_vectored(fd, pieces),
    );
    match sent {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        Err(error) => return write_failed(this, error),
    }
    if !this.outgoing.is_empty() {
        return Ok(());
    }
    this.file.unwatch(Side::Write)?;
    // asyncio's pipes resume the protocol when everything has left, not at the low water mark. The
    // protocol may write again at once.
    resume_if_drained(this)?;
    if this.core().closing.get() && this.outgoing.is_empty() {
        this.file.unwatch(Side::Read)?;
        return channel::lose_now(this);
    }
    Ok(())
}

/// `write_eof()` and `close()`: sends the bytes that wait, then ends the connection.
fn close(this: &Ref<WritePipeTransport>) -> Result<(), Raised> {
    if this.core().closing.replace(true) {
        return Ok(());
    }
    if this.outgoing.is_empty() {
        this.file.unwatch(Side::Read)?;
        return channel::lose(this, None);
    }
    Ok(())
}

/// Ends the connection now: `abort()`, and after errors.
fn abandon(this: &Ref<WritePipeTransport>, exception: Option<Obj>) -> Result<(), Raised> {
    this.core().closing.set(true);
    this.outgoing.clear();
    this.file.unwatch(Side::Write)?;
    this.file.unwatch(Side::Read)?;
    channel::lose(this, exception)
}

impl Transport for WritePipeTransport {
    type Channel = PipeFile;

    #[inline]
    fn channel(&self) -> &PipeFile {
        &self.file
    }

    fn set_reading_context(&self, context: Obj) {
        self.peer_context.set(Some(context));
    }

    /// Watches for the end of the reader. A terminal is not watched: it would have data to read.
    fn start_reading_in_context(this: &Ref<Self>) -> Result<(), Raised> {
        if this.file.kind == FileKind::CharacterDevice || this.core().closing.get() {
            return Ok(());
        }
        this.file.watch(Side::Read, this.as_obj())
    }

    fn release(&self) {
        self.peer_context.set(None);
        self.context.set(None);
    }
}

impl Writes for WritePipeTransport {
    fn flow(&self) -> &FlowControl {
        &self.outgoing.flow
    }

    fn waiting(&self) -> usize {
        self.outgoing.size()
    }
}

impl OverPipe for WritePipeTransport {
    const REFUSAL: &str = "Pipe transport is only for pipes, sockets and character devices";

    fn over(file: PipeFile) -> WritePipeTransport {
        WritePipeTransport {
            file,
            outgoing: OutgoingBytes::new(),
            peer_context: Slot::default(),
            context: Slot::default(),
            lost_writes: Cell::new(0),
        }
    }

    fn activity(&self) -> String {
        let state = channel::state(&self.file.watches_write);
        format!("{state} bufsize={}", self.outgoing.size())
    }

    fn set_protocol(&self, protocol: &Obj) {
        self.file.core().protocol.set(Some(protocol.clone()));
    }
}

impl Hot for WritePipeTransport {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide.WritePipeTransport";
    const DOC: &'static std::ffi::CStr = c"Transport that sends to a pipe.";
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        channel::build(builder);
        outgoing::build(builder);
        transport::build_closing(builder, close, |this| abandon(this, None));
        builder
            .method(
                c"write",
                c"write($self, /, data)\n--\n\nWrite some data bytes to the transport.",
                |this, args: &Args<'_>| {
                    write(this, args.one("_UnixWritePipeTransport.write", "data")?)
                },
            )
            .method0(
                c"write_eof",
                c"write_eof($self, /)\n--\n\nClose the write end after flushing buffered data.",
                close,
            )
            .method0(
                c"can_write_eof",
                c"can_write_eof($self, /)\n--\n\nReturn True: write_eof() is supported.",
                |_| true,
            )
            .method0(
                c"_start_reading",
                c"_start_reading($self, /)\n--\n\nWatch for the end of the reader.",
                transport::start_reading,
            )
            .get(c"_conn_lost", c"Counts failed writes.", |this| {
                i64::from(this.lost_writes.get())
            })
            .get(c"_buffer", c"A copy of the write buffer.", |this| {
                let py = this.py();
                let class = Obj::class_of::<pyo3::types::PyByteArray>(py);
                class.call1(&Obj::bytes(py, &this.outgoing.copies().concat())?)
            });
    }

    cpython::holds!(peer_context, context, outgoing, file);

    fn needs_finalizer(&self, _: &NoParent) -> bool {
        self.file.is_open()
    }

    fn finalize(this: &Ref<Self>) {
        transport::finalize(this);
    }
}
