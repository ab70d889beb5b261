//! Receiving from a pipe.

use std::cell::Cell;
use std::io;

use cpython::build::Builder;
use cpython::{Hot, NoParent, Obj, Raised, Ref, Slot, Visit};
use engine::sys;

use super::super::core::{self, Channel, Transport, callback_context, run_callback};
use super::super::reading::{Received, receive_bytes};
use super::super::reports::{in_context, method_failed, os_exception};
use super::channel::{self, OverPipe, PipeFile};
use crate::event_loop::{EventLoop, Side};
use crate::handles::Entry;

/// The value of a transport that receives from a pipe.
pub(crate) struct ReadPipeTransport {
    file: PipeFile,
    /// Much came with the last read.
    plenty: Cell<bool>,
    /// In which the protocol is called.
    context: Slot,
    /// The protocol's bound `data_received`, looked up at its first use.
    receive: Slot,
    /// The protocol's bound `eof_received`, which an entry of ours will call, and its context.
    eof: Slot,
    eof_context: Slot,
}

/// The descriptor can be read: one read of bounded size.
pub(super) fn on_readable(this: &Ref<ReadPipeTransport>) -> Result<(), Raised> {
    if !this.file.watches_read.get() {
        return Ok(());
    }
    let Some(context) = this.context.get() else {
        return Ok(());
    };
    match in_context(&context, || read(this)) {
        Ok(()) => Ok(()),
        // asyncio leaves to the handle what the protocol raises; the transport lives on.
        Err(raised) => {
            let event_loop = this.core().event_loop.get();
            method_failed(event_loop, this.as_obj(), "_start_reading", &[], raised)
        }
    }
}

/// The most that one readiness reads, in bytes; asyncio's `max_size`.
const MOST: usize = 256 * 1024;

/// From so many bytes on, a system call more costs less than a copy.
const PLENTY: usize = 16 * 1024;

/// One read: through the thread's buffer, or, where much is to be expected, directly into a bytes
/// object of the right size.
fn receive(this: &Ref<ReadPipeTransport>) -> Result<Received, Raised> {
    let (py, fd) = (this.py(), this.core().fd);
    if this.plenty.get() {
        let ready = sys::readable_bytes(fd).unwrap_or_default();
        if ready >= PLENTY {
            let filled = Obj::bytes_filled(py, ready.min(MOST), |room| sys::read_uninit(fd, room));
            return Ok(match filled? {
                Ok(data) => Received::Data(data),
                // Someone else reads from the pipe, too.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
                Err(error) => Received::Failed(error),
            });
        }
    }
    let received = receive_bytes(py, |room| sys::read(fd, room))?;
    if let Received::Data(data) = &received {
        let size = data.as_bytes().map_or(0, <[u8]>::len);
        this.plenty.set(size >= PLENTY);
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
            // A terminal whose other end is gone has this error.
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

/// The other end is closed: the protocol is told of it and loses the connection.
fn on_eof(this: &Ref<ReadPipeTransport>) -> Result<(), Raised> {
    let py = this.py();
    core::log_if_debug(this, "info", "%r was closed by peer")?;
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

/// An entry of ours has come to its turn.
pub(super) fn run_deferred(this: &Ref<ReadPipeTransport>) -> Result<(), Raised> {
    let (Some(eof), Some(event_loop)) = (this.eof.take(), this.core().event_loop.get()) else {
        return core::run_deferred(this);
    };
    let context = this.eof_context.take();
    if let Err(raised) = run_callback(&event_loop, context, Some(eof), &[]) {
        // The program ends, or goes on by running the loop again; nothing is forgotten.
        EventLoop::schedule(&event_loop, Entry::call(this.as_obj().clone()));
        return Err(raised);
    }
    core::run_deferred(this)
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
            plenty: Cell::new(false),
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
        core::build_reading(builder);
        builder.method0(
            c"close",
            c"close($self, /)\n--\n\nClose the transport.",
            close,
        );
    }

    fn traverse(&self, visit: &mut Visit<'_>) {
        self.file.traverse(visit);
        for slot in [&self.context, &self.receive, &self.eof, &self.eof_context] {
            visit.slot(slot);
        }
    }

    fn clear(&self) {
        self.release();
        self.file.clear();
    }

    fn needs_finalizer(&self, _: &NoParent) -> bool {
        self.file.is_open()
    }

    fn finalize(this: &Ref<Self>) {
        core::finalize(this);
    }
}
