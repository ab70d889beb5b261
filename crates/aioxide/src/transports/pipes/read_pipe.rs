//! Receiving from a pipe.

use std::cell::Cell;
use std::io;

use cpython::build::Builder;
use cpython::{Hot, NoParent, Obj, Raised, Ref, Slot, context};
use engine::sys;

use super::super::reading::{Received, receive_bytes};
use super::super::reports::os_exception;
use super::super::transport::{self, Transport, TransportChannel, callback_context, run_callback};
use super::channel::{self, OverPipe, PipeFile};
use crate::event_loop::{EventLoop, Side};
use crate::handles::Entry;
use crate::handles::reports::method_failed;
use crate::interop::EndsProgram;

/// The value of a transport that receives from a pipe.
pub(crate) struct ReadPipeTransport {
    file: PipeFile,
    /// The last read brought at least [`LARGE_READ`] bytes.
    last_read_was_large: Cell<bool>,
    /// The context in which the protocol is called.
    context: Slot,
    /// The protocol's bound `data_received`, looked up at its first use.
    receive: Slot,
    /// The protocol's bound `eof_received`, which an entry in the loop's queue will call in
    /// `eof_context`.
    eof: Slot,
    eof_context: Slot,
}

/// Makes one read of bounded size when the descriptor can be read.
pub(super) fn on_readable(this: &Ref<ReadPipeTransport>) -> Result<(), EndsProgram> {
    if !this.file.watches_read.get() {
        return Ok(());
    }
    let Some(context) = this.context.get() else {
        return Ok(());
    };
    match context::run(&context, || read(this)) {
        Ok(()) => Ok(()),
        // As with asyncio the Handle reports the protocol's exception, and the transport lives on.
        Err(raised) => {
            let event_loop = this.core().event_loop.get();
            method_failed(event_loop, this.as_obj(), "_start_reading", &[], raised)
        }
    }
}

/// The most that one readiness reads, in bytes; asyncio's `max_size`.
const MOST: usize = 256 * 1024;

/// From this many bytes on, one more system call costs less than a copy.
const LARGE_READ: usize = 16 * 1024;

/// Makes one read through the thread's buffer. If the last read was large, it reads directly into a
/// bytes object of the right size instead.
fn receive(this: &Ref<ReadPipeTransport>) -> Result<Received, Raised> {
    let (py, fd) = (this.py(), this.core().fd);
    if this.last_read_was_large.get() {
        let ready = sys::readable_bytes(fd).unwrap_or_default();
        if ready >= LARGE_READ {
            let filled = Obj::bytes_filled(py, ready.min(MOST), |room| sys::read_uninit(fd, room));
            return Ok(match filled? {
                Ok(data) => Received::Data(data),
                // Another process or thread reads from the pipe, too.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
                Err(error) => Received::Failed(error),
            });
        }
    }
    let received = receive_bytes(py, |room| sys::read(fd, room))?;
    if let Received::Data(data) = &received {
        let size = data.as_bytes().map_or(0, <[u8]>::len);
        this.last_read_was_large.set(size >= LARGE_READ);
    }
    Ok(received)
}

fn read(this: &Ref<ReadPipeTransport>) -> Result<(), Raised> {
    let py = this.py();
    match receive(this)? {
        Received::Data(data) => {
            let receive = match this.receive.get() {
                Some(receive) => receive,
                None => look_up(this)?,
            };
            receive.call1(&data).map(drop)
        }
        Received::Eof => on_eof(this),
        Received::Nothing => Ok(()),
        Received::Failed(error) => {
            // A terminal whose other end is gone gives this error.
            let gone = error.raw_os_error() == Some(EIO);
            let exception = os_exception(py, error);
            channel::report_error(this, &exception, "Fatal read error on pipe transport", gone)?;
            lose(this, Some(exception))
        }
    }
}

/// `errno.EIO`, the same on every system.
const EIO: i32 = 5;

#[cold]
fn look_up(this: &Ref<ReadPipeTransport>) -> Result<Obj, Raised> {
    let py = this.py();
    let protocol = this.core().protocol_or_none(py);
    let receive = protocol.attr(pyo3::intern!(py, "data_received"))?;
    this.receive.set(Some(receive.clone()));
    Ok(receive)
}

/// Handles that the other end is closed: schedules `eof_received` and `connection_lost`.
fn on_eof(this: &Ref<ReadPipeTransport>) -> Result<(), Raised> {
    let py = this.py();
    transport::log_if_debug(this, "info", "%r was closed by peer")?;
    let (Some(event_loop), Some(protocol)) =
        (this.core().event_loop.get(), this.core().protocol.get())
    else {
        return Ok(());
    };
    this.core().closing.set(true);
    this.file.unwatch(Side::Read)?;
    let eof = protocol.attr(pyo3::intern!(py, "eof_received"))?;
    if EventLoop::is_fast(&event_loop) {
        this.eof_context.set(Some(callback_context(this)?));
        this.eof.set(Some(eof));
    } else {
        let name = pyo3::intern!(py, "call_soon");
        event_loop.as_obj().method(name, &[&eof])?;
    }
    channel::lose(this, None)
}

/// Runs the transport's entry in the loop's queue.
pub(super) fn run_deferred(this: &Ref<ReadPipeTransport>) -> Result<(), EndsProgram> {
    let (Some(eof), Some(event_loop)) = (this.eof.take(), this.core().event_loop.get()) else {
        return transport::run_deferred(this);
    };
    let result = match this.eof_context.take() {
        Some(context) => run_callback(&event_loop, &context, &eof, &[]),
        None => Ok(()),
    };
    if let Err(raised) = result {
        // The program ends, or runs the loop again: `connection_lost` stays scheduled.
        EventLoop::schedule(&event_loop, Entry::call(this.as_obj().clone()));
        return Err(raised);
    }
    transport::run_deferred(this)
}

fn close(this: &Ref<ReadPipeTransport>) -> Result<(), Raised> {
    if this.core().closing.get() {
        return Ok(());
    }
    lose(this, None)
}

fn lose(this: &Ref<ReadPipeTransport>, exception: Option<Obj>) -> Result<(), Raised> {
    this.file.unwatch(Side::Read)?;
    channel::lose(this, exception)
}

impl Transport for ReadPipeTransport {
    type Channel = PipeFile;

    #[inline]
    fn channel(&self) -> &PipeFile {
        &self.file
    }

    fn set_reading_context(&self, context: Obj) {
        self.context.set(Some(context));
    }

    fn start_reading_in_context(this: &Ref<Self>) -> Result<(), Raised> {
        if !this.core().is_reading() || this.file.watches_read.get() {
            return Ok(());
        }
        this.file.watch(Side::Read, this.as_obj())
    }

    fn release(&self) {
        self.context.set(None);
        self.receive.set(None);
        self.eof.set(None);
        self.eof_context.set(None);
    }
}

impl OverPipe for ReadPipeTransport {
    const REFUSAL: &str = "Pipe transport is for pipes/sockets only.";

    fn over(file: PipeFile) -> ReadPipeTransport {
        ReadPipeTransport {
            file,
            last_read_was_large: Cell::new(false),
            context: Slot::default(),
            receive: Slot::default(),
            eof: Slot::default(),
            eof_context: Slot::default(),
        }
    }

    fn activity(&self) -> String {
        channel::state(&self.file.watches_read).to_owned()
    }

    fn set_protocol(&self, protocol: &Obj) {
        self.receive.set(None);
        self.file.core().protocol.set(Some(protocol.clone()));
    }
}

impl Hot for ReadPipeTransport {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide.ReadPipeTransport";
    const DOC: &'static std::ffi::CStr = c"Transport that receives from a pipe.";
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        channel::build(builder);
        transport::build_reading(builder);
        builder.method0(
            c"close",
            c"close($self, /)\n--\n\nClose the transport.",
            close,
        );
    }

    cpython::holds!(context, receive, eof, eof_context, file);

    fn needs_finalizer(&self, _: &NoParent) -> bool {
        self.file.is_open()
    }

    fn finalize(this: &Ref<Self>) {
        transport::finalize(this);
    }
}
